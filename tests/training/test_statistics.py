"""Running statistics of batch normalisation: moved by steps, used at evaluation, kept beside parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.convolution import conv2d
from capsjax.layers import BatchNorm, ConvConfig, DenseConfig, NetworkConfig, PrimaryConfig
from capsjax.losses import LossConfig
from capsjax.runs.plan import network_functions, plan
from capsjax.training import checkpoints
from capsjax.training.parallel import JitStrategy, PmapStrategy
from capsjax.training.state import TrainState, separate
from capsjax.training.step import make_train_step
from capsjax.types import Batch

SHAPE, CLASSES = (5, 5, 1), 3
MODEL = NetworkConfig(
    layers={
        "stem": ConvConfig(channels=4, kernel=3, normalisation=BatchNorm(momentum=0.75)),
        "primary": PrimaryConfig(types=2, dim=3, kernel=2, stride=1),
        "classes": DenseConfig(dim=4),
    }
)
MADE = network_functions(MODEL, LossConfig(), SHAPE, CLASSES)
SGD = optax.sgd(0.1)


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.random((size, *SHAPE)), jnp.float32)
    return Batch(images, jnp.asarray(rng.integers(0, CLASSES, size)), jnp.ones(size))


def initial():
    return TrainState.create(MADE.initial(0), SGD, MADE.statistics(0))


@pytest.fixture(scope="module")
def stepped():
    """The state before a step, and after it on one device."""
    step = jax.jit(make_train_step(MADE.training(None), SGD))
    return initial(), step(initial(), batch())[0]


def test_a_step_moves_them_by_the_batch(stepped):
    before, after = stepped
    features = conv2d(batch().images, before.params["stem.kernel"])
    mean, variance = features.mean((0, 1, 2)), features.var((0, 1, 2))
    np.testing.assert_allclose(after.statistics["stem.norm.mean"], 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(after.statistics["stem.norm.var"], 0.75 + 0.25 * variance, rtol=1e-5)
    assert set(after.variables) == {*after.params, "stem.norm.mean", "stem.norm.var"}
    assert not set(after.params) & set(after.statistics)


def test_training_normalises_by_the_batch_and_evaluation_by_them(stepped):
    state, _ = stepped
    other = {name: value + 3 for name, value in state.statistics.items()}
    train, score = jax.jit(MADE.loss), jax.jit(lambda *given: MADE.score(*given).values)
    np.testing.assert_array_equal(
        train(state.params | other, batch())["loss"], train(state.variables, batch())["loss"]
    )
    found = score(state.variables, batch())["loss"]
    assert not np.allclose(score(state.params | other, batch())["loss"], found)
    alone = score(state.variables, jax.tree.map(lambda field: field[2:3], batch()))["loss"]
    np.testing.assert_allclose(alone, found[2:3], rtol=1e-5)


@pytest.mark.parametrize("strategy", [JitStrategy, PmapStrategy])
def test_four_devices_normalise_by_the_whole_batch(strategy, stepped, four_devices):
    made = strategy()
    steps = made.train_steps(MADE.training(made.axis), SGD, lambda whole, step: whole)
    state, _ = steps(made.replicate(initial()), made.replicate(batch()), 0, 1)
    found = made.unreplicate(state)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(stepped[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_batch_that_leaves_a_device_less_is_refused(four_devices):
    config = cj.load_config(
        "smoke", {"training.batch_size": 30, "model.stem.normalisation": "batch"}
    )
    data = config.data.load()
    with pytest.raises(UserError, match="got 30 on 4 devices, expected a multiple of 4"):
        plan(config, data)
    plan(cj.load_config("smoke", {"training.batch_size": 30}), data)


def test_they_are_saved_and_restored_to_the_bit(stepped, tmp_path):
    before, after = stepped
    checkpoints.save(tmp_path, after)
    found = checkpoints.restore(tmp_path, before)
    assert jax.tree.structure(found) == jax.tree.structure(after)
    jax.tree.map(np.testing.assert_array_equal, found, after)
    none = before._replace(statistics={})
    with pytest.raises(UserError, match=r"statistics/stem.norm.mean, expected nothing"):
        checkpoints.restore(tmp_path, none)


def test_a_checkpoint_without_any_says_nothing_of_them(stepped, tmp_path):
    path = checkpoints.save(tmp_path, stepped[1]._replace(statistics={}))
    files = [file for file in path.rglob("*") if file.is_file()]
    assert files
    assert not any(b"statistics" in file.read_bytes() for file in files)
    assert checkpoints.restore(tmp_path, stepped[0]._replace(statistics={})).statistics == {}


def test_those_that_are_not_finite_are_not_restored(stepped, tmp_path):
    bad = {name: value * jnp.nan for name, value in stepped[1].statistics.items()}
    checkpoints.save(tmp_path, stepped[1]._replace(statistics=bad))
    with pytest.raises(UserError, match=r"not finite \(stem.norm.mean, stem.norm.var\)"):
        checkpoints.restore(tmp_path, stepped[0])


def test_state_of_another_type_is_refused():
    class Noisy(nnx.Module):
        def __init__(self, *, rngs):
            self.linear = nnx.Linear(2, 3, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(self.linear(x))

    with pytest.raises(UserError, match=r"Noisy: got state that is neither .*dropout"):
        separate(Noisy(rngs=nnx.Rngs(0)))
