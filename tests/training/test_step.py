"""Steps are pure, weigh examples, and work through Optax as the formula says."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from capsjax.training.state import TrainState, separate
from capsjax.training.step import (
    make_eval_step,
    make_train_step,
    make_train_steps,
    means,
    weighted_sums,
)
from capsjax.types import Batch


def loss(params, batch):
    """Squared error of a linear model of the image's sum, and how many labels are even."""
    guess = params["w"] * batch.images.sum((1, 2, 3))
    return {"loss": (guess - batch.labels) ** 2, "even": (batch.labels % 2 == 0).astype(float)}


def examples(n=5, weights=None):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((n, 2, 2, 1)), jnp.float32)
    return Batch(images, jnp.arange(n), jnp.ones(n) if weights is None else jnp.asarray(weights))


def start(optimiser):
    return TrainState.create({"w": jnp.asarray(0.5)}, optimiser)


def test_a_step_is_the_mean_gradient_through_the_optimiser():
    optimiser, batch = optax.sgd(0.1, momentum=0.9), examples()
    step = make_train_step(loss, optimiser)
    x, y = np.asarray(batch.images).sum((1, 2, 3)), np.arange(5)
    state, w, velocity = start(optimiser), 0.5, 0.0
    for number in range(3):
        state, values = step(state, batch)
        assert values["loss"] == pytest.approx(np.mean((w * x - y) ** 2), rel=1e-5)
        assert values["even"] == pytest.approx(3 / 5)
        velocity = 0.9 * velocity + np.mean(2 * (w * x - y) * x)
        w -= 0.1 * velocity
        assert state.params["w"] == pytest.approx(w, rel=1e-5)
        assert state.step == number + 1


def test_a_step_is_pure():
    optimiser = optax.adam(0.1)
    step, state, batch = make_train_step(loss, optimiser), start(optimiser), examples()
    before = jax.tree.map(np.array, (state, batch))
    first, second = step(state, batch), step(state, batch)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(np.testing.assert_array_equal, (state, batch), before)
    jaxpr = jax.make_jaxpr(step)(state, batch)
    assert not jaxpr.effects


def test_several_steps_are_the_steps_and_a_step_is_traced_once():
    optimiser, batch, seen = optax.sgd(0.1, momentum=0.9), examples(), []

    def counted(params, batch):
        seen.append(batch)
        return loss(params, batch)

    steps = jax.jit(make_train_steps(make_train_step(counted, optimiser), lambda batch, _: batch))
    state, values = steps(start(optimiser), batch, 0, 3)
    assert len(seen) == 1
    expected, step = start(optimiser), jax.jit(make_train_step(loss, optimiser))
    for _ in range(3):
        expected, last = step(expected, batch)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), (state, values), (expected, last)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_padding_does_not_leak(bad):
    whole = examples(3)
    padded = Batch(
        jnp.concatenate([whole.images, jnp.full((2, 2, 2, 1), bad)]),
        jnp.arange(5),
        jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]),
    )
    params = {"w": jnp.asarray(0.5)}
    ours, theirs = (make_eval_step(loss)(params, batch) for batch in (padded, whole))
    assert ours.sums["count"] == 3
    assert ours.lengths is None  # none were scored
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_training_on_a_padded_batch_is_training_on_the_batch():
    optimiser, whole = optax.adam(0.1), examples(3)
    padded = Batch(
        jnp.pad(whole.images, [(0, 2), (0, 0), (0, 0), (0, 0)], mode="edge"),
        jnp.array([0, 1, 2, 2, 2]),
        jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]),
    )
    step = make_train_step(loss, optimiser)
    for ours, theirs in zip(
        step(start(optimiser), padded), step(start(optimiser), whole), strict=True
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, theirs)


def test_sums_and_means_go_over_the_examples_that_count():
    values = {"loss": jnp.array([1.0, np.nan, 3.0])}
    sums = weighted_sums(values, jnp.array([1.0, 0.0, 1.0]))
    assert jax.tree.map(float, sums) == {"loss": 4.0, "count": 2.0}
    assert jax.tree.map(float, means(sums)) == {"loss": 2.0}


def test_reduce_sees_sums_never_means():
    seen = []

    def reduce(tree):
        seen.append(tree)
        return jax.tree.map(lambda x: 2 * x, tree)

    optimiser, batch = optax.sgd(0.1), examples()
    doubled = make_train_step(loss, optimiser, reduce=reduce)(start(optimiser), batch)
    plain = make_train_step(loss, optimiser)(start(optimiser), batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), doubled, plain)
    gradient, sums = seen[0]
    assert sums["count"] == 5
    assert set(gradient) == {"w"}


class Twice(nnx.Module):
    """Two layers, one of them in a list."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(2, 3, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(3, 1, rngs=rngs)])

    def __call__(self, x, *, scale=1.0):
        return scale * self.rest[0](jnp.tanh(self.first(x)))


def test_a_module_becomes_named_arrays_and_a_function():
    module = Twice(rngs=nnx.Rngs(0))
    made = separate(module)
    params, apply = made.params, made.apply
    assert {name: value.shape for name, value in params.items()} == {
        "first.bias": (3,),
        "first.kernel": (2, 3),
        "rest.0.bias": (1,),
        "rest.0.kernel": (3, 1),
    }
    assert all(isinstance(value, jax.Array) for value in params.values())
    x = jnp.array([[1.0, -2.0]])
    np.testing.assert_array_equal(apply(params, x, scale=3.0), module(x, scale=3.0))
    changed = params | {"rest.0.bias": params["rest.0.bias"] + 1}
    assert apply(changed, x).item() == pytest.approx(module(x).item() + 1, rel=1e-6)
    assert set(jax.grad(lambda p: apply(p, x).sum())(params)) == set(params)


def test_a_state_is_plain_arrays():
    state = start(optax.adam(0.1))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert (state.step.dtype, int(state.step)) == (jnp.int32, 0)
