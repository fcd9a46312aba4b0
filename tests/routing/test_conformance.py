"""Every routing × every property that a routing has to have; the rows are in `table.py`."""

import copy
import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.routing import IterativeRouting, UniformRouting
from capsjax.routing.registry import ROUTINGS
from tests.oracles.routing import finite_differences
from tests.routing.table import N_I, N_J, TABLE, VOTES, B, arrays, bars

ROWS = [pytest.param(row, id=row.name) for row in TABLE]
CASES = [
    pytest.param(row, kind, id=f"{row.name}-{kind}") for row in TABLE for kind in sorted(VOTES)
]


def mode_name(mode):
    """Such as `stop`, `full`, `full-True` and `truncated-1`."""
    if mode is None:
        return "live"
    options = [str(value) for name, value in vars(mode).items() if name != "kind"]
    return "-".join([mode.kind, *(option for option in options if option != "False")])


MODES = [
    pytest.param(row, kind, mode, id=f"{row.name}-{kind}-{mode_name(mode)}")
    for row in TABLE
    for kind in sorted(VOTES)
    for mode in row.modes or (None,)
]


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("trace",))
def run(routing, kind, u, W, params, trace=False):
    return routing(VOTES[kind](u, W), params=params, trace=trace)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run_gradient(routing, kind, u, W, params, bars):
    """The result, and the gradient of its product with a cotangent, by u, W and params."""

    def total(u, W, params):
        result = routing(VOTES[kind](u, W), params=params)
        product = sum(jnp.sum(bar * getattr(result, name)) for name, bar in bars._asdict().items())
        return product, result

    gradient, result = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(u, W, params)
    return result, gradient


def single(row, seed=0):
    return tuple(jnp.asarray(array, jnp.float32) for array in arrays(row, seed))


def close(found, expected, *, rtol=1e-5, atol=1e-6):
    chex.assert_trees_all_close(found, expected, rtol=rtol, atol=atol)


def test_the_table_has_every_routing_of_the_registry():
    assert {type(row.routing) for row in TABLE} == set(ROUTINGS.values())
    assert {name: cls().kind for name, cls in ROUTINGS.items()} == {name: name for name in ROUTINGS}


@pytest.mark.parametrize(("row", "kind"), CASES, scope="module")
class TestForward:
    def test_shapes(self, row, kind):
        u, W, params = single(row)
        result = run(row.routing, kind, u, W, params)
        e = W.shape[-1]
        assert result.pose.shape == (B, N_J, e)
        assert result.coupling.shape == result.logits.shape == (B, N_I, N_J)
        assert result.activation.shape == (B, N_J)
        assert result.trace is None
        assert (result.residual is not None) == row.residual
        if row.residual:
            assert result.residual.shape == (B,)

    def test_couplings_of_a_child_add_up_to_one(self, row, kind):
        result = run(row.routing, kind, *single(row))
        total = np.sum(result.coupling, axis=-1)
        assert np.all(np.asarray(result.coupling) > 0)
        if row.leaky:
            assert np.all(total < 1 - 1e-4)
        else:
            close(total, np.ones((B, N_I)))

    def test_the_order_of_the_children_does_not_matter(self, row, kind):
        u, W, params = single(row)
        order = np.roll(np.arange(N_I), 1)
        result = run(row.routing, kind, u, W, params)
        permuted = run(row.routing, kind, u[:, order], W[order], params)
        close(permuted.pose, result.pose)
        close(permuted.activation, result.activation)
        close(permuted.coupling, result.coupling[:, order])
        close(permuted.logits, result.logits[:, order])

    def test_the_order_of_the_parents_is_that_of_the_result(self, row, kind):
        u, W, params = single(row)
        order = np.roll(np.arange(N_J), 1)
        result = run(row.routing, kind, u, W, params)
        permuted = run(row.routing, kind, u, W[:, order], params[order])
        close(permuted.pose, result.pose[:, order])
        close(permuted.activation, result.activation[:, order])
        close(permuted.coupling, result.coupling[..., order])
        close(permuted.logits, result.logits[..., order])

    def test_leading_axes_are_batch(self, row, kind):
        """None, one and two of them, and a `vmap` over one: the same examples, the same results."""
        u, W, params = single(row)
        result = run(row.routing, kind, u, W, params)
        mapped = jax.vmap(lambda u: run(row.routing, kind, u, W, params))(u)
        close(mapped, result)
        alone = run(row.routing, kind, u[0], W, params)
        close(alone, jax.tree.map(lambda leaf: leaf[0], result))
        twice = run(row.routing, kind, jnp.stack([u, u[::-1], 2 * u]), W, params)
        assert twice.pose.shape[:2] == (3, B)
        close(jax.tree.map(lambda leaf: leaf[0], twice), result)
        close(jax.tree.map(lambda leaf: leaf[1, ::-1], twice), result)

    def test_an_example_does_not_depend_on_the_rest_of_the_batch(self, row, kind):
        u, W, params = single(row)
        result = run(row.routing, kind, u, W, params)
        other = run(row.routing, kind, u.at[1:].multiply(-3.0), W, params)
        first = jax.tree.map(lambda leaf: leaf[0], result)
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], other), first)
        assert not np.allclose(other.pose[1], result.pose[1])
        sliced = run(row.routing, kind, u[:1], W, params)
        close(jax.tree.map(lambda leaf: leaf[0], sliced), first)

    def test_an_empty_batch_gives_an_empty_result(self, row, kind):
        u, W, params = single(row)
        result = run(row.routing, kind, u[:0], W, params)
        assert result.pose.shape == (0, *arrays(row)[1].shape[1::2])

    def test_eager_equals_jit(self, row, kind):
        u, W, params = single(row)
        result = run(row.routing, kind, u, W, params)
        close(row.routing(VOTES[kind](u, W), params=params), result)
        with jax.disable_jit():
            close(row.routing(VOTES[kind](u, W), params=params), result)

    def test_bfloat16_in_and_out_and_float32_inside(self, row, kind):
        u, W, params = (array.astype(jnp.bfloat16) for array in single(row))
        votes = VOTES[kind](u, W)
        result = row.routing(votes, params=params, trace=True)
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.bfloat16)}
        wide = row.routing(
            votes.astype(jnp.dtype(jnp.float32)), params=params.astype(jnp.float32), trace=True
        )
        chex.assert_trees_all_equal(
            result, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), wide)
        )

    def test_zero_and_huge_votes_in_bfloat16_give_finite_numbers(self, row, kind):
        mode = row.modes[-1] if row.modes else None
        check_extremes(row.with_mode(mode), kind, single(row), jnp.bfloat16)

    def test_abstract_evaluation(self, row, kind):
        u, W, params = single(row)
        result = run(row.routing, kind, u, W, params)
        abstract = jax.eval_shape(
            lambda u, W, params: row.routing(VOTES[kind](u, W), params=params), u, W, params
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(abstract, result)

    def test_the_oracle_agrees(self, row, kind, x64):
        u, W, params = arrays(row)
        result = run(row.routing, kind, *map(jnp.asarray, (u, W, params)))
        expected = row.oracle(u, W, params)
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(result, name), leaf, rtol=1e-12, atol=1e-13)

    def test_the_trace_shows_the_iterations_and_changes_nothing(self, row, kind, x64):
        u, W, params = arrays(row)
        given = tuple(map(jnp.asarray, (u, W, params)))
        seen = run(row.routing, kind, *given, trace=True)
        expected = row.trace(u, W, params)
        assert len(seen.trace.coupling) == getattr(row.routing, "num_iters", 1)
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(seen.trace, name), leaf, rtol=1e-12, atol=1e-13)
        close(seen.trace.coupling[-1], seen.coupling, rtol=1e-14, atol=0)
        close(seen._replace(trace=None), run(row.routing, kind, *given), rtol=1e-14, atol=1e-15)


# Of module scope, so that the tests of one case follow each other and share what was compiled.
@pytest.mark.parametrize(("row", "kind", "mode"), MODES, scope="module")
class TestGradient:
    def test_it_is_the_gradient_of_the_frozen_function(self, row, kind, mode, x64):
        _, found = run_gradient(row.with_mode(mode), kind, *double(row), bars())
        for one, other in zip(found, finite_difference_gradient(row, mode), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)

    def test_it_is_the_gradient_by_hand(self, row, kind, mode, x64):
        _, found = run_gradient(row.with_mode(mode), kind, *double(row), bars())
        expected = row.gradient(*arrays(row), bars(), mode)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)

    def test_the_mode_does_not_change_the_result(self, row, kind, mode):
        given = single(row)
        result, _ = run_gradient(row.with_mode(mode), kind, *given, cotangent(jnp.float32))
        close(result, run(row.routing, kind, *given), atol=1e-7)

    def test_zero_and_huge_votes_give_finite_numbers(self, row, kind, mode):
        check_extremes(row.with_mode(mode), kind, single(row), jnp.float32)

    def test_gradients_do_not_cross_the_batch(self, row, kind, mode):
        u, W, params = single(row)
        changed = u.at[1:].multiply(-3.0)
        routing, bar = row.with_mode(mode), cotangent(jnp.float32)
        _, (one, _, _) = run_gradient(routing, kind, u, W, params, bar)
        _, (other, _, _) = run_gradient(routing, kind, changed, W, params, bar)
        np.testing.assert_array_equal(one[0], other[0])
        assert not np.allclose(one[1], other[1])

    def test_equal_configurations_compile_once(self, row, kind, mode):
        routing = row.with_mode(mode)
        twin = copy.deepcopy(routing)
        chex.clear_trace_counter()
        assert twin is not routing
        assert twin == routing
        assert hash(twin) == hash(routing)

        @functools.partial(jax.jit, static_argnums=0)
        @chex.assert_max_traces(n=1)
        def pose(routing, u, W):
            return routing(VOTES[kind](u, W)).pose

        u, W, _ = single(row)
        assert pose.lower(routing, u, W).as_text() == pose.lower(twin, u, W).as_text()


def cotangent(dtype):
    return jax.tree.map(lambda bar: jnp.asarray(bar, dtype), bars())


def check_extremes(routing, kind, given, dtype):
    u, W, params = (array.astype(dtype) for array in given)
    # No loss asks for the logits: they grow with the votes, and the gradient of one of 1e30 passes
    # through numbers of 1e60.
    bar = cotangent(dtype)._replace(logits=jnp.zeros((B, N_I, N_J), dtype))
    for scale in (0.0, 1e-30, 1e30):
        for bias in (jnp.zeros_like(params), params):
            found = run_gradient(routing, kind, u * jnp.asarray(scale, dtype), W, bias, bar)
            chex.assert_tree_all_finite(found)


def double(row):
    return tuple(map(jnp.asarray, arrays(row)))


@functools.cache
def _finite_differences(name, mode):
    row = next(row for row in TABLE if row.name == name)
    given = arrays(row)
    live = row.frozen(*given, mode)

    def total(*given):
        return sum(np.sum(bar * leaf) for bar, leaf in zip(bars(), live(*given), strict=True))

    return finite_differences(total, given)


def finite_difference_gradient(row, mode):
    return _finite_differences(row.name, mode)


@pytest.mark.parametrize("row", ROWS)
def test_forbidden_modes_are_refused(row):
    for mode, message in row.refused:
        with pytest.raises(UserError, match=message):
            row.with_mode(mode)


@pytest.mark.parametrize(
    "row", [p for p in ROWS if isinstance(p.values[0].routing, UniformRouting)]
)
def test_a_routing_without_iterations_has_no_gradient_field(row):
    assert {field.name for field in dataclasses.fields(row.routing)} == {"kind"}


@pytest.mark.parametrize("kind", sorted(VOTES))
@pytest.mark.parametrize(
    "row", [p for p in ROWS if isinstance(p.values[0].routing, IterativeRouting)]
)
def test_one_iteration_is_the_first_coupling(row, kind):
    """One readout, no update: the coupling is the same for all parents, so it is uniform routing."""
    given = single(row)
    result = run(dataclasses.replace(row.routing, num_iters=1), kind, *given)
    assert not np.any(result.logits)
    places = N_J + 1 if row.leaky else N_J
    close(result.coupling, np.full((B, N_I, N_J), 1 / places, np.float32))
    if not row.leaky:
        close(result._replace(residual=None), run(UniformRouting(), kind, *given), atol=1e-7)
