"""What is special to slot attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from tests.oracles import slot_attention as oracle
from tests.oracles.routing import finite_differences

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 6, 3, 2, 4
X, VALUE = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(D, E))
W = np.broadcast_to(VALUE, (N_I, N_J, D, E))  # as the oracle takes it
BAR = RNG.normal(size=(B, N_J, E))


def parameters(scale=0.4, seed=0):
    """Small enough that slots come to rest."""
    rng = np.random.RandomState(seed)
    known = cj.SlotAttentionRouting(hidden=5).parameters(cj.routing.Sizes(N_I, N_J, D, E))
    return {name: scale * rng.normal(size=one.shape) for name, one in known.items()}


@functools.partial(jax.jit, static_argnums=0)
def attend(routing, x, value, params):
    return routing(cj.shared_votes(x, value, parents=N_J), poses=x, params=params)


def test_inputs_are_shared_out_among_slots_and_slots_average_what_they_won():
    """Attention as everywhere else is normalised over the inputs; here the slots compete for each."""
    routing = cj.SlotAttentionRouting(num_iters=2, hidden=5)
    found = attend(routing, X, VALUE, parameters())
    np.testing.assert_allclose(found.coupling.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(found.activation.sum(-1), 1, rtol=1e-5)
    # As many inputs again, the same: means, not sums, so nothing changes.
    twice = np.concatenate([X, X], axis=1)
    more = attend(routing, twice, VALUE, parameters())
    np.testing.assert_allclose(more.pose, found.pose, rtol=1e-5, atol=1e-6)


def test_slots_that_begin_alike_stay_alike():
    """Why the paper draws them, and ours are a vector each."""
    params = parameters()
    params["slots"] = np.broadcast_to(params["slots"][:1], (N_J, E))
    found = attend(cj.SlotAttentionRouting(num_iters=3, hidden=5), X, VALUE, params)
    np.testing.assert_allclose(found.pose, found.pose[:, :1].repeat(N_J, 1), rtol=1e-5)


class TestImplicit:
    """Where slots come to rest, the gradient of that: of keys and queries too, of the beginning nothing."""

    MODE = cj.ImplicitGradient(solver="neumann", tolerance=1e-12, max_steps=300)
    ROUTING = cj.SlotAttentionRouting(num_iters=150, hidden=5, gradient=MODE)

    def test_it_is_the_gradient_of_slots_at_rest(self, x64):
        params = parameters(scale=0.5)
        found = attend(self.ROUTING, X, VALUE, params)
        assert np.all(found.residual < 1e-12)
        # Not all at one place, where keys and queries would not matter.
        assert np.all(np.std(found.pose, axis=1).mean(-1) > 0.1)
        gradient = jax.jit(
            jax.grad(lambda *given: jnp.sum(BAR * attend(self.ROUTING, *given).pose), (0, 1, 2))
        )
        x_bar, value_bar, bars = gradient(X, VALUE, params)

        def total(x, value, key, query, gru_slot):
            own = params | {"key": key, "query": query, "gru_slot": gru_slot}
            W = np.broadcast_to(value, (N_I, N_J, D, E))
            # From where they are at rest already, so that few iterations are enough.
            own["slots"], start = params["slots"], np.asarray(found.pose)
            return np.sum(BAR * oracle.steps(oracle.oracle.votes(x, W), x, start, 40, own)[-1][2])

        names = ("key", "query", "gru_slot")
        for given, bar in (("x", x_bar), ("value", value_bar), *((n, bars[n]) for n in names)):
            arrays = {"x": X, "value": VALUE, **{n: params[n] for n in names}}
            direction = RNG.normal(size=arrays[given].shape)

            def along(step, given=given, direction=direction, arrays=arrays):
                return total(**(arrays | {given: arrays[given] + step * direction}))

            (slope,) = finite_differences(lambda s: along(float(s[0])), (np.zeros(1),))
            np.testing.assert_allclose(np.sum(bar * direction), slope[0], rtol=1e-6, atol=1e-9)
        assert not np.any(bars["slots"])

    def test_far_from_rest_says_so(self):
        """Few iterations leave a residual; its gradient is that of where they have come to, not of rest."""
        routing = cj.SlotAttentionRouting(num_iters=2, hidden=5)
        assert np.all(attend(routing, X, VALUE, parameters(scale=1.0)).residual > 1e-3)

    def test_conjugate_gradients_are_refused(self, as_installed):
        message = r"ImplicitGradient\.solver: got 'cg', expected 'neumann': .* symmetric derivative"
        with pytest.raises(UserError, match=message):
            cj.SlotAttentionRouting(gradient=cj.ImplicitGradient())


def test_a_mask_that_hides_every_input_or_every_slot_is_finite():
    """Of the first example every input is hidden, of the second every slot."""
    x, value, params = jax.tree.map(jnp.float32, (X, VALUE, parameters()))
    routing = cj.SlotAttentionRouting(num_iters=2, hidden=5, gradient=cj.FullGradient())
    seen = jnp.array([False, True])
    masks = {
        "children": jnp.broadcast_to(seen[:, None], (B, N_I)),
        "parents": jnp.broadcast_to(~seen[:, None], (B, N_J)),
    }

    @jax.jit
    def gradient(params):
        def total(params):
            votes = cj.mask(cj.shared_votes(x, value, parents=N_J), **masks)
            found = routing(votes, poses=x, params=params)
            return jnp.sum(jnp.square(found.pose)), found

        return jax.grad(total, has_aux=True)(params)

    gradient, found = gradient(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((gradient, found)))
    assert not np.any(found.coupling)
    assert not np.any(found.activation)
    # Slots that see no input rewrite themselves all the same; slots that are not there are 0.
    assert np.any(found.pose[0])
    assert not np.any(found.pose[1])


def test_the_published_size():
    """64 components, an MLP of 128: of keys, queries, GRU, MLP and the slots, without the values' matrix."""
    known = cj.SlotAttentionRouting().parameters(cj.routing.Sizes(196, 7, 64, 64))
    count = sum(int(np.prod(one.shape)) for one in known.values())
    gru = 2 * 3 * 64 * 64 + 4 * 64
    mlp = 64 * 128 + 128 + 128 * 64 + 64
    assert count == 7 * 64 + 2 * 64 * 64 + gru + mlp + 4 * 64
