"""Convolutions that halve the grid: as many as an image asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.layers import Features, HalvingConfig, shapes
from capsjax.layers.model import around

MODEL = cj.load_config("images").model


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((8, 8), (8, 8)),
        ((28, 28), (7, 7)),
        ((64, 48), (8, 6)),
        ((1, 9), (1, 5)),
        ((500, 3), (8, 1)),
    ],
)
def test_the_grid_is_halved_until_it_is_small_enough(size, grid):
    layer, told = HalvingConfig(channels=4), around(MODEL, (*size, 3), 2)
    given = Features(size, 3)
    assert layer.shape(given, told) == Features(grid, 4)
    found = jax.eval_shape(
        lambda x: layer.build(given, told, rngs=nnx.Rngs(0))(x),
        jax.ShapeDtypeStruct((2, *size, 3), jnp.float32),
    )
    assert found.shape == (2, *grid, 4)


def test_it_is_the_convolutions_one_after_another():
    layer = HalvingConfig(channels=2, grid=2)
    module = layer.build(Features((4, 4), 1), around(MODEL, (4, 4, 1), 2), rngs=nnx.Rngs(0))
    (conv,) = list(module.layers)
    x = np.random.RandomState(0).rand(1, 4, 4, 1).astype(np.float32)
    kernel, padded = np.asarray(conv.kernel[...]), np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    expected = np.zeros((2, 2, 2))
    for y in (0, 1):
        for z in (0, 1):
            window = padded[0, 2 * y : 2 * y + 3, 2 * z : 2 * z + 3]
            expected[y, z] = np.einsum("klc,klcf->f", window, kernel)
    np.testing.assert_allclose(module(jnp.asarray(x))[0], np.maximum(expected, 0), atol=1e-6)


@pytest.mark.parametrize("size", [(8, 8, 1), (28, 28, 1), (64, 48, 3), (64, 64, 4), (3, 50, 1)])
def test_the_starting_configuration_takes_images_of_any_size(size):
    steps = shapes(MODEL, size, 7)
    assert max(steps[0].shape.grid) <= 8
    assert steps[1].shape.capsules <= 8 * 64
    assert steps[-1].shape.capsules == 7


def test_the_starting_configuration_counts_in_fractions_of_a_run():
    config = cj.load_config("images")
    assert config.optimiser.schedule.warmup == 0
    assert config.training.steps is None
    for examples in (160, 16_000):  # of 200 and of 20,000 pictures
        total = config.training.total_steps(examples)
        rates = config.optimiser.schedule.make(total)
        warm = round(config.optimiser.schedule.warmup_fraction * total)
        assert rates(warm) == pytest.approx(config.optimiser.schedule.rate)
        assert float(rates(total - 1)) < 0.01 * config.optimiser.schedule.rate
