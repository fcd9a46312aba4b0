"""What is special to variational Bayes routing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import capsjax as cj
from tests.oracles import variational as oracle

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 6, 3, 2, 4
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
A = RNG.uniform(0.1, 1, size=(B, N_I))
BETAS = {"beta_u": RNG.normal(size=N_J), "beta_a": RNG.normal(size=N_J)}
ROUTING = cj.VariationalRouting(num_iters=3)


@functools.partial(jax.jit, static_argnums=0)
def routed(routing, u, W, a, params):
    return routing(cj.predict(u, W), activation=a, params=params)


def route(routing=ROUTING, u=U, W=W, a=A, params=BETAS):
    return routed(routing, *jax.tree.map(jnp.asarray, (u, W, a, params)))


def test_couplings_add_up_to_one(x64):
    """The released code leaves pi out of the numerator, not of the sum: its couplings add up to some j."""
    dense = oracle.oracle.votes(U, W)
    # After two E-steps: in the first all parents have the same weight.
    _, R, _, _ = oracle.steps(dense, A, BETAS, np.zeros((B, N_I, N_J)), 1)[-1]
    ends, _, _ = oracle.read(dense, R, A, BETAS)
    logits = np.stack([oracle.respond(*pair) for pair in zip(dense, ends, strict=True)])
    weights = np.array([[one["log_weight"] for one in found] for found in ends])[:, None]
    released = np.exp(logits - weights) / np.exp(logits).sum(-1, keepdims=True)
    assert np.all(released.sum(-1) > 1.5)
    found = route().coupling
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-12)
    np.testing.assert_allclose(found, released * np.exp(weights), rtol=1e-10)


def test_the_prior_counts_as_one_child_at_zero(x64):
    """With one parent: m = sum a V / (1 + sum a)."""
    found = route(W=W[:, :1], params={name: beta[:1] for name, beta in BETAS.items()})
    V = np.einsum("bid,ide->bie", U, W[:, 0])
    expected = (A[..., None] * V).sum(1) / (1 + A.sum(1))[:, None]
    np.testing.assert_allclose(found.pose[:, 0], expected, rtol=1e-10)


def test_votes_are_measured_in_absolute_units():
    """EM, without any prior, does not see their scale (`test_em.py`)."""
    once, far = route(), route(u=10 * U)
    assert not np.allclose(once.coupling, far.coupling, atol=0.05)


def test_only_the_difference_of_the_betas_counts():
    moved = {name: beta + 1 for name, beta in BETAS.items()}
    np.testing.assert_allclose(route(params=moved).activation, route().activation, rtol=1e-5)


def test_children_that_are_all_absent_leave_the_prior():
    """Means at 0, scales of 1: a vote is near where it is short, whatever the others are."""
    found = route(a=0 * A)
    assert not np.any(found.pose)
    V = np.einsum("bid,ijde->bije", U, W)
    near = np.exp(-(E + 1) / 2 * (V**2).sum(-1))
    np.testing.assert_allclose(found.coupling, near / near.sum(-1, keepdims=True), rtol=1e-3)
    alike = route(a=0 * A, params={name: np.ones(N_J) for name in BETAS}).activation
    np.testing.assert_allclose(alike, alike[0, 0], rtol=1e-5)


def test_holding_the_coupling_constant_is_another_gradient(x64):
    """Of the activations not a shorter one: a precision depends on R in the first order."""
    bar = RNG.normal(size=(B, N_J))

    def gradient(mode):
        routing = cj.VariationalRouting(num_iters=3, gradient=mode)
        return jax.grad(lambda W: jnp.sum(bar * route(routing, W=W).activation))(
            jnp.array(W)
        ).ravel()

    stop, full = gradient(cj.StopGradient()), gradient(cj.FullGradient())
    cosine = stop @ full / np.linalg.norm(stop) / np.linalg.norm(full)
    assert cosine < 0.8


@pytest.mark.parametrize("x", [0.5, 1.0, 3.7, 60.0])
def test_the_oracle_s_digamma_is_scipy_s(x):
    assert oracle.digamma(x) == pytest.approx(scipy.special.digamma(x), rel=1e-14, abs=1e-15)
