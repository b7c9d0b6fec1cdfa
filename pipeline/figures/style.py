"""The look of every figure, and files whose bytes depend on nothing but the data."""

import hashlib
import io
import re
import unicodedata
import warnings
from collections.abc import Iterable
from functools import cache
from itertools import cycle, product
from pathlib import Path
from textwrap import wrap
from xml.etree import ElementTree

import matplotlib
from matplotlib import font_manager, ft2font
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.base.errors import print_note

# Okabe & Ito (Color Universal Design, 2008; Wong, Nature Methods 8:441, 2011): colour-blind people
# can tell them apart. Without their black and yellow, which vanish on a dark or a white page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "v")  # from the seventh approach on: the same colours, the next marker
GREY = "#808080"  # for what belongs to no approach; readable on white and on black
SVG = "http://www.w3.org/2000/svg"
FONT = "DejaVu Sans"  # comes with Matplotlib
# Fonts that have a glyph for everything, and show nothing by it.
PLACEHOLDERS = re.compile("last ?resort|blank", re.IGNORECASE)
OTHER_FACES = re.compile("bold|black|heavy|light|thin|italic|oblique", re.IGNORECASE)

# What it is about, _fonts_for says once and in one line.
warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
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
        "font.family": FONT,
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
    """``text`` on at most ``lines`` lines of ``width`` characters; the rest is cut off.

    A Chinese, Japanese or Korean character is as wide as two others.
    """
    if any(unicodedata.east_asian_width(character) in "WF" for character in text):
        width = max(1, width // 2)
    every = wrap(text, width)
    return "\n".join(every[:lines]) + ("…" if len(every) > lines else "")


def _lay_out(figure: Figure) -> None:
    """Lay out once: each drawing would move things further, and two files would differ."""
    _choose_fonts(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _choose_fonts(figure: Figure) -> None:
    """Let fonts of the system draw what ``FONT`` has no glyphs for; other text stays as it is."""
    own = font_manager.get_font(font_manager.findfont(FONT))
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    characters = frozenset("".join(text.get_text() for text in texts))
    missing = _unknown_to(own, characters)
    if missing:
        families = [FONT, *_fonts_for(missing)]
        for text in texts:
            if not missing.isdisjoint(text.get_text()):
                text.set_fontfamily(families)
    is_right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in characters)
    if is_right_to_left and not hasattr(ft2font, "__libraqm_version__"):
        _note_about(
            "א",
            "this Matplotlib draws Arabic and Hebrew from left to right, in separate letters; "
            "3.11 and newer do not",
        )


def _unknown_to(font: ft2font.FT2Font, characters: frozenset[str]) -> frozenset[str]:
    """Those of ``characters`` that a font cannot draw; ends of lines and the like are not drawn."""
    drawn = (c for c in characters if unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp"))
    return frozenset(c for c in drawn if not font.get_char_index(ord(c)))


def _fonts_for(characters: frozenset[str]) -> list[str]:
    """Names of installed fonts that together have the ``characters``, the most useful first.

    What none has is said in a note.
    """
    chosen: list[str] = []
    missing = characters
    lacking = _lacking(characters)
    while missing:
        best = min(lacking, key=lambda name: len(missing & lacking[name]), default="")
        if not best or missing <= lacking[best]:
            break
        chosen.append(best)
        missing &= lacking[best]
    if missing:
        shown = "".join(sorted(missing)[:20]) + ("…" if len(missing) > 20 else "")
        _note_about(
            missing,
            f"no font of this machine has {shown}, so boxes stand for them; install one, such as "
            "Noto (Debian and Ubuntu: fonts-noto-cjk, fonts-noto-core)",
        )
    return chosen


@cache
def _lacking(characters: frozenset[str]) -> dict[str, frozenset[str]]:
    """What of ``characters`` each regular font of the system lacks, by its name; plain fonts first.

    The fonts are looked for anew and made known to Matplotlib, whose own list is made only once and
    would not have what was installed since.
    """
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    found: dict[str, frozenset[str]] = {}
    for path in sorted(font_manager.findSystemFonts()):
        if OTHER_FACES.search(Path(path).stem) or PLACEHOLDERS.search(Path(path).stem):
            continue
        try:
            font = ft2font.FT2Font(path)
            if not font.scalable:  # as coloured emoji, which Matplotlib cannot draw
                continue
            if path not in known:
                font_manager.fontManager.addfont(path)
        except (OSError, RuntimeError):  # not a font that FreeType can read
            continue
        found.setdefault(font.family_name, _unknown_to(font, characters))
    return dict(sorted(found.items(), key=lambda item: ("Sans" not in item[0], item[0])))


_noted: set[str] = set()  # characters that a note was about


def _note_about(characters: Iterable[str], line: str) -> None:
    """Print a note if there was none about some of the ``characters``: not one a figure."""
    if not _noted.issuperset(characters):
        print_note(f"figures: {line}")
    _noted.update(characters)


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
        # Not the other fonts of this machine: a reader's browser has its own.
        value = re.sub(f"'{FONT}'(, '[^']*')*", f"'{FONT}', sans-serif", value)
        element.set(key, value)
