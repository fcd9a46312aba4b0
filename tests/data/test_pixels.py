"""In which unit pixels come: told where it can be, refused where it cannot."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data.pixels import Pixels, check_range, shape_remedy, type_remedy, unit_remedy

BYTES = Pixels("uint8", 0, 255, 1 / 255)
DIGITS = Pixels("uint8", 0, 16, 1 / 16)
FLOATS = Pixels("float32", 0, 1, 1.0)
MASKS = Pixels("uint8", 0, 1, 1.0)  # a dataset of one's own that states the scale of its bytes
WIDE = Pixels("float32", 0, 255, 1 / 255)  # one that states the scale of its floats

RAMP = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
SIXTEENTHS = RAMP // 16


@pytest.mark.parametrize(
    ("trained", "images", "expected"),
    [
        (BYTES, RAMP, RAMP / 255),
        (BYTES, RAMP / 255, RAMP / 255),
        (BYTES, (RAMP / 255).astype(np.float16), RAMP / 255),
        (BYTES, np.asarray(jnp.asarray(RAMP / 255, jnp.bfloat16)), RAMP / 255),
        (BYTES, RAMP.astype(np.int64), RAMP / 255),
        (BYTES, RAMP.astype(float), RAMP / 255),  # bytes that a float type holds
        (BYTES, SIXTEENTHS, SIXTEENTHS / 255),  # dark bytes are bytes
        (BYTES, RAMP * 0, RAMP * 0.0),
        (BYTES, RAMP * 0.0, RAMP * 0.0),
        (DIGITS, SIXTEENTHS, SIXTEENTHS / 16),
        (DIGITS, SIXTEENTHS / 16, SIXTEENTHS / 16),
        (DIGITS, SIXTEENTHS.astype(float), SIXTEENTHS / 16),  # as scikit-learn has them
        (FLOATS, RAMP / 255, RAMP / 255),
        (FLOATS, RAMP / 2550, RAMP / 2550),
        (FLOATS, RAMP, RAMP / 255),
        (FLOATS, RAMP.astype(np.int32), RAMP / 255),
        (FLOATS, RAMP * 0, RAMP * 0.0),
        (MASKS, RAMP % 2, RAMP % 2),
        (MASKS, (RAMP % 2).astype(float), RAMP % 2),
        (WIDE, RAMP * 0.9, RAMP * 0.9 / 255),
        (WIDE, RAMP, RAMP / 255),
    ],
)
def test_the_same_images_in_any_unit_are_the_same(trained, images, expected):
    found = images.astype(np.float32) * np.float32(trained.factor(images))
    np.testing.assert_allclose(found, expected, rtol=1e-2 if images.itemsize == 2 else 1e-6)


BINARY = RAMP % 2


@pytest.mark.parametrize(
    ("trained", "images", "message", "right"),
    [
        (BYTES, BINARY, "got uint8 from 0 to 1, .*trained on uint8 from 0 to 255", BINARY),
        (DIGITS, BINARY, "got uint8 from 0 to 1, expected integers from 0 to 16", BINARY),
        (FLOATS, BINARY, "got uint8 from 0 to 1, expected floats from 0 to 1", BINARY),
        (FLOATS, BINARY == 1, "got type bool", BINARY),
        (BYTES, BINARY == 1, "got type bool", BINARY),
        (FLOATS, SIXTEENTHS, "got uint8 from 0 to 15", RAMP // 16 / 15),
        (DIGITS, RAMP, "got uint8 from 0 to 255, expected integers from 0 to 16", RAMP / 255),
        (BYTES, RAMP * 0.9, "got float64 from 0 to 229.5", RAMP * 0.9 / 255),
        (DIGITS, SIXTEENTHS * 0.9, "got float64 from 0 to 13.5", SIXTEENTHS * 0.9 / 16),
        (FLOATS, RAMP * 1.0, "got float64 from 0 to 255", RAMP / 255),
        (BYTES, RAMP * np.uint16(16), "got uint16 from 0 to 4080", RAMP * 16.0 / 4095),
        (FLOATS, RAMP * np.uint16(16), "got uint16 from 0 to 4080", RAMP * 16.0 / 4095),
        (MASKS, RAMP, "got uint8 from 0 to 255", RAMP / 255),
        (WIDE, RAMP / 255, "got float64 from 0 to 1", RAMP / 255),
    ],
)
def test_what_cannot_be_told_is_refused_and_the_advice_is_right(trained, images, message, right):
    with pytest.raises(UserError, match=message) as caught:
        trained.factor(images)
    advice = str(caught.value).split("use ")[-1].split(" where")[0]
    followed = eval(advice, {"images": images, "np": np})
    scaled = followed.astype(np.float32) * np.float32(trained.factor(followed))
    np.testing.assert_allclose(scaled, right, rtol=1e-6)


@pytest.mark.parametrize("trained", [BYTES, FLOATS, DIGITS, WIDE])
def test_what_no_unit_holds_is_refused(trained):
    for wrong, message in (
        (RAMP / 255 - 0.5, "got float64 from -0.5 to 0.5.*bring them to the unit"),
        (np.where(RAMP == 70, np.nan, 0.5), r"image 1 has a pixel that is NaN .*\(1 of 4"),
        (np.where(RAMP == 70, np.inf, 0.5), "image 1 has a pixel that is NaN or infinite"),
        (RAMP * 1j, "got type complex128"),
        (RAMP.astype(str), "got type <U"),
    ):
        with pytest.raises(UserError, match=message):
            trained.factor(wrong)


def test_pixels_are_written_and_read_back():
    for pixels in (BYTES, DIGITS, FLOATS, MASKS, WIDE):
        written = {"scale": pixels.scale, "pixels": pixels.as_json()}
        assert Pixels.recorded(written) == pixels
    assert Pixels.recorded({"scale": 1 / 255}) == BYTES  # as runs of before
    assert Pixels.recorded({"scale": 1 / 16}) == DIGITS
    assert Pixels.recorded({"scale": 1.0}) == FLOATS
    for broken in (3, {}, {"type": "uint8", "low": "0", "high": 1}, {"type": "x"}):
        with pytest.raises(UserError, match=r"data\.pixels: got .*train the run again"):
            Pixels.recorded({"scale": 1.0, "pixels": broken})


@pytest.mark.parametrize(
    ("images", "right"),
    [
        (BINARY == 1, BINARY),
        (BINARY.astype(int), BINARY),
        (RAMP.astype(np.uint16), RAMP / 255),
        (RAMP * np.uint16(257), RAMP / 255),
        (RAMP * np.uint16(16), RAMP * 16.0 / 4095),
        (RAMP.astype(np.int8), (RAMP.astype(np.int8) + 128.0) / 255),
        (RAMP.astype(np.float64), RAMP.astype(np.float64)),
        (np.asarray(jnp.asarray(SIXTEENTHS, jnp.bfloat16)), SIXTEENTHS),
    ],
)
def test_a_type_that_is_not_taken_comes_with_advice_that_loses_nothing(images, right):
    advice = type_remedy(images).split("use ")[-1].split(": ")[-1]
    followed = eval(advice, {"images": images, "np": np})
    scale = 1 / 255 if followed.dtype == np.uint8 else 1
    np.testing.assert_allclose(followed * scale, right, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "right"),
    [
        (RAMP * 1.0, RAMP / 255),
        (SIXTEENTHS * 1.0, SIXTEENTHS / 15),
        (RAMP / 127.5 - 1, RAMP / 255),
        (RAMP / 255 - 0.5, RAMP / 255 / 2 + 0.25),
        (RAMP / 25.5 - 4, RAMP / 255),
    ],
)
def test_a_range_that_is_not_taken_comes_with_advice_that_loses_nothing(images, right):
    with pytest.raises(UserError, match=r"pixels run from .*, expected 0 to 1") as caught:
        check_range("images", images, 1.0)
    followed = eval(str(caught.value).rsplit(": ", 1)[1], {"images": images, "np": np})
    check_range("images", followed, 1.0)
    np.testing.assert_allclose(followed, right, atol=1e-12)


def test_advice_for_several_splits_is_one_for_all():
    with pytest.raises(UserError, match=r"images / 255"):
        check_range("test images", np.array([100.0]), 1.0, ends=(0.0, 255.0))
    assert "(-3.0, 7.0)" in unit_remedy(-3.0, 7.0)


@pytest.mark.parametrize(
    ("change", "image_shape"),
    [
        (lambda x: x[0], (8, 7, 3)),
        (lambda x: x[0, ..., 0], (8, 7, 1)),
        (lambda x: np.moveaxis(x, -1, 1), (8, 7, 3)),
        (lambda x: np.moveaxis(x[0], -1, 0), (8, 7, 3)),
        (lambda x: x.reshape(len(x), -1), (8, 7, 3)),
    ],
)
def test_a_shape_that_is_not_taken_comes_with_advice_that_loses_nothing(change, image_shape):
    whole = np.random.default_rng(0).random((5, *image_shape))
    given = change(whole)
    advice = shape_remedy(given.shape, image_shape).split(": ")[-1].split(" is ")[-1]
    followed = eval(advice, {"images": given, "np": np})
    followed = followed[..., None] if followed.ndim == 3 else followed  # as `predict` does
    np.testing.assert_array_equal(followed, whole[: len(followed)])


def test_no_advice_where_none_can_be_told():
    assert shape_remedy((5, 9, 9, 1), (8, 8, 1)) == ""
