"""More than 8 bits a channel: the picture is that of its twin of 8 bits, never black or white."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.data.depth import UnreadableError, scale
from pipeline.data.images import decode, examine
from tests.deep import FLOAT, INTEGER, SIGNED, png, pnm, tiff

# Brightness of the pixels, 0 to 0.9; the last channel is that of alpha where there is one.
SCENE = np.random.default_rng(0).uniform(0, 0.9, (12, 20, 4))
SCENE[0, 0] = 0.9
OPAQUE = SCENE.copy()
OPAQUE[..., 3] = 1
WHITES = [255, 4095, 65535]


def whole(scene: np.ndarray, white: int) -> np.ndarray:
    return (scene * white).round().astype(np.uint16)


def twin(scene: np.ndarray) -> np.ndarray:
    """The picture as 8 bits: [height, width, 3]."""
    bits = whole(np.atleast_3d(scene), 255).astype(np.uint8)
    return np.repeat(bits, 3, axis=2) if bits.shape[2] < 3 else bits[..., :3]


def read(encoded: bytes) -> np.ndarray:
    return np.asarray(decode(encoded, "x")).astype(int)


def assert_shows(encoded: bytes, scene: np.ndarray, scaled: str) -> None:
    """The pixels are those of the twin, as far as its 8 bits can tell, and it is said why."""
    assert examine(encoded).fault == ""
    assert abs(read(encoded) - twin(scene)).max() <= 1
    assert examine(encoded).scaled == scaled


def by_white(white: int) -> str:
    if white == 255:
        return "16-bit values up to 255: taken as they are"
    return f"16-bit values up to {white:,}: divided by {white:,}"


# Grey.


@pytest.mark.parametrize("white", WHITES)
@pytest.mark.parametrize("form", ["PNG", "TIFF <", "TIFF >", "deflated", "PGM", "PGM as text"])
def test_grey_of_16_bits(white: int, form: str) -> None:
    grey = whole(SCENE[..., 0], white)
    encoded = {
        "PNG": png(grey),
        "TIFF <": tiff(grey),
        "TIFF >": tiff(grey, order=">"),
        "deflated": tiff(grey, is_compressed=True),
        "PGM": pnm(grey, 65535),
        "PGM as text": pnm(grey, 65535, is_text=True),
    }[form]
    assert_shows(encoded, SCENE[..., 0], by_white(white))


def test_every_value_of_16_bits_is_divided_by_257() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = (values.astype(np.float32) / 257).round().clip(0, 255)
    assert np.array_equal(read(png(values))[..., 0], expected)


@pytest.mark.parametrize("is_text", [False, True])
def test_the_white_that_a_file_names_is_white(is_text: bool) -> None:
    """However dark the picture is: with 12 bits of JPEG 2000 Pillow does the same."""
    dark = SCENE / 20
    grey, colour = whole(dark[..., 0], 4095), whole(dark[..., :3], 4095)
    assert_shows(pnm(grey, 4095, is_text), dark[..., 0], by_white(4095))
    assert_shows(pnm(colour, 4095, is_text), dark[..., :3], by_white(4095))


def test_grey_of_jpeg_2000() -> None:
    content = io.BytesIO()
    Image.fromarray(whole(SCENE[..., 0], 4095)).save(content, "JPEG2000")
    assert_shows(content.getvalue(), SCENE[..., 0], by_white(4095))


def test_white_is_0_where_the_file_says_so() -> None:
    grey = whole(SCENE[..., 0], 65535)
    assert_shows(tiff(grey, is_inverted=True), 1 - SCENE[..., 0], by_white(65535))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_whole_numbers_of_other_kinds(dtype: Any) -> None:
    kind = INTEGER if dtype is np.uint32 else SIGNED
    grey = whole(SCENE[..., 0], 4095).astype(dtype)
    bits = 8 * grey.itemsize
    assert_shows(
        tiff(grey, kind), SCENE[..., 0], f"{bits}-bit values up to 4,095: divided by 4,095"
    )


def test_above_16_bits_the_largest_value_is_white() -> None:
    for white in (2**17, 2**31 - 1, 2**32 - 1):
        grey = (SCENE[..., 0] / 0.9 * white).astype(np.uint32)
        how = "32-bit values: divided by the largest of the image"
        assert_shows(tiff(grey), SCENE[..., 0] / 0.9, how)


@pytest.mark.parametrize("order", ["<", ">"])
def test_floats(order: str) -> None:
    grey = SCENE[..., 0].astype(np.float32)
    for white, how in {
        1: "values from 0 to 1: multiplied by 255",
        255: "values up to 255: taken as they are",
        4095: "values up to 4,095: divided by 4,095",
        65535: "values up to 65,535: divided by 65,535",
    }.items():
        assert_shows(tiff(grey * white, FLOAT, order), SCENE[..., 0], f"floating-point {how}")


def test_floats_a_little_above_1_are_white() -> None:
    """As interpolation leaves them; taken as 8 bits, all would be black."""
    values = np.array([[0, 0.5, 1, 1.04]], np.float32)
    assert read(tiff(values, FLOAT))[0, :, 0].tolist() == [0, 128, 255, 255]
    values[0, 3] = 2
    assert read(tiff(values, FLOAT))[0, :, 0].tolist() == [0, 0, 1, 2]


def test_negative_values_are_stretched() -> None:
    heights = np.array([[-1000, -500, 3000]])
    shown = [0, 32, 255]
    assert read(tiff(heights.astype(np.int16), SIGNED))[0, :, 0].tolist() == shown
    assert read(tiff(heights.astype(np.float32), FLOAT))[0, :, 0].tolist() == shown
    assert "from the smallest to the largest" in examine(tiff(heights.astype("f4"), FLOAT)).scaled
    extreme = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    assert read(tiff(extreme, SIGNED))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [-7.0, 0.0, 0.5, 1.0, 300.0, 65535.0, 1e38])
@pytest.mark.filterwarnings("error")
def test_an_image_of_one_value_has_one_colour(value: float) -> None:
    shown = {-7.0: 0, 0.0: 0, 0.5: 128, 1.0: 255, 300.0: 19, 65535.0: 255, 1e38: 255}[value]
    assert np.unique(read(tiff(np.full((4, 4), value, np.float32), FLOAT))).tolist() == [shown]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_a_fault(value: float) -> None:
    grey = SCENE[..., 0].astype(np.float32)
    grey[3, 3] = value
    fault = "holds values that are not numbers (NaN or infinite)"
    assert examine(tiff(grey, FLOAT)).fault == fault
    with pytest.raises(UnreadableError, match="not numbers"):
        scale(grey)


def test_the_transparent_grey_is_white() -> None:
    grey = whole(SCENE[..., 0], 65535)
    shown = read(png(grey, transparent=(int(grey[3, 3]),)))
    assert shown[3, 3].tolist() == [255, 255, 255]
    shown[3, 3] = read(png(grey))[3, 3]
    assert np.array_equal(shown, read(png(grey)))


def test_grey_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees, clockwise
    content = io.BytesIO()
    Image.fromarray(whole(SCENE[..., 0], 4095)).save(content, "TIFF", exif=exif)
    assert_shows(content.getvalue(), np.rot90(SCENE[..., 0], -1), by_white(4095))


# Colour.

UPPER = "16-bit values up to 65,535: their upper 8 bits"


@pytest.mark.parametrize("white", WHITES)
@pytest.mark.parametrize("form", ["PNG", "TIFF <", "TIFF >", "deflated", "PPM", "PPM as text"])
def test_colour_of_16_bits(white: int, form: str) -> None:
    colour = whole(SCENE[..., :3], white)
    encoded = {
        "PNG": png(colour),
        "TIFF <": tiff(colour),
        "TIFF >": tiff(colour, order=">"),
        "deflated": tiff(colour, is_compressed=True),
        "PPM": pnm(colour, 65535),
        "PPM as text": pnm(colour, 65535, is_text=True),
    }[form]
    assert_shows(encoded, SCENE[..., :3], UPPER if white == 65535 else by_white(white))


@pytest.mark.parametrize("white", WHITES)
def test_alpha_of_16_bits(white: int) -> None:
    how = UPPER if white == 65535 else by_white(white)
    colour = whole(OPAQUE, white)
    for alpha in (white, 65535):
        colour[..., 3] = alpha
        for encoded in (png(colour), tiff(colour), tiff(colour, order=">")):
            assert_shows(encoded, SCENE[..., :3], how)
        assert_shows(png(colour[..., [0, 3]]), SCENE[..., 0], how)
    colour[:6, :, 3] = 0
    assert read(png(colour))[:6].min() == 255
    assert abs(read(png(colour))[6:] - twin(SCENE)[6:]).max() <= 1


def test_colour_that_uses_more_than_12_bits_has_its_upper_8() -> None:
    """As before this rule: the pixels are Pillow's own."""
    colour = whole(SCENE[..., :3], 65535)
    assert np.array_equal(read(png(colour)), colour >> 8)
    colour = np.full((4, 4, 3), 4095, np.uint16)
    assert read(png(colour)).min() == 255
    colour[0, 0, 0] = 4096
    assert np.array_equal(read(png(colour)), colour >> 8)
    assert np.array_equal(read(tiff(colour)), colour >> 8)


@pytest.mark.parametrize("white", [4095, 65535])
def test_the_transparent_colour_is_white(white: int) -> None:
    colour = whole(SCENE[..., :3], white)
    red, green, blue = colour[3, 3].tolist()
    assert read(png(colour, (red, green, blue)))[3, 3].tolist() == [255, 255, 255]
    others = read(png(colour, (red, green, blue ^ 1)))  # a colour that no pixel has
    assert np.array_equal(others, read(png(colour)))


def test_one_channel_behind_another() -> None:
    """What Pillow cannot read is refused, in words, and not misread."""
    colour = whole(SCENE[..., :3], 65535)
    assert_shows(tiff(colour, is_planar=True, is_compressed=True), SCENE[..., :3], UPPER)
    with pytest.raises(UserError, match=r"x: not a readable image \(16-bit colours, one behind"):
        decode(tiff(colour, is_planar=True), "x")
    dark = whole(SCENE[..., :3], 4095)
    with pytest.raises(UserError, match="of which only 12 bits are used"):
        decode(tiff(dark, is_planar=True, is_compressed=True), "x")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_samples_that_pillow_does_not_know_are_named(dtype: Any) -> None:
    for values in (SCENE[..., 0].astype(dtype), SCENE[..., :3].astype(np.float32)):
        fault = examine(tiff(values, FLOAT)).fault
        assert (
            fault == "a TIFF image with samples that Pillow cannot read; convert it to PNG or JPEG"
        )


def test_8_bits_stay_as_they_are() -> None:
    colour = whole(SCENE[..., :3], 255).astype(np.uint8) // 20  # dark, and to stay dark
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        content = io.BytesIO()
        Image.fromarray(colour).save(content, kind)
        assert np.array_equal(read(content.getvalue()), colour)
        assert examine(content.getvalue()).scaled == ""
