"""Runs under `jax_enable_x64` are those without: float32, and each loads the other's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.layers import CapsNet

CONFIG = cj.load_config(
    "smoke", {"training.epochs": None, "training.steps": 3, "training.log_every": 3}
)
X64 = [False, True]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = {}
    for wide in X64:
        with jax.enable_x64(wide):
            made[wide] = cj.train(CONFIG, out=tmp_path_factory.mktemp("x64") / "run")
    return made


def test_training_computes_in_float32_under_either(runs):
    for name, value in runs[False].params.items():
        wide = runs[True].params[name]
        assert value.dtype == wide.dtype == jnp.float32
        np.testing.assert_allclose(wide, value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("trained", X64)
@pytest.mark.parametrize("loading", X64)
def test_each_loads_the_other_s(runs, trained, loading):
    images = CONFIG.data.load(None).test.images[:5]
    with jax.enable_x64(loading):
        loaded = cj.load(runs[trained].folder)
        for name, value in runs[trained].params.items():
            assert np.asarray(loaded.params[name]).tobytes() == np.asarray(value).tobytes()
        found = loaded.predict(images)
    with jax.enable_x64(trained):
        np.testing.assert_array_equal(found, runs[trained].predict(images))


def test_a_network_takes_images_of_any_float(x64):
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(CONFIG.model, precision=precision)
        network = CapsNet((8, 8, 1), 10, config=config, rngs=nnx.Rngs(0))
        assert {x.dtype for x in jax.tree.leaves(nnx.state(network))} == {jnp.dtype(jnp.float32)}
        single = network(jnp.full((2, 8, 8, 1), 0.5, jnp.float32)).lengths
        for dtype in (jnp.float64, jnp.bfloat16):
            lengths = network(jnp.full((2, 8, 8, 1), 0.5, dtype)).lengths
            np.testing.assert_allclose(lengths, single, rtol=0.03)
