"""Augmentations: oracles of what each does to an image, and properties that hold for all of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError
from capsjax.data import (
    Affine,
    AffnistLike,
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    CropTo,
    Cutout,
    Flip,
    Noise,
    Rotate,
    Shift,
    Standardise,
    affine,
    random_shift,
)
from capsjax.data.augment import augment

ALL = (
    Shift(pixels=1),
    Flip(),
    Affine(degrees=30, scale=0.2, shear=0.1, translate=0.1),
    Crop(smallest=0.6),
    Brightness(delta=0.3),
    Contrast(delta=0.5),
    Cutout(size=3),
    Noise(std=0.2),
    AffnistLike(),
    Rotate(degrees=30),
)
IMAGES = jnp.asarray(np.random.RandomState(0).uniform(size=(6, 7, 6, 2)), jnp.float32)
KEY = jax.random.key(3)
NAMES = [type(augmentation).__name__ for augmentation in ALL]


PREPARING = (Standardise(), CropTo(size=4))


def test_every_augmentation_is_here():
    assert {type(augmentation) for augmentation in (*ALL, *PREPARING)} == set(
        Augmentation.variants()
    )
    kinds = [kind.kind for kind in Augmentation.variants()]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("augmentation", ALL, ids=NAMES)
def test_each_keeps_shape_type_and_range_and_follows_from_the_key(augmentation):
    changed = jax.jit(augmentation)
    found, again, other = (changed(key, IMAGES) for key in (KEY, KEY, jax.random.key(4)))
    assert (found.shape, found.dtype) == (IMAGES.shape, IMAGES.dtype)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1 + 1e-6
    np.testing.assert_array_equal(found, again)
    assert (np.asarray(found) != np.asarray(other)).any()
    assert (np.asarray(found) != np.asarray(IMAGES)).any()
    narrow = augmentation(KEY, IMAGES.astype(jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16


@pytest.mark.parametrize("augmentation", ALL, ids=NAMES)
def test_each_draws_for_every_image_by_itself(augmentation):
    same = jnp.broadcast_to(IMAGES[:1], (16, *IMAGES.shape[1:]))
    found = np.asarray(augmentation(KEY, same)).reshape(16, -1)
    assert len(np.unique(found, axis=0)) > (1 if isinstance(augmentation, Flip) else 4)


def test_a_shift_is_the_random_shift_with_that_very_key():
    np.testing.assert_array_equal(Shift(pixels=2)(KEY, IMAGES), random_shift(KEY, IMAGES, 2))


def test_the_first_takes_the_key_itself_and_the_next_one_of_their_own():
    both = augment((Shift(pixels=1), Shift(pixels=1)), KEY, IMAGES, 1.0)
    first = random_shift(KEY, IMAGES, 1)
    np.testing.assert_array_equal(augment((Shift(pixels=1),), KEY, IMAGES, 1.0), first)
    np.testing.assert_array_equal(both, random_shift(jax.random.fold_in(KEY, 1), first, 1))
    np.testing.assert_array_equal(augment((), KEY, IMAGES, 1.0), IMAGES)


def test_bytes_are_moved_as_bytes_and_become_floats_before_anything_else(monkeypatch):
    """The bits of a step depend on it, and a shift of bytes takes a quarter of the memory."""
    raw, seen = jnp.asarray(IMAGES * 255, jnp.uint8), []
    chain = [Shift(pixels=1), Flip(), Brightness(), Cutout(size=2)]
    for cls in map(type, chain):
        call = cls.__call__

        def watched(self, key, images, call=call):
            seen.append(images.dtype.name)
            return call(self, key, images)

        monkeypatch.setattr(cls, "__call__", watched)
    found = augment(chain, KEY, raw, 1 / 255)
    assert seen == ["uint8", "uint8", "float32", "float32"]
    assert found.dtype == augment(chain[:1], KEY, raw, 1 / 255).dtype == jnp.float32
    assert 0.5 < float(found.max()) <= 1


@pytest.mark.parametrize("augmentation", ALL, ids=NAMES)
def test_what_only_moves_pixels_makes_no_new_ones(augmentation):
    raw = jnp.asarray(IMAGES * 255, jnp.uint8)
    if augmentation.moves_only:
        found = np.asarray(augmentation(KEY, raw))
        assert found.dtype == np.uint8
        assert set(found.ravel()) <= {0, *np.asarray(raw).ravel()}
        np.testing.assert_array_equal(
            found.astype(np.float32), augmentation(KEY, raw.astype(jnp.float32))
        )
    else:
        assert not set(np.asarray(augmentation(KEY, IMAGES)).ravel()) <= {
            0,
            *np.asarray(IMAGES).ravel(),
        }


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 2), ("vertical", 1)])
def test_a_flip_mirrors_or_leaves(direction, axis):
    images = np.asarray(IMAGES)
    always = Flip(direction=direction, probability=1.0)(KEY, IMAGES)
    np.testing.assert_array_equal(always, np.flip(images, axis))
    np.testing.assert_array_equal(Flip(probability=0.0)(KEY, IMAGES), images)
    many = jnp.broadcast_to(IMAGES[:1], (2000, *IMAGES.shape[1:]))
    flipped = (np.asarray(Flip(probability=0.2)(KEY, many)) != images[:1]).any((1, 2, 3))
    assert abs(flipped.mean() - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 2000)


def bilinear(image, y, x):
    """The image between its pixels, 0 outside."""
    top, left = math.floor(y), math.floor(x)
    total = np.zeros(image.shape[-1])
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(y - row)) * (1 - abs(x - column))
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += weight * image[row, column]
    return total


def test_an_affine_map_is_that_of_the_oracle():
    rng = np.random.RandomState(1)
    matrix = np.eye(2) + 0.4 * rng.uniform(-1, 1, (6, 2, 2))
    offset = rng.uniform(-2, 2, (6, 2))
    found = np.asarray(affine(IMAGES, *(jnp.asarray(x, jnp.float32) for x in (matrix, offset))))
    images, (h, w) = np.asarray(IMAGES, np.float64), IMAGES.shape[1:3]
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    for b in range(6):
        back = np.linalg.inv(matrix[b])
        for y in range(h):
            for x in range(w):
                source = back @ (np.array([y, x]) - centre - offset[b]) + centre
                np.testing.assert_allclose(found[b, y, x], bilinear(images[b], *source), atol=2e-5)


def test_an_affine_map_by_nothing_leaves_every_pixel_and_whole_ones_move_them():
    square = IMAGES[:, :6]
    eye, still = jnp.broadcast_to(jnp.eye(2), (6, 2, 2)), jnp.zeros((6, 2))
    np.testing.assert_array_equal(affine(square, eye, still), square)
    quarter = jnp.broadcast_to(jnp.array([[0.0, -1.0], [1.0, 0.0]]), (6, 2, 2))
    expected = np.rot90(np.asarray(square), 1, (1, 2))
    np.testing.assert_allclose(affine(square, quarter, still), expected, atol=1e-6)
    down = np.zeros_like(square)
    down[:, 2:, :] = np.asarray(square)[:, :-2]
    moved = affine(square, eye, jnp.broadcast_to(jnp.array([2.0, 0.0]), (6, 2)))
    np.testing.assert_allclose(moved, down, atol=1e-6)


def test_a_random_affine_map_stays_within_its_numbers():
    """A dot right of the centre goes where angle, size and shift allow, and there to all sides."""
    images = np.zeros((500, 41, 41, 1), np.float32)
    images[:, 20, 30] = 1
    grid = np.arange(41) - 20

    def centres(augmentation):
        found = np.asarray(augmentation(KEY, jnp.asarray(images)))[..., 0]
        mass = found.sum((1, 2))
        y, x = ((found * place).sum((1, 2)) / mass for place in (grid[:, None], grid[None]))
        return y, x

    y, x = centres(Affine(degrees=90))
    angle = np.degrees(np.arctan2(y, x))
    assert np.abs(angle).max() < 91
    assert angle.min() < -80
    assert angle.max() > 80
    np.testing.assert_allclose(np.hypot(y, x), 10, atol=0.3)
    found = [turned(KEY, IMAGES) for turned in (Rotate(degrees=90), Affine(degrees=90))]
    np.testing.assert_array_equal(*found)  # a rotation is the map that does nothing else
    y, x = centres(Affine(degrees=0, scale=0.2))
    assert 7.7 < x.min() < 8.3
    assert 11.7 < x.max() < 12.3
    assert np.abs(y).max() < 0.1
    y, x = centres(Affine(degrees=0, translate=0.1))
    assert 3.5 < np.abs(y).max() < 4.2
    assert 3.5 < np.abs(x - 10).max() < 4.2
    images[:] = np.swapaxes(images, 1, 2)  # below the centre now
    y, x = centres(Affine(degrees=0, shear=0.3))
    assert 2.5 < np.abs(x).max() < 3.1
    assert np.abs(y - 10).max() < 0.2


def test_a_crop_enlarges_a_part_that_lies_inside():
    rows = jnp.linspace(0, 1, 9)
    images = jnp.broadcast_to(rows[None, :, None, None], (400, 9, 9, 1))
    found = np.asarray(Crop(smallest=0.5)(KEY, images))[:, :, 4, 0]
    share = found[:, -1] - found[:, 0]  # of the height, as the ramp tells
    assert 0.5 - 1e-5 <= share.min() < 0.52
    assert 0.98 < share.max() <= 1 + 1e-5
    assert found.min() >= -1e-6
    assert found.max() <= 1 + 1e-6
    assert found[:, 0].min() < 0.01
    assert found[:, -1].max() > 0.99
    np.testing.assert_allclose(
        np.diff(found, axis=1), np.broadcast_to(share[:, None] / 8, (400, 8)), atol=1e-5
    )
    white = Crop(smallest=0.5)(KEY, jnp.ones((50, 5, 8, 3)))
    np.testing.assert_allclose(white, 1, atol=1e-5)


def test_brightness_adds_one_number_to_an_image():
    images = jnp.full((2000, 2, 2, 3), 0.5)
    found = np.asarray(Brightness(delta=0.2)(KEY, images))
    assert np.ptp(found, axis=(1, 2, 3)).max() == 0
    assert 0.3 <= found.min() < 0.302
    assert 0.698 < found.max() <= 0.7
    assert (np.asarray(Brightness(delta=1.0)(KEY, images)) <= 1).all()


def test_contrast_multiplies_differences_from_the_mean_of_a_channel():
    image = np.asarray([[0.4, 0.6], [0.5, 0.5]])[None, :, :, None] * np.array([1.0, 0.5])
    images = jnp.asarray(np.repeat(image, 500, 0), jnp.float32)
    found = np.asarray(Contrast(delta=0.5)(KEY, images))
    np.testing.assert_allclose(found.mean((1, 2)), np.tile([0.5, 0.25], (500, 1)), atol=1e-6)
    factor = (found[:, 0, 1] - found[:, 0, 0]) / (image[:, 0, 1] - image[:, 0, 0])
    np.testing.assert_allclose(factor[:, 0], factor[:, 1], rtol=1e-4)
    assert 0.5 - 1e-4 <= factor.min() < 0.51
    assert 1.49 < factor.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_cutout_is_a_square_that_may_reach_beyond_the_image(size):
    found = np.asarray(Cutout(size=size)(KEY, jnp.ones((600, 5, 6, 2)))) == 0
    assert (found.all(-1) == found.any(-1)).all()  # of every channel
    centres = set()
    for hole in found.any(-1):
        rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
        np.testing.assert_array_equal(hole, np.outer(hole.any(1), hole.any(0)))
        assert len(rows) <= size
        assert len(columns) <= size
        if rows[0] > 0 and rows[-1] < 4 and columns[0] > 0 and columns[-1] < 5:
            assert len(rows) == len(columns) == size
        centres.add((rows[0], columns[0], len(rows), len(columns)))
    assert len(centres) == 30  # every pixel is a centre


@pytest.mark.parametrize(
    ("augmentation", "text"),
    [
        (Shift(pixels=6), r"Shift\.pixels: got 6, expected at most 5 for images of width 6"),
        (Cutout(size=7), r"Cutout\.size: got 7, expected less than 7 for images \[7, 6, 1\]"),
    ],
)
def test_what_leaves_nothing_of_an_image_is_refused(augmentation, text):
    with pytest.raises(FieldError, match=text):
        augmentation.check((7, 6, 1))
    for fitting in ALL:
        fitting.check((7, 6, 1))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (Shift, "pixels", 0),
        (Flip, "direction", "diagonal"),
        (Flip, "probability", 1.1),
        (Affine, "degrees", 181.0),
        (Rotate, "degrees", 0.0),
        (Rotate, "degrees", 181.0),
        (Affine, "scale", 1.0),
        (Affine, "shear", -0.1),
        (Affine, "translate", 1.0),
        (Crop, "smallest", 0.0),
        (Brightness, "delta", 0.0),
        (Contrast, "delta", 1.1),
        (Cutout, "size", 0),
    ],
)
def test_values_out_of_range_are_refused(kind, field, value, as_installed):
    with pytest.raises(FieldError, match=rf"{kind.__name__}\.{field}: got"):
        kind(**{field: value})
