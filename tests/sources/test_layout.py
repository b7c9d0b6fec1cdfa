"""What folders say: classes, splits, groups, whatever lies around, between and within them."""

from pathlib import Path

import pytest

from pipeline.base.errors import UserError
from pipeline.sources.layout import Layout, Place, read_folders

HERE = Path("photos")


def read(*names: str, innermost: bool = False, grouped: bool = False) -> Layout:
    return read_folders(names, HERE, innermost, grouped)


def images(*folders: str, count: int = 3) -> list[str]:
    return [f"{folder}/{number}.jpg" for folder in folders for number in range(count)]


def labels(layout: Layout) -> dict[str, tuple[str | None, str | None]]:
    """Class and split of the first image of each folder."""
    places = layout.places.items()
    return {
        name.rpartition("/")[0]: (place.label, place.split)
        for name, place in places
        if name.endswith("0.jpg")
    }


def test_a_folder_is_a_class() -> None:
    layout = read(*images("cat", "dog"))
    assert labels(layout) == {"cat": ("cat", None), "dog": ("dog", None)}
    assert not layout.notes
    assert not layout.left_out
    assert layout.class_folders == {"cat", "dog"}


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("train", "valid", "test"),
        ("Train", "Validation", "TEST"),
        ("Training", "dev", "Testing"),
        ("seg_train", "seg_val", "seg_test"),
        ("train_images", "val_images", "test_images"),
        ("trainset", "valset", "testset"),
        ("Training Data", "Validation Data", "Test Data"),
        ("train2017", "val2017", "test1"),
        ("TrainImages", "ValImages", "TestImages"),
    ],
)
def test_names_of_splits_are_known_as_people_write_them(train: str, val: str, test: str) -> None:
    folders = [f"{split}/{label}" for split in (train, val, test) for label in ("cat", "dog")]
    found = labels(read(*images(*folders)))
    expected = {train: "train", val: "val", test: "test"}
    assert found == {
        f"{folder}/{label}": (label, split)
        for folder, split in expected.items()
        for label in ("cat", "dog")
    }


@pytest.mark.parametrize(
    "folders",
    [
        ["train", "bus", "car"],  # vehicles
        ["train station", "test bench"],
        ["Test", "cricket", "rugby"],
        ["trained dogs", "tested dogs"],
    ],
)
def test_classes_that_are_called_like_splits_are_classes(folders: list[str]) -> None:
    found = labels(read(*images(*folders)))
    assert found == {name: (name, None) for name in folders}


def test_splits_within_classes() -> None:
    layout = read(*images("cat/train", "cat/test", "dog/train", "dog/test"))
    assert labels(layout) == {
        "cat/train": ("cat", "train"),
        "cat/test": ("cat", "test"),
        "dog/train": ("dog", "train"),
        "dog/test": ("dog", "test"),
    }
    assert layout.notes == ["'test', 'train' in the folders of classes are splits"]


def test_folders_around_say_nothing_and_a_stray_file_is_the_one_that_is_left_out() -> None:
    layout = read(*images("archive/flowers/daisy", "archive/flowers/rose"), "archive/cover.jpg")
    assert {label for label, _ in labels(layout).values()} == {"daisy", "rose"}
    assert layout.left_out == {
        "archive/cover.jpg": "lies beside the folder 'flowers', above the classes"
    }
    layout = read(*images("flowers/daisy", "flowers/rose"), "flowers/cover.jpg", "cover.jpg")
    assert set(layout.left_out) == {"flowers/cover.jpg", "cover.jpg"}
    assert len(layout.places) == 6


def test_folders_around_the_classes_of_a_split_say_nothing() -> None:
    names = images("seg_train/seg_train/sea", "seg_train/seg_train/wood", "seg_test/seg_test/sea")
    layout = read(*names, *images("seg_pred/seg_pred"), *images("other/sea"), "list.png")
    assert labels(layout) == {
        "seg_train/seg_train/sea": ("sea", "train"),
        "seg_train/seg_train/wood": ("wood", "train"),
        "seg_test/seg_test/sea": ("sea", "test"),
        "seg_pred/seg_pred": (None, None),
    }
    where = "in none of the folders 'seg_pred', 'seg_test', 'seg_train'"
    assert layout.left_out == {
        **dict.fromkeys(images("other/sea"), where),
        "list.png": "lies beside the folders of the splits",
    }


def test_train_alone_is_a_folder_around_the_classes() -> None:
    assert labels(read(*images("train/cat", "train/dog"))) == {
        "train/cat": ("cat", None),
        "train/dog": ("dog", None),
    }


def test_folders_within_a_class_belong_to_it_and_it_is_said_how_to_take_the_inner_ones() -> None:
    names = images("walk/monday", "walk/friday", "run/monday", "run")
    layout = read(*names)
    assert labels(layout) == {
        "walk/monday": ("walk", None),
        "walk/friday": ("walk", None),
        "run/monday": ("run", None),
        "run": ("run", None),
    }
    assert layout.notes == [
        "9 images are in folders within a class, and belong to that class: 'run/monday/0.jpg' is "
        "'run' (images.class_folder: innermost takes the folder that an image is in)"
    ]
    assert layout.class_folders == {"walk", "run"}

    inner = read(*names, innermost=True)
    assert labels(inner)["walk/friday"] == ("friday", None)
    assert labels(inner)["run"] == ("run", None)
    assert not inner.notes


def test_folders_within_a_class_may_be_groups() -> None:
    layout = read(*images("a/1", "a/2", "b/1", "b"), grouped=True)
    found = {name.rpartition("/")[0]: place.group for name, place in layout.places.items()}
    assert found == {"a/1": "a/1", "a/2": "a/2", "b/1": "b/1", "b": None}
    inner = read(*images("2024/a", "2025/a", "2025/b"), innermost=True, grouped=True)
    assert {place.group for place in inner.places.values()} == {"a/2024", "a/2025", "b/2025"}


@pytest.mark.parametrize("test", ["test", "test/test", "test/images", "test/unknown"])
def test_a_test_folder_without_classes_is_only_predicted(test: str) -> None:
    layout = read(*images("train/cat", "train/dog"), *images(test))
    assert labels(layout) == {
        "train/cat": ("cat", "train"),
        "train/dog": ("dog", "train"),
        test: (None, None),
    }


def test_classes_that_train_does_not_have_are_only_predicted_and_named() -> None:
    layout = read(*images("train/cat", "train/dog", "test/cat", "test/Dog", "test/fox"))
    assert labels(layout)["test/cat"] == ("cat", "test")
    assert labels(layout)["test/Dog"] == ("dog", "test")  # of another case only
    assert labels(layout)["test/fox"] == (None, None)
    assert layout.notes == [
        "in test: folders that are no class of train, whose images are only predicted: 'fox'"
    ]


def test_one_class_in_test_is_no_folder_around_it() -> None:
    layout = read(*images("train/cat", "train/dog", "test/cat/monday"))
    assert labels(layout)["test/cat/monday"] == ("cat", "test")


def test_a_folder_of_unlabelled_images_beside_the_classes_is_only_predicted() -> None:
    assert labels(read(*images("cat", "dog", "unlabeled")))["unlabeled"] == (None, None)


def test_names_that_macos_takes_apart_are_the_same_class() -> None:
    layout = read("train/caf\u00e9/1.jpg", "train/bar/1.jpg", "test/cafe\u0301/1.jpg")
    assert layout.places["test/cafe\u0301/1.jpg"] == Place("caf\u00e9", "test")


def test_val_and_test_without_train_are_refused() -> None:
    with pytest.raises(UserError, match=r"photos: has 'test', 'val', but no folder of training"):
        read(*images("val/cat", "test/cat"))
