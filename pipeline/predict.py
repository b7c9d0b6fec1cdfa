"""What a trained model takes images for: python -m pipeline.predict MODEL IMAGE...

MODEL is a file of models/; it holds all that is needed. IMAGE is a file, a folder of images, or -
for a list of names on standard input.
"""

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn

from pipeline.base.errors import UserError, for_people, listed
from pipeline.base.files import atomic
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.base.progress import progress
from pipeline.compute.device import setup_torch
from pipeline.data.images import central_square
from pipeline.data.views import normalise
from pipeline.explain.gradcam import gradcam
from pipeline.explain.panels import Panel, explained_panel, write_figure
from pipeline.models.files import TrainedModel, Verdict, load_model
from pipeline.models.freezing import fuse_frozen, section
from pipeline.models.known import split_answers
from pipeline.sources.files import SUFFIXES, images_below
from pipeline.training.evaluation import top_classes

EXPLAINED = "_explained.png"
DPI = 150  # dots per inch of the explanation
BATCH = 32  # images at once
MANY = 100  # files from which on progress is shown


@dataclass(frozen=True)
class Answer:
    """What a model says of one file.

    Attributes:
        classes: the most probable: class, probability (a fraction); empty if there is a fault.
        verdict: how far the answer can be believed: sure, unsure, none of these.
        fault: why the file cannot be read.
        square: the part of the image that the model sees, uint8 [crop, crop, 3].
    """

    file: Path
    classes: list[dict[Any, Any]]
    verdict: Verdict = "unsure"
    fault: str = ""
    square: np.ndarray | None = None


class Predictor:
    """A model ready to answer and to explain; its networks are made once, for any number of images.

    Args:
        device: of the answers; explanations are computed on the CPU.
    """

    def __init__(self, model: TrainedModel, device: torch.device) -> None:
        self.model = model
        self._device = device
        self._preprocessing = model.preprocessing
        self._classifier = model.classifier(device)

    def answers(self, files: Sequence[Path], count: int = 5) -> Iterator[Answer]:
        """The answer for each file, in order; images are decoded by all cores.

        Args:
            count: of classes in an answer.
        """

        def read(file: Path) -> Answer:
            try:
                return self._read(file, file.read_bytes())
            except OSError as error:
                return Answer(file, [], fault=f"{file}: {error.strerror}")

        found = parallel_map(read, files, cpu_workers("auto"))
        while batch := list(islice(found, BATCH)):
            yield from self._answered(batch, count)

    def answer(self, file: Path, encoded: bytes, count: int = 5) -> Answer:
        """The answer for the content of a file; ``file`` is its name, for messages."""
        (answer,) = self._answered([self._read(file, encoded)], count)
        return answer

    def _read(self, file: Path, encoded: bytes) -> Answer:
        """What the model sees of an image, or why it cannot be read; no classes yet."""
        try:
            square = central_square(encoded, str(file), self._preprocessing)
        except UserError as error:
            return Answer(file, [], fault=str(error))
        return Answer(file, [], square=square)

    def _answered(self, batch: list[Answer], count: int) -> Iterator[Answer]:
        """The same with the classes, where there is a square."""
        header = self.model.header
        readable = [answer.square for answer in batch if answer.square is not None]
        if readable:
            pixels = torch.from_numpy(np.stack(readable)).to(self._device)
            with torch.inference_mode():
                answers = self._classifier(normalise(pixels, self._preprocessing)).cpu()
            logits, similar = split_answers(answers)
            outputs = zip(logits, similar.tolist(), strict=True)
        for answer in batch:
            if answer.square is None:
                yield answer
                continue
            values, similarity = next(outputs)
            classes = top_classes(values, header.classes, count).to_dict("records")
            verdict = header.verdict(classes[0]["probability"], similarity)
            yield Answer(answer.file, classes, verdict, square=answer.square)

    @cached_property
    def _network(self) -> nn.Module:
        """From pixels to logits, as Grad-CAM needs it."""
        return fuse_frozen(section(self.model.network, 0, None))

    def explanation(self, answer: Answer) -> Panel | None:
        """What in an image speaks for its most probable class, by Grad-CAM.

        None where the network has no feature map.
        """
        square = answer.square
        assert square is not None
        best = answer.classes[0]
        class_id = self.model.header.classes.index(best["class"])
        pixels = normalise(torch.from_numpy(square[None]), self._preprocessing)
        evidence = gradcam(self._network, pixels, class_id)
        if evidence is None:
            return None
        return explained_panel(square, evidence, best["class"], best["probability"])


def write_explanation(predictor: Predictor, answer: Answer) -> None:
    """Write :meth:`Predictor.explanation` as a PNG in the current directory.

    Raises:
        UserError: the network has no feature map, or the file cannot be written.
    """
    square = answer.square
    assert square is not None
    header = predictor.model.header
    panel = predictor.explanation(answer)
    if panel is None:
        raise UserError(f"{header.network} has no feature map that --explain could show")
    columns = {"": [Panel(square, answer.file.name)], header.approach: [panel]}
    explained = answer.file.stem + EXPLAINED
    try:
        with atomic(explained) as (path,):
            write_figure(path, [""], columns, DPI)
    except OSError as error:
        raise UserError(f"{explained}: {error.strerror}") from None


def find_images(names: Sequence[str]) -> list[Path]:
    """The files that are named, and the images in the folders among them.

    Hidden files, and those that a system leaves beside photographs, are left out of folders, as
    training leaves them out.

    Args:
        names: of files and folders; ``-`` for names on standard input, a line each.

    Raises:
        UserError: there are none.
    """
    files: list[Path] = []
    for name in names:
        if name == "-":
            lines = (line.rstrip("\n") for line in sys.stdin)
            files += find_images([line for line in lines if line])
            continue
        path = Path(name)
        if not path.is_dir():
            files.append(path)
            continue
        files += [file for file in images_below(path) if not file.name.endswith(EXPLAINED)]
    if not files:
        raise UserError(f"{', '.join(names) or 'standard input'}: no image in it")
    return files


class Text:
    """Answers for people."""

    def __init__(self, out: TextIO, model: TrainedModel) -> None:
        self._out = out
        header = model.header
        self._notes = {
            "sure": "",
            "unsure": f"unsure: below {header.sure_from:.1%}",
            "none of these": "none of these: it is like no training image",
        }

    def write(self, answer: Answer) -> None:
        print(answer.file, file=self._out)
        if note := self._notes[answer.verdict]:
            print(f"  {note}", file=self._out)
        for row in answer.classes:
            name = " ".join(row["class"].split())
            print(f"{row['probability']:8.1%}  {name}", file=self._out)
        print(file=self._out, flush=True)

    def close(self) -> None:
        """Nothing is left to write."""


class Json:
    """One list, written as the answers come."""

    def __init__(self, out: TextIO, model: TrainedModel) -> None:
        self._out = out
        self._before = "["

    def write(self, answer: Answer) -> None:
        record = {
            "file": str(answer.file),
            "classes": answer.classes,
            "verdict": answer.verdict,
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        self._out.write(f"{self._before}\n{text}")
        self._before = ","

    def close(self) -> None:
        self._out.write("[]\n" if self._before == "[" else "\n]\n")


class Csv:
    """A row a class."""

    def __init__(self, out: TextIO, model: TrainedModel) -> None:
        self._table = csv.writer(out, lineterminator="\n")
        self._table.writerow(["file", "class", "probability", "verdict"])

    def write(self, answer: Answer) -> None:
        for row in answer.classes:
            probability = f"{row['probability']:.6f}"
            self._table.writerow([answer.file, row["class"], probability, answer.verdict])

    def close(self) -> None:
        """Nothing is left to write."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.predict",
        description="What a trained model takes images for.",
    )
    parser.add_argument("model", type=Path, help="a file of models/")
    parser.add_argument(
        "images",
        nargs="+",
        metavar="image",
        help="a file, a folder of images, or - for names on standard input",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_const",
        const=Json,
        dest="form",
        help="one list: file, classes with their probabilities, verdict",
    )
    form.add_argument(
        "--csv",
        action="store_const",
        const=Csv,
        dest="form",
        help="a row a class: file, class, probability, verdict",
    )
    parser.set_defaults(form=Text)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes for each image")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cuda", "mps", "cpu"], help="default: auto"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help=f"write IMAGE{EXPLAINED}: what in the image speaks for its class",
    )
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error("--top must be 1 or more")
    return arguments


def main() -> int:
    """Print an answer for each image; returns 1 if one of them cannot be read.

    Raises:
        UserError: no model, no images, or no explanation.
    """
    arguments = parse_arguments()
    if arguments.model.suffix.lower() in SUFFIXES:
        raise UserError(f"{arguments.model}: is an image; the model comes first, then the images")
    files = find_images(arguments.images)
    if arguments.explain:
        stems = Counter(file.stem for file in files)
        if repeated := [name for name, count in stems.items() if count > 1]:
            raise UserError(
                f"several images are called {listed(repeated)}; --explain would write one file "
                "for all of them"
            )
    model = load_model(arguments.model)
    try:
        device = setup_torch(arguments.device, cpu_workers("auto"))
    except UserError:
        raise UserError(f"--device {arguments.device}: this machine has none") from None

    # A name need not be text that a terminal, or UTF-8, can show.
    encoding = None if arguments.form is Text else "utf-8"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding=encoding, errors="backslashreplace")

    predictor = Predictor(model, device)
    answers = predictor.answers(files, arguments.top)
    if len(files) >= MANY:
        answers = progress(answers, len(files), "predicting")
    form = arguments.form(sys.stdout, model)
    faults = 0
    for answer in answers:
        if answer.fault:
            faults += 1
            print(f"error: {answer.fault}", file=sys.stderr)
            continue
        form.write(answer)
        if arguments.explain:
            write_explanation(predictor, answer)
            print(
                f"note: {answer.file.stem}{EXPLAINED} shows what speaks for the first class",
                file=sys.stderr,
            )
    form.close()
    return int(faults > 0)


def run() -> None:
    """The console command; ends quietly where nobody reads on, as in ``| head``."""
    with for_people():
        try:
            code = main()
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        sys.exit(code)


if __name__ == "__main__":
    run()
