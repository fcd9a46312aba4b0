"""What the modes have to do with each other, and with the formulas, on routing by agreement."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import (
    ClosedForm,
    FullGradient,
    ImplicitGradient,
    StopGradient,
    TruncatedGradient,
    iterate,
)
from capsjax.routing import DynamicRouting, FixedPointRouting, dynamic_routing
from capsjax.routing.agreement import BiasedVotes
from capsjax.votes import DenseVotes, predict
from tests.oracles import routing as oracle

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E, R = 3, 4, 3, 2, 5, 4
U, W, BIAS = (
    RNG.normal(size=(B, N_I, D)),
    RNG.normal(size=(N_I, N_J, D, E)),
    RNG.normal(size=(N_J, E)),
)
PROBE = RNG.normal(size=(B, N_J, E))


def dense(u, W):
    return DenseVotes(jnp.einsum("bid,ijde->bije", u, W))


def loss(mode, u, W, bias, votes=predict, num_iters=R):
    pose = dynamic_routing(votes(u, W), num_iters=num_iters, gradient=mode, bias=bias).pose
    return jnp.sum(pose * PROBE)


def gradient(total):
    """By u, W and bias."""
    return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*map(jnp.asarray, (U, W, BIAS)))


def gradients(mode, votes=predict):
    return gradient(lambda *given: loss(mode, *given, votes))


def assert_equal(one, other, rtol=1e-11):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


def distance(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))


@pytest.mark.parametrize(
    ("mode", "same"),
    [
        (TruncatedGradient(last=0), StopGradient()),
        (TruncatedGradient(last=R - 1), FullGradient()),
        (FullGradient(remat=True), FullGradient()),
        (ClosedForm(), FullGradient()),
    ],
    ids=["truncated 0 = stop", "truncated r - 1 = full", "full remat = full", "closed form = full"],
)
def test_modes_that_are_the_same(mode, same, x64):
    assert_equal(gradients(mode), gradients(same))


def test_modes_that_are_not_the_same(x64):
    """Each further live update changes every gradient by more than rounding."""
    modes = [StopGradient(), *(TruncatedGradient(last=k) for k in range(1, R))]
    found = [gradients(mode) for mode in modes]
    for fewer, more in itertools.pairwise(found):
        for a, b in zip(fewer, more, strict=True):
            assert distance(a, b) > 1e-3


@pytest.mark.parametrize(
    "mode", [StopGradient(), TruncatedGradient(last=1), FullGradient(), ClosedForm()]
)
def test_dense_and_linear_votes_have_the_same_gradient(mode, x64):
    assert_equal(gradients(mode, dense), gradients(mode, predict))


@pytest.mark.parametrize("num_iters", [1, 2, 7])
def test_the_closed_form_is_the_full_gradient_for_any_number_of_iterations(num_iters, x64):
    def found(mode):
        return gradient(lambda *given: loss(mode, *given, num_iters=num_iters))

    assert_equal(found(ClosedForm()), found(FullGradient()))


def saved(mode, num_iters):
    """Numbers that `vjp` keeps for the backward pass."""

    def pose(u, W):
        return dynamic_routing(predict(u, W), num_iters=num_iters, gradient=mode).pose

    pull = jax.eval_shape(lambda u, W: jax.vjp(pose, u, W)[1], U.astype("f4"), W.astype("f4"))
    return sum(leaf.size for leaf in jax.tree.leaves(pull))


def test_the_closed_form_keeps_one_vector_for_each_parent_and_iteration():
    assert saved(ClosedForm(), 9) - saved(ClosedForm(), 3) == 6 * B * N_J * E
    assert saved(FullGradient(), 9) - saved(FullGradient(), 3) > 2 * 6 * B * N_J * E


class TestStopped:
    """The coupling is a constant, whatever is trained: the closed form says so."""

    @pytest.mark.parametrize("leaky", [False, True])
    def test_the_gradient_is_the_closed_form(self, leaky, x64):
        def total(u, W, bias):
            votes = predict(u, W)
            pose = dynamic_routing(votes, num_iters=R, bias=bias, leaky=leaky).pose
            return jnp.sum(pose * PROBE)

        found = gradient(total)
        expected = oracle.stopped_gradient(U, W, BIAS, PROBE, num_iters=R, leaky=leaky)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)

    def test_stopping_the_votes_instead_leaks_through_the_bias(self, x64):
        """What several public ports do; the test above would catch it, by this much."""

        def total(u, W, bias):
            routing, inputs = DynamicRouting(num_iters=R), BiasedVotes(predict(u, W), bias)
            half_stopped = inputs._replace(votes=jax.lax.stop_gradient(inputs.votes))
            start = routing.init(half_stopped)
            state = iterate(routing, half_stopped, start, 0, R - 1)
            pose, _ = routing.parents(R - 1, routing.couple(state, half_stopped), inputs)
            return jnp.sum(pose * PROBE)

        u_bar, W_bar, bias_bar = gradients(StopGradient())
        leaky_u_bar, leaky_W_bar, leaky_bias_bar = gradient(total)
        assert_equal((leaky_u_bar, leaky_W_bar), (u_bar, W_bar))
        assert distance(leaky_bias_bar, bias_bar) > 0.02
        # Of all things it is the full gradient's: a bias is never stopped.
        assert_equal([leaky_bias_bar], [gradients(FullGradient())[2]])

    def test_nothing_is_kept_for_a_backward_pass_through_the_loop(self):
        """What `vjp` saves does not grow with the iterations, as it does in full mode."""

        assert saved(StopGradient(), 3) == saved(StopGradient(), 9)
        assert saved(FullGradient(), 3) < saved(FullGradient(), 9)


class TestSecondOrder:
    @pytest.mark.parametrize("mode", [StopGradient(), FullGradient(), ClosedForm()])
    def test_linear_votes_have_the_second_gradient_of_dense_ones(self, mode, x64):
        """The gradient of the gradient's squared length: reverse mode twice, through the adjoints."""

        def second(votes):
            def squared(*given):
                first = jax.grad(
                    lambda *given: loss(mode, *given, votes, num_iters=2), argnums=(0, 1, 2)
                )(*given)
                return sum(jnp.sum(jnp.square(part)) for part in first)

            return gradient(squared)

        found = second(predict)
        assert_equal(found, second(dense), rtol=1e-10)
        assert all(float(jnp.linalg.norm(part)) > 1e-2 for part in found)


def test_the_default_mode_holds_the_coupling_constant():
    assert DynamicRouting().gradient == StopGradient()
    assert DynamicRouting().num_iters == 3
    given = jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32)

    def by_children(**options):
        def total(u, W):
            return jnp.sum(dynamic_routing(predict(u, W), **options).pose * PROBE)

        return jax.jit(jax.grad(total))(*given)

    default = by_children()
    np.testing.assert_array_equal(default, by_children(gradient=StopGradient()))
    assert distance(default, by_children(gradient=FullGradient())) > 1e-3


TRANSFORMED = [
    pytest.param(DynamicRouting(num_iters=3, gradient=ClosedForm()), id="closed form"),
    pytest.param(DynamicRouting(num_iters=3, gradient=FullGradient()), id="full"),
    pytest.param(FixedPointRouting(num_iters=40, gradient=ImplicitGradient()), id="implicit"),
]


@pytest.mark.parametrize("routing", TRANSFORMED)
@pytest.mark.parametrize("votes", [predict, dense], ids=["linear", "dense"])
def test_gradients_are_the_same_under_every_transformation(routing, votes, x64):
    """Under jit, vmap over batches, pmap over devices, and with remat around the routing."""
    u = jnp.asarray(RNG.normal(size=(4, B, N_I, D)))
    W_half = jnp.asarray(W / 2)

    def total(u, W):
        return jnp.sum(jnp.square(routing(votes(u, W)).pose) * PROBE)

    def again(u, W):
        return jax.checkpoint(lambda u, W: routing(votes(u, W)).pose)(u, W)

    by_u = jax.jit(jax.grad(total))
    expected = jnp.stack([by_u(one, W_half) for one in u])
    assert float(jnp.linalg.norm(expected)) > 1e-2
    remat = jax.jit(jax.grad(lambda u, W: jnp.sum(jnp.square(again(u, W)) * PROBE)))
    found = {
        "vmap": jax.jit(jax.vmap(by_u, (0, None)))(u, W_half),
        "remat": jnp.stack([remat(one, W_half) for one in u]),
    }
    if jax.device_count() >= len(u):  # an accelerator's number is what it is
        found["pmap"] = jax.pmap(by_u, in_axes=(0, None))(u, W_half)
    for name, one in found.items():
        np.testing.assert_allclose(one, expected, rtol=1e-8, atol=1e-11, err_msg=name)
