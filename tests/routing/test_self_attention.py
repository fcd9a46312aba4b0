"""What is special to self-attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.numerics import exponential_squash

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 5, 3, 2, 4
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
PRIOR = RNG.normal(size=(N_I, N_J))


ROUTING = cj.SelfAttentionRouting()


def route(routing=ROUTING, u=U, prior=PRIOR):
    u, W_, prior = map(jnp.asarray, (u, W, prior))
    return routing(cj.predict(u, W_), params=prior)


def test_the_softmax_is_over_the_parents():
    """A port has it over an axis of size 1, so that every coupling is 1 and the attention does nothing."""
    coupling = route().coupling
    np.testing.assert_allclose(coupling.sum(-1), 1, rtol=1e-5)
    assert np.std(coupling) > 0.05


def test_the_prior_is_added_after_the_softmax_and_trained_in_every_mode(x64):
    """It is no part of the coupling, so that holding the coupling constant trains it all the same."""
    without = route(prior=0 * PRIOR)
    np.testing.assert_array_equal(without.coupling, route().coupling)
    s = np.einsum("bij,bid,ijde->bje", np.asarray(without.coupling) + PRIOR, U, W)
    np.testing.assert_allclose(route().pose, exponential_squash(jnp.asarray(s)), rtol=1e-10)

    def gradient(mode):
        routing = cj.SelfAttentionRouting(gradient=mode)
        return jax.grad(lambda prior: jnp.sum(route(routing, prior=prior).pose))(jnp.array(PRIOR))

    stop, full = gradient(cj.StopGradient()), gradient(cj.FullGradient())
    assert np.all(np.abs(stop) > 1e-6)
    np.testing.assert_allclose(stop, full, rtol=1e-12)


def test_it_is_dynamic_routing_s_first_update_of_another_scale(x64):
    """Without the first squash, and with sums in the place of means."""
    votes = cj.predict(jnp.asarray(U), jnp.asarray(W))
    whole = votes.combine(jnp.ones((B, N_I, N_J)))
    np.testing.assert_allclose(route().logits, votes.agreement(whole) / 2, rtol=1e-12)


def test_a_third_iteration_is_refused(as_installed):
    with pytest.raises(
        UserError, match=r"num_iters: got 3, expected 1 or 2: the attention depends"
    ):
        cj.SelfAttentionRouting(num_iters=3)
    assert dataclasses.replace(cj.SelfAttentionRouting(), num_iters=1).num_iters == 1


class TestExponentialSquash:
    @pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 30.0, 1e30])
    def test_value_and_jacobian_are_right(self, scale):
        s = np.array([3.0, 0.0, -4.0]) * scale
        n, unit = np.linalg.norm(s), s / np.linalg.norm(s)
        across, along = -np.expm1(-n) / n, np.exp(-n)
        radial = np.outer(unit, unit)
        single = jnp.asarray(s, jnp.float32)
        expected = -np.expm1(-n) * unit
        np.testing.assert_allclose(exponential_squash(single), expected, rtol=1e-6)
        jacobian = jax.jacrev(exponential_squash)(single)
        wanted = across * (np.eye(3) - radial) + along * radial
        np.testing.assert_allclose(jacobian, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())

    def test_the_jacobian_at_zero_is_the_identity(self):
        """The released code's norm has a NaN gradient there."""
        np.testing.assert_array_equal(jax.jacrev(exponential_squash)(jnp.zeros(3)), np.eye(3))
        np.testing.assert_array_equal(jax.jacfwd(exponential_squash)(jnp.zeros(3)), np.eye(3))
