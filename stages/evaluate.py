"""One trained model on the whole validation and test split, once, and on images without a class."""

from pathlib import Path

import pandas as pd
from torch import Tensor

from pipeline.base.errors import choose
from pipeline.base.files import atomic
from pipeline.base.launch import is_first
from pipeline.compute.device import setup_torch
from pipeline.data.pixels import Split
from pipeline.data.raw import read_unlabelled
from pipeline.data.tables import write_csv, write_json
from pipeline.models.files import Header, Verdict, load_model, split_classifier
from pipeline.models.frozen import Inputs, logits
from pipeline.models.known import split_answers
from pipeline.models.networks import weights_digest
from pipeline.params import Params
from pipeline.training.evaluation import per_class, predictions, scores
from stages._inputs import RAW, UNLABELLED, open_cache, open_views, trained_by_others


def main(params: Params, name: str) -> None:
    recipe = choose(params.approaches, name, "approaches").recipe(params.train)
    device = setup_torch(params.runtime.device, params.threads)
    model = load_model(Path(f"models/{name}.safetensors"))
    others = trained_by_others(params, recipe, model.network)
    frozen, classifier = split_classifier(model, others, device)
    cache = open_cache(params.runtime)

    def answer(split: str) -> tuple[Tensor, Tensor, Split]:
        """Logits and similarities of a split, and its images."""
        views = open_views(split, model.preprocessing, params.runtime, device)
        outputs = logits(classifier, Inputs(views, frozen.parts, cache), split)
        return *split_answers(outputs), views.pixels.split

    evaluated = {}
    answers = {}
    for split in ("val", "test"):
        values, similar, images = answer(split)
        evaluated[split] = scores(values, images.labels) | {"images": len(images)}
        before = scores(values * model.header.temperature, images.labels)
        evaluated[split]["uncalibrated_loss"] = before["loss"]
        evaluated[split]["uncalibrated_calibration_error"] = before["calibration_error"]
        is_known = similar >= model.header.known_from
        evaluated[split]["known"] = round(is_known.double().mean().item(), 6)
        answers[split] = predictions(values, images)
        answers[split]["verdict"] = verdicts(model.header, answers[split], similar)
    unlabelled = pd.DataFrame(columns=["file", "class", "confidence", "verdict"])
    if len(read_unlabelled(RAW)):
        values, similar, images = answer(UNLABELLED)
        guesses = predictions(values, images)
        unlabelled["file"] = images.members
        unlabelled["class"] = [model.header.classes[label] for label in guesses["prediction"]]
        unlabelled["confidence"] = guesses["confidence"]
        unlabelled["verdict"] = verdicts(model.header, guesses, similar)

    if not is_first():
        return
    facts = {
        "parameters": model.header.parameters,
        "temperature": model.header.temperature,
        "sure_from": model.header.sure_from,
        "known_from": model.header.known_from,
        "weights_sha256": weights_digest(model.network.state_dict()),
    }
    outs = [
        f"predictions/{name}.csv",
        f"per_class/{name}.csv",
        f"evaluation/{name}.json",
        f"unlabelled/{name}.csv",
        f"validation/{name}.csv",
    ]
    with atomic(*outs) as (
        predictions_file,
        classes_file,
        evaluation_file,
        unlabelled_file,
        validation_file,
    ):
        write_csv(predictions_file, answers["test"])
        write_csv(classes_file, per_class(answers["test"], model.header.classes), float_format=None)
        write_json(evaluation_file, evaluated | facts)
        write_csv(unlabelled_file, unlabelled)
        write_csv(validation_file, answers["val"])
    for split, found in evaluated.items():
        print(
            f"{split}: accuracy {found['accuracy']:.1%}, calibrated loss {found['loss']:.4f}, "
            f"calibration error {found['calibration_error']:.4f}; {found['images']:,} images"
        )
    print(f"evaluation/{name}.json has more")


def verdicts(header: Header, guesses: pd.DataFrame, similar: Tensor) -> list[Verdict]:
    """How far each answer can be believed.

    Args:
        guesses: of :func:`predictions`.
        similar: to the training images, of each image.
    """
    pairs = zip(guesses["confidence"], similar.tolist(), strict=True)
    return [header.verdict(confidence, similarity) for confidence, similarity in pairs]
