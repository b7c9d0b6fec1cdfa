"""Charts of any number of approaches and classes, as PNG and in a page of either theme."""

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.figures import charts
from pipeline.figures.style import svg
from pipeline.report.comparison import confusion
from pipeline.training.calibration import reliability

SVG = "{http://www.w3.org/2000/svg}"


def drawn(approaches: int, names: list[str]) -> dict[str, Figure]:
    """The four charts of the comparison, of made-up results: the first approach is the worst.

    Args:
        names: of the classes.
    """
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(names)), 3)
    histories = {}
    confusions = {}
    per_class = {}
    rows = []
    for number in range(approaches):
        name = f"approach_{number}_of_some_length"
        accuracy = 0.9 + 0.01 * number
        loss = 1 / np.arange(1, 6)
        histories[name] = pd.DataFrame(
            {
                "epoch": range(1, 6),
                "train_loss": loss,
                "train_accuracy": accuracy,
                "val_loss": loss,
                "val_accuracy": accuracy,
            }
        )
        guesses = random.integers(0, len(names), len(labels))
        prediction = np.where(random.random(len(labels)) < accuracy, labels, guesses)
        by_class = pd.Series(prediction == labels).groupby(labels).mean()
        per_class[name] = pd.DataFrame(
            {"label": range(len(names)), "class": names, "accuracy": by_class}
        )
        predictions = pd.DataFrame({"label": labels, "prediction": prediction})
        confusions[name] = confusion(predictions, per_class[name])
        rows.append(
            {
                "approach": name,
                "val_accuracy": 1.0,
                "test_accuracy": accuracy,
                "test_accuracy_low": accuracy - 0.02,
                "test_accuracy_high": accuracy + 0.01,
            }
        )
    rows[0] |= {"published_val_accuracy": 0.8, "published_test_accuracy": 0.7}
    return {
        "comparison": charts.comparison(pd.DataFrame(rows)),
        "confusion": charts.confusion(confusions),
        "per_class": charts.per_class(per_class),
        "training_curves": charts.training_curves(histories),
    }


def texts(figure: Figure) -> Iterator[Text]:
    for axes in figure.axes:
        yield from (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high and axes.axison:
                    yield from (tick.label1, tick.label2)
    for legend in figure.legends:
        yield from legend.get_texts()


@pytest.mark.parametrize(
    ("approaches", "names"),
    [
        (7, ["cat", "a class whose name is far too long to be written anywhere in full"]),
        (2, [f"class {number}" for number in range(1000)]),
    ],
)
def test_no_text_is_cut_off_or_overlaps_another(approaches: int, names: list[str]) -> None:
    for name, figure in drawn(approaches, names).items():
        svg(figure, name)  # lays it out
        figure.draw_without_rendering()  # places all texts at one resolution
        shown = [text for text in texts(figure) if text.get_visible() and text.get_text()]
        # Of Text, not of the text's own class: an annotation without its line.
        boxes = [Text.get_window_extent(text).shrunk(0.9, 0.9) for text in shown]
        for text, box in zip(shown, boxes, strict=True):
            assert box.x0 >= 0, (name, text)
            assert box.y0 >= 0, (name, text)
            assert box.x1 <= figure.bbox.width, (name, text)
            assert box.y1 <= figure.bbox.height, (name, text)
            assert box.count_overlaps(boxes) == 1, (name, text)


def test_the_panels_of_reliability_fill_their_figure() -> None:
    confidence = np.array([0.1, 0.1, 0.9, 0.9])
    right = {"a_bin": [False, False, True, True], "no_bin": [True, False, True, True]}
    tables = {
        f"{which}_is_all_wrong": reliability(confidence, np.array(correct))
        for which, correct in right.items()
    }
    figure = charts.reliability(tables)
    svg(figure, "reliability")
    panels = [axes.get_position() for axes in figure.axes]
    assert sum(panel.width for panel in panels) > 0.6
    assert panels[0].width == pytest.approx(panels[1].width)


def test_svgs_fit_into_a_page_of_either_theme() -> None:
    names = ["a $5 & <b> class", "other"]
    page = [svg(figure, name) for name, figure in drawn(2, names).items()]
    page.append(svg(drawn(2, names)["comparison"], "the same under another name"))
    roots = [ElementTree.fromstring(text) for text in page]
    for text, root in zip(page, roots, strict=True):
        assert text.startswith("<svg ")
        assert root.tag == f"{SVG}svg"
        assert (root.get("width"), root.get("height"), root.get("role")) == ("100%", None, "img")
        assert root.get("fill") == "currentColor"
        assert re.fullmatch(r"0 0 \d+(\.\d+)? \d+(\.\d+)?", root.get("viewBox", ""))
        assert not re.search(r"#000000|<style|<metadata|atplotlib v|xlink", text)
        ids = {element.get("id") for element in root.iter()}
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= ids
    every = Counter(element.get("id") for root in roots for element in root.iter())
    del every[None]
    assert max(every.values()) == 1
    assert "a $5 & <b> class" in {element.text for element in roots[2].iter(f"{SVG}text")}


def test_a_figure_has_the_same_bytes_each_time() -> None:
    names = ["one", "two"]
    first = {name: svg(figure, name) for name, figure in drawn(2, names).items()}
    again = drawn(2, names)
    assert {name: svg(figure, name) for name, figure in again.items()} == first
    assert {name: svg(figure, name) for name, figure in again.items()} == first
