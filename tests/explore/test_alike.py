"""Images that are the same or nearly the same are found, in any splits."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pipeline.explore import alike
from pipeline.explore.alike import NEAR, find_alike, identical, nearest, usual_distances

SPLITS = ["train"] * 40 + ["val"] * 20 + ["test"] * 40


def scattered(count: int, values: int = 16, seed: int = 0) -> Tensor:
    """Features of images that have nothing to do with one another."""
    return torch.randn(count, values, generator=torch.Generator().manual_seed(seed))


def image_table(classes: int = 2) -> pd.DataFrame:
    """A hundred images: each class in turn."""
    names = [f"class {row % classes}" for row in range(len(SPLITS))]
    files = [f"{row}.jpg" for row in range(len(SPLITS))]
    return pd.DataFrame({"file": files, "split": SPLITS, "class": names})


def digests(copies: dict[int, int] | None = None) -> list[bytes]:
    """Of a hundred squares; ``copies`` says which is that of an earlier one."""
    return [str((copies or {}).get(row, row)).encode() for row in range(len(SPLITS))]


def pairs(table: pd.DataFrame, kind: str) -> list[tuple[str, str]]:
    rows = table[table["kind"] == kind]
    return list(zip(rows["first"], rows["second"], strict=True))


def test_equal_squares_are_grouped() -> None:
    assert identical([b"a", b"b", b"a", b"c", b"b", b"a"]) == [[0, 2, 5], [1, 4]]
    assert identical([b"a", b"b"]) == []


def test_the_nearest_of_each_split_are_those_of_the_largest_cosine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alike, "BLOCK", 7)
    features = scattered(100)
    table = nearest(features, SPLITS, count=3)
    units = (features / features.norm(dim=1, keepdim=True)).numpy()
    every = units @ units.T
    np.fill_diagonal(every, -2)
    splits = np.array(SPLITS)
    assert table.groupby("row").size().tolist() == [9] * 100
    for row, found in table.groupby("row"):
        for split in ("train", "val", "test"):
            own = found[splits[found["other"]] == split]
            expected = np.sort(every[row, splits == split])[:-4:-1]
            assert own["cosine"].to_numpy() == pytest.approx(expected, abs=1e-4)
            assert every[row, own["other"]] == pytest.approx(expected, abs=1e-4)


def test_an_image_is_not_its_own_neighbour_and_splits_may_be_small() -> None:
    table = nearest(torch.ones(3, 4), ["train", "train", "test"], count=10)
    found = list(zip(table["row"], table["other"], strict=True))
    assert sorted(found) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    assert (table["cosine"] == 1).all()


def test_near_pairs_are_found_within_and_across_splits_whatever_their_length() -> None:
    features = scattered(100)
    features[12] = 3 * features[10] + 0.01  # train and train
    features[70] = features[14] + 0.01  # train and test
    features[50] = features[60] + 0.01  # val and test
    found = find_alike(image_table(), features, digests())
    near = pairs(found.table, "near")
    assert sorted(near) == [("10.jpg", "12.jpg"), ("14.jpg", "70.jpg"), ("50.jpg", "60.jpg")]
    first = found.table[found.table["first"] == "14.jpg"].iloc[0].to_dict()
    assert (first["first_split"], first["second_split"]) == ("train", "test")
    assert (first["first_class"], first["second_class"]) == ("class 0", "class 0")
    assert first["cosine"] > 0.999
    assert found.counts == {"across_splits": 2, "within_splits": 1, "evaluated_near_train": 1}


def test_the_table_has_identical_pairs_then_near_ones_then_the_most_alike_across_splits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alike, "ACROSS", 5)
    features = scattered(100)
    features[41] = features[3]
    features[70] = features[14] + 0.01
    table = find_alike(image_table(1), features, digests({41: 3})).table
    assert table["kind"].tolist() == ["identical", "near", *["alike"] * 4]
    assert pairs(table, "identical") == [("3.jpg", "41.jpg")]
    rest = table[table["kind"] == "alike"]
    assert (rest["first_split"] != rest["second_split"]).all()
    assert rest["cosine"].is_monotonic_decreasing
    assert list(table) == [
        "first",
        "second",
        "first_split",
        "second_split",
        "first_class",
        "second_class",
        "cosine",
        "kind",
    ]


def test_each_copy_of_a_group_is_listed_once_and_as_no_near_pair() -> None:
    features = scattered(100)
    copies = {5: 2, 45: 2, 80: 2}
    for copy, original in copies.items():
        features[copy] = features[original]
    found = find_alike(image_table(1), features, digests(copies))
    assert pairs(found.table, "identical") == [
        ("2.jpg", "5.jpg"),
        ("2.jpg", "45.jpg"),
        ("2.jpg", "80.jpg"),
    ]
    assert pairs(found.table, "near") == []
    assert found.counts["evaluated_near_train"] == 2
    assert 5 not in found.distance  # compared as the image of which it is a copy


def test_a_copy_of_another_class_makes_no_accuracy_too_good() -> None:
    features = scattered(100)
    features[41] = features[2]
    found = find_alike(image_table(2), features, digests({41: 2}))
    row = found.table.iloc[0]
    assert (row["first_class"], row["second_class"]) == ("class 0", "class 1")
    assert found.counts["evaluated_near_train"] == 0


def test_in_a_class_whose_images_are_all_alike_nearly_the_same_means_more_alike() -> None:
    """Two dandelions are as alike as two photographs of one rose."""
    images = image_table(2)
    features = scattered(100, values=64)
    is_tight = torch.from_numpy((images["class"] == "class 1").to_numpy(copy=True))
    features[is_tight] = 4 + 2 * features[is_tight]
    smallest = 1 - nearest(features, SPLITS)["cosine"].max()
    assert smallest < NEAR * usual_distances(features, np.zeros(100))[0]  # as if of one class
    assert pairs(find_alike(images, features, digests()).table, "near") == []
    usual = usual_distances(features, images["class"].to_numpy())
    assert usual[0] > 3 * usual[1]


def test_a_class_that_is_one_series_of_photographs_is_still_found() -> None:
    images = image_table(10)
    features = scattered(100)
    series = torch.from_numpy((images["class"] == "class 3").to_numpy(copy=True))
    features[series] = features[3] + 0.02 * features[series]
    found = find_alike(images, features, digests())
    assert found.counts["evaluated_near_train"] == 6  # all of the class in val and test
    assert set(found.table[found.table["kind"] == "near"]["first_class"]) == {"class 3"}


def test_a_class_of_one_image_is_measured_by_all_images() -> None:
    usual = usual_distances(scattered(9), np.array(["a"] * 8 + ["b"]))
    assert 0.3 < usual[8] < 1.7


def test_the_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike, "MOST", 5)
    monkeypatch.setattr(alike, "ACROSS", 3)
    features = torch.ones(100, 4) + 1e-4 * scattered(100, 4)
    features[:50:2] = torch.tensor([1.0, -1, 0, 0]) + 1e-4 * scattered(25, 4)
    found = find_alike(image_table(2), features, digests())
    assert found.counts["within_splits"] > 100
    assert len(found.table) <= 3 * 5 + 3


def test_the_distance_is_the_mean_of_the_nearest_whatever_their_split() -> None:
    features = scattered(100)
    features[17] = torch.zeros(16)  # unlike all others: every cosine is 0
    distance = find_alike(image_table(), features, digests()).distance
    units = (features / features.norm(dim=1, keepdim=True).clamp(min=1e-9)).numpy()
    every = units @ units.T
    np.fill_diagonal(every, -2)
    expected = 1 - np.sort(every, axis=1)[:, :-11:-1].mean(axis=1)
    assert distance.to_numpy() == pytest.approx(expected, abs=1e-4)
    assert distance.idxmax() == 17
