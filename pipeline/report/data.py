"""The section of a page about the data: what to look at before training, and what to do then."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pipeline.data.images import Preprocessing
from pipeline.data.raw import SPLITS, read_classes, read_index
from pipeline.figures.samples import sample_rows
from pipeline.report.html import Picture, render, small
from pipeline.report.pictures import RawImages

# How much the section shows; the tables in report/ have all.
SAMPLES = 18  # training images
FEWEST = 10  # classes
SUSPECTS = 24  # images
IDENTICAL = 6  # pairs
ACROSS = 9  # nearly identical pairs of two splits
WITHIN = 6  # nearly identical pairs of one split
ODD = 6  # images of a kind
LEFT_OUT = 10  # files
# So large a share of val and test with a near duplicate in train is no accident; nor are so many.
MANY = 0.1
FEW = 3

# A class or a file may be called 007.
TEXT = ("class", "file", "first", "second", "first_class", "second_class", "suggested")
# What is odd: title; what to ask oneself; how value and usual value are written.
KINDS: dict[str, tuple[str, str, str]] = {
    "outlier": ("Like no other image", "Distance to the nearest other images.", ".2f"),
    "dark": ("Dark", "How bright the brightest parts are, 0 to 1.", ".2f"),
    "light": ("Light", "How bright the darkest parts are, 0 to 1.", ".2f"),
    "blurred": ("Blurred", "Variance of the Laplacian (0: nothing but one colour).", ".0f"),
    "tiny": ("Tiny", "Pixels of the original file.", ",.0f"),
    "ratio": ("Long and narrow", "Short side by long side.", ".2f"),
    "grey": ("Grey among coloured images", "Difference of red, green and blue, 0 to 1.", ".2f"),
}


class Images(Protocol):
    """Where pixels come from, by the id of an image: uint8 [height, width, 3]."""

    def whole(self, image_id: int) -> np.ndarray: ...

    def square(self, image_id: int, preprocessing: Preprocessing) -> np.ndarray: ...


@dataclass(frozen=True)
class Data:
    """What the section shows.

    Attributes:
        dataset: what there is, in numbers; counts: images of each class and split; alike: pairs of
            images; suspects: labels to check; odd: images to look at. All as the stage explore
            writes them.
        left_out: files that are not used: columns file, reason; as the stage images writes it.
        index: of the raw data: columns member, id, split, label.
        classes: names, in the order of the labels.
        images: the images themselves.
    """

    dataset: Mapping[str, Any]
    counts: pd.DataFrame
    alike: pd.DataFrame
    suspects: pd.DataFrame
    odd: pd.DataFrame
    left_out: pd.DataFrame
    index: pd.DataFrame
    classes: Sequence[str]
    images: Images


def read_data(raw: Path, report: Path) -> Data:
    """The raw data in the folder ``raw``, and what the stage explore wrote about them."""
    index = read_index(raw)

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(report / name, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))

    return Data(
        dataset=json.loads((report / "dataset.json").read_text(encoding="utf-8")),
        counts=table("counts.csv"),
        alike=table("alike.csv"),
        suspects=table("suspects.csv"),
        odd=table("odd.csv"),
        left_out=table("left_out.csv"),
        index=index,
        classes=read_classes(raw),
        images=RawImages(raw, index),
    )


def data_page(data: Data, title: str) -> str:
    """A page of this section alone, as HTML."""
    return render("data.html", title=title, data=section(data))


def section(data: Data) -> dict[str, Any]:
    """What the template data_section.html takes."""
    ids = data.index.set_index("member")["id"]
    labels = data.index.set_index("member")["label"]

    @cache
    def source(file: str) -> str:
        return small(data.images.whole(int(ids[file])))

    def picture(file: str, note: str = "") -> Picture:
        return Picture(source(file), data.classes[labels[file]], file, note)

    dataset = data.dataset
    train = data.index[data.index["split"] == "train"]
    samples = train.iloc[sample_rows(train["label"].to_numpy(), SAMPLES)]
    counts = data.counts.sort_values(["train", "class"], kind="stable")
    pairs = {
        "identical": _pairs(data.alike[data.alike["kind"] == "identical"].head(IDENTICAL), picture),
        "across": _pairs(_near(data.alike, is_across=True).head(ACROSS), picture),
        "within": _pairs(_near(data.alike, is_across=False).head(WITHIN), picture),
    }
    return {
        "classes": len(data.classes),
        "images": len(data.index),
        "left_out": data.left_out[["file", "reason"]].head(LEFT_OUT).to_numpy().tolist(),
        "left_out_count": len(data.left_out),
        "splits": [[name, *map(str, dataset[name].values())] for name in SPLITS],
        "short_side": _span(dataset["sizes"]["short_side"]),
        "long_side": _span(dataset["sizes"]["long_side"]),
        "fewest": [[str(cell) for cell in row] for row in counts.head(FEWEST).to_numpy()],
        "samples": [picture(file) for file in samples["member"]],
        "suspects": [
            picture(row["file"], f", or {row['suggested']}? ({row['split']})")
            for row in data.suspects.head(SUSPECTS).to_dict("records")
        ],
        "suspect_count": len(data.suspects),
        "pairs": pairs,
        "near": dataset["near_duplicates"],
        "identical_groups": len(dataset["identical_images"]),
        "series": _series_note(dataset),
        "odd": _odd(data.odd, picture),
    }


def _near(alike: pd.DataFrame, is_across: bool) -> pd.DataFrame:
    """Pairs of two splits, or of one, that are not identical: near ones, then those less alike."""
    is_other = alike["kind"] != "identical"
    return alike[is_other & ((alike["first_split"] != alike["second_split"]) == is_across)]


def _pairs(pairs: pd.DataFrame, picture: Callable[[str, str], Picture]) -> list[dict[str, Any]]:
    """Pairs of images: words about them, pictures."""
    return [
        {
            "words": _words(pair),
            "images": [
                picture(pair["first"], f" ({pair['first_split']})"),
                picture(pair["second"], f" ({pair['second_split']})"),
            ],
        }
        for pair in pairs.to_dict("records")
    ]


def _words(pair: Mapping[Any, Any]) -> str:
    """How alike a pair is, and whether it is of one class."""
    is_same = pair["first_class"] == pair["second_class"]
    if pair["kind"] == "identical":
        return "Same class" if is_same else "Different classes: one label is wrong"
    classes = "same class" if is_same else "different classes"
    return f"Cosine {pair['cosine']:.4f}, {classes}"


def _span(sizes: Sequence[int]) -> str:
    """Smallest, median and largest of some sizes."""
    smallest, median, largest = sizes
    return f"{smallest:,} to {largest:,} (median {median:,})"


def _odd(odd: pd.DataFrame, picture: Callable[[str, str], Picture]) -> list[dict[str, Any]]:
    """The odd images of each kind: title, what to ask, how many, the usual value, pictures."""
    kinds = []
    for kind, (title, words, form) in KINDS.items():
        rows = odd[odd["what"] == kind]
        if len(rows):
            pictures = [
                picture(row["file"], f" ({row['split']}; {row['value']:{form}})")
                for row in rows.head(ODD).to_dict("records")
            ]
            usual = f"{rows['usual'].iloc[0]:{form}}"
            found = {"title": title, "words": words, "count": len(rows), "usual": usual}
            kinds.append(found | {"images": pictures})
    return kinds


def _series_note(dataset: Mapping[str, Any]) -> str:
    """What to do if images of val and test seem to be of the same series as images of train."""
    count = dataset["near_duplicates"]["evaluated_near_train"]
    total = dataset["val"]["images"] + dataset["test"]["images"]
    if count < max(FEW, MANY * total):
        return ""
    return (
        f"{count:,} of the {total:,} images of val and test ({count / total:.0%}) have a near "
        "duplicate of their class in train: the images seem to come in series, as photographs of "
        "one object do. Accuracy on new objects will be lower than measured."
    )
