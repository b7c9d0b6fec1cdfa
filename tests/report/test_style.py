"""One look: the same colours everywhere, figures that hold for any data, SVGs that fit into a page of either theme."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.report import figures
from pipeline.report.comparison import confusion
from pipeline.report.style import COLOURS, MARKERS, colours, markers, svg, wrapped
from tools.sandbox import PROJECT

SVG = "{http://www.w3.org/2000/svg}"


def drawn(approaches: int, names: list[str]) -> dict[str, Figure]:
    """The four figures of the comparison, of made-up results: the first approach is the worst."""
    classes, random = len(names), np.random.default_rng(0)
    histories, confusions, per_class, rows = {}, {}, {}, []
    for number in range(approaches):
        name, accuracy = f"approach_{number}_of_some_length", 0.9 + 0.01 * number
        loss, share = 1 / np.arange(1, 6), accuracy * np.ones(5)
        columns = {"train_loss": loss, "train_accuracy": share, "val_loss": loss, "val_accuracy": share}
        histories[name] = pd.DataFrame({"epoch": range(1, 6)} | columns)
        labels = np.repeat(np.arange(classes), 3)
        guesses = np.where(random.random(len(labels)) < accuracy, labels, random.integers(0, classes, len(labels)))
        table = pd.DataFrame({"label": labels, "prediction": guesses})
        correct = (table["label"] == table["prediction"]).groupby(labels).mean()
        per_class[name] = pd.DataFrame({"label": range(classes), "class": names, "accuracy": correct})
        confusions[name] = confusion(table, per_class[name])
        bounds = {"test_accuracy_low": accuracy - 0.02, "test_accuracy_high": accuracy + 0.01}
        rows.append({"approach": name, "val_accuracy": 1.0, "test_accuracy": accuracy} | bounds)
    rows[0] |= {"published_val_accuracy": 0.8, "published_test_accuracy": 0.7}
    return {
        "comparison": figures.comparison(pd.DataFrame(rows)),
        "confusion": figures.confusion(confusions),
        "per_class": figures.per_class(per_class),
        "training_curves": figures.training_curves(histories),
    }


def test_an_approach_keeps_its_colour_when_one_is_added_behind() -> None:
    names = [f"approach_{number}" for number in range(24)]
    looks = list(zip(colours(names).values(), markers(names).values(), strict=True))
    assert len(set(looks)) == 24
    assert len({colour for colour, _ in looks[:6]}) == 6
    for count in range(24):
        assert list(zip(colours(names[:count]).values(), markers(names[:count]).values(), strict=True)) == looks[:count]


def test_dvc_plots_has_the_same_colours_and_markers() -> None:
    shapes = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down"}
    wanted = [list(COLOURS), [shapes[marker] for marker in MARKERS for _ in COLOURS]]
    for name in ("curves", "dots", "matrix"):
        text = (PROJECT / ".dvc" / "plots" / f"{name}.json").read_text()
        ranges = [json.loads(found) for found in re.findall(r'"range": (\[\s*"[^]]+\])', text)]
        assert ranges
        assert all(found in wanted for found in ranges)


def test_long_text_is_cut_and_a_dollar_is_a_dollar() -> None:
    assert wrapped("short", 9) == "short"
    assert wrapped("three words here", 5) == "three\nwords…"
    assert wrapped("unbroken" * 9, 8, 1) == "unbroken…"
    figure = figures.top_classes(
        np.zeros((9, 9, 3), np.uint8), "$\\alpha$", pd.DataFrame({"class": [], "probability": []})
    )
    assert ">$\\alpha$</text>" in svg(figure, "classes")


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
def test_nothing_is_cut_off_or_written_over_another(approaches: int, names: list[str]) -> None:
    for name, figure in drawn(approaches, names).items():
        svg(figure, name)
        figure.draw_without_rendering()  # for the places of all texts, at one resolution
        shown = [text for text in texts(figure) if text.get_visible() and text.get_text()]
        boxes = [Text.get_window_extent(text).shrunk(0.9, 0.9) for text in shown]  # of an annotation without its line
        for text, box in zip(shown, boxes, strict=True):
            assert min(box.x0, box.y0, figure.bbox.width - box.x1, figure.bbox.height - box.y1) >= 0, (name, text)
            assert box.count_overlaps(boxes) == 1, (name, text)


def test_an_svg_fits_into_a_page_of_either_theme() -> None:
    names = ["a $5 & <b> class", "other"]
    page = [svg(figure, name) for name, figure in drawn(2, names).items()]
    page += [svg(drawn(2, names)["comparison"], "the same under another name")]
    assert page[:4] == [svg(figure, name) for name, figure in drawn(2, names).items()]  # the same bytes
    roots = [ElementTree.fromstring(text) for text in page]
    for text, root in zip(page, roots, strict=True):
        assert text.startswith("<svg ")
        assert root.tag == f"{SVG}svg"
        assert (root.get("width"), root.get("height"), root.get("role")) == ("100%", None, "img")
        assert root.get("fill") == "currentColor"
        assert re.fullmatch(r"0 0 \d+(\.\d+)? \d+(\.\d+)?", root.get("viewBox", ""))
        assert not re.search(r"#000000|<style|<metadata|atplotlib v|xlink", text)
        known = {element.get("id") for element in root.iter()}
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= known
    ids = Counter(element.get("id") for root in roots for element in root.iter() if element.get("id"))
    assert max(ids.values()) == 1
    assert "a $5 & <b> class" in {element.text for element in roots[2].iter(f"{SVG}text")}


def test_a_figure_looks_the_same_however_often_it_is_written() -> None:
    figure = drawn(2, ["one", "two"])["training_curves"]
    before = svg(figure, "curves")
    assert svg(figure, "curves") == before
