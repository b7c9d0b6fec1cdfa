"""How many images the data have."""

import pandas as pd

from pipeline.explore.summary import dataset_summary


def test_images_are_counted_by_split_and_class() -> None:
    index = pd.DataFrame(
        {
            "split": ["train"] * 6 + ["val"] * 2 + ["test"] * 3,
            "label": [0, 0, 0, 1, 1, 2, 0, 1, 2, 2, 2],
        }
    )
    assert dataset_summary(index, ["rose", "lily", "iris"]) == {
        "classes": 3,
        "train": {"images": 6, "fewest_of_a_class": 1, "most_of_a_class": 3},
        "val": {"images": 2, "fewest_of_a_class": 1, "most_of_a_class": 1},
        "test": {"images": 3, "fewest_of_a_class": 3, "most_of_a_class": 3},
    }
