"""What is special to self-routing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 5, 3, 2, 4
U = jnp.asarray(RNG.normal(size=(B, N_I, D)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(N_I, N_J, D, E)), jnp.float32)
A = jnp.asarray(RNG.uniform(0.1, 1, size=(B, N_I)), jnp.float32)
GATE = {
    "route": jnp.asarray(RNG.normal(size=(N_I, N_J, D)), jnp.float32),
    "offset": jnp.asarray(RNG.normal(size=(N_I, N_J)), jnp.float32),
}


def route(gate=GATE, activation=A):
    return cj.SelfRouting()(cj.predict(U, W), poses=U, activation=activation, params=gate)


def test_activations_add_up_to_one():
    np.testing.assert_allclose(route().activation.sum(-1), 1, rtol=1e-6)


def test_a_gate_of_zeros_is_uniform_coupling():
    found = route(jax.tree.map(jnp.zeros_like, GATE))
    np.testing.assert_allclose(found.coupling, 1 / N_J, rtol=1e-6)
    assert not np.allclose(route().coupling, 1 / N_J, atol=0.01)


def test_no_child_at_all_is_no_division_by_zero():
    """The public implementation divides by the sum of the activations as it stands."""

    def total(activation):
        found = route(activation=activation)
        return jnp.sum(found.pose) + jnp.sum(found.activation)

    value, gradient = jax.value_and_grad(total)(jnp.zeros((B, N_I)))
    assert value == 0
    assert np.all(np.isfinite(gradient))


def test_both_children_s_poses_and_activations_are_asked_for(as_installed):
    votes = cj.predict(U, W)
    with pytest.raises(
        UserError, match=r"SelfRouting: got no child poses, expected poses= an array \[2"
    ):
        cj.SelfRouting()(votes, activation=A, params=GATE)
    with pytest.raises(UserError, match=r"got no child activations"):
        cj.SelfRouting()(votes, poses=U, params=GATE)
    with pytest.raises(UserError, match=r"got float32\[2, 5\] as child poses, .*\[2, 5, d\]"):
        cj.SelfRouting()(votes, poses=A, activation=A, params=GATE)
    with pytest.raises(UserError, match=r"DynamicRouting: got child poses, expected None"):
        cj.DynamicRouting()(votes, poses=U)
