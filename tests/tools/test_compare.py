"""Two demos side by side, as a person who reads the job summary of a pull request sees them."""

from pathlib import Path
from typing import Any

import pandas as pd

from tools.compare import Demo, charts, moved, tables, worse

METRICS = {"test.a": 0.8, "test.b": 0.9, "val_loss.a": 0.5}
CURVES = pd.DataFrame(
    {
        "approach": ["a", "a", "b", "b"],
        "split": ["train", "val", "val", "val"],
        "epoch": [1, 1, 2, 1],
        "loss": 1.0,
        "accuracy": [0.1, 0.2, 0.4, 0.3],
    }
)


def demo(metrics: dict[str, float] = METRICS) -> Demo:
    return Demo(Path(), metrics, {}, CURVES)


def stage(digest: str, **causes: Any) -> dict[str, Any]:
    return {"cmd": "run", "outs": [{"path": f"out {digest[0]}", "md5": digest}], **causes}


def test_only_a_test_accuracy_that_fell_by_more_than_two_points_is_worse() -> None:
    changed = METRICS | {"test.a": 0.781, "test.b": 0.879, "val_loss.a": 9.0}
    assert worse(demo(), demo(changed)) == ["test.b: 90.0%, now 87.9%"]
    assert worse(demo(), demo({"test.new": 0.1})) == []


def test_metrics_stand_side_by_side() -> None:
    rows = tables(demo(), demo({"test.a": 0.82, "test.new": 0.5})).splitlines()
    assert rows[2:6] == [
        "| test.a | 0.8000 | 0.8200 | +0.0200 |",
        "| test.new | | 0.5000 | |",
        "| test.b | gone | | |",
        "| val_loss.a | gone | | |",
    ]


def test_a_stage_runs_again_if_its_causes_differ_and_its_bytes_are_named_if_they_moved() -> None:
    base = {"x": stage("1", params=1), "y": stage("2"), "z": stage("3")}
    head = {"x": stage("1", params=2), "y": stage("2b"), "z": stage("3")}
    assert moved(base, head) == [
        "- stages that run again: x",
        "- outs with other bytes: out 2",
    ]


def test_charts_show_both_sides() -> None:
    text = charts(demo(), demo({"test.b": 0.95}))
    assert "  bar [0.9000]\n  bar [0.9500]" in text
    assert "  line [0.3000, 0.4000]\n  line [0.3000, 0.4000]" in text
    assert 'x-axis "epoch" 1 --> 2' in text
