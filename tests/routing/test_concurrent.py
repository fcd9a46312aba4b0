"""Inverted attention over several layers at once."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.routing import concurrent_attention
from tests.oracles import inverted_attention as oracle
from tests.oracles.numerics import softmax_over_parents
from tests.oracles.routing import agreement, finite_differences
from tests.oracles.routing import votes as oracle_votes

RNG = np.random.RandomState(3)
SIZES, B, D = (4, 3, 3, 2), 2, 3  # capsules of the four levels of three layers
U = RNG.normal(size=(B, SIZES[0], D))
W = [RNG.normal(size=(i, j, D, D)) for i, j in itertools.pairwise(SIZES)]
SCALE = [{"gain": RNG.normal(size=D), "offset": RNG.normal(size=D)} for _ in W]
FULL = cj.FullGradient()
BAR = RNG.normal(size=(B, SIZES[-1], D))


def routed(u=U, W=W, scale=SCALE, num_iters=3, gradient=FULL, **options):
    u, W, scale = jax.tree.map(jnp.asarray, (u, W, scale))
    forms = [lambda u, w=w: cj.predict(u, w) for w in W]
    return concurrent_attention(u, forms, scale, num_iters=num_iters, gradient=gradient, **options)


def in_loops(u, W, scale, num_iters, couplings=None):
    """Poses and couplings of every layer at every readout; with given couplings, by those."""
    poses, seen = [u], []
    for layer, (w, own) in enumerate(zip(W, scale, strict=True)):
        dense = oracle_votes(poses[layer], w)
        c = np.full(dense.shape[:3], 1 / dense.shape[2])
        seen.append([c])
        poses.append(oracle.readout(dense, c, own))
    for t in range(1, num_iters):
        new = [u]
        for layer, (w, own) in enumerate(zip(W, scale, strict=True)):
            dense = oracle_votes(poses[layer], w)
            logits = agreement(dense, poses[layer + 1]) / np.sqrt(D)
            c = np.stack([softmax_over_parents(one) for one in logits])
            c = c if couplings is None else couplings[layer][t]
            seen[layer].append(c)
            new.append(oracle.readout(dense, c, own))
        poses = new
    return poses[1:], seen


def test_the_oracle_agrees(x64):
    for num_iters in (1, 3):
        poses, seen = in_loops(U, W, SCALE, num_iters)
        for layer, pose, c in zip(routed(num_iters=num_iters), poses, seen, strict=True):
            np.testing.assert_allclose(layer.pose, pose, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(layer.coupling, c[-1], rtol=1e-10, atol=1e-12)


def test_one_layer_is_inverted_attention(x64):
    for mode in (cj.StopGradient(), cj.FullGradient()):

        def alone(w, mode=mode):
            return routed(W=[w], scale=SCALE[:1], gradient=mode)[0].pose

        def sequential(w, mode=mode):
            routing = cj.InvertedAttentionRouting(num_iters=3, gradient=mode)
            return routing(cj.predict(jnp.asarray(U), w), params=SCALE[0]).pose

        (one, pull), (other, wanted) = (jax.vjp(f, jnp.asarray(W[0])) for f in (alone, sequential))
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
        bar = jnp.asarray(RNG.normal(size=one.shape))
        np.testing.assert_allclose(pull(bar)[0], wanted(bar)[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", [cj.StopGradient(), cj.FullGradient()], ids=lambda m: m.kind)
def test_it_is_the_gradient_of_the_function_whose_couplings_are_frozen(mode, x64):
    """Held constant where they are used: the lower layers are trained, which stopping the state undoes."""
    frozen = in_loops(U, W, SCALE, 3)[1] if isinstance(mode, cj.StopGradient) else None

    def total(*W):
        return np.sum(BAR * in_loops(U, W, SCALE, 3, frozen)[0][-1])

    found = jax.jit(jax.grad(lambda W: jnp.sum(BAR * routed(W=W, gradient=mode)[-1].pose)))(W)
    for bar, expected in zip(found, finite_differences(total, tuple(W)), strict=True):
        np.testing.assert_allclose(bar, expected, rtol=1e-6, atol=1e-7)
        assert np.any(np.abs(bar) > 1e-3)


def test_masked_parents_are_masked_children_of_the_next_layer():
    there = jnp.array([[True, False, True]] * B)
    forms = [
        lambda u: cj.mask(cj.predict(u, jnp.float32(W[0])), parents=there),
        lambda u: cj.mask(cj.predict(u, jnp.float32(W[1])), children=there),
    ]
    scale = jax.tree.map(jnp.float32, SCALE[:2])
    found = concurrent_attention(jnp.float32(U), forms, scale)
    assert not np.any(found[0].pose[:, 1])
    assert not np.any(found[1].coupling[:, 1])
    kept = [W[0][:, [0, 2]], W[1][[0, 2]]]
    alone = routed(np.float32(U), jax.tree.map(np.float32, kept), scale, num_iters=2)
    np.testing.assert_allclose(found[1].pose, alone[1].pose, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_iters": 0}, r"got num_iters 0, expected at least 1"),
        ({"names": ("one",)}, r"got 1 names of 3 layers, expected one of each layer, or none"),
        ({"scale": SCALE[:1]}, r"got 3 of votes and 1 of params, expected one of both"),
        (
            {"gradient": cj.ClosedForm()},
            r"got gradient ClosedForm\(.*expected FullGradient\(\) or Stop",
        ),
        (
            {"scale": [{"gain": np.ones(D)}] * 3},
            r"got no parameter 'offset', expected an array \[3\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(options, message, as_installed):
    with pytest.raises(UserError, match=f"concurrent_attention: {message}"):
        routed(**options)
