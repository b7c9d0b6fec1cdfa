"""Model cards: the figures of the files that they are made of, and a head that the Hub reads."""

from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.export.card import Facts, model_card
from pipeline.params import Approach, Dataset, Train, read_yaml
from tests.export.test_onnx import HEADER
from tools.sandbox import PROJECT

SCORES = {
    "accuracy": 0.75,
    "top5_accuracy": 1.0,
    "balanced_accuracy": 0.7,
    "loss": 0.5,
    "calibration_error": 0.02,
    "uncalibrated_loss": 0.8,
    "known": 0.97,
    "uncalibrated_calibration_error": 0.2,
    "images": 4,
}
PAIR = {
    "first": "a|b.jpg",
    "second": "c.jpg",
    "first_split": "train",
    "second_split": "test",
    "first_class": "rose",
    "second_class": "rose",
    "cosine": 0.99,
    "kind": "near",
}


def card_of(**changes: Any) -> str:
    train = Train.model_validate(read_yaml(PROJECT / "params.yaml")["train"])
    approach = Approach.model_validate({"learning_rates": {"fc": 1e-3}})
    facts: dict[str, Any] = {
        "dataset": Dataset(name="Twelve tulips", url="", license="cc-by-4.0", terms="Ask first."),
        "recipe": approach.recipe(train),
        "header": HEADER.model_copy(update={"sure_from": 0.6, "known_from": 0.5}),
        "evaluation": {"test": SCORES, "val": SCORES, "weights_sha256": "ab" * 32},
        "predictions": pd.DataFrame(
            {
                "label": [0, 0, 1, 1],
                "prediction": [0, 0, 1, 0],
                "confidence": [0.9, 0.8, 0.7, 0.9],
                "verdict": ["sure", "sure", "sure", "none of these"],
            }
        ),
        "per_class": pd.DataFrame(
            {"class": ["rose", "colt's foot"], "n": [2, 2], "accuracy": [1.0, 0.5]}
        ),
        "images": {"train": 8, "val": 4, "test": 4},
        "alike": pd.DataFrame([PAIR, PAIR | {"second_split": "train"}]),
        "digests": {"model.onnx": "cd" * 32},
    }
    return model_card(Facts(**(facts | changes)))


def test_its_head_says_to_the_hub_what_was_measured_on_what() -> None:
    _, head, _ = card_of().split("---\n", 2)
    found = yaml.safe_load(head)
    assert found["license"] == "cc-by-4.0"
    assert found["pipeline_tag"] == "image-classification"
    (model,) = found["model-index"]
    (result,) = model["results"]
    assert result["dataset"] == {"name": "Twelve tulips", "type": "imagefolder", "split": "test"}
    assert {"type": "accuracy", "value": 0.75} in result["metrics"]


@pytest.mark.parametrize(
    "sentence",
    [
        "| accuracy | 75.0 % (95 % interval 30.1 % to 95.4 %) | 75.0 % |",
        "| calibration error (15 bins) | 2.0 % (20.0 % before calibration) | 2.0 % |",
        "On the test images 75.0 % of the answers are sure, and 100.0 % of those are right.",
        "Classes with the lowest test accuracy: colt's foot (50.0 % of 2), rose (100.0 % of 2).",
        "Licence: cc-by-4.0. Ask first.",
        "1 pair of identical or nearly identical images lies in two splits:",
        r"| a\|b.jpg (train) | c.jpg (test) | near | 0.9900 |",
        "below 0.500; 3.0 % of the test images are called so, too",
        "learning_rates:\n  fc: 0.001",
        "| model.onnx | `" + "cd" * 32 + "` |",
    ],
)
def test_it_says_what_a_person_who_is_given_the_model_needs(sentence: str) -> None:
    assert sentence in card_of()


def test_a_model_that_is_never_sure_and_a_set_without_duplicates() -> None:
    header = HEADER.model_copy(update={"sure_from": 1.0})
    predictions = pd.DataFrame({"label": [0], "prediction": [0], "verdict": ["unsure"]})
    card = card_of(header=header, predictions=predictions, alike=pd.DataFrame([PAIR]).head(0))
    assert "On the test images every answer is unsure." in card
    assert "No identical or nearly identical images were found in two splits." in card


def test_an_image_is_prepared_as_the_model_was_trained() -> None:
    assert "the central square of 32 pixels is used" in card_of()
    padded = card_of(header=HEADER.model_copy(update={"fit": "pad"}))
    assert "its longer side has 32 pixels" in padded
