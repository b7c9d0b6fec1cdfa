"""What a trained model takes images for. Usage: python -m pipeline.predict MODEL IMAGE... [--json | --csv]

MODEL is a file of models/; it holds all that is needed. IMAGE is a file, or a folder of images.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.errors import UserError, for_people
from pipeline.data.images import central, decode, resize
from pipeline.data.raw import SUFFIXES
from pipeline.data.views import normalise
from pipeline.models.sections import for_inference, section
from pipeline.models.storage import load_model
from pipeline.training.evaluation import top_classes


def predictions(model_file: Path, files: list[Path]) -> Iterator[tuple[Path, list[dict[Any, Any]] | str]]:
    """For each file its five most probable classes (class, probability as a fraction), or why it cannot be read.

    Raises:
        UserError: ``model_file`` is no model of this pipeline.
    """
    model, header = load_model(model_file)
    network, transforms = for_inference(section(model)), header["transforms"]
    for file in files:
        try:
            image = resize(decode(file.read_bytes(), str(file)), transforms["resize"])
        except OSError as error:
            yield file, f"{file}: {error.strerror}"
            continue
        except UserError as error:
            yield file, str(error)
            continue
        pixels = np.array(central(image, transforms["crop"]))[None]
        with torch.inference_mode():
            logits = network(normalise(pixels, transforms["mean"], transforms["std"], torch.device("cpu")))[0]
        yield file, top_classes(logits, header["classes"]).to_dict("records")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", type=Path, metavar="image")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one list: file, classes with their probabilities")
    form.add_argument("--csv", action="store_true", help="a row a class: file, class, probability")
    arguments = parser.parse_args()
    files: list[Path] = []
    for path in arguments.images:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in found if not path.is_dir() or file.suffix.lower() in SUFFIXES]
    if not files:
        raise UserError(f"{', '.join(map(str, arguments.images))}: no image in it")

    table, results, failed = csv.writer(sys.stdout, lineterminator="\n"), [], False
    if arguments.csv:
        table.writerow(["file", "class", "probability"])
    for file, top in predictions(arguments.model, files):
        if isinstance(top, str):
            print(f"error: {top}", file=sys.stderr)
            failed = True
        elif arguments.json:
            results.append({"file": str(file), "classes": top})
        elif arguments.csv:
            table.writerows([str(file), row["class"], f"{row['probability']:.6f}"] for row in top)
        else:
            lines = [f"{row['probability']:8.1%}  {' '.join(row['class'].split())}\n" for row in top]
            print(f"{file}\n" + "".join(lines), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return int(failed)


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
