"""Every routing of one example, one child and one parent: there, of activation 0, and masked away."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import FullGradient
from capsjax.votes import mask, predict
from tests.routing.table import SIZES, TABLE, D, E
from tests.routing.test_conformance import Given, route

ONE = SIZES | {"i": 1, "j": 1}
U, W = (jnp.float32(np.random.RandomState(2).normal(size=s)) for s in ((1, 1, D), (1, 1, D, E)))


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(routing, given, child, parent):
    def total(given):
        masked = mask(
            predict(given.u, given.W), children=child[None, None], parents=parent[None, None]
        )
        result = route(routing, masked, given)
        return jnp.sum(result.pose) + jnp.sum(result.activation), result

    gradient, result = jax.grad(total, has_aux=True)(given)
    return result, gradient


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_one_example_one_child_and_one_parent(row):
    routing = row.with_mode(FullGradient() if FullGradient() in row.modes else None)
    rng = np.random.RandomState(3)
    params = {
        name: jnp.float32(rng.normal(size=[ONE[axis] for axis in axes]))
        for name, axes in row.params.items()
    }
    for activation in (1.0, 0.0):
        given = Given(U, W, jnp.full((1, 1), activation), params)
        for child, parent in ((True, True), (False, True), (True, False)):
            result, gradient = value_and_gradient(
                routing, given, jnp.array(child), jnp.array(parent)
            )
            for leaf in jax.tree.leaves((result, gradient)):
                assert np.all(np.isfinite(leaf))
            # A child without any other parent goes to the one that there is, and else nowhere.
            coupled = np.asarray(result.coupling)
            assert np.all(coupled > 0) if child and parent else not np.any(coupled)
            assert row.leaky or np.all(coupled == float(child and parent))
            if not parent:
                assert not np.any(result.pose)
                assert not np.any(result.activation)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_thousand_parents(row):
    """Each child divides itself among all of them; with a gradient, in float16 as in float32."""
    routing = row.with_mode(FullGradient() if FullGradient() in row.modes else None)
    rng, sizes = np.random.RandomState(4), SIZES | {"j": 1000}

    def drawn(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float16)

    params = {name: drawn(*[sizes[axis] for axis in axes]) for name, axes in row.params.items()}
    if "activation_bias" in params:  # which is multiplied by 5000
        params["activation_bias"] /= 1000
    activation = jnp.full((1, sizes["i"]), 0.5, jnp.float16)
    given = Given(drawn(1, sizes["i"], D), drawn(sizes["i"], 1000, D, E), activation, params)

    @jax.jit
    def run(given):
        def total(given):
            result = route(routing, predict(given.u, given.W), given)
            return jnp.mean(result.pose) + jnp.mean(result.activation), result

        return jax.grad(total, has_aux=True)(given)

    gradient, result = run(given)
    for leaf in jax.tree.leaves((result, gradient)):
        assert leaf.dtype == jnp.float16
        assert np.all(np.isfinite(leaf))
    whole = np.sum(np.asarray(result.coupling, np.float32), axis=-1)
    assert np.all(np.asarray(result.activation) <= 1) or row.routing.activations == "none"
    assert np.all(whole < 1.01)
    assert row.leaky or np.all(whole > 0.99)
