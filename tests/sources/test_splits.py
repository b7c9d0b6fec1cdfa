"""Drawn splits: by class and content, as near to the shares as whole images allow, and steady."""

import hashlib
from collections import Counter
from dataclasses import replace

import pytest

from pipeline.params import Shares
from pipeline.sources.splits import Drawn, draw_splits

SHARES = Shares(val=0.15, test=0.15, seed=0)
BOTH = ("val", "test")


def images(label: str, count: int, group: str | None = None) -> list[Drawn]:
    digests = (hashlib.sha256(f"{label} {number}".encode()).hexdigest() for number in range(count))
    return [Drawn(label, digest, group) for digest in digests]


def draw(drawn: list[Drawn], shares: Shares = SHARES) -> dict[str, str]:
    """The split of each content."""
    splits = draw_splits(drawn, shares, BOTH)
    return {image.digest: split for image, split in zip(drawn, splits, strict=True)}


@pytest.mark.parametrize("count", [3, 4, 7, 10, 20, 33, 100, 1001])
@pytest.mark.parametrize("shares", [SHARES, Shares(val=0.3, test=0.05, seed=1)])
def test_shares_are_met_in_each_class_as_nearly_as_whole_images_allow(
    count: int, shares: Shares
) -> None:
    counts = Counter(draw(images("cat", count), shares).values())
    for split, share in (("val", shares.val), ("test", shares.test)):
        assert counts[split] >= 1
        assert abs(counts[split] - max(1, share * count)) < 1
    assert counts["train"] >= 1


def test_every_class_keeps_an_image_in_train_and_of_two_one_is_held_out() -> None:
    one = draw_splits(images("rare", 1), SHARES, BOTH)
    assert one == ["train"]
    several = [image for number in range(60) for image in images(f"species {number}", 2)]
    splits = draw_splits(several, SHARES, BOTH)
    by_class = [set(splits[place : place + 2]) for place in range(0, 120, 2)]
    assert all("train" in of_class and len(of_class) == 2 for of_class in by_class)
    held_out = Counter(splits)
    assert held_out["train"] == 60
    assert min(held_out["val"], held_out["test"]) > 15
    assert Counter(draw_splits(images("three", 3), SHARES, BOTH)) == Counter(["train", *BOTH])


def test_one_image_more_moves_at_most_one_other_but_for_rare_cases() -> None:
    moved: Counter[int] = Counter()
    for count in range(1, 60):
        for trial in range(10):
            more = images(f"{trial}", count + 1)
            before, after = draw(more[:-1]), draw(more)
            moved[sum(before[digest] != after[digest] for digest in before)] += 1
    assert set(moved) <= {0, 1, 2}
    assert moved[2] < 0.06 * moved.total()


def test_the_order_of_the_images_and_other_classes_change_nothing() -> None:
    cats, dogs = images("cat", 30), images("dog", 8)
    alone = draw(cats)
    together = draw([*dogs, *reversed(cats)])
    assert {digest: together[digest] for digest in alone} == alone


def test_another_seed_draws_others() -> None:
    cats = images("cat", 30)
    assert draw(cats) != draw(cats, Shares(val=0.15, test=0.15, seed=1))


def test_identical_images_stay_together_whatever_their_class() -> None:
    for seed in range(5):
        same = images("cat", 1)[0].digest
        copies = [Drawn("cat", same), Drawn("dog", same), Drawn("cat", same)]
        others = images("cat", 20)[1:] + images("dog", 20)
        splits = draw_splits([*copies, *others], Shares(val=0.3, test=0.3, seed=seed), BOTH)
        assert len(set(splits[:3])) == 1


def test_a_group_stays_together_and_each_split_has_one() -> None:
    groups = {f"plant {number}": images(f"of plant {number}", 2 + number) for number in range(12)}
    drawn = [Drawn("rose", image.digest, group) for group, some in groups.items() for image in some]
    splits = draw_splits(drawn, SHARES, BOTH)
    of_groups: dict[str, set[str]] = {}
    for image, split in zip(drawn, splits, strict=True):
        of_groups.setdefault(str(image.group), set()).add(split)
    assert all(len(of_group) == 1 for of_group in of_groups.values())
    counts = Counter(splits)
    assert set(counts) == {"train", "val", "test"}
    assert counts["train"] > 0.5 * len(drawn)


def test_large_groups_leave_one_in_train_whatever_the_shares() -> None:
    drawn = [image for group in "abcd" for image in images(group, 5, group)]
    drawn = [replace(image, label="rose") for image in drawn]
    splits = draw_splits(drawn, Shares(val=0.49, test=0.49, seed=0), BOTH)
    assert Counter(splits)["train"] == 5


def test_one_group_of_all_classes_leaves_each_class_an_image_in_train() -> None:
    """Patients with images of several classes: the rare class is of one patient only."""
    drawn = [
        Drawn(
            label, hashlib.sha256(f"{patient} {label}".encode()).hexdigest(), f"patient {patient}"
        )
        for patient in range(10)
        for label in ("healthy", "ill")
    ]
    drawn += [Drawn("rare", "ab" * 32, "patient 3"), Drawn("rare", "cd" * 32, "patient 3")]
    for seed in range(20):
        splits = draw_splits(drawn, Shares(val=0.3, test=0.3, seed=seed), BOTH)
        for label in ("healthy", "ill", "rare"):
            of_class = [
                split for image, split in zip(drawn, splits, strict=True) if image.label == label
            ]
            assert "train" in of_class
        by_patient = {(image.group, split) for image, split in zip(drawn, splits, strict=True)}
        assert len(by_patient) == 10


def test_a_class_that_is_the_smaller_part_of_its_groups_has_an_image_in_train() -> None:
    for seed in range(20):
        drawn = [Drawn("healthy", f"{number:064}", str(number // 2)) for number in range(20)]
        drawn += [Drawn("rare", "ab" * 32, "3")]
        splits = draw_splits(drawn, Shares(val=0.3, test=0.3, seed=seed), BOTH)
        assert splits[-1] == "train"
        assert splits[6] == splits[7] == "train"


def test_what_the_data_have_is_not_drawn() -> None:
    splits = draw_splits(images("cat", 40), SHARES, ("val",))
    assert Counter(splits) == {"train": 34, "val": 6}


def test_few_classes_of_two_do_not_all_go_to_one_split() -> None:
    for seed in range(20):
        drawn = images("cat", 2) + images("dog", 2)
        splits = draw_splits(drawn, Shares(val=0.15, test=0.15, seed=seed), BOTH)
        assert Counter(splits) == {"train": 2, "val": 1, "test": 1}
