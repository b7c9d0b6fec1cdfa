"""A second copy of the project, with other params."""

from tools.sandbox import merge


def test_params_are_merged_key_by_key_and_null_removes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(base, {"a": {"x": 5, "y": None}, "c": {}}) == {"a": {"x": 5}, "b": 3, "c": {}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}
