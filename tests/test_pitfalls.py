"""Bugs of public capsule code, one test each, as far as functions without modules can have them.

Each shows that ours does not have the bug, and that the bug would show.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.gradients import ClosedForm, FullGradient, StopGradient, TruncatedGradient
from capsjax.losses import margin_loss
from capsjax.numerics import safe_norm, squash
from capsjax.routing import DynamicRouting, UniformRouting, dynamic_routing
from capsjax.votes import predict

KEY = jax.random.key(0)
U = jax.random.normal(KEY, (2, 5, 3))
W = jax.random.normal(jax.random.key(1), (5, 4, 3, 6))
VOTES = predict(U, W)


class TestAxes:
    def test_the_softmax_goes_over_the_parents_not_the_children(self):
        coupling = dynamic_routing(VOTES).coupling
        np.testing.assert_allclose(np.sum(coupling, axis=-1), 1, rtol=1e-6)
        assert np.max(np.abs(np.sum(coupling, axis=-2) - 1)) > 0.1

    def test_as_many_children_as_parents_do_not_hide_the_axis(self):
        square = predict(U[:, :4], W[:4])
        coupling = dynamic_routing(square).coupling
        np.testing.assert_allclose(np.sum(coupling, axis=-1), 1, rtol=1e-6)
        assert np.max(np.abs(np.sum(coupling, axis=-2) - 1)) > 0.1

    def test_a_single_parent_gets_everything(self):
        """A softmax over an axis of size 1: all ones, where it belongs, and nowhere else."""
        assert np.all(np.asarray(dynamic_routing(predict(U, W[:, :1])).coupling) == 1)
        assert np.all(np.asarray(dynamic_routing(predict(U[:, :1], W[:1])).coupling) < 1)

    def test_squash_takes_whole_vectors_not_numbers(self):
        """Over an axis of size 1 each number is squashed alone, and a length of 2.4 is possible."""
        huge = dynamic_routing(predict(100 * U, W))
        assert np.all(np.asarray(huge.activation) <= 1)
        np.testing.assert_allclose(huge.activation, safe_norm(huge.pose), rtol=1e-6)
        wrong = squash(100 * jnp.sum(VOTES.dense(), axis=1)[..., None]).squeeze(-1)
        assert np.all(np.asarray(safe_norm(wrong)) > 2)

    def test_agreement_goes_over_the_pose_not_the_parents(self):
        square = predict(U, W[..., :4])
        pose = dynamic_routing(square, num_iters=1).pose
        agreement = np.einsum("bije,bje->bij", square.dense(), pose)
        np.testing.assert_allclose(
            dynamic_routing(square, num_iters=2).logits, agreement, rtol=1e-4, atol=1e-5
        )


class TestIterations:
    def test_r_iterations_are_r_readouts_and_r_minus_one_updates(self):
        """One: uniform. Two: the logits are one agreement. Three: the sum of two."""
        poses = [dynamic_routing(VOTES, num_iters=r).pose for r in (1, 2)]
        np.testing.assert_allclose(poses[0], UniformRouting()(VOTES).pose, rtol=1e-5)
        expected = jnp.zeros((2, 5, 4))
        for r in (1, 2, 3):
            logits = dynamic_routing(VOTES, num_iters=r).logits
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
            if r < 3:
                expected = expected + VOTES.agreement(poses[r - 1])

    def test_logits_start_at_zero_in_every_forward_pass(self):
        first = dynamic_routing(VOTES)
        again = dynamic_routing(VOTES)
        np.testing.assert_array_equal(first.logits, again.logits)

    def test_logits_are_not_shared_over_the_batch(self):
        """Neither summed nor averaged: another companion changes nothing."""
        logits = dynamic_routing(VOTES).logits
        assert np.max(np.abs(logits[0] - logits[1])) > 0.1
        alone = dynamic_routing(predict(U[:1], W)).logits
        np.testing.assert_allclose(alone[0], logits[0], rtol=1e-4, atol=1e-5)
        other = dynamic_routing(predict(U.at[1].multiply(-5.0), W)).logits
        np.testing.assert_array_equal(other[0], logits[0])


class TestNumbers:
    def test_a_zero_vector_has_a_gradient_of_zero_where_the_plain_norm_has_none(self):
        assert np.all(np.isnan(jax.jit(jax.grad(jnp.linalg.norm))(jnp.zeros(3))))
        for function in (safe_norm, lambda s: jnp.sum(squash(s))):
            assert not np.any(jax.jit(jax.grad(function))(jnp.zeros(3)))

    def test_the_margin_loss_has_a_finite_gradient_through_the_length_of_a_zero_pose(self):
        def loss(pose):
            return jnp.sum(margin_loss(safe_norm(pose), jnp.asarray([0, 1])))

        gradient = jax.jit(jax.grad(loss))(jnp.zeros((2, 3, 4)).at[0, 1].set(1.0))
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient[0, 1])

    @pytest.mark.parametrize("mode", [StopGradient(), FullGradient()])
    def test_children_that_are_all_zero_have_a_finite_gradient_all_the_way(self, mode):
        def loss(u, W):
            activation = dynamic_routing(predict(u, W), gradient=mode).activation
            return jnp.sum(margin_loss(activation, jnp.asarray([0, 1])))

        for part in jax.jit(jax.grad(loss, argnums=(0, 1)))(jnp.zeros_like(U), W):
            assert np.all(np.isfinite(part))

    def test_small_vectors_are_not_lifted_by_an_epsilon(self):
        """An epsilon of 1e-7 under the root would make a length of 1e-5 thirty times longer."""
        s = jnp.asarray([3e-5, 4e-5])
        np.testing.assert_allclose(safe_norm(s), 5e-5, rtol=1e-6)
        np.testing.assert_allclose(safe_norm(squash(s)), 2.5e-9, rtol=1e-5)

    def test_the_margin_is_squared(self):
        one = margin_loss(jnp.asarray([0.5, 0.1]), jnp.asarray(0))
        two = margin_loss(jnp.asarray([0.1, 0.1]), jnp.asarray(0))
        np.testing.assert_allclose([one, two], [0.16, 0.64], rtol=1e-5)

    def test_lengths_are_not_put_through_a_softmax(self):
        assert margin_loss(jnp.asarray([0.9, 0.1, 0.1]), jnp.asarray(0)) < 1e-12


class TestOptionsAreUsed:
    @pytest.mark.parametrize(
        "options",
        [{"num_iters": 2}, {"num_iters": 4}, {"leaky": True}, {"bias": jnp.full((4, 6), 0.5)}],
        ids=["2 iterations", "4 iterations", "leaky", "bias"],
    )
    def test_an_option_changes_the_pose(self, options):
        default = dynamic_routing(VOTES).pose
        assert np.max(np.abs(dynamic_routing(VOTES, **options).pose - default)) > 1e-3

    def test_the_bias_is_inside_every_iteration(self):
        """Added at the end only, it would not change the coupling."""
        bias = jax.random.normal(KEY, (4, 6))
        one, other = dynamic_routing(VOTES), dynamic_routing(VOTES, bias=bias)
        assert np.max(np.abs(one.coupling - other.coupling)) > 1e-3
        plain = squash(VOTES.combine(other.coupling) + bias[None])
        np.testing.assert_allclose(other.pose, plain, rtol=1e-4, atol=1e-6)

    def test_uniform_routing_takes_the_bias_too(self):
        bias = jax.random.normal(KEY, (4, 6))
        pose = UniformRouting()(VOTES, params=bias).pose
        plain = squash(jnp.mean(VOTES.dense(), axis=1) * 5 / 4 + bias[None])
        np.testing.assert_allclose(pose, plain, rtol=1e-4, atol=1e-6)

    def test_the_function_is_the_routing(self):
        bias = jax.random.normal(KEY, (4, 6))
        routing = DynamicRouting(num_iters=2, gradient=FullGradient(), leaky=True)
        value = routing(VOTES, params=bias, trace=True)
        called = dynamic_routing(
            VOTES, num_iters=2, gradient=FullGradient(), leaky=True, bias=bias, trace=True
        )
        for one, other in zip(jax.tree.leaves(value), jax.tree.leaves(called), strict=True):
            np.testing.assert_array_equal(one, other)
        assert value.trace.coupling.shape == (2, 2, 5, 4)
        array = dynamic_routing(VOTES.dense(), num_iters=2, leaky=True, bias=bias)
        np.testing.assert_allclose(array.pose, value.pose, rtol=1e-4, atol=1e-6)

    def test_the_gradient_option_changes_the_gradient_and_not_the_pose(self):
        modes = [StopGradient(), TruncatedGradient(last=1), FullGradient(), ClosedForm()]

        @partial(jax.jit, static_argnums=1)
        @partial(jax.value_and_grad, argnums=0)
        def total(u, mode):
            return jnp.sum(dynamic_routing(predict(u, W), gradient=mode).pose[..., 0])

        values, gradients = zip(*[total(U, mode) for mode in modes], strict=True)
        np.testing.assert_allclose(values, values[0], rtol=1e-5)
        for one, other in ((0, 1), (1, 2), (0, 2)):
            assert np.max(np.abs(gradients[one] - gradients[other])) > 1e-3


class TestRefused:
    def test_numbers_of_numpy_and_jax_are_python_s(self, as_installed):
        for given in (np.int64(4), np.array(4), jnp.asarray(4)):
            routing = DynamicRouting(num_iters=given)
            assert routing == DynamicRouting(num_iters=4)
            assert type(routing.num_iters) is int
        routing = DynamicRouting(tolerance=np.float32(0.5), leaky=np.True_)
        assert routing == DynamicRouting(tolerance=0.5, leaky=True)
        assert (type(routing.tolerance), routing.leaky) == (float, True)

    @pytest.mark.parametrize("params", [{"bias": 1}, 3.0, jnp.ones(3)])
    def test_what_is_no_bias(self, params, as_installed):
        with pytest.raises(UserError, match=r"as the bias, expected an array \[\d+, \d+\]"):
            DynamicRouting()(VOTES, params=params)

    def test_a_trace_that_is_no_truth_value(self, as_installed):
        with pytest.raises(UserError, match="got trace 'yes', expected True or False"):
            DynamicRouting()(VOTES, trace="yes")

    def test_a_number_that_is_not_known_yet_is_refused(self, as_installed):
        with pytest.raises(
            FieldError, match=r"an integer of at least 1 that is known when .* static"
        ):
            jax.jit(lambda n: DynamicRouting(num_iters=n))(3)

    @pytest.mark.parametrize("num_iters", [0, -1, True, 2.5, "3", None])
    def test_iterations_that_are_no_count(self, num_iters, as_installed):
        for make in (DynamicRouting, lambda num_iters: dynamic_routing(VOTES, num_iters=num_iters)):
            with pytest.raises(FieldError) as caught:
                make(num_iters=num_iters)
            assert str(caught.value) == (
                f"DynamicRouting.num_iters: got {num_iters!r}, expected an integer of at least 1"
            )

    @pytest.mark.parametrize(
        ("given", "hint"),
        [
            ("stop", "; did you mean StopGradient()?"),
            ("full", "; did you mean FullGradient()?"),
            ("closed_form", "; did you mean ClosedForm()?"),
            ("Truncated", "; did you mean TruncatedGradient(last=...)?"),
            (FullGradient, "; did you mean FullGradient()?"),
            (int, ""),
            ("StopGradent", "; did you mean 'StopGradient'?"),
            (True, ""),
            (None, ""),
        ],
    )
    def test_what_is_no_gradient_mode(self, given, hint, as_installed):
        for make in (DynamicRouting, lambda gradient: dynamic_routing(VOTES, gradient=gradient)):
            with pytest.raises(FieldError) as caught:
                make(gradient=given)
            assert str(caught.value) == (
                f"DynamicRouting.gradient: got {given!r}, expected a gradient mode: "
                f"ClosedForm(...), FullGradient(...), ImplicitGradient(...), StopGradient(...), "
                f"TruncatedGradient(...){hint}"
            )

    @pytest.mark.parametrize("leaky", ["no", 1, None])
    def test_a_leak_that_is_no_truth_value(self, leaky, as_installed):
        with pytest.raises(FieldError, match=r"DynamicRouting\.leaky: got .*, expected"):
            DynamicRouting(leaky=leaky)

    def test_more_live_updates_than_there_are(self):
        DynamicRouting(num_iters=3, gradient=TruncatedGradient(last=2))
        with pytest.raises(FieldError) as caught:
            DynamicRouting(num_iters=3, gradient=TruncatedGradient(last=3))
        assert str(caught.value) == (
            "TruncatedGradient.last: got 3, expected at most 2: num_iters = 3 makes 2 updates of the "
            "logits"
        )

    @pytest.mark.parametrize("routing", [DynamicRouting(), UniformRouting()])
    def test_a_bias_that_does_not_fit(self, routing, as_installed):
        with pytest.raises(UserError) as caught:
            routing(VOTES, params=jnp.zeros((6, 4)))
        assert "got float32[6, 4] as the bias, expected an array [4, 6]" in str(caught.value)

    @pytest.mark.parametrize("routing", [DynamicRouting(), UniformRouting()])
    def test_activations_that_it_would_ignore(self, routing, as_installed):
        with pytest.raises(UserError, match="got child activations, expected None"):
            routing(VOTES, activation=jnp.ones((2, 5)))

    def test_an_array_that_is_no_votes(self, as_installed):
        with pytest.raises(
            UserError, match=r"got float32\[5, 4\], expected .*\[\*batch, i, j, e\]"
        ):
            dynamic_routing(jnp.ones((5, 4)))
