"""Maps in the ranges of affNIST: within them, as scipy maps, and nothing leaves the image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from capsjax.data import AffnistLike, Cutout, Digits, Noise, Perturbed, Shift, affine

RNG = np.random.default_rng(0)
IMAGES = np.zeros((40, 20, 20, 1), np.float32)
IMAGES[:, 6:14, 6:14, 0] = RNG.random((40, 8, 8))
IMAGES[5] = 0
MATRIX, OFFSET = map(np.asarray, AffnistLike().maps(jax.random.key(1), jnp.asarray(IMAGES)))
FOUND = np.asarray(AffnistLike()(jax.random.key(1), jnp.asarray(IMAGES)))


def test_images_are_mapped_as_scipy_does_with_zeros_that_are_interpolated_too():
    centre = (np.array(IMAGES.shape[1:3]) - 1) / 2
    for image, matrix, offset, found in zip(IMAGES, MATRIX, OFFSET, FOUND, strict=True):
        inverse = np.linalg.inv(matrix.astype(float))
        at = centre - inverse @ (centre + offset)
        expected = scipy.ndimage.affine_transform(
            image[..., 0].astype(float), inverse, at, order=1, mode="grid-constant", cval=0.0
        )
        np.testing.assert_allclose(found[..., 0], expected, atol=2e-4)
    # At the border it differs from what scipy calls "constant".
    edge = np.zeros((1, 6, 6, 1), np.float32)
    edge[0, :, 5] = 1
    moved = affine(jnp.asarray(edge), jnp.eye(2)[None], jnp.array([[0.0, 0.5]]))[0, :, :, 0]
    row, shift = edge[0, ..., 0], (0, -0.5)
    here = scipy.ndimage.affine_transform(row, np.eye(2), shift, order=1, mode="grid-constant")
    other = scipy.ndimage.affine_transform(row, np.eye(2), (0, 0.5), order=1, mode="constant")
    np.testing.assert_allclose(moved, here, atol=1e-6)
    back = affine(jnp.asarray(edge), jnp.eye(2)[None], jnp.array([[0.0, -0.5]]))[0, :, :, 0]
    assert np.abs(back - other).max() > 0.4


def test_nothing_leaves_the_image_and_it_goes_everywhere():
    wide = jnp.pad(jnp.asarray(IMAGES), ((0, 0), (9, 9), (9, 9), (0, 0)))
    whole = np.array(affine(wide, jnp.asarray(MATRIX), jnp.asarray(OFFSET)))
    np.testing.assert_allclose(whole[:, 9:-9, 9:-9], FOUND, atol=1e-5)
    whole[:, 9:-9, 9:-9] = 0
    assert np.abs(whole).max() < 1e-6
    keys = jax.random.split(jax.random.key(2), 30)
    drawn = jax.jit(jax.vmap(lambda key: AffnistLike()(key, jnp.asarray(IMAGES))))(keys)
    lit = np.asarray(drawn[..., 0]).max((0, 1)) > 0
    assert all(side.any() for side in (lit[:2], lit[-2:], lit[:, :2], lit[:, -2:]))
    full = np.ones((3, 9, 9, 1), np.float32)  # no room: in the middle
    offset = AffnistLike().maps(jax.random.key(0), jnp.asarray(full))[1]
    matrix = AffnistLike().maps(jax.random.key(0), jnp.asarray(full))[0]
    extent = 4 * np.abs(np.asarray(matrix)).sum(-1)
    assert np.asarray(offset)[extent > 5] == pytest.approx(0, abs=1e-5)


def test_maps_are_in_the_published_ranges():
    many = jnp.asarray(np.repeat(IMAGES[:1], 4000, axis=0))
    matrix = np.asarray(AffnistLike().maps(jax.random.key(3), many)[0], float)
    # [[1, 0], [s, 1]] turned by t and stretched by (y, x): the first row is (y cos t, -x sin t).
    shear = []
    for (a, b), (c, d) in matrix[:400]:
        stretch = _solved(a, b, c, d)
        assert all(0.799 <= size <= 1.201 for size in stretch[:2])
        assert abs(np.degrees(stretch[2])) <= 20.01
        shear.append(stretch[3])
    assert 0.19 < np.max(shear) <= 0.201
    assert -0.201 <= np.min(shear) < -0.19
    area = np.linalg.det(matrix)
    assert 0.64 - 1e-6 <= area.min() < 0.68
    assert 1.38 < area.max() <= 1.44 + 1e-6


def _solved(a, b, c, d):
    """Find stretches, angle and shear of a matrix, by the angle at which they agree."""
    # c - s a = y sin t and d - s b = x cos t, with a = y cos t and b = -x sin t.
    angles = np.linspace(-0.36, 0.36, 20001)
    y, tangent = a / np.cos(angles), np.tan(angles)
    s = c / a - tangent
    x = (d - s * b) / np.cos(angles)
    best = np.argmin(np.abs(b + x * np.sin(angles)))
    return y[best], x[best], angles[best], s[best]


@pytest.mark.parametrize(
    ("change", "canvas"),
    [(AffnistLike(), 12), (Shift(pixels=2), 12), (Cutout(size=3), None), (Noise(std=0.2), None)],
    ids=["affnist_like", "translated", "occluded", "noisy"],
)
def test_any_set_can_be_changed_so_by_one_word(change, canvas):
    made = Perturbed(canvas=canvas, changes=(change,), splits=("test",)).load()
    plain = Perturbed(canvas=canvas).load()
    assert (made.test.images != plain.test.images).any()
    np.testing.assert_array_equal(made.train.images, plain.train.images)
    assert made.image_shape == (canvas or 8, canvas or 8, 1)
    assert Digits().load().test.labels.tolist() == made.test.labels.tolist()
