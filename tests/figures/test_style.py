"""One look: the same colours and markers everywhere, and long text shortened."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from PIL import Image

from pipeline.figures.style import COLOURS, MARKERS, colours, label, markers, wrapped
from tools.sandbox import PROJECT


def test_an_approach_keeps_its_look_when_another_is_added_after_it() -> None:
    names = [f"approach_{number}" for number in range(24)]
    looks = list(zip(colours(names).values(), markers(names).values(), strict=True))
    assert len(set(looks)) == 24
    assert len({colour for colour, _ in looks[:6]}) == 6
    for count in range(24):
        fewer = names[:count]
        fewer_looks = zip(colours(fewer).values(), markers(fewer).values(), strict=True)
        assert list(fewer_looks) == looks[:count]


def test_dvc_plots_use_the_same_colours_and_markers() -> None:
    shapes = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down"}
    shapes_in_order = [shapes[marker] for marker in MARKERS for _ in COLOURS]
    for name in ("curves", "dots", "matrix"):
        text = (PROJECT / ".dvc" / "plots" / f"{name}.json").read_text()
        ranges = [json.loads(found) for found in re.findall(r'"range": (\[\s*"[^]]+\])', text)]
        assert ranges
        assert all(found in (list(COLOURS), shapes_in_order) for found in ranges)


def test_names_are_written_as_people_write_them() -> None:
    assert label("strong_fine_tuning") == "strong fine-tuning"


def test_long_text_is_wrapped_and_cut_off() -> None:
    assert wrapped("short", 9) == "short"
    assert wrapped("three words here", 5) == "three\nwords…"
    assert wrapped("unbroken" * 9, 8, 1) == "unbroken…"


def test_wide_characters_count_twice() -> None:
    assert wrapped("玫瑰玫瑰玫瑰", 8) == "玫瑰玫瑰\n玫瑰"


# Characters for private use, which no installed font has: as another script on a bare machine.
OTHER_SCRIPT = "\U0010fff0\U0010fff1"
# Draws each name of a class into a file of its own.
DRAW = """
import sys
from pathlib import Path
import numpy as np
from pipeline.figures.samples import sample_grid
from pipeline.figures.style import save, svg
image = np.full((1, 9, 9, 3), 255, np.uint8)
for number, name in enumerate(sys.argv[2:]):
    save(sample_grid(image, [name]), Path(sys.argv[1], f"{number}.png"), 50)
    Path(sys.argv[1], f"{number}.svg").write_text(svg(sample_grid(image, [name]), "a grid"))
"""


def write_font(path: Path, characters: str) -> None:
    """A font in which each of ``characters`` is a full square."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "square"])
    font.setupCharacterMap({ord(character): "square" for character in characters})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    font.save(path)


def draw(home: Path, *names: str) -> str:
    """Draw figures as a user with this home, into it; returns what is printed."""
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(home), *names],
        cwd=PROJECT,
        env=os.environ | {"HOME": str(home), "XDG_DATA_HOME": "", "PYTHONPATH": "."},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def has_squares(path: Path) -> bool:
    """Whether a picture has places of 4 x 4 dark pixels, which no letter of this size has."""
    dark = np.asarray(Image.open(path).convert("L")) < 128
    return bool(np.lib.stride_tricks.sliding_window_view(dark, (4, 4)).all(axis=(2, 3)).any())


def test_names_in_other_scripts_are_drawn_by_fonts_of_the_system(tmp_path: Path) -> None:
    names = ["daisy", f"daisy {OTHER_SCRIPT}", OTHER_SCRIPT[0]]
    note = draw(tmp_path, *names)
    assert note.startswith("note: figures: no font of this machine has ")
    assert note.count("\n") == 1  # not one a figure, and no warning of Matplotlib's besides
    assert not any(has_squares(tmp_path / f"{number}.png") for number in range(3))
    plain = [(tmp_path / name).read_bytes() for name in ("0.png", "0.svg")]

    # The note is heeded; Matplotlib's own list of fonts was made before.
    write_font(tmp_path / ".local" / "share" / "fonts" / "squares.ttf", OTHER_SCRIPT)
    assert draw(tmp_path, *names) == ""
    assert [has_squares(tmp_path / f"{number}.png") for number in range(3)] == [False, True, True]
    # What needs no other font has the bytes that it had, and no page names a font of this machine.
    assert [(tmp_path / name).read_bytes() for name in ("0.png", "0.svg")] == plain
    assert "Squares" not in (tmp_path / "1.svg").read_text()
