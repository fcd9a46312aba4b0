"""Votes whose children have different numbers of parents, as in a convolution, under every mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import ClosedForm, FullGradient, StopGradient, TruncatedGradient
from capsjax.routing import DynamicRouting, UniformRouting
from tests.oracles.routing import finite_differences
from tests.routing.kinds import RaggedVotes

RNG = np.random.RandomState(7)
B, N_I, N_J, E, R = 2, 3, 4, 3, 4
VOTES, BIAS = RNG.normal(size=(B, N_I, N_J, E)), RNG.normal(size=(N_J, E)) / 2
PROBE = RNG.normal(size=(B, N_J, E))
# The children have 1, 2 and 4 parents.
ALLOWED = np.array([[0, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]], bool)


def ragged(votes):
    return RaggedVotes(votes, tuple(map(tuple, ALLOWED.tolist())))


def total(routing, votes, bias):
    return jnp.sum(routing(ragged(votes), params=bias).pose * PROBE)


def gradient(routing):
    given = jnp.asarray(VOTES), jnp.asarray(BIAS)
    return jax.jit(jax.grad(lambda *given: total(routing, *given), argnums=(0, 1)))(*given)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("mode", [ClosedForm(), FullGradient(), FullGradient(remat=True)])
def test_the_full_gradient_is_that_of_finite_differences(mode, leaky, x64):
    routing = DynamicRouting(num_iters=R, gradient=mode, leaky=leaky)
    value = jax.jit(lambda *given: total(routing, *given))
    expected = finite_differences(lambda *given: float(value(*given)), (VOTES, BIAS))
    for one, other in zip(gradient(routing), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    # What is not there has no gradient at all.
    assert not np.any(np.asarray(gradient(routing)[0])[:, ~ALLOWED])


def test_no_mode_changes_the_value(x64):
    modes = (StopGradient(), TruncatedGradient(last=1), FullGradient(), ClosedForm())
    found = [total(DynamicRouting(num_iters=R, gradient=mode), VOTES, BIAS) for mode in modes]
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    uniform = UniformRouting()(ragged(jnp.asarray(VOTES)))
    np.testing.assert_allclose(uniform.coupling.sum(-1), 1, rtol=1e-12)
    shares = np.broadcast_to(ALLOWED / ALLOWED.sum(-1, keepdims=True), uniform.coupling.shape)
    np.testing.assert_allclose(uniform.coupling, shares, rtol=1e-12)
