"""How many images the data have, and how large they are."""

import pandas as pd

from pipeline.explore.summary import class_counts, dataset_summary, image_table, size_summary

INDEX = pd.DataFrame(
    {
        "member": [f"{row}.jpg" for row in range(11)],
        "split": ["test"] * 3 + ["train"] * 6 + ["val"] * 2,
        "label": [2, 2, 2, 0, 0, 0, 1, 1, 2, 0, 1],
    }
)
CLASSES = ["rose", "lily", "iris"]


def test_images_are_counted_by_split() -> None:
    summary = dataset_summary(INDEX, CLASSES)
    assert summary["classes"] == 3
    assert summary["train"] == {"images": 6, "fewest_of_a_class": 1, "most_of_a_class": 3}
    assert summary["val"] == {"images": 2, "fewest_of_a_class": 1, "most_of_a_class": 1}
    assert summary["test"] == {"images": 3, "fewest_of_a_class": 3, "most_of_a_class": 3}


def test_images_are_counted_by_class_and_split_also_where_there_are_none() -> None:
    table = class_counts(INDEX, CLASSES)
    assert list(table) == ["class", "train", "val", "test"]
    assert table.to_numpy().tolist() == [["rose", 3, 1, 0], ["lily", 2, 1, 0], ["iris", 1, 0, 3]]


def test_all_images_are_in_the_order_of_the_splits() -> None:
    table = image_table(INDEX, CLASSES)
    assert table["split"].tolist() == ["train"] * 6 + ["val"] * 2 + ["test"] * 3
    assert table["file"].tolist()[:2] == ["3.jpg", "4.jpg"]
    assert table["class"].tolist()[-1] == "iris"
    assert table["label"].tolist()[-1] == 2


def test_sides_are_short_or_long_however_an_image_is_turned() -> None:
    sizes = pd.DataFrame({"width": [400, 300, 500], "height": [300, 600, 500]})
    assert size_summary(sizes) == {
        "short_side": [300, 300, 500],
        "long_side": [400, 500, 600],
    }
