"""What is special to a routing with a fixed point: it climbs, it arrives, its end can be differentiated."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from tests.oracles import fixed_point as oracle
from tests.oracles.routing import votes as dense_votes

RNG = np.random.RandomState(5)
B, N_I, N_J, D, E = 3, 6, 4, 3, 5
U, W, BIAS = (
    RNG.normal(size=(B, N_I, D)),
    RNG.normal(size=(N_I, N_J, D, E)) / 2,
    RNG.normal(size=(N_J, E)) / 3,
)
PROBE = RNG.normal(size=(B, N_J, E))
MANY = 400


def gradient(routing, bias=BIAS, u=U):
    """By u, W and bias of a probe of the poses."""

    def total(u, W, bias):
        return jnp.sum(routing(cj.predict(u, W), params=bias).pose * PROBE[: len(u)])

    return jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*map(jnp.asarray, (u, W, bias)))


def route(routing, scale=1.0):
    return routing(cj.predict(jnp.asarray(scale * U), jnp.asarray(W)), params=jnp.asarray(BIAS))


def distance(found, expected):
    """Largest relative distance of the parts."""
    pairs = zip(found, expected, strict=True)
    return max(float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b)) for a, b in pairs)


@pytest.mark.parametrize("leaky", [False, True])
@pytest.mark.parametrize("damping", [0.0, 0.7])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 20.0])
def test_no_update_makes_the_objective_smaller(scale, damping, leaky, x64):
    """For any votes, damped or not: no damping is needed for it."""
    routing = cj.FixedPointRouting(num_iters=40, damping=damping, leaky=leaky)
    votes = cj.predict(jnp.asarray(scale * U), jnp.asarray(W))
    seen = np.asarray(routing(votes, params=jnp.asarray(BIAS), trace=True).trace.coupling)
    dense = dense_votes(scale * U, W)
    F = np.stack([oracle.objective(dense, BIAS, c, beta=1.0, leaky=leaky) for c in seen])
    assert np.all(np.diff(F, axis=0) > -1e-11 * np.abs(F).max())
    assert np.all(F[-1] > F[0] + 1e-3)


def test_routing_by_agreement_has_no_fixed_point(x64):
    """Its logits grow with every iteration: ten times as many, some ten times as large."""
    votes = cj.predict(jnp.asarray(U), jnp.asarray(W))
    few, many = (
        float(jnp.abs(cj.dynamic_routing(votes, num_iters=r).logits).max()) for r in (100, 1000)
    )
    assert 8 < many / few < 12


def test_damping_does_not_move_the_fixed_point(x64):
    found = [route(cj.FixedPointRouting(num_iters=MANY, damping=d)) for d in (0.0, 0.6)]
    for one, other in zip(*(jax.tree.leaves(result) for result in found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    assert float(found[0].residual.max()) < 1e-13


def test_the_residual_is_how_far_the_next_coupling_is(x64):
    few = cj.FixedPointRouting(num_iters=3)
    here, there = route(few), route(dataclasses.replace(few, num_iters=4))
    moved = np.abs(there.coupling - here.coupling).max((1, 2))
    np.testing.assert_allclose(here.residual, moved, rtol=1e-12)
    assert np.all(moved > 1e-3)


@pytest.mark.parametrize("tolerance", [None, 1e-3])
def test_no_child_at_all_is_at_its_fixed_point(tolerance):
    routing = cj.FixedPointRouting(num_iters=4, tolerance=tolerance)
    result = routing(jnp.ones([2, 0, 3, 4]), trace=True)
    assert not np.any(result.residual)
    assert not np.any(result.pose)
    assert not np.any(result.trace.entropy)
    assert not np.any(result.trace.agreement)


def test_the_residual_has_no_gradient():
    routing = cj.FixedPointRouting(num_iters=4, gradient=cj.FullGradient())
    W_single = jnp.asarray(W, jnp.float32)
    found = jax.grad(lambda u: jnp.sum(routing(cj.predict(u, W_single)).residual))(
        jnp.asarray(U, jnp.float32)
    )
    assert not np.any(found)


class TestImplicit:
    @pytest.mark.parametrize("solver", ["cg", "neumann"])
    def test_it_is_the_unrolled_gradient_where_the_updates_have_arrived(self, solver, x64):
        implicit = cj.ImplicitGradient(solver=solver, tolerance=1e-12, max_steps=1000)
        arrived = cj.FixedPointRouting(num_iters=MANY, gradient=implicit)
        unrolled = gradient(dataclasses.replace(arrived, gradient=cj.FullGradient()))
        assert distance(gradient(arrived), unrolled) < 1e-9
        stopped = gradient(dataclasses.replace(arrived, gradient=cj.StopGradient()))
        assert distance(stopped, unrolled) > 0.1

    def test_it_is_not_where_they_have_not_and_the_residual_says_so(self, x64):
        early = cj.FixedPointRouting(num_iters=4, gradient=cj.ImplicitGradient())
        unrolled = gradient(dataclasses.replace(early, gradient=cj.FullGradient()))
        assert float(route(early).residual.max()) > 1e-3
        assert distance(gradient(early), unrolled) > 0.05

    def test_the_tolerance_is_kept(self, x64):
        exact = gradient(
            cj.FixedPointRouting(num_iters=MANY, gradient=cj.ImplicitGradient(tolerance=1e-13))
        )
        far = [
            distance(
                gradient(
                    cj.FixedPointRouting(
                        num_iters=MANY, gradient=cj.ImplicitGradient(tolerance=tolerance)
                    )
                ),
                exact,
            )
            for tolerance in (1e-2, 1e-5)
        ]
        assert 1e-6 < far[0] < 1e-1
        assert 0 < far[1] < 1e-4

    @pytest.mark.parametrize("solver", ["cg", "neumann"])
    def test_cotangents_of_any_size_are_solved_alike(self, solver):
        """In float32, whose squares end at 1e-38 and 1e38: the equation is linear."""
        routing = cj.FixedPointRouting(
            num_iters=100, gradient=cj.ImplicitGradient(solver=solver, max_steps=300)
        )
        u, matrices = (jnp.asarray(array, jnp.float32) for array in (U / 2, W))

        @jax.jit
        @jax.grad
        def by_u(u, scale):
            return jnp.sum(scale * routing(cj.predict(u, matrices)).pose[..., 0])

        expected = by_u(u, 1.0)
        assert float(jnp.linalg.norm(expected)) > 0.1
        for scale in (1e-25, 1e-12, 1e12, 1e25):
            found = by_u(u, scale) / scale
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)

    @pytest.mark.parametrize("solver", ["cg", "neumann"])
    def test_a_loss_that_no_coupling_changes_is_solved(self, solver):
        """A child's couplings add up to one: what is left of the equation is rounding."""
        routing = cj.FixedPointRouting(num_iters=100, gradient=cj.ImplicitGradient(solver=solver))
        u, matrices = (jnp.asarray(array, jnp.float32) for array in (U / 2, W))
        found = jax.grad(lambda u: jnp.sum(routing(cj.predict(u, matrices)).coupling))(u)
        np.testing.assert_allclose(found, np.zeros(U.shape), atol=1e-5)

    @pytest.mark.parametrize("solver", ["cg", "neumann"])
    def test_an_example_that_is_not_solved_is_nan_and_no_other(self, solver, x64):
        """The second example's votes are zero: solved at once."""
        u = np.array(U)
        u[1] = 0
        hasty = cj.ImplicitGradient(solver=solver, tolerance=1e-12, max_steps=2)
        found = gradient(cj.FixedPointRouting(num_iters=MANY, gradient=hasty), 0 * BIAS, u)[0]
        assert np.all(np.isnan(found[0]))
        assert np.all(np.isfinite(found[1]))

    def test_conjugate_gradients_refuse_a_point_that_updates_leave(self, x64):
        """Strong votes, no update: at uniform coupling the objective is curved upwards."""
        votes = cj.predict(jnp.asarray(6 * U), jnp.asarray(W))
        routing = cj.FixedPointRouting(num_iters=1, gradient=cj.ImplicitGradient(max_steps=1000))

        def total(array):
            return jnp.sum(routing(array).pose * PROBE)

        assert np.any(np.isnan(jax.grad(total)(votes.dense())))

    def test_what_is_kept_does_not_grow_with_the_iterations(self):
        def kept(num_iters):
            routing = cj.FixedPointRouting(num_iters=num_iters, gradient=cj.ImplicitGradient())

            def pose(u, W):
                return routing(cj.predict(u, W)).pose

            pull = jax.eval_shape(lambda u, W: jax.vjp(pose, u, W)[1], *given)
            return sum(leaf.size for leaf in jax.tree.leaves(pull))

        given = U.astype("f4"), W.astype("f4")
        assert kept(3) == kept(30)

    def test_forward_mode_is_refused(self):
        routing = cj.FixedPointRouting(gradient=cj.ImplicitGradient())
        with pytest.raises(UserError, match="got forward mode"):
            jax.jvp(lambda u: routing(u).pose, *[[jnp.ones((2, 3, 4, 5))]] * 2)


class TestTolerance:
    """Updates end for each example by itself, once none of its couplings would move."""

    def test_an_example_settles_by_itself(self, x64):
        """Slices of the batch are slices of the result to rounding, though each takes its own time."""
        u = np.concatenate([U, 3 * U, 0 * U])
        for routing in (
            cj.FixedPointRouting(num_iters=MANY, tolerance=1e-3),
            cj.DynamicRouting(num_iters=MANY, tolerance=1e-3),
        ):
            together = routing(cj.DenseVotes(jnp.asarray(dense_votes(u, W))))
            ends = []
            for n in range(len(u)):
                alone = routing(cj.DenseVotes(jnp.asarray(dense_votes(u[n : n + 1], W))))
                np.testing.assert_allclose(alone.coupling[0], together.coupling[n], atol=1e-14)
                np.testing.assert_allclose(alone.logits[0], together.logits[n], atol=1e-12)
                ends.append(float(jnp.abs(together.logits[n]).max()))
            assert np.all(np.asarray(together.residual) <= 1e-3)
            assert len(set(ends)) > 3

    @pytest.mark.parametrize("votes", [cj.predict, lambda u, W: cj.predict(u, W).dense()])
    def test_the_end_is_where_the_fixed_number_of_updates_would_be(self, votes, x64):
        """Counted on the trace: the first iteration whose next coupling is near enough."""
        tolerance, plain = 2e-3, cj.DynamicRouting(num_iters=200)
        given = votes(jnp.asarray(U), jnp.asarray(W))
        seen = np.asarray(plain(given, trace=True).trace.coupling)
        moved = np.abs(np.diff(seen, axis=0)).max((2, 3))
        first = np.argmax(moved <= tolerance, axis=0)
        assert len(set(first)) > 1
        found = dataclasses.replace(plain, tolerance=tolerance)(given, trace=True)
        for n, t in enumerate(first):
            np.testing.assert_allclose(found.coupling[n], seen[t, n], atol=1e-13)
            np.testing.assert_allclose(found.residual[n], moved[t, n], rtol=1e-9)
        np.testing.assert_allclose(found.trace.coupling[-1], found.coupling, atol=1e-14)

    def test_num_iters_is_the_most(self, x64):
        plain = cj.DynamicRouting(num_iters=3)
        found = route(dataclasses.replace(plain, tolerance=1e-9))
        np.testing.assert_allclose(found.coupling, route(plain).coupling, atol=1e-14)
        assert np.all(np.asarray(found.residual) > 1e-9)
        assert route(plain).residual is None

    def test_it_stops_working_once_all_have_settled(self):
        """As many updates as the slowest needs, not as many as there may be."""
        count = []

        class Counting(cj.DenseVotes):
            def agreement(self, pose):
                jax.debug.callback(lambda: count.append(1))
                return super().agreement(pose)

        routing = cj.DynamicRouting(num_iters=10_000, tolerance=0.05)
        votes = Counting(jnp.asarray(dense_votes(U, W), jnp.float32))
        jax.block_until_ready(jax.jit(lambda votes: routing(votes).pose)(votes))
        jax.effects_barrier()
        assert 1 < len(count) < 100

    @pytest.mark.parametrize("kind", [cj.DynamicRouting, cj.FixedPointRouting])
    def test_the_stop_gradient_is_that_of_a_constant_coupling(self, kind, x64):
        routing = kind(num_iters=100, tolerance=1e-2)
        result = route(routing)
        found = gradient(routing)

        def frozen(u, W, bias):
            s = cj.predict(u, W).combine(result.coupling) + bias[None]
            return jnp.sum(cj.squash(s) * PROBE)

        expected = jax.grad(frozen, argnums=(0, 1, 2))(*map(jnp.asarray, (U, W, BIAS)))
        assert distance(found, expected) < 1e-12

    def test_the_implicit_gradient_takes_one(self, x64):
        implicit = cj.ImplicitGradient(tolerance=1e-12)
        converged = cj.FixedPointRouting(num_iters=10_000, tolerance=1e-14, gradient=implicit)
        arrived = cj.FixedPointRouting(num_iters=MANY, gradient=implicit)
        assert distance(gradient(converged), gradient(arrived)) < 1e-9

    @pytest.mark.parametrize(
        "mode", [cj.FullGradient(), cj.TruncatedGradient(last=1), cj.ClosedForm()]
    )
    def test_modes_that_go_back_through_the_updates_are_refused(self, mode):
        with pytest.raises(UserError) as caught:
            cj.DynamicRouting(num_iters=5, tolerance=1e-3, gradient=mode)
        assert str(caught.value) == (
            f"DynamicRouting.tolerance: got 0.001, expected None with {type(mode).__name__}, which goes "
            "back through every update and has to know how many there are; StopGradient() takes a "
            "tolerance, and so does the ImplicitGradient() of FixedPointRouting"
        )
        cj.DynamicRouting(num_iters=5, tolerance=1e-3, gradient=cj.TruncatedGradient(last=0))

    def test_it_works_under_vmap(self, x64):
        routing = cj.DynamicRouting(num_iters=100, tolerance=1e-3)
        dense = jnp.asarray(dense_votes(U, W))
        mapped = jax.vmap(routing)(dense)
        np.testing.assert_allclose(mapped.coupling, routing(dense).coupling, atol=1e-14)


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("tolerance", -1.0, "a number of at least 0"),
        ("inverse_temperature", 0.0, "a number greater than 0"),
        ("damping", 1.0, "a number of at least 0 and below 1"),
        ("damping", -0.1, "a number of at least 0 and below 1"),
        ("damping", float("nan"), "a number of at least 0 and below 1"),
        ("inverse_temperature", float("inf"), "a number greater than 0 and at most 3.4e+38"),
        ("inverse_temperature", 1e39, "a number greater than 0 and at most 3.4e+38"),
        ("inverse_temperature", 10**400, "a number greater than 0 and at most 3.4e+38"),
        ("num_iters", 2**31, "an integer from 1 to 2147483647"),
    ],
)
def test_numbers_out_of_range_are_refused(option, given, expected):
    with pytest.raises(UserError) as caught:
        cj.FixedPointRouting(**{option: given})
    assert str(caught.value) == f"FixedPointRouting.{option}: got {given}, expected {expected}"
