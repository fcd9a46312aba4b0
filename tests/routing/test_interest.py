"""What is special to behaviour-to-interest routing: what its public ports get wrong, ours has right."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.routing import interest_mask
from tests.oracles import interest as oracle

RNG = np.random.RandomState(3)
B, N_I, N_J, D = 2, 6, 3, 4
U, S = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(D, D))
W = np.broadcast_to(S, (N_I, N_J, D, D))  # as the oracle takes it
INITIAL = RNG.normal(size=(N_I, N_J))
ROUTING = cj.InterestRouting(num_iters=3)
THERE = np.arange(N_I) < np.array([[N_I], [4]])  # the second user did four things


@functools.partial(jax.jit, static_argnums=0)
def route(routing, u, S, initial, there):
    votes = cj.mask(cj.shared_votes(u, S, parents=N_J), children=there)
    return routing(votes, params=initial)


def extract(routing=ROUTING, u=U, S=S, initial=INITIAL, there=THERE):
    """Of users that did what is there, all pairs by one matrix."""
    return route(routing, *map(jnp.asarray, (u, S, initial, there)))


def test_the_oracle_agrees_on_one_shared_matrix(x64):
    found = extract(ROUTING, U, S, INITIAL, np.ones((B, N_I), bool))
    expected = oracle.routing(U, W, None, {"initial": INITIAL}, num_iters=3)
    for name, leaf in expected._asdict().items():
        np.testing.assert_allclose(getattr(found, name), leaf, rtol=1e-12, atol=1e-13)


def test_a_behaviour_divides_itself_among_interests():
    """Ports take the softmax over the behaviours: an interest then averages, and shares nothing out."""
    coupling = np.asarray(extract().coupling)
    np.testing.assert_allclose(coupling.sum(-1)[THERE], 1, rtol=1e-5)
    assert not np.allclose(coupling.sum(-2), 1, atol=0.05)


def test_padding_weighs_nothing():
    """Ports set its logits low before a softmax over interests, of which all are then as low: 1 / j each."""
    found = extract()
    assert not np.any(np.asarray(found.coupling)[~THERE])
    # Whatever stands there: the same interests.
    other = extract(ROUTING, np.where(THERE[..., None], U, 1e3))
    np.testing.assert_array_equal(other.pose, found.pose)


def test_a_user_does_not_depend_on_who_else_is_in_the_batch():
    """A port adds the agreements of all users up, and gives each the sum."""
    alone = extract(ROUTING, U[1:], S, INITIAL, THERE[1:])
    np.testing.assert_allclose(alone.pose[0], extract().pose[1], rtol=1e-5, atol=1e-6)


def test_asked_again_a_user_has_the_same_interests():
    """Ports draw logits at every call, evaluation included, or go on from those of the call before."""
    first = extract()
    extract(ROUTING, U[::-1])
    np.testing.assert_array_equal(extract().pose, first.pose)


def test_agreements_are_added_to_logits_and_not_to_couplings(x64):
    """A port keeps both under one name, so that the softmax takes the logits' place."""
    first, second = (extract(cj.InterestRouting(num_iters=r)) for r in (1, 2))
    agreed = np.einsum("bid,de,bje->bij", U, S, first.pose)
    expected = np.where(THERE[..., None], INITIAL + agreed, 0)
    np.testing.assert_allclose(second.logits, expected, rtol=1e-10)


def test_the_shared_matrix_is_trained_when_the_coupling_is_stopped(x64):
    """A port detaches the votes altogether, so that its matrix stays as it was drawn."""

    def total(S, initial):
        return jnp.sum(extract(ROUTING, U, S, initial).pose[..., 0])

    found, begun = jax.grad(total, (0, 1))(jnp.array(S), jnp.array(INITIAL))
    coupling = extract().coupling

    def of_one_sum(S):
        return jnp.sum(cj.squash(jnp.einsum("bij,bid,de->bje", coupling, U, S))[..., 0])

    np.testing.assert_allclose(found, jax.grad(of_one_sum)(jnp.array(S)), rtol=1e-10)
    assert np.all(np.abs(found) > 1e-8)
    assert not np.any(begun)  # drawn and never trained, as in the paper


def test_other_modes_train_the_logits_that_it_begins_with(x64):
    def gradient(mode):
        routing = cj.InterestRouting(gradient=mode)
        return jax.grad(lambda b: jnp.sum(extract(routing, U, S, b).pose[..., 0]))(
            jnp.array(INITIAL)
        )

    full, closed = gradient(cj.FullGradient()), gradient(cj.ClosedForm())
    assert np.all(np.abs(full) > 1e-8)
    np.testing.assert_allclose(closed, full, rtol=1e-10)


def test_from_zeros_interests_stay_one_interest():
    """Why its logits are drawn: every vote is the same for each of them."""
    found = extract(ROUTING, U, S, 0 * INITIAL)
    np.testing.assert_allclose(found.pose, found.pose[:, :1].repeat(N_J, 1), rtol=1e-5)
    assert np.std(extract().pose, axis=1).max() > 0.05


def test_from_zeros_and_with_matrices_of_their_own_it_is_dynamic_routing(x64):
    own = jnp.asarray(RNG.normal(size=(N_I, N_J, D, D)))
    votes = cj.predict(jnp.asarray(U), own)
    found = ROUTING(votes, params=jnp.zeros((N_I, N_J)))
    expected = cj.DynamicRouting(num_iters=3)(votes)
    for name in ("pose", "coupling", "logits", "activation"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)


def test_a_user_who_did_nothing_has_no_interests_and_finite_gradients():
    there = THERE & np.array([[True], [False]])

    def total(S, initial):
        return jnp.sum(
            extract(cj.InterestRouting(gradient=cj.ClosedForm()), U, S, initial, there).pose
        )

    assert not np.any(extract(ROUTING, U, S, INITIAL, there).pose[1])
    for bar in jax.grad(total, (0, 1))(jnp.float32(S), jnp.float32(INITIAL)):
        assert np.all(np.isfinite(bar))


class TestInterestMask:
    def test_the_number_is_that_of_the_paper(self):
        """A port takes the natural logarithm, another rounds up: from 3 behaviours it makes two interests."""
        history = jnp.arange(40)[None] < jnp.arange(41)[:, None]
        numbers = np.asarray(interest_mask(history, 4)).sum(-1)
        expected = [max(1, min(4, int(n).bit_length() - 1)) for n in range(41)]
        np.testing.assert_array_equal(numbers, expected)

    def test_interests_that_a_user_does_not_have_get_nothing(self):
        votes = cj.shared_votes(jnp.float32(U), jnp.float32(S), parents=N_J)
        votes = cj.mask(
            votes, children=jnp.array(THERE), parents=interest_mask(jnp.array(THERE), N_J)
        )
        found = ROUTING(votes, params=jnp.float32(INITIAL))
        assert not np.any(found.pose[:, 2])  # of 6 and of 4 behaviours
        np.testing.assert_allclose(np.sum(found.coupling, -1)[THERE], 1, rtol=1e-5)

    def test_numbers_are_refused(self, as_installed):
        with pytest.raises(
            UserError, match=r"interest_mask: got children float32\[2, 6\], expected"
        ):
            interest_mask(jnp.ones((B, N_I)), N_J)
