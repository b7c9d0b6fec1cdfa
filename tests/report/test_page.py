"""The report page: whole in itself, readable everywhere, whatever the classes are called."""

import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from selenium import webdriver

from pipeline.base.arrays import ArrayWriter
from pipeline.data.pixels import Split
from pipeline.report.comparison import differences, summary
from pipeline.report.page import Results, page
from pipeline.training.evaluation import per_class
from pipeline.training.params import Approach

HOSTILE = ["<script>alert(1)</script>", '" onerror="x', "{{ 7 * 7 }} $x^2$", "زهرة الربيع", "word" * 60, "&amp; 'q'"]
VOID = {"meta", "link", "img", "br"}


def split(folder: Path, name: str, labels: np.ndarray) -> Split:
    """A packed split of small images of noise."""
    rows = {"id": np.arange(len(labels)), "label": labels, "offset": 300 * np.arange(len(labels))}
    pd.DataFrame(rows | {"height": 10, "width": 10}).to_csv(folder / f"{name}.csv", index=False)
    with ArrayWriter(folder / f"{name}.npy") as file:
        file.append(np.random.default_rng(0).integers(0, 256, 300 * len(labels), np.uint8))
    return Split(folder, name)


def results(folder: Path, approaches: int, classes: int) -> Results:
    """Made-up results: approaches that are right more and more often, classes of hostile names."""
    random = np.random.default_rng(0)
    names = [f"{HOSTILE[number % len(HOSTILE)]} {number}" for number in range(classes)]
    labels = np.sort(np.arange(max(40, 2 * classes)) % classes)
    train, test = split(folder, "train", np.arange(classes)), split(folder, "test", labels)
    predictions, metrics, recipes = {}, {}, {}
    for number in range(approaches):
        wrong = random.random(len(labels)) < 0.6 / (number + 1)
        prediction = np.where(wrong, random.integers(0, classes, len(labels)), labels)
        columns = {"id": test.ids, "label": labels, "prediction": prediction, "confidence": random.random(len(labels))}
        table = pd.DataFrame(columns)
        share = {"accuracy": (prediction == labels).mean(), "n": len(labels)}
        scores = share | {"top5_accuracy": 1.0, "balanced_accuracy": 0.5, "loss": 1.0}
        name = f"approach_{number}"
        predictions[name], recipes[name] = (
            table,
            Approach(initial="random", input="pixels", learning_rates={"fc": 1e-3}),
        )
        metrics[name] = {"test": scores, "val": scores, "parameters": {"total": 10, "trainable": 1}}
    epoch = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5}
    (folder / "pictures").mkdir()
    for picture in ("0.jpg", *(f"0-{name}.jpg" for name in predictions)):
        Image.new("RGB", (8, 8)).save(folder / "pictures" / picture)
    shown = {"rule": "typical", "id": 0, "member": "a.jpg", "confidence": 0.5}
    shown |= {"label": names[0], "prediction": names[1], "note": "no positive evidence"}
    counts = {"images": 1, "fewest_of_a_class": 1, "most_of_a_class": 1}
    return Results(
        table=summary(recipes, metrics, {}),
        differences=differences(predictions),
        histories={name: pd.DataFrame([epoch, epoch | {"epoch": 2}]) for name in predictions},
        per_class={name: per_class(table, names) for name, table in predictions.items()},
        predictions=predictions,
        dataset={"classes": classes, "identical_images": [["<a>.jpg", "b.jpg"]]}
        | dict.fromkeys(("train", "val", "test"), counts),
        top5=pd.DataFrame({"class": names[:2], "probability": [0.5, 0.25]}),
        explained=pd.DataFrame([shown | {"approach": name} for name in predictions]),
        pictures=folder / "pictures",
        train=train,
        test=test,
        classes=names,
        members={number: f"{number}/<b>.jpg" for number in range(len(labels))},
        crop=8,
        settings="train: {}",
        digests={"images": "0" * 64},
        versions={"python": "3"},
    )


class Check(HTMLParser):
    """Raises where a tag is not closed, a script runs, something is fetched or an image has no words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        assert tag != "script"
        assert not [name for name in values if name.startswith("on")]
        for name in ("src", "href", "xlink:href"):
            assert (values.get(name) or "#").startswith(("data:", "#")), values
        assert tag != "img" or values["alt"]
        self.ids += [values["id"] or ""] if "id" in values else []
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


def test_a_page_of_any_size_is_whole_and_escapes_names(made: Path) -> None:
    check = Check()
    check.feed(made.read_text(encoding="utf-8"))
    check.close()
    assert not check.open
    assert len(check.ids) == len(set(check.ids))
    assert "<script>alert(1)</script> 0" in check.text
    assert HOSTILE[1] in check.text
    assert made.stat().st_size < 3_000_000


def test_the_page_of_a_run(project: Path) -> None:
    """The answer first, then what the run's own files hold."""
    check = Check()
    check.feed((project / "report" / "index.html").read_text(encoding="utf-8"))
    check.close()
    assert not check.open
    metrics = json.loads((project / "metrics" / "fine_tuning.json").read_text())
    for text in (f"{metrics['test']['accuracy']:.1%}", metrics["weights_sha256"], "points of test accuracy"):
        assert text in check.text
    assert f"{metrics['test']['calibration_error']:.1%}" in check.text.split("Expected calibration")[1][:80]
    sections = ["Comparison", "Training", "Where they differ", "Most confused classes", "Confident mistakes"]
    sections += [
        "What speaks for a prediction",
        "Classes",
        "Calibration",
        "Before training",
        "Data",
        "Settings and digests",
    ]
    places = [check.text.index(f"\n{title}\n") for title in sections]
    assert places == sorted(places)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip(
            "the page is not tested in a browser: chromium or chromedriver (Debian: chromium-driver) is missing"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_a_browser_shows_it(made: Path, browser: Any, width: int, theme: str) -> None:
    """No console message, no request, every image loaded, nothing to scroll sideways, both themes."""
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("performance")
    browser.get(made.as_uri())
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in messages if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [made.as_uri()]
    assert browser.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth)")
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    ground, text = browser.execute_script(
        "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color].map(c => +c.match(/[0-9]+/)[0])"
    )
    assert (ground > 200 > 100 > text) if theme == "light" else (text > 200 > 100 > ground)
