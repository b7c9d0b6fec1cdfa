"""Images that are unlike most of the data: dark, blurred, tiny, unlike all others, and so on."""

import pandas as pd

# Kinds, in the order of the table.
OUTLIER, DARK, LIGHT, BLURRED = "outlier", "dark", "light", "blurred"
TINY, RATIO, GREY = "tiny", "ratio", "grey"
# Of a kind that more images than this share have, none is odd: it is how these data are.
RARE = 0.2
# Limits. With (c) those of cleanvision, https://github.com/cleanlab/cleanvision.
FAR = 2.0  # times the usual distance
DARKEST = 0.32  # (c) brightest parts, 0..1
LIGHTEST = 0.95  # (c) darkest parts, 0..1
BLUR = 0.05  # of the usual sharpness: on Flowers-102 that of a Gaussian blur of 2 pixels
SMALL = 0.1  # of the usual number of pixels
NARROW = 0.35  # (c) short by long side
COLOURLESS = 0.04  # difference of red, green and blue


def find_odd(images: pd.DataFrame, measures: pd.DataFrame, distance: pd.Series) -> pd.DataFrame:
    """Images that are odd, by kind, the oddest first.

    An image is

    - an outlier, if its mean distance to its nearest others is more than ``FAR`` times the usual
      one;
    - dark, if none of red, green and blue exceeds ``DARKEST`` in 99 % of its pixels; light, if all
      of them exceed ``LIGHTEST`` in 95 %;
    - blurred, if the variance of its Laplacian is less than ``BLUR`` of the usual one;
    - tiny, if the original has less than ``SMALL`` of the usual number of pixels;
    - of an extreme ratio, if its short side is less than ``NARROW`` of its long side;
    - grey, if red, green and blue differ by less than ``COLOURLESS`` in 99 % of its pixels.

    Usual is the median of all images, which a few odd ones do not move, in small sets either. A
    kind that more than ``RARE`` of the images are of is left out, so a set of drawings on white
    has no light images, and one of X-rays no grey ones.

    Args:
        images: columns file, split, class.
        measures: a row an image, by :func:`pipeline.explore.survey.survey`.
        distance: of images to their nearest others, by row; copies of images may be missing.

    Returns:
        Columns file, split, class, what (the kind), value, usual.
    """
    sides = measures[["width", "height"]]
    pixels = measures["width"] * measures["height"]
    ratio = sides.min(axis=1) / sides.max(axis=1)
    sharpness = measures["sharpness"]
    far = distance.reindex(range(len(images)))
    # Of each kind: the values, and how odd each is (negative: not at all).
    kinds = {
        OUTLIER: (far, far - FAR * far.median()),
        DARK: (measures["brightest"], DARKEST - measures["brightest"]),
        LIGHT: (measures["darkest"], measures["darkest"] - LIGHTEST),
        BLURRED: (sharpness, BLUR * sharpness.median() - sharpness),
        TINY: (pixels, SMALL * pixels.median() - pixels),
        RATIO: (ratio, NARROW - ratio),
        GREY: (measures["colour"], COLOURLESS - measures["colour"]),
    }
    tables = []
    for kind, (values, oddness) in kinds.items():
        odd = oddness[oddness > 0].sort_values(ascending=False, kind="stable").index
        if len(odd) > RARE * len(images):
            continue
        table = images.loc[odd, ["file", "split", "class"]]
        usual = round(float(values.median()), 6)
        tables.append(table.assign(what=kind, value=values[odd].round(6), usual=usual))
    return pd.concat(tables, ignore_index=True)
