"""What is special to inverted dot-product attention."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import capsjax as cj
from capsjax.numerics import layer_norm
from tests.oracles import inverted_attention as oracle

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 5, 3, 2, 4
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
SCALE = {"gain": RNG.normal(size=E), "offset": RNG.normal(size=E)}
ROUTING = cj.InvertedAttentionRouting(num_iters=3)


def route(routing=ROUTING, u=U, scale=SCALE):
    u, W_, scale = jax.tree.map(jnp.asarray, (u, W, scale))
    return routing(cj.predict(u, W_), params=scale)


def test_parents_compete_for_a_child_and_not_children_for_a_parent():
    """Attention as everywhere else is normalised over what is attended to; this one over the queries."""
    coupling = route().coupling
    np.testing.assert_allclose(coupling.sum(-1), 1, rtol=1e-5)
    assert not np.allclose(coupling.sum(-2), 1, atol=0.05)


def test_logits_are_replaced_and_not_added_up(x64):
    """Ports on a loop for dynamic routing add them."""
    before = oracle.routing(U, W, None, SCALE, num_iters=2)
    agreed = np.einsum("bid,ijde,bje->bij", U, W, before.pose) / np.sqrt(E)
    np.testing.assert_allclose(route().logits, agreed, rtol=1e-10)


def test_the_coupling_s_sum_over_the_children_does_not_matter(x64):
    """Why the released code's second division is left out: the normalisation undoes it, but for its 1e-5."""
    coupling = np.asarray(route().coupling)
    s = np.einsum("bij,bid,ijde->bje", coupling, U, W)
    mean = s / coupling.sum(-2)[..., None]
    gain, offset = map(jnp.asarray, SCALE.values())
    one, other = (layer_norm(jnp.asarray(x), gain, offset, epsilon=1e-12) for x in (s, mean))
    np.testing.assert_allclose(one, other, rtol=1e-9)


def test_gain_and_offset_are_trained_in_every_mode(x64):
    """They are in the readout, which is always live; what they do inside the coupling is the mode's."""

    def gradient(mode):
        routing = dataclasses.replace(ROUTING, gradient=mode)
        return jax.grad(lambda scale: jnp.sum(route(routing, scale=scale).pose[..., 0]))(SCALE)

    stop, full = gradient(cj.StopGradient()), gradient(cj.FullGradient())
    np.testing.assert_allclose(stop["offset"], [B * N_J, 0, 0, 0], atol=1e-12)
    assert np.any(np.abs(full["offset"][1:]) > 1e-3)


def test_a_layer_makes_gain_and_offset_of_one_and_zero():
    sizes = cj.routing.Sizes(N_I, N_J, D, E)
    known = ROUTING.parameters(sizes)
    made = {name: one.init(jax.random.key(0), one.shape) for name, one in known.items()}
    np.testing.assert_array_equal(made["gain"], np.ones(E))
    np.testing.assert_array_equal(made["offset"], np.zeros(E))


def test_components_that_are_equal_have_a_finite_gradient():
    """Of variance 0: at any scale rounding alone is left of them."""
    one, zero = jnp.ones(E), jnp.zeros(E)
    for scale in (0.0, 1e-20, 0.3, 1e10, 1e30):
        value, pull = jax.vjp(lambda x: layer_norm(x, one, zero), jnp.full(E, scale))
        assert np.all(np.abs(value) < 1)
        assert np.all(np.isfinite(pull(jnp.arange(E, dtype=jnp.float32))[0]))
