"""The look of every figure, and files whose bytes depend on nothing but the data."""

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

# Okabe & Ito (Color Universal Design, 2008; Wong, Nature Methods 8:441, 2011): colour-blind people
# can tell them apart. Without their black and yellow, which vanish on a dark or a white page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "v")  # from the seventh approach on: the same colours, the next marker
GREY = "#808080"  # for what belongs to no approach; readable on white and on black
SVG = "http://www.w3.org/2000/svg"

matplotlib.rcdefaults()  # ignores a matplotlibrc
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
        "svg.hashsalt": "",  # otherwise ids are random
        "text.parse_math": False,  # a $ in a class name is a $
    }
)


def colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each approach, by its place in params.yaml; .dvc/plots/ uses the same."""
    return dict(zip(names, cycle(COLOURS), strict=False))


def markers(names: Iterable[str]) -> dict[str, str]:
    """The marker of each approach; no two of the first 24 share both colour and marker."""
    looks = cycle(product(MARKERS, COLOURS))
    return {name: marker for name, (marker, _) in zip(names, looks, strict=False)}


def label(name: str) -> str:
    """The name of an approach as people write it."""
    return name.replace("fine_tuning", "fine-tuning").replace("_", " ")


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """``text`` on at most ``lines`` lines of ``width`` characters; the rest is cut off."""
    every = wrap(text, width)
    return "\n".join(every[:lines]) + ("…" if len(every) > lines else "")


def _lay_out(figure: Figure) -> None:
    """Lay out once: each drawing would move things further, and two files would differ."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG on white, without Matplotlib's version.

    Args:
        dpi: dots per inch.
    """
    _lay_out(figure)
    figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})


def svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element of an HTML page.

    It is as wide as its place, in the page's text colour, and its text can be selected.

    Args:
        name: the description for screen readers. Ids begin with a digest of name and figure, so
            that no two SVGs of a page share one.
    """
    _lay_out(figure)
    file = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", dpi=150, transparent=True, metadata=no_metadata)
    drawing = file.getvalue()
    prefix = f"f{hashlib.sha256((name + drawing).encode()).hexdigest()[:8]}-"
    root = ElementTree.fromstring(drawing)
    for element in root.iter():
        _make_embeddable(element, prefix)
    root.remove(root[0])  # a style that would hold for the whole page
    del root.attrib["height"]
    root.attrib |= {
        "xmlns": SVG,
        "width": "100%",
        "role": "img",
        "aria-label": name,
        "fill": "currentColor",
        "stroke-linecap": "butt",
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _make_embeddable(element: ElementTree.Element, id_prefix: str) -> None:
    """Remove namespaces, give ids a prefix, and let black and the font follow the page."""
    element.tag = element.tag.rpartition("}")[2]
    for full_key, value in list(element.attrib.items()):
        del element.attrib[full_key]
        key = full_key.rpartition("}")[2]
        before_id = {"id": "^", "href": "^#"}.get(key, r"url\(#")
        value = re.sub(f"({before_id})", rf"\g<1>{id_prefix}", value)
        value = value.replace("#000000", "currentColor")
        value = value.replace("'DejaVu Sans'", "'DejaVu Sans', sans-serif")
        element.set(key, value)
