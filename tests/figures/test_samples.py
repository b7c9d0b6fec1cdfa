"""Which images are samples, and text in figures of images."""

import numpy as np
import pandas as pd

from pipeline.figures.samples import sample_rows, top_classes
from pipeline.figures.style import svg


def test_samples_are_the_first_images_of_classes_evenly_spread() -> None:
    assert sample_rows(np.array([3, 3, 1, 0, 7, 1]), 2) == [3, 4]
    assert sample_rows(np.array([3, 3, 1]), 18) == [2, 0]


def test_a_dollar_in_a_class_name_is_a_dollar() -> None:
    nothing = pd.DataFrame({"class": [], "probability": []})
    figure = top_classes(np.zeros((9, 9, 3), np.uint8), "$\\alpha$", nothing)
    assert ">$\\alpha$</text>" in svg(figure, "classes")
