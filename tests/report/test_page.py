"""The report page: complete in itself, readable everywhere, whatever the classes are called."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.images import Preprocessing
from pipeline.figures import charts
from pipeline.params import Recipe
from pipeline.report.comparison import differences, summary
from pipeline.report.data import KINDS, Data
from pipeline.report.page import Results, page
from tests.browser import requests, set_width
from tests.report.test_comparison import recipe

HOSTILE = [
    "<script>alert(1)</script>",
    '" onerror="x',
    "{{ 7 * 7 }} $x^2$",
    "زهرة الربيع",
    "word" * 60,
    "&amp; 'q'",
]
SECTIONS = [
    "Comparison",
    "Training",
    "Where they differ",
    "Most confused classes",
    "Confident mistakes",
    "Evidence for predictions",
    "Classes",
    "Calibration",
    "Before training",
    "The data",
    "Settings and digests",
]
# Columns of what the stage explore writes.
ALIKE = [
    "first",
    "second",
    "first_split",
    "second_split",
    "first_class",
    "second_class",
    "cosine",
    "kind",
]
SUSPECTS = ["file", "split", "class", "suggested", "p_class", "p_suggested"]
ODD = ["file", "split", "class", "what", "value", "usual"]
VOID = {"meta", "link", "img", "br"}  # elements without an end tag


def results(folder: Path, approaches: int, classes: int) -> Results:
    """Made-up results: each approach is right more often than the last; class names are hostile."""
    names = [f"{HOSTILE[number % len(HOSTILE)]} {number}" for number in range(classes)]
    index = made_up_index(classes, test_images=max(40, 2 * classes))
    test = index[index["split"] == "test"]
    recipes: dict[str, Recipe] = {}
    predictions = {}
    per_class = {}
    evaluations = {}
    parameters = {"total": 10, "trainable": 1}
    random = np.random.default_rng(0)
    for number in range(approaches):
        name = f"approach_{number}"
        wrong = random.random(len(test)) < 0.6 / (number + 1)
        guesses = random.integers(0, classes, len(test))
        table = test[["id", "label"]].reset_index(drop=True)
        table["prediction"] = np.where(wrong, guesses, table["label"])
        table["confidence"] = random.random(len(test))
        table["verdict"] = np.where(table["confidence"] >= 0.4, "sure", "unsure")
        right = table["label"] == table["prediction"]
        by_class = right.groupby(table["label"]).agg(["size", "mean"])
        per_class[name] = pd.DataFrame(
            {
                "label": range(classes),
                "class": names,
                "n": by_class["size"],
                "accuracy": by_class["mean"],
            }
        )
        scores = {"top5_accuracy": 1.0, "balanced_accuracy": 0.5, "loss": 1.0}
        scores["uncalibrated_loss"] = 1.0
        scores |= {"accuracy": right.mean(), "images": len(test)}
        predictions[name] = table
        scores |= {"uncalibrated_calibration_error": 0.24, "known": 0.99}
        evaluations[name] = {
            "test": scores,
            "val": scores,
            "parameters": parameters,
            "temperature": 0.5,
            "sure_from": 0.4,
        }
        recipes[name] = recipe()
    table = summary(recipes, evaluations, {})
    histories = dict.fromkeys(recipes, made_up_history())
    explained = made_up_explanations(folder / "pictures", list(recipes), names)
    return Results(
        dataset="Twelve <tulips>",
        table=table,
        notes=["A <note>."],
        recommended="approach_0",
        differences=differences(predictions),
        training_curves=charts.training_curves(histories),
        comparison=charts.comparison(table),
        histories=histories,
        per_class=per_class,
        predictions=predictions,
        validation=predictions,
        evaluations=evaluations,
        data=made_up_data(names, index),
        top5=pd.DataFrame({"class": names[:2], "probability": [0.5, 0.25]}),
        explained=explained,
        pictures=folder / "pictures",
        square=made_up_square,
        settings="train: {}",
        digests={"images": "0" * 64},
        versions={"python": "3"},
    )


def made_up_index(classes: int, test_images: int) -> pd.DataFrame:
    """One training image of each class, and test images of all classes."""
    labels = np.concatenate([np.arange(classes), np.sort(np.arange(test_images) % classes)])
    splits = ["train"] * classes + ["test"] * test_images
    members = [f"{number}/<b>.jpg" for number in range(len(labels))]
    ids = 1000 + np.arange(len(labels))
    return pd.DataFrame({"member": members, "id": ids, "split": splits, "label": labels})


def made_up_data(names: list[str], index: pd.DataFrame) -> Data:
    """One finding of each kind."""
    counts = {"images": 1, "fewest_of_a_class": 1, "most_of_a_class": 1}
    members = index.set_index("split")["member"]
    train = members["train"].iloc[:2].tolist()
    test = members["test"].iloc[:2].tolist()
    first, second = names[:2]
    pairs = [
        (train[0], test[0], "train", "test", first, second, 1.0, "identical"),
        (train[1], test[1], "train", "test", second, second, 0.98765, "near"),
        (train[0], train[1], "train", "train", first, second, 0.95, "near"),
        (train[0], test[1], "train", "test", first, second, 0.5, "alike"),
    ]
    odd = [(train[0], "train", first, what, 0.5, 0.25) for what in KINDS]
    dataset = dict.fromkeys(("train", "val", "test"), counts) | {
        "classes": len(names),
        "sizes": {"short_side": [300, 400, 1500], "long_side": [400, 500, 2000]},
        "identical_images": [[train[0], test[0]]],
        "near_duplicates": {"across_splits": 1, "within_splits": 1, "evaluated_near_train": 0},
    }
    return Data(
        dataset=dataset,
        counts=pd.DataFrame({"class": names, "train": 1, "val": 0, "test": 2}),
        alike=pd.DataFrame(pairs, columns=ALIKE),
        suspects=pd.DataFrame([(test[0], "test", first, second, 0.01, 0.99)], columns=SUSPECTS),
        odd=pd.DataFrame(odd, columns=ODD),
        left_out=pd.DataFrame({"file": ["a\n<b>.jpg"], "reason": ["cut short"]}),
        index=index,
        classes=names,
        images=MadeUpImages(),
    )


class MadeUpImages:
    """Wide images of noise."""

    def whole(self, image_id: int) -> np.ndarray:
        return np.random.default_rng(image_id).integers(0, 256, (8, 12, 3), np.uint8)

    def square(self, image_id: int, preprocessing: Preprocessing) -> np.ndarray:
        return self.whole(image_id)[:, 2:10]


def made_up_square(image_id: int) -> np.ndarray:
    return MadeUpImages().whole(image_id)[:, 2:10]


def made_up_history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2],
            "train_loss": 1.0,
            "train_accuracy": 0.5,
            "val_loss": 1.0,
            "val_accuracy": 0.5,
        }
    )


def made_up_explanations(folder: Path, approaches: list[str], classes: list[str]) -> pd.DataFrame:
    folder.mkdir()
    for file in ("7.jpg", *(f"7-{name}.jpg" for name in approaches)):
        Image.new("RGB", (8, 8)).save(folder / file)
    return pd.DataFrame(
        {
            "rule": "typical",
            "id": 7,
            "member": "a.jpg",
            "label": classes[0],
            "approach": approaches,
            "prediction": classes[1],
            "confidence": 0.5,
            "note": "no positive evidence",
        }
    )


class Checked(HTMLParser):
    """Parses a page; fails if it is not complete in itself.

    That is: a tag is not closed, a script runs, something is loaded, or an image has no
    description.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str | None] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open
        assert len(self.ids) == len(set(self.ids))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        assert tag != "script"
        assert not [name for name in values if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (values.get(name) or "#").startswith(("data:", "#")), values
        assert tag != "img" or values["alt"]
        if "id" in values:
            self.ids.append(values["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module", params=[(1, 2), (2, 1000), (12, 6)], ids=["1x2", "2x1000", "12x6"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 1, 2 or 12 approaches and 2, 1,000 or 6 classes."""
    folder = tmp_path_factory.mktemp("page")
    path = folder / "index.html"
    path.write_text(page(results(folder, *request.param)), encoding="utf-8")
    return path


def test_a_page_of_any_size_is_complete_and_shows_names_as_they_are(made: Path) -> None:
    checked = Checked(made.read_text(encoding="utf-8"))
    assert "<script>alert(1)</script> 0" in checked.text
    assert HOSTILE[1] in checked.text
    assert "Twelve <tulips>" in checked.text
    assert made.stat().st_size < 3_000_000


def test_parts_without_content_are_left_out(tmp_path: Path) -> None:
    """One approach differs from no other; images to explain are a choice of params.yaml."""
    made_up = results(tmp_path, approaches=1, classes=2)
    text = Checked(page(replace(made_up, explained=made_up.explained[:0]))).text
    missing = [title for title in SECTIONS if f"\n{title}\n" not in text]
    assert missing == ["Where they differ", "Evidence for predictions"]


def test_the_page_of_a_run(project: Path) -> None:
    """The answer first, then what the run's own files hold."""
    text = Checked((project / "report" / "index.html").read_text(encoding="utf-8")).text
    evaluation = json.loads((project / "evaluation" / "fine_tuning.json").read_text())
    assert text.index("points of test accuracy") < text.index("\nComparison\n")
    assert f"{evaluation['test']['accuracy']:.1%}" in text
    assert evaluation["weights_sha256"] in text
    calibration = text.split("Expected calibration")[1][:200]
    assert f"{evaluation['test']['calibration_error']:.1%}" in calibration
    places = [text.index(f"\n{title}\n") for title in SECTIONS]
    assert places == sorted(places)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it(made: Path, browser: Any, width: int, theme: str) -> None:
    """No console message, no request, every image loaded, no sideways scrolling, both themes."""
    set_width(browser, width)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    requests(browser)
    browser.get(made.as_uri())
    assert browser.get_log("browser") == []
    assert [url for url in requests(browser) if not url.startswith("data:")] == [made.as_uri()]
    loaded = "return [...document.images].every(i => i.complete && i.naturalWidth)"
    assert browser.execute_script(loaded)
    fits = "return document.documentElement.scrollWidth <= window.innerWidth"
    assert browser.execute_script(fits)
    ground, text = browser.execute_script(
        "const style = getComputedStyle(document.body);"
        "const red = colour => +colour.match(/[0-9]+/)[0];"
        "return [red(style.backgroundColor), red(style.color)];"
    )
    if theme == "light":
        assert ground > 200 > 100 > text
    else:
        assert text > 200 > 100 > ground
