"""What a trained model takes images for: python -m pipeline.predict MODEL IMAGE...

MODEL is a file of models/; it holds all that is needed. IMAGE is a file, or a folder of images.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.base.errors import UserError, for_people, listed
from pipeline.base.files import atomic
from pipeline.data.images import central_square
from pipeline.data.raw import SUFFIXES
from pipeline.data.views import normalise
from pipeline.explain.gradcam import gradcam
from pipeline.explain.panels import Panel, explained_panel, write_figure
from pipeline.models.files import TrainedModel, load_model
from pipeline.models.freezing import fuse_frozen, section
from pipeline.training.evaluation import top_classes

EXPLAINED = "_explained.png"
DPI = 150  # dots per inch of the explanation


@dataclass(frozen=True)
class Answer:
    """What a model says of one file.

    Attributes:
        classes: the five most probable: class, probability (a fraction); empty if there is a fault.
        fault: why the file cannot be read.
    """

    file: Path
    classes: list[dict[Any, Any]]
    fault: str = ""


def predictions(
    model: TrainedModel, files: Sequence[Path], explain: bool = False
) -> Iterator[Answer]:
    """The model's answer for each file, in order.

    Args:
        explain: write what speaks for the most probable class, a PNG in the current directory.

    Raises:
        UserError: explanations cannot be made or written.
    """
    device = torch.device("cpu")
    classifier = model.classifier(device)
    for file in files:
        try:
            square = central_square(file.read_bytes(), str(file), model.preprocessing)
        except OSError as error:
            yield Answer(file, [], f"{file}: {error.strerror}")
            continue
        except UserError as error:
            yield Answer(file, [], str(error))
            continue
        pixels = normalise(torch.from_numpy(square[None]), model.preprocessing)
        with torch.inference_mode():
            logits = classifier(pixels)[0].float()
        answer = Answer(file, top_classes(logits, model.header.classes).to_dict("records"))
        if explain:
            write_explanation(model, answer, square, int(logits.argmax()))
        yield answer


def write_explanation(
    model: TrainedModel, answer: Answer, square: np.ndarray, class_id: int
) -> None:
    """Write what in an image speaks for its most probable class, by Grad-CAM.

    Args:
        square: uint8 [crop, crop, 3].
        class_id: of the most probable class.

    Raises:
        UserError: the network has no feature map, or the file cannot be written.
    """
    network = fuse_frozen(section(model.network, 0, None))
    pixels = normalise(torch.from_numpy(square[None]), model.preprocessing)
    evidence = gradcam(network, pixels, class_id)
    if evidence is None:
        raise UserError(f"{model.header.network} has no feature map that --explain could show")
    best = answer.classes[0]
    panel = explained_panel(square, evidence, best["class"], best["probability"])
    columns = {"": [Panel(square, answer.file.name)], model.header.approach: [panel]}
    explained = answer.file.stem + EXPLAINED
    try:
        with atomic(explained) as (path,):
            write_figure(path, [""], columns, DPI)
    except OSError as error:
        raise UserError(f"{explained}: {error.strerror}") from None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files among ``paths``, and the images in the folders among them.

    Raises:
        UserError: there are none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES]
        files += [file for file in found if not file.name.endswith(EXPLAINED)]
    if not files:
        raise UserError(f"{', '.join(map(str, paths))}: no image in it")
    return files


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.predict",
        description="What a trained model takes images for.",
    )
    parser.add_argument("model", type=Path, help="a file of models/")
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="image", help="a file, or a folder of images"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="one list: file, classes with their probabilities"
    )
    form.add_argument("--csv", action="store_true", help="a row a class: file, class, probability")
    parser.add_argument(
        "--explain",
        action="store_true",
        help=f"write IMAGE{EXPLAINED}: what in the image speaks for its class",
    )
    arguments = parser.parse_args()
    files = find_images(arguments.images)
    if arguments.explain:
        stems = Counter(file.stem for file in files)
        if repeated := [name for name, count in stems.items() if count > 1]:
            raise UserError(
                f"several images are called {listed(repeated)}; --explain would write one file "
                "for all of them"
            )

    table = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.csv:
        table.writerow(["file", "class", "probability"])
    answers = []
    for answer in predictions(load_model(arguments.model), files, arguments.explain):
        answers.append(answer)
        if answer.fault:
            print(f"error: {answer.fault}", file=sys.stderr)
            continue
        if arguments.csv:
            for row in answer.classes:
                table.writerow([answer.file, row["class"], f"{row['probability']:.6f}"])
        elif not arguments.json:
            print(answer.file)
            for row in answer.classes:
                print(f"{row['probability']:8.1%}  {' '.join(row['class'].split())}")
            print(flush=True)
        if arguments.explain:
            print(
                f"note: {answer.file.stem}{EXPLAINED} shows what speaks for the first class",
                file=sys.stderr,
            )
    if arguments.json:
        found = [answer for answer in answers if not answer.fault]
        records = [{"file": str(answer.file), "classes": answer.classes} for answer in found]
        print(json.dumps(records, indent=2, ensure_ascii=False))
    return int(any(answer.fault for answer in answers))


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
