"""Changes of params.yaml, laid over each other and over a person's edits."""

from tools.merge import layer, merge, three_way


def test_params_are_merged_key_by_key_and_null_removes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merge(base, {"a": {"x": 5, "y": None}, "c": {}}) == {"a": {"x": 5}, "b": 3, "c": {}}
    assert base == {"a": {"x": 1, "y": 2}, "b": 3}


def test_changes_are_laid_over_changes() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": 3}
    first = {"a": {"x": 5, "y": None}, "b": None}
    second = {"a": {"x": None, "z": 0}, "b": 4}
    assert merge(base, layer(first, second)) == merge(merge(base, first), second)


def test_a_persons_values_stay_and_the_others_follow() -> None:
    base = {
        "kept": 1,
        "followed": 1,
        "gone": 1,
        "removed": 1,
        "section": {"kept": 1, "followed": 1},
    }
    theirs = base | {"kept": 2, "added": 2, "section": {"kept": 2, "followed": 1}}
    del theirs["removed"]
    new = {"kept": 3, "followed": 3, "new": 3, "removed": 1, "section": {"kept": 1, "followed": 3}}
    assert three_way(base, theirs, new) == {
        "kept": 2,
        "followed": 3,
        "section": {"kept": 2, "followed": 3},
        "added": 2,
        "new": 3,
    }
