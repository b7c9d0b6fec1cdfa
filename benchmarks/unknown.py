"""What tells photographs of other things from known ones?

Usage: python -m benchmarks.unknown APPROACH FOLDER ...

After `dvc repro`, in the folder where that ran. Each FOLDER holds photographs of things that are no
class of the model. For each, and for all together: the area under the ROC curve (AUROC) of the
largest probability, of the energy (Liu et al., NeurIPS 2020) and of the similarity to the training
images, against the test split; and the shares of the verdicts.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from pipeline.base.errors import UserError, for_people
from pipeline.base.parallel import cpu_workers, parallel_map
from pipeline.compute.device import setup_torch
from pipeline.data.images import central_square
from pipeline.data.views import normalise
from pipeline.models.files import TrainedModel, load_model
from pipeline.models.frozen import Inputs, logits
from pipeline.models.known import split_answers
from pipeline.params import load_params
from pipeline.sources.files import images_below
from stages._inputs import open_cache, open_views

BATCH = 64
VERDICTS = ("sure", "unsure", "none of these")


def main() -> None:
    if len(sys.argv) < 3:
        raise UserError("usage: python -m benchmarks.unknown APPROACH FOLDER ...")
    params = load_params("params.yaml")
    device = setup_torch(params.runtime.device, params.threads)
    model = load_model(Path(f"models/{sys.argv[1]}.safetensors"))
    classifier = model.classifier(device)
    views = open_views("test", model.preprocessing, params.runtime, device)
    test = logits(classifier, Inputs(views, [], open_cache(params.runtime)), "test")
    known = scores(model, test)
    folders = {}
    for name in sys.argv[2:]:
        files = list(images_below(Path(name)))
        batches = [torch.from_numpy(squares) for squares in read(model, files)]
        with torch.inference_mode():
            answers = [
                classifier(normalise(batch.to(device), model.preprocessing)).cpu()
                for batch in batches
            ]
        folders[name] = scores(model, torch.cat(answers))
    every = {"test split": known} | folders | {"all folders": pd.concat(folders.values())}
    rows = [
        {"images": len(table)}
        | {f"AUROC {key}": auroc(known[key], table[key]) for key in known.columns[:-1]}
        | {verdict: (table["verdict"] == verdict).mean() for verdict in VERDICTS}
        for table in every.values()
    ]
    print(pd.DataFrame(rows, index=list(every)).round(3).to_string())


def read(model: TrainedModel, files: list[Path]) -> Iterator[np.ndarray]:
    """Central squares, uint8 [n, crop, crop, 3], by batches; what is no image is left out."""

    def square(file: Path) -> np.ndarray | None:
        try:
            return central_square(file.read_bytes(), str(file), model.preprocessing)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            return None

    found = [one for one in parallel_map(square, files, cpu_workers("auto")) if one is not None]
    for start in range(0, len(found), BATCH):
        yield np.stack(found[start : start + BATCH])


def scores(model: TrainedModel, answers: Tensor) -> pd.DataFrame:
    """A row an image: three numbers that are larger for what is known, and the verdict."""
    values, similar = split_answers(answers)
    probability = values.softmax(1).amax(1).tolist()
    verdicts = map(model.header.verdict, probability, similar.tolist())
    return pd.DataFrame(
        {
            "probability": probability,
            "energy": values.logsumexp(1).tolist(),
            "similarity": similar.tolist(),
            "verdict": list(verdicts),
        }
    )


def auroc(known: pd.Series, unknown: pd.Series) -> float:
    """The probability that a known image has the larger number."""
    return float(mannwhitneyu(known, unknown).statistic / (len(known) * len(unknown)))


if __name__ == "__main__":
    with for_people():
        main()
