"""What is special to Heinsen's routing of vectors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 5, 3, 2, 4
U = RNG.normal(size=(B, N_I, D))
F1, F2, F0 = RNG.normal(size=(N_J, D)), RNG.normal(size=(D, E)), RNG.normal(size=(N_J, E))


def parameters(seed=0):
    known = cj.HeinsenRouting().parameters(cj.routing.Sizes(N_I, N_J, D, E))
    rng = np.random.RandomState(seed)
    return {name: rng.normal(size=one.shape) for name, one in known.items()}


def votes(u, F1, F2, F0):
    """The paper's, as the docstring says: shared matrices of x = u / sqrt(n) with a 1 behind it."""
    x = u / np.sqrt(u.shape[-2])
    x1 = jnp.concatenate([x, jnp.ones((*x.shape[:-1], 1), x.dtype)], axis=-1)
    return cj.shared_votes(x1, jnp.concatenate([F1[..., None] * F2[None], F0[:, None]], axis=1))


@functools.partial(jax.jit, static_argnums=0)
def route(routing, u, factors, params):
    return routing(votes(u, *factors), poses=u, params=params)


def found(num_iters=2, params=None, **options):
    routing = cj.HeinsenRouting(num_iters=num_iters, **options)
    return route(routing, jnp.asarray(U), (F1, F2, F0), params or parameters())


def normal(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def transcribed(num_iters, mistake=None):
    """The released code's forward pass in NumPy, with its factored votes; or with a mistake in it."""
    p = parameters()
    x = U / np.sqrt(N_I)
    f = 1 / (1 + np.exp(-((x * p["score"]).sum(-1) - -p["score_bias"])))[..., None]
    for t in range(num_iters):
        R = np.full((B, N_I, N_J), 1 / N_J)
        if t:
            predicted = np.einsum("bjh,hd,jd->bjd", normal(out), p["predict"], p["predict_scale"])
            children = x if mistake == "small" else U
            S = np.einsum("bid,bjd->bij", children, predicted + p["predict_bias"])
            S = S * p["similar"] + p["similar_bias"]
            S = S if mistake == "raw" else -np.log1p(np.exp(-S))
            R = np.exp(S) / np.exp(S).sum(1 if mistake == "children" else -1, keepdims=True)
        ignored = 1 - f * R if mistake == "absent" else f - f * R
        phi = p["use"] * f * R - (0 if mistake == "free" else p["ignore"] * ignored)
        gathered = np.einsum("bij,bid->bjd", phi, x)
        out = np.einsum("bjd,jd,dh->bjh", gathered, F1, F2) + np.einsum("bij,jh->bjh", phi, F0)
    return out if mistake == "long" else normal(out), R


MISTAKES = {
    "small": "parents predict the children divided by the root of their number, as votes have them",
    "raw": "similarities are logits as they are, without the logarithm of the logistic function",
    "children": "the softmax goes over the children",
    "absent": "a child that is not present is ignored all the same, at full cost",
    "free": "to ignore a child costs nothing, so that weights are never negative",
    "long": "the last poses are not normalised",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_likely_mistake_would_be_noticed(mistake, x64):
    """No port is known to make one; each is near what the paper's two spaces and three steps suggest."""
    result = found(2)
    wrong, right = transcribed(2, mistake), transcribed(2)
    np.testing.assert_allclose(result.pose, right[0], rtol=1e-10, atol=1e-12)
    assert np.max(np.abs(wrong[0] - result.pose)) > 0.05, MISTAKES[mistake]
    # What is done with the coupling alone does not show in it before the next update.
    shown = mistake in ("small", "raw", "children", "absent", "free")
    assert (np.max(np.abs(wrong[1] - result.coupling)) > 0.01) == shown


def test_the_released_code_s_factored_votes_are_votes_by_shared_matrices(x64):
    for num_iters in (1, 2, 3):
        pose, coupling = transcribed(num_iters)
        result = found(num_iters)
        np.testing.assert_allclose(result.pose, pose, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(result.coupling, coupling, rtol=1e-10)


def test_what_it_costs_to_ignore_is_no_part_of_the_coupling(x64):
    """Weights may be negative; what a child divides among its parents adds up to 1 all the same."""
    p = parameters()
    np.testing.assert_allclose(found().coupling.sum(-1), 1, rtol=1e-12)
    dearer = found(params=p | {"ignore": p["ignore"] + 3})
    first = found(num_iters=1, params=p | {"ignore": p["ignore"] + 3})
    np.testing.assert_allclose(first.coupling, 1 / N_J, rtol=1e-12)
    assert not np.allclose(dearer.pose, found().pose, atol=0.1)


def test_stopped_it_trains_presence_use_and_ignoring_alone(x64):
    def gradient(mode):
        return jax.grad(lambda p: jnp.sum(found(params=p, gradient=mode).pose[..., 0]))(
            parameters()
        )

    stop, full = gradient(cj.StopGradient()), gradient(cj.FullGradient())
    live = {name for name, bar in stop.items() if np.any(bar)}
    assert live == {"score", "score_bias", "use", "ignore"}
    assert all(np.any(bar) for bar in full.values())


def test_a_single_component_is_not_normalised():
    """Its mean is itself, so that nothing would be left of it."""
    known = cj.HeinsenRouting().parameters(cj.routing.Sizes(N_I, N_J, D, 1))
    params = {name: jnp.ones(one.shape) for name, one in known.items()}
    one = cj.predict(jnp.float32(U), jnp.ones((N_I, N_J, D, 1)))
    assert np.all(np.abs(cj.HeinsenRouting()(one, poses=jnp.float32(U), params=params).pose) > 1e-3)
