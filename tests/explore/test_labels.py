"""Labels that look wrong are found, by classifiers that have not seen the image."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pipeline.explore.labels import FOLDS, deal_folds, find_suspects, out_of_fold, suspects

CLASSES = ["rose", "lily", "iris", "aster"]


def clusters(labels: np.ndarray, values: int = 8, spread: float = 0.5) -> Tensor:
    """Features of images of true classes ``labels``: a centre for each class, and noise."""
    random = torch.Generator().manual_seed(0)
    centres = 2 * torch.randn(len(CLASSES), values, generator=random)
    noise = spread * torch.randn(len(labels), values, generator=random)
    return centres[torch.from_numpy(labels)] + noise


def image_table(labels: np.ndarray) -> pd.DataFrame:
    names = [CLASSES[label] for label in labels]
    files = [f"{row}.jpg" for row in range(len(labels))]
    return pd.DataFrame({"file": files, "split": "train", "label": labels, "class": names})


def test_planted_errors_are_found_and_put_right() -> None:
    truth = np.arange(120) % 4
    given = truth.copy()
    planted = [5, 40, 77]
    given[planted] = (truth[planted] + 1) % 4
    table = find_suspects(image_table(given), clusters(truth), CLASSES)
    assert sorted(table["file"]) == ["40.jpg", "5.jpg", "77.jpg"]
    assert list(table) == ["file", "split", "class", "suggested", "p_class", "p_suggested"]
    for row in table.to_dict("records"):
        image = int(row["file"].removesuffix(".jpg"))
        assert row["class"] == CLASSES[given[image]]
        assert row["suggested"] == CLASSES[truth[image]]
        assert row["p_suggested"] > 0.9 > 0.1 > row["p_class"]


def test_right_labels_are_not_suspect() -> None:
    labels = np.arange(120) % 4
    table = find_suspects(image_table(labels), clusters(labels), CLASSES)
    assert len(table) == 0
    assert list(table) == ["file", "split", "class", "suggested", "p_class", "p_suggested"]


def test_more_values_than_images_are_no_obstacle() -> None:
    truth = np.arange(40) % 4
    given = truth.copy()
    given[6] = 3
    table = find_suspects(image_table(given), clusters(truth, values=300), CLASSES)
    assert table["file"].tolist() == ["6.jpg"]
    assert table["suggested"].tolist() == [CLASSES[truth[6]]]


def test_a_class_of_one_image_is_neither_judged_nor_suggested() -> None:
    labels = np.array([0, 1] * 30 + [2])
    features = clusters(labels)
    features[7] = features[60]  # looks like the single iris
    table = find_suspects(image_table(labels), features, CLASSES)
    assert "60.jpg" not in set(table["file"])
    assert "iris" not in set(table["suggested"])


@pytest.mark.parametrize("labels", [[0] * 5, [0, 1], [0, 1, 2, 3]], ids=str)
def test_too_few_images_give_no_suspects_and_no_error(labels: list[int]) -> None:
    given = np.array(labels)
    assert len(find_suspects(image_table(given), clusters(given), CLASSES)) == 0


def test_images_that_are_all_the_same_give_no_suspects_and_no_error() -> None:
    labels = np.arange(20) % 4
    assert len(find_suspects(image_table(labels), torch.ones(20, 8), CLASSES)) == 0


def test_folds_are_dealt_by_class() -> None:
    labels = np.array([0] * 10 + [1] * 7 + [2] * 2)
    folds = deal_folds(labels)
    assert np.bincount(folds[labels == 0]).tolist() == [2] * FOLDS
    assert sorted(np.bincount(folds[labels == 1], minlength=FOLDS)) == [1, 1, 1, 2, 2]
    assert len(set(folds[labels == 2])) == 2
    assert (deal_folds(labels) == folds).all()


def test_an_image_is_judged_without_its_own_label() -> None:
    """Another label of one image changes the probabilities of the other folds' images only."""
    labels = np.arange(60) % 4
    features = clusters(labels, spread=2)
    folds = np.arange(60) % FOLDS
    before = out_of_fold(features, labels, folds, 4)
    assert before.shape == (60, 4)
    assert before.sum(axis=1) == pytest.approx(np.ones(60))
    changed = labels.copy()
    changed[10] = (labels[10] + 1) % 4
    after = out_of_fold(features, changed, folds, 4)
    own = np.log(after[folds == folds[10]]) / np.log(before[folds == folds[10]])
    assert own == pytest.approx(own[0, 0], rel=0.5)  # the same but for the common temperature
    order = np.argsort(before[folds == folds[10]], axis=1)
    assert (np.argsort(after[folds == folds[10]], axis=1) == order).all()
    assert np.abs(after - before)[folds != folds[10]].max() > 1e-3


def test_probabilities_are_as_confident_as_they_are_right() -> None:
    labels = np.arange(2000) % 4
    probability = out_of_fold(clusters(labels, spread=3), labels, deal_folds(labels), 4)
    accuracy = (probability.argmax(axis=1) == labels).mean()
    assert 0.4 < accuracy < 0.9
    assert probability.max(axis=1).mean() == pytest.approx(accuracy, abs=0.06)


def test_a_class_is_suggested_only_where_it_is_as_probable_as_for_its_own_images() -> None:
    # Class 1 has 0.8 for its own images on average, class 0 has 0.7.
    probability = np.array(
        [
            [0.7, 0.3],
            [0.25, 0.75],  # class 0 says 0.75 for class 1: less than 0.8
            [0.15, 0.85],  # suspect
            [1.7, 0.0],
            [0.1, 0.9],
            [0.3, 0.7],
        ]
    )
    labels = np.array([0, 0, 0, 0, 1, 1])
    table = suspects(probability, labels)
    assert table["row"].tolist() == [2]
    assert table["suggested"].tolist() == [1]
    assert table[["p_class", "p_suggested"]].to_numpy().tolist() == [[0.15, 0.85]]


def test_suspects_are_ranked_by_their_margin_and_then_by_row() -> None:
    certain = [[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]] * 10
    doubtful = [[0.05, 0.95], [0.01, 0.99], [0.05, 0.95]]
    table = suspects(np.array(certain + doubtful), np.array([0, 0, 1, 1] * 10 + [0, 0, 0]))
    assert table["row"].tolist() == [41, 40, 42]


def test_the_same_features_give_the_same_bytes(two_threads: None) -> None:
    truth = np.arange(400) % 4
    features = clusters(truth, values=64, spread=4)
    first, second = (find_suspects(image_table(truth), features, CLASSES) for _ in range(2))
    assert len(first)
    assert first.to_csv() == second.to_csv()
