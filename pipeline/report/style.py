"""One look for every figure: colours, Matplotlib's settings, files whose bytes depend on nothing but the data."""

import hashlib
import io
import re
from collections.abc import Iterable
from itertools import cycle, product
from pathlib import Path
from textwrap import wrap
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

# Okabe & Ito (Color Universal Design, 2008; Wong, Nature Methods 8:441, 2011): colour-blind people tell them apart too.
# Without their black and yellow, which vanish on a dark or a white page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "v")  # from the seventh approach on, the same colours with another marker
SVG = "http://www.w3.org/2000/svg"
GREY = "#808080"  # what belongs to no approach; readable on white and on black

matplotlib.rcdefaults()  # whatever a matplotlibrc says
matplotlib.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 11,
        "figure.constrained_layout.h_pad": 0.1,  # inches to the edge
        "figure.constrained_layout.w_pad": 0.1,
        "font.family": "DejaVu Sans",  # comes with Matplotlib
        "font.size": 10,
        "grid.color": "black",
        "grid.alpha": 0.12,
        "legend.frameon": False,
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "",  # else ids are random
        "text.parse_math": False,  # a $ in a class name is a $
    }
)


def colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each approach, by its place in params.yaml; .dvc/plots/ has the same."""
    return dict(zip(names, cycle(COLOURS), strict=False))


def markers(names: Iterable[str]) -> dict[str, str]:
    """The marker of each approach; no two of the first 24 have colour and marker in common."""
    return {name: marker for name, (marker, _) in zip(names, cycle(product(MARKERS, COLOURS)), strict=False)}


def label(name: str) -> str:
    """An approach's name, for people."""
    return name.replace("fine_tuning", "fine-tuning").replace("_", " ")


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """``text`` on at most so many lines of ``width`` characters; what does not fit is cut off."""
    every = wrap(text, width)
    return "\n".join(every[:lines]) + ("…" if len(every) > lines else "")


def _lay_out(figure: Figure) -> None:
    """Once: every drawing would move things a little further, and a second file would not show the same."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, on white, without the version note that Matplotlib puts in."""
    _lay_out(figure)
    figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def svg(figure: Figure, name: str) -> str:
    """A figure as an element of an HTML page: as wide as its place, in the page's text colour, its text selectable.

    Args:
        name: what a screen reader says. Ids begin with a digest of name and figure: no two SVGs of a page share one.
    """
    _lay_out(figure)
    file = io.StringIO()
    notes = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # none of those that Matplotlib adds
    figure.savefig(file, format="svg", dpi=150, transparent=True, metadata=notes)
    root = ElementTree.fromstring(file.getvalue())
    prefix = f"f{hashlib.sha256((name + file.getvalue()).encode()).hexdigest()[:8]}-"
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for full, value in list(element.attrib.items()):
            del element.attrib[full]
            key = full.rpartition("}")[2]
            before = {"id": "^", "href": "^#"}.get(key, r"url\(#")
            value = re.sub(f"({before})", rf"\g<1>{prefix}", value).replace("#000000", "currentColor")
            element.set(key, value.replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif"))
    root.remove(root[0])  # a style that would hold for the whole page
    del root.attrib["height"]
    lines = {"fill": "currentColor", "stroke-linecap": "butt", "stroke-linejoin": "round"}
    root.attrib |= {"xmlns": SVG, "width": "100%", "role": "img", "aria-label": name} | lines
    return ElementTree.tostring(root, encoding="unicode") + "\n"
