import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from capsjax.checks import UserError
from capsjax.data import random_shift, shift, to_float


def oracle(images, offsets):
    """Move every pixel by itself; what leaves the image is lost."""
    moved = np.zeros_like(images)
    b, h, w, _ = images.shape
    for k in range(b):
        dy, dx = offsets[k]
        for y in range(h):
            for x in range(w):
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    moved[k, y + dy, x + dx] = images[k, y, x]
    return moved


def make(b=6, h=5, w=4, c=2, dtype=np.float32, seed=0):
    return np.random.RandomState(seed).randint(1, 255, (b, h, w, c)).astype(dtype)


OFFSETS = np.array([[0, 0], [1, 0], [0, -1], [-2, 2], [4, -3], [-9, 100]])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int32])
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_shift_equals_the_oracle(dtype, transform):
    images = make(dtype=dtype)
    found = transform(shift)(images, OFFSETS)
    assert found.dtype == images.dtype
    np.testing.assert_array_equal(found, oracle(images, OFFSETS))


def test_positive_moves_down_and_right():
    image = np.zeros((1, 3, 3, 1), np.float32)
    image[0, 0, 0] = 1
    down = shift(image, np.array([[1, 0]]))
    right = shift(image, np.array([[0, 2]]))
    assert down[0, 1, 0, 0] == 1
    assert right[0, 0, 2, 0] == 1
    assert down.sum() == right.sum() == 1


def test_shift_under_vmap():
    images = np.stack([make(seed=1), make(seed=2)])
    offsets = np.stack([OFFSETS, -OFFSETS])
    expected = [oracle(i, o) for i, o in zip(images, offsets, strict=True)]
    np.testing.assert_array_equal(jax.vmap(shift)(images, offsets), np.stack(expected))


def test_shift_stays_on_each_device():
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    images = make(b=3 * len(devices))
    offsets = np.random.RandomState(1).randint(-2, 3, (len(images), 2))
    put = jax.device_put((images, offsets), sharding)
    compiled = jax.jit(shift).lower(*put).compile()
    found = compiled(*put)
    np.testing.assert_array_equal(found, oracle(images, offsets))
    assert found.sharding.is_equivalent_to(sharding, 4)
    assert "all-gather" not in compiled.as_text()
    assert "all-reduce" not in compiled.as_text()


@pytest.mark.parametrize("transform", [False, True], ids=["eager", "jit"])
def test_all_shifts_are_equally_likely(transform):
    n, m = 10_000, 2
    images = np.zeros((n, 5, 5, 1), np.float32)
    images[:, 2, 2] = 1
    function = jax.jit(random_shift, static_argnums=2) if transform else random_shift
    found = np.asarray(function(jax.random.key(7), images, m))
    assert (found.sum(axis=(1, 2, 3)) == 1).all()
    counts = found.sum(axis=(0, 3))
    expected = n / 25
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 51.2  # 24 degrees of freedom: exceeded once in a thousand
    assert counts.min() > 0


def test_random_shift_is_per_example_and_depends_on_the_key():
    image = make(b=1)
    images = np.repeat(image, 64, axis=0)
    first, again, other = (
        np.asarray(random_shift(jax.random.key(seed), images, 2)) for seed in (0, 0, 1)
    )
    assert len(np.unique(first.reshape(64, -1), axis=0)) > 15  # of 25
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_shift_by_at_most_m():
    images = np.zeros((200, 7, 7, 1), np.float32)
    images[:, 3, 3] = 1
    found = np.argwhere(random_shift(jax.random.key(0), images, 1))
    assert set(found[:, 1]) == set(found[:, 2]) == {2, 3, 4}


def test_no_shift_returns_the_images():
    images = jnp.asarray(make())
    assert random_shift(jax.random.key(0), images, 0) is images


@pytest.mark.parametrize("max_shift", [-1, True, 1.5, "2"])
def test_max_shift_is_checked(max_shift):
    # jaxtyping's import hook, where a test run has it on, may refuse the type before we do.
    with pytest.raises((UserError, TypeError)) as caught:
        random_shift(jax.random.key(0), make(), max_shift)
    assert "max_shift" in str(caught.value)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_to_float(transform):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    found = transform(to_float)(images, 1 / 255)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, images / 255, rtol=1e-6)
    assert found.max() == 1


def test_to_float_of_floats_with_scale_one_is_the_identity():
    images = np.random.RandomState(0).rand(2, 3, 4, 5, 1).astype(np.float32)
    np.testing.assert_array_equal(to_float(images, 1.0), images)
    assert to_float(images.astype(np.float16), 1.0).dtype == jnp.float32
