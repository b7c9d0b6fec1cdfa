"""One look: the same colours and markers everywhere, and long text shortened."""

import json
import re

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
