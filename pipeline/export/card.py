"""Model cards: what a person who is given a model needs to know, as the Hub reads it.

https://huggingface.co/docs/hub/model-cards
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.models.files import Header
from pipeline.params import Dataset, Recipe
from pipeline.report.statistics import accuracy_interval

EXAMPLES = Path(__file__).with_name("examples")  # scripts that lie beside the card
WORST = 5  # classes that the card names
PAIRS = 10  # nearly identical images that the card names


@dataclass(frozen=True)
class Facts:
    """What a model card is made of.

    Attributes:
        dataset, recipe: of params.yaml; the recipe with all that train gives it.
        header: of the model's file.
        evaluation: of evaluation/NAME.json.
        predictions: of predictions/NAME.csv, the test split.
        per_class: of per_class/NAME.csv.
        images: number of each split.
        alike: of report/alike.csv; pairs of kind alike are not in the card.
        digests: sha256 of files, hex, by what they are called in the card.
    """

    dataset: Dataset
    recipe: Recipe
    header: Header
    evaluation: dict[str, Any]
    predictions: pd.DataFrame
    per_class: pd.DataFrame
    images: dict[str, int]
    alike: pd.DataFrame
    digests: dict[str, str]


def model_card(facts: Facts) -> str:
    """The card in Markdown, with the Hub's YAML head."""
    test = facts.evaluation["test"]
    right = facts.predictions["label"] == facts.predictions["prediction"]
    sure = facts.predictions["verdict"] == "sure"
    low, high = accuracy_interval(int(right.sum()), len(right))
    alike = facts.alike[facts.alike["kind"] != "alike"]  # those are not certain to be near
    across = alike[alike["first_split"] != alike["second_split"]]
    environment = Environment(
        loader=PackageLoader("pipeline.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md").render(
        head=_yaml(_head(facts, test)),
        recipe=_yaml(facts.recipe.model_dump()),
        facts=facts,
        test=test,
        val=facts.evaluation["val"],
        low=low,
        high=high,
        answered=sure.mean(),
        right_of_answered=right[sure].mean() if sure.any() else None,
        worst=facts.per_class.nsmallest(WORST, "accuracy", keep="first").to_dict("records"),
        across=across.head(PAIRS).to_dict("records"),
        across_count=len(across),
    )


def _head(facts: Facts, test: dict[str, Any]) -> dict[str, Any]:
    """The metadata of the Hub: https://huggingface.co/docs/hub/model-cards#model-card-metadata"""
    found = {"accuracy": test["accuracy"], "loss": test["loss"]}
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": facts.dataset.name, "type": "imagefolder", "split": "test"},
        "metrics": [{"type": name, "value": value} for name, value in found.items()],
    }
    return {
        "license": facts.dataset.license,
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "onnx", facts.header.network],
        "metrics": ["accuracy"],
        "model-index": [{"name": facts.header.approach, "results": [result]}],
    }


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip()
