"""What a trained model takes images for. Usage: python -m pipeline.predict MODEL IMAGE... [--json | --csv] [--explain]

MODEL is a file of models/; it holds all that is needed. IMAGE is a file, or a folder of images. --explain shows what in
IMAGE.jpg speaks for its class, in the file IMAGE_explained.png of the directory in which the program runs.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline.base.errors import UserError, for_people, listed
from pipeline.base.files import atomic
from pipeline.data.images import central_square
from pipeline.data.raw import SUFFIXES
from pipeline.data.views import normalise
from pipeline.models.gradcam import gradcam
from pipeline.models.sections import as_evaluated, for_inference, section
from pipeline.models.storage import load_model
from pipeline.report.explanations import Panel, draw, explained
from pipeline.training.evaluation import top_classes

EXPLAINED = "_explained.png"


def predictions(
    model_file: Path, files: list[Path], explain: bool = False
) -> Iterator[tuple[Path, list[dict[Any, Any]] | str]]:
    """For each file its five most probable classes (class, probability as a fraction), or why it cannot be read.

    Args:
        explain: write what speaks for the most probable class, a PNG in the current directory.

    Raises:
        UserError: ``model_file`` is no model of this pipeline, or explanations cannot be made or written.
    """
    model, header = load_model(model_file)
    network, transforms = for_inference(section(model)), header["transforms"]
    classifier = as_evaluated(network, header)
    for file in files:
        try:
            square = central_square(file.read_bytes(), str(file), transforms["resize"], transforms["crop"])
        except OSError as error:
            yield file, f"{file}: {error.strerror}"
            continue
        except UserError as error:
            yield file, str(error)
            continue
        pixels = normalise(square[None], transforms["mean"], transforms["std"], torch.device("cpu"))
        with torch.inference_mode():
            logits = classifier(pixels)[0]
        top = top_classes(logits, header["classes"]).to_dict("records")
        if explain:
            evidence = gradcam(network, pixels, int(logits.argmax()))
            if evidence is None:
                raise UserError(f"{model_file}: {header['network']} has no feature map that --explain could show")
            panel = explained(square, evidence, top[0]["class"], top[0]["probability"])
            columns = {"": [Panel(square, file.name)], header["approach"]: [panel]}
            try:
                with atomic(file.stem + EXPLAINED) as (path,):
                    draw(path, [""], columns, dpi=150)
            except OSError as error:
                raise UserError(f"{file.stem}{EXPLAINED}: {error.strerror}") from None
        yield file, top


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.predict", description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", nargs="+", type=Path, metavar="image")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one list: file, classes with their probabilities")
    form.add_argument("--csv", action="store_true", help="a row a class: file, class, probability")
    parser.add_argument("--explain", action="store_true", help=f"write IMAGE{EXPLAINED}: what speaks for the class")
    arguments = parser.parse_args()
    files: list[Path] = []
    for path in arguments.images:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        images = [file for file in found if file.suffix.lower() in SUFFIXES and not file.name.endswith(EXPLAINED)]
        files += images if path.is_dir() else found
    if not files:
        raise UserError(f"{', '.join(map(str, arguments.images))}: no image in it")
    if arguments.explain and (twice := [name for name, n in Counter(file.stem for file in files).items() if n > 1]):
        raise UserError(f"several images are called {listed(twice)}; --explain would write one file for all of them")

    table, results, failed = csv.writer(sys.stdout, lineterminator="\n"), [], False
    if arguments.csv:
        table.writerow(["file", "class", "probability"])
    for file, top in predictions(arguments.model, files, arguments.explain):
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
        if arguments.explain and not isinstance(top, str):
            print(f"note: {file.stem}{EXPLAINED} shows what speaks for the first class", file=sys.stderr)
    if arguments.json:
        print(json.dumps(results, indent=2, ensure_ascii=False))
    return int(failed)


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
