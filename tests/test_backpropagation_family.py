"""The formulas of docs/backpropagation_family.md, in NumPy loops, against the gradients of the package."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj

STOP, FULL = cj.StopGradient(), cj.FullGradient()


def _differences(function, x, step=1e-5):
    """The Jacobian of a function of one array, by central differences: [outputs, inputs]."""
    columns = []
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        columns.append((np.ravel(function(x + moved)) - np.ravel(function(x - moved))) / (2 * step))
    return np.stack(columns, axis=-1)


def test_a_stack_multiplies_what_each_layer_lets_through(x64):
    """(20) and (21): of two layers, each with its coupling held constant or not."""
    draw = np.random.default_rng(0)
    u = draw.normal(size=(4, 3))
    W = [draw.normal(size=(4, 3, 3, 4)), draw.normal(size=(3, 2, 4, 3))]
    probe = draw.normal(size=(2, 3))

    def layer(number, u, gradient):
        return cj.dynamic_routing(cj.predict(u, jnp.asarray(W[number])), gradient=gradient)

    def network(u, modes):
        for number, mode in enumerate(modes):
            u = layer(number, u, mode).pose
        return u

    # A is the Jacobian at the coupling that was found, A + B that of the layer as it is.
    held, whole, value = [], [], u
    for number in range(2):
        coupling = np.asarray(layer(number, jnp.asarray(value), STOP).coupling)

        def at_coupling(u, number=number, coupling=coupling):
            s = np.einsum("ij,ijde,id->je", coupling, W[number], u)
            length = np.linalg.norm(s, axis=-1, keepdims=True)
            return s * length / (1 + length**2)

        held.append(_differences(at_coupling, value))
        whole.append(
            _differences(lambda u, number=number: layer(number, jnp.asarray(u), STOP).pose, value)
        )
        value = np.asarray(layer(number, jnp.asarray(value), STOP).pose)
    kinds = {}
    for lower, upper in itertools.product((False, True), repeat=2):
        modes = [FULL if full else STOP for full in (lower, upper)]
        found = jax.grad(lambda u, modes=modes: jnp.sum(probe * network(u, modes)))(jnp.asarray(u))
        product = (whole if upper else held)[1] @ (whole if lower else held)[0]
        expected = (product.T @ probe.ravel()).reshape(u.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)
        kinds[lower, upper] = np.asarray(found)
    # Each of the four is another gradient: no two agree to a percent.
    for one, other in itertools.combinations(kinds.values(), 2):
        assert np.abs(one - other).max() > 0.01 * np.abs(one).max()


@pytest.mark.parametrize("layout", ["dense", "linear"])
def test_a_masked_softmax_has_the_derivative_of_the_page(layout, x64):
    """(22) and (23), with a child and a parent that are not there, and one child without any parent."""
    draw = np.random.default_rng(1)
    u, W = draw.normal(size=(4, 3)), draw.normal(size=(4, 3, 3, 2))
    b, c_bar = draw.normal(size=(4, 3)), draw.normal(size=(4, 3))
    m, n = np.array([1, 0, 1, 1]), np.array([1, 1, 0])
    votes = cj.predict(jnp.asarray(u), jnp.asarray(W))
    votes = votes if layout == "linear" else cj.DenseVotes(votes.dense())
    votes = cj.mask(votes, children=jnp.asarray(m, bool), parents=jnp.asarray(n, bool))
    pairs = votes.pairs

    def couple(b):
        return pairs.to_array(pairs.couple(pairs.from_array(b)))

    c = np.zeros((4, 3))
    for i, j in np.ndindex(4, 3):
        c[i, j] = m[i] * n[j] * np.exp(b[i, j]) / np.sum(n * np.exp(b[i]))
    b_bar = np.zeros((4, 3))
    for i, j in np.ndindex(4, 3):
        b_bar[i, j] = c[i, j] * (c_bar[i, j] - np.sum(c[i] * c_bar[i]))
    found, pull = jax.vjp(couple, jnp.asarray(b))
    np.testing.assert_allclose(found, c, rtol=1e-12)
    np.testing.assert_allclose(pull(jnp.asarray(c_bar))[0], b_bar, rtol=1e-12, atol=1e-15)
    assert (b_bar[1] == 0).all()
    assert (b_bar[:, 2] == 0).all()
    none = cj.mask(votes, parents=jnp.zeros(3, bool)).pairs
    nothing, pull = jax.vjp(lambda b: none.couple(none.from_array(b)), jnp.asarray(b))
    assert not np.any(nothing)
    assert not np.any(pull(jnp.ones_like(nothing))[0])


LAMBDA, FLOOR = 0.3, 1e-3  # larger than the defaults, so that every term of the derivative counts


def _m_step(V, a, c, beta_u, beta_a, t):
    """(24) and (25)."""
    _, j, h = V.shape
    N, mean, variance = np.zeros(j), np.zeros((j, h)), np.zeros((j, h))
    logit = np.zeros(j)
    for q in range(j):
        r = c[:, q] * a
        N[q] = r.sum()
        for k in range(h):
            mean[q, k] = (r * V[:, q, k]).sum() / N[q]
            variance[q, k] = (r * (V[:, q, k] - mean[q, k]) ** 2).sum() / N[q] + FLOOR
        cost = N[q] * (beta_u[q] + 0.5 * np.log(variance[q])).sum()
        logit[q] = LAMBDA * (1 - 0.95 ** (t + 1)) * (beta_a[q] - cost)
    return N, mean, variance, 1 / (1 + np.exp(-logit))


def _m_step_backwards(V, a, c, beta_u, t, found, bars, sums):
    """(27) to (29): adds to the sums of votes, activations and betas, and returns that of the coupling."""
    N, mean, variance, _ = found
    mean_bar, variance_bar, logit_bar = bars
    rate = LAMBDA * (1 - 0.95 ** (t + 1))
    r_bar = np.zeros_like(c)
    for q in range(len(N)):
        spread = beta_u[q] + 0.5 * np.log(variance[q])
        variance_bar[q] += -rate * N[q] / (2 * variance[q]) * logit_bar[q]
        N_bar = -rate * logit_bar[q] * spread.sum()
        sums["beta_a"][q] += rate * logit_bar[q]
        sums["beta_u"][q] += -rate * V.shape[2] * N[q] * logit_bar[q]
        for p in range(len(a)):
            D = V[p, q] - mean[q]
            share = c[p, q] * a[p] / N[q]
            sums["V"][p, q] += share * (mean_bar[q] + 2 * D * variance_bar[q])
            terms = D * mean_bar[q] + (D**2 - variance[q] + FLOOR) * variance_bar[q]
            r_bar[p, q] = N_bar + terms.sum() / N[q]
    sums["a"] += (c * r_bar).sum(1)
    return a[:, None] * r_bar


def _em_by_hand(V, a, beta_u, beta_a, pose_bar, activation_bar, num_iters, full):
    """All of the page: forwards by (24) to (26), backwards by (27) to (30)."""
    i, j, h = V.shape
    c, kept = np.full((i, j), 1 / j), []
    for t in range(num_iters):
        found = _m_step(V, a, c, beta_u, beta_a, t)
        kept.append((c, found))
        _, mean, variance, active = found
        D = V - mean
        density = (D**2 / variance + np.log(2 * np.pi * variance)).sum(-1)
        b = np.log(active) - 0.5 * density
        c = np.exp(b - b.max(1, keepdims=True))
        c /= c.sum(1, keepdims=True)
    given = {"V": V, "a": a, "beta_u": beta_u, "beta_a": beta_a}
    sums = {name: np.zeros_like(array) for name, array in given.items()}
    active = kept[-1][1][3]
    bars = pose_bar.copy(), np.zeros((j, h)), active * (1 - active) * activation_bar
    for t in reversed(range(num_iters)):
        c, found = kept[t]
        c_bar = _m_step_backwards(V, a, c, beta_u, t, found, bars, sums)
        if t == 0 or not full:
            break
        b_bar = c * (c_bar - (c * c_bar).sum(1, keepdims=True))
        _, mean, variance, active = kept[t - 1][1]
        D = V - mean
        sums["V"] += -D / variance * b_bar[..., None]
        bars = (
            (D / variance * b_bar[..., None]).sum(0),
            (0.5 * (D**2 / variance**2 - 1 / variance) * b_bar[..., None]).sum(0),
            (1 - active) * b_bar.sum(0),
        )
    return sums


@pytest.mark.parametrize("full", [False, True], ids=["stop", "full"])
def test_em_backwards_by_hand(full, x64):
    draw = np.random.default_rng(2)
    V, a = draw.normal(size=(5, 3, 2)), draw.uniform(0.2, 1, 5)
    beta_u, beta_a = draw.normal(size=(2, 3))
    bars = draw.normal(size=(3, 2)), draw.normal(size=3)
    routing = cj.EMRouting(final_lambda=LAMBDA, floor=FLOOR, gradient=FULL if full else STOP)

    def total(V, a, beta_u, beta_a):
        params = {"beta_u": beta_u, "beta_a": beta_a}
        found = routing(cj.DenseVotes(V), activation=a, params=params)
        return jnp.sum(found.pose * bars[0]) + jnp.sum(found.activation * bars[1])

    found = jax.grad(total, (0, 1, 2, 3))(*map(jnp.asarray, (V, a, beta_u, beta_a)))
    expected = _em_by_hand(V, a, beta_u, beta_a, *bars, num_iters=3, full=full)
    for name, gradient in zip(("V", "a", "beta_u", "beta_a"), found, strict=True):
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-8, atol=1e-11, err_msg=name)
    # Children that do not iterate backwards learn all the same.
    assert np.abs(found[1]).max() > 1e-3
