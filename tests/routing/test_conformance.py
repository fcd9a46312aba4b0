"""Every routing × every property that a routing has to have; the rows are in `table.py`."""

import copy
import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.gradients import ClosedForm, FullGradient
from capsjax.routing import AgreementRouting, IterativeRouting, Routing, UniformRouting
from capsjax.votes import mask
from tests.oracles import numerics as oracle_numerics
from tests.oracles.routing import finite_differences
from tests.routing.kinds import KINDS, MASKED, Kind
from tests.routing.table import N_I, N_J, TABLE, B, Given, Row, arrays, bars, reordered

ROWS = [pytest.param(row, id=row.name) for row in TABLE]
CASES = [
    pytest.param(row, kind, id=f"{row.name}-{kind.name}")
    for row in TABLE
    for kind in KINDS
    if kind.name in row.kinds
]


def mode_name(mode):
    """Such as `stop`, `full`, `full-True` and `truncated-1`."""
    if mode is None:
        return "live"
    options = [str(value) for name, value in vars(mode).items() if name != "kind"]
    return "-".join([mode.kind, *(option for option in options if option != "False")])


MODES = [
    pytest.param(row, kind, mode, id=f"{row.name}-{kind.name}-{mode_name(mode)}")
    for row in TABLE
    for kind in KINDS
    if kind.name in row.kinds
    for mode in row.modes or (None,)
]


def route(routing: Routing, votes, given: Given, trace=False):
    """Give a routing what it takes."""
    takes = {"poses": given.u, "activation": given.activation}
    taken = {name: takes[name] for name in routing.takes}
    return routing(votes, **taken, params=given.params, trace=trace)


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("trace",))
def run(routing, kind, given, trace=False):
    return route(routing, kind(given.u, given.W), given, trace)


@functools.partial(jax.jit, static_argnums=(0, 1))
def run_gradient(routing, kind, given, bars):
    """The result, and the gradient of its product with a cotangent, with respect to all that is given."""

    def total(given):
        result = route(routing, kind(given.u, given.W), given)
        product = sum(jnp.sum(bar * getattr(result, name)) for name, bar in bars._asdict().items())
        return product, result

    gradient, result = jax.grad(total, has_aux=True)(given)
    return result, gradient


def single(row, seed=0):
    return jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), arrays(row, seed))


def double(row):
    return jax.tree.map(jnp.asarray, arrays(row))


def close(found, expected, *, rtol=1e-5, atol=1e-6):
    chex.assert_trees_all_close(found, expected, rtol=rtol, atol=atol)


def allowed(kind: Kind):
    """Which child may vote for which parent, [i, j]."""
    return np.ones((N_I, N_J), bool) if kind.allowed is None else np.array(kind.allowed)


def test_the_table_has_every_routing():
    known = {cls for cls in Routing.variants() if cls.__module__.startswith("capsjax.")}
    assert {type(row.routing) for row in TABLE} == known


@pytest.mark.parametrize(("row", "kind"), CASES, scope="module")
class TestForward:
    def test_shapes(self, row, kind):
        given = single(row)
        result = run(row.routing, kind, given)
        e = given.W.shape[-1]
        assert result.pose.shape == (B, N_J, e)
        assert result.coupling.shape == result.logits.shape == (B, N_I, N_J)
        assert result.activation.shape == (B, N_J)
        assert result.trace is None
        assert (result.residual is not None) == row.residual
        if row.residual:
            assert result.residual.shape == (B,)

    def test_couplings_of_a_child_add_up_to_one(self, row, kind):
        result = run(row.routing, kind, single(row))
        total = np.sum(result.coupling, axis=-1)
        np.testing.assert_array_equal(np.asarray(result.coupling) > 0, [allowed(kind)] * B)
        if row.leaky:
            assert np.all(total < 1 - 1e-4)
        else:
            close(total, np.ones((B, N_I)))

    def test_the_order_of_the_children_does_not_matter(self, row, kind):
        given = single(row)
        order = np.roll(np.arange(N_I), 1)
        result = run(row.routing, kind, given)
        permuted = run(
            row.routing, kind.rearranged(children=order), reordered(row, given, "i", order)
        )
        close(permuted.pose, result.pose)
        close(permuted.activation, result.activation)
        close(permuted.coupling, result.coupling[:, order])
        close(permuted.logits, result.logits[:, order])

    def test_the_order_of_the_parents_is_that_of_the_result(self, row, kind):
        given = single(row)
        order = np.roll(np.arange(N_J), 1)
        result = run(row.routing, kind, given)
        permuted = run(
            row.routing, kind.rearranged(parents=order), reordered(row, given, "j", order)
        )
        close(permuted.pose, result.pose[:, order])
        close(permuted.activation, result.activation[:, order])
        close(permuted.coupling, result.coupling[..., order])
        close(permuted.logits, result.logits[..., order])

    def test_what_is_masked_is_as_if_it_were_not_there(self, row, kind):
        """Not its numbers, not its gradient: of the rest the result is that of the rest alone."""
        given = single(row)
        # Whatever stands there; but a NaN in votes that were formed before has reached W already.
        whatever = jnp.nan if kind.name == "linear" else 7.0
        u = given.u.at[:, 1].set(whatever)
        a = given.activation.at[:, 1].set(jnp.nan)
        children, parents = np.array([True, False, True]), np.array([True, True, False, True])
        masks = {
            "children": jnp.broadcast_to(children, (B, N_I)),
            "parents": jnp.broadcast_to(parents, (B, N_J)),
        }

        @jax.jit
        def masked(given):
            return route(row.routing, mask(kind(given.u, given.W), **masks), given, trace=True)

        hole = jnp.nan if kind.name == "linear" else 1e10
        holes = given._replace(u=u, activation=a, W=given.W.at[:, 2].set(hole))
        found, pull = jax.vjp(masked, holes)
        i, j = np.flatnonzero(children), np.flatnonzero(parents)
        rest = reordered(row, reordered(row, given, "i", i), "j", j)
        alone = run(row.routing, kind.rearranged(i, j), rest, trace=True)
        close(found.pose[:, j], alone.pose)
        close(found.activation[:, j], alone.activation)
        for name in ("coupling", "logits"):
            close(getattr(found, name)[:, i][..., j], getattr(alone, name))
        close(found.trace.coupling[:, :, i][..., j], alone.trace.coupling)
        close(found.trace.entropy, alone.trace.entropy)
        close(found.trace.agreement, alone.trace.agreement)
        assert not np.any(found.pose[:, ~parents])
        assert not np.any(found.activation[:, ~parents])
        assert not np.any(np.asarray(found.coupling)[:, ~children])
        assert not np.any(np.asarray(found.coupling)[..., ~parents])
        (bar,) = pull(jax.tree.map(jnp.ones_like, found))
        chex.assert_tree_all_finite(bar)
        assert not np.any(np.asarray(bar.u)[:, ~children])
        assert not np.any(np.asarray(bar.activation)[:, ~children])
        assert np.any(np.asarray(bar.u)[:, children])
        for name, axes in row.params.items():
            if "j" in axes:
                assert not np.any(bar.params[name].take(np.flatnonzero(~parents), axes.index("j")))

    def test_leading_axes_are_batch(self, row, kind):
        """None, one and two of them, and a `vmap` over one: the same examples, the same results."""
        given = single(row)
        u, a = given.u, given.activation
        result = run(row.routing, kind, given)
        mapped = jax.vmap(lambda u, a: run(row.routing, kind, given._replace(u=u, activation=a)))(
            u, a
        )
        close(mapped, result)
        alone = run(row.routing, kind, given._replace(u=u[0], activation=a[0]))
        close(alone, jax.tree.map(lambda leaf: leaf[0], result))
        more = given._replace(
            u=jnp.stack([u, u[::-1], 2 * u]), activation=jnp.stack([a, a[::-1], a])
        )
        twice = run(row.routing, kind, more)
        assert twice.pose.shape[:2] == (3, B)
        close(jax.tree.map(lambda leaf: leaf[0], twice), result)
        close(jax.tree.map(lambda leaf: leaf[1, ::-1], twice), result)

    def test_an_example_does_not_depend_on_the_rest_of_the_batch(self, row, kind):
        given = single(row)
        result = run(row.routing, kind, given)
        other = run(row.routing, kind, given._replace(u=given.u.at[1:].multiply(-3.0)))
        first = jax.tree.map(lambda leaf: leaf[0], result)
        chex.assert_trees_all_equal(jax.tree.map(lambda leaf: leaf[0], other), first)
        assert not np.allclose(other.pose[1], result.pose[1])
        sliced = run(
            row.routing, kind, given._replace(u=given.u[:1], activation=given.activation[:1])
        )
        close(jax.tree.map(lambda leaf: leaf[0], sliced), first)

    def test_an_empty_batch_gives_an_empty_result(self, row, kind):
        given = single(row)
        none = given._replace(u=given.u[:0], activation=given.activation[:0])
        assert run(row.routing, kind, none).pose.shape == (0, *given.W.shape[1::2])

    def test_eager_equals_jit(self, row, kind):
        given = single(row)
        result = run(row.routing, kind, given)
        close(route(row.routing, kind(given.u, given.W), given), result)
        with jax.disable_jit():
            close(route(row.routing, kind(given.u, given.W), given), result)

    def test_bfloat16_in_and_out_and_float32_inside(self, row, kind):
        given = jax.tree.map(lambda array: array.astype(jnp.bfloat16), single(row))
        votes = kind(given.u, given.W)
        result = route(row.routing, votes, given, trace=True)
        assert {leaf.dtype for leaf in jax.tree.leaves(result)} == {jnp.dtype(jnp.bfloat16)}

        def widen(array):
            return array if array.dtype == bool else array.astype(jnp.float32)

        wide = route(row.routing, *jax.tree.map(widen, (votes, given)), trace=True)
        chex.assert_trees_all_equal(
            result, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), wide)
        )

    def test_zero_and_huge_votes_in_bfloat16_give_finite_numbers(self, row, kind):
        mode = row.modes[-1] if row.modes else None
        check_extremes(row, mode, kind, jnp.bfloat16)

    def test_abstract_evaluation(self, row, kind):
        given = single(row)
        result = run(row.routing, kind, given)
        abstract = jax.eval_shape(
            lambda given: route(row.routing, kind(given.u, given.W), given), given
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(abstract, result)

    def test_the_oracle_agrees(self, row, kind, x64):
        result = run(row.routing, kind, double(row))
        with oracle_numerics.pairs(kind.allowed):
            expected = row.oracle(*arrays(row))
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(result, name), leaf, rtol=1e-12, atol=1e-13)

    def test_the_trace_shows_the_iterations_and_changes_nothing(self, row, kind, x64):
        given = double(row)
        seen = run(row.routing, kind, given, trace=True)
        with oracle_numerics.pairs(kind.allowed):
            expected = row.trace(*arrays(row))
        assert len(seen.trace.coupling) == getattr(row.routing, "num_iters", 1)
        for name, leaf in expected._asdict().items():
            np.testing.assert_allclose(getattr(seen.trace, name), leaf, rtol=1e-12, atol=1e-13)
        close(seen.trace.coupling[-1], seen.coupling, rtol=1e-14, atol=0)
        close(seen._replace(trace=None), run(row.routing, kind, given), rtol=1e-14, atol=1e-15)


# Of module scope, so that the tests of one case follow each other and share what was compiled.
@pytest.mark.parametrize(("row", "kind", "mode"), MODES, scope="module")
class TestGradient:
    def test_it_is_the_gradient_of_the_frozen_function(self, row, kind, mode, x64):
        _, found = run_gradient(row.with_mode(mode), kind, double(row), bars())
        expected = finite_difference_gradient(row.name, kind.allowed, mode)
        for one, other in zip(jax.tree.leaves(found), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)

    def test_it_is_the_gradient_by_hand(self, row, kind, mode, x64):
        if row.gradient is None or kind.allowed is not None:
            return  # Where nothing is derived by hand, the test above has to do.
        _, found = run_gradient(row.with_mode(mode), kind, double(row), bars())
        expected = row.gradient(*arrays(row), bars(), mode)
        for one, other in zip((found.u, found.W, *found.params.values()), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)

    def test_the_mode_does_not_change_the_result(self, row, kind, mode):
        given = single(row)
        result, _ = run_gradient(row.with_mode(mode), kind, given, cotangent(jnp.float32))
        close(result, run(row.routing, kind, given))

    def test_zero_and_huge_votes_give_finite_numbers(self, row, kind, mode):
        check_extremes(row, mode, kind, jnp.float32)

    def test_gradients_do_not_cross_the_batch(self, row, kind, mode):
        given = single(row)
        changed = given._replace(u=given.u.at[1:].multiply(-3.0))
        routing, bar = row.with_mode(mode), cotangent(jnp.float32)
        (_, one), (_, other) = (run_gradient(routing, kind, x, bar) for x in (given, changed))
        np.testing.assert_array_equal(one.u[0], other.u[0])
        assert not np.allclose(one.u[1], other.u[1])

    def test_equal_configurations_compile_once(self, row, kind, mode):
        routing = row.with_mode(mode)
        twin = copy.deepcopy(routing)
        chex.clear_trace_counter()
        assert twin is not routing
        assert twin == routing
        assert hash(twin) == hash(routing)

        @functools.partial(jax.jit, static_argnums=0)
        @chex.assert_max_traces(n=1)
        def pose(routing, given):
            return route(routing, kind(given.u, given.W), given).pose

        given = single(row)
        assert pose.lower(routing, given).as_text() == pose.lower(twin, given).as_text()


def cotangent(dtype):
    return jax.tree.map(lambda bar: jnp.asarray(bar, dtype), bars())


def check_extremes(row, mode, kind, dtype):
    routing, given = row.with_mode(mode), single(row)
    squashed = isinstance(routing, AgreementRouting | UniformRouting)
    given = jax.tree.map(lambda array: array.astype(dtype), given)
    # No loss asks for the logits: they grow with the votes, and the gradient of one of 1e30 passes
    # through numbers of 1e60.
    bar = cotangent(dtype)._replace(logits=jnp.zeros((B, N_I, N_J), dtype))
    nothing = jax.tree.map(jnp.zeros_like, given.params)
    for scale in (0.0, 1e-30, 1e30):
        # A loss is of the order of 1: where poses are as large as votes, it has made them small.
        shrink = 1.0 if squashed else 1 / max(scale, 1.0)
        own = bar._replace(pose=bar.pose * jnp.asarray(shrink, dtype))
        for params in (nothing, given.params):
            scaled = given._replace(u=given.u * jnp.asarray(scale, dtype), params=params)
            found = run_gradient(routing, kind, scaled, own)
            chex.assert_tree_all_finite(found)


@functools.cache
def finite_difference_gradient(name, pairs, mode):
    row: Row = next(row for row in TABLE if row.name == name)
    leaves, tree = jax.tree.flatten(arrays(row))
    with oracle_numerics.pairs(pairs):
        live = row.frozen(*jax.tree.unflatten(tree, leaves), mode)

        def total(*leaves):
            result = live(*jax.tree.unflatten(tree, leaves))
            return sum(np.sum(bar * leaf) for bar, leaf in zip(bars(), result, strict=True))

        return finite_differences(total, leaves)


@pytest.mark.parametrize("row", ROWS)
def test_masks_of_all_true_change_nothing(row, full_optimisation):
    """To the bit, in value and gradient, by the last of its modes: masks are the pairs', not the mode's.

    As users compile it: the other tests' compiler rounds otherwise beside a mask, and so does what remat
    computes again.
    """
    modes = [mode for mode in row.modes if mode != FullGradient(remat=True)]
    routing, given = row.with_mode(modes[-1] if modes else None), single(row)
    linear = next(kind for kind in KINDS if kind.name == "linear")
    bars = cotangent(jnp.float32)
    found, expected = (
        run_gradient.lower(routing, kind, given, bars).compile(full_optimisation)(given, bars)
        for kind in (MASKED, linear)
    )
    chex.assert_trees_all_equal(found, expected)


@pytest.mark.parametrize("row", ROWS)
def test_forbidden_modes_are_refused(row):
    for mode, message in row.refused:
        with pytest.raises(UserError, match=message) as raised:
            row.with_mode(mode)
        # In Python and in a configuration it names none that is refused too.
        for said in (str(raised.value), raised.value.on_command_line):
            advised = said.partition("expected")[2]
            for other in (FullGradient(), ClosedForm()):
                if re.search(rf"{type(other).__name__}\(|\b{other.kind}\b", advised):
                    row.with_mode(other)


@pytest.mark.parametrize(
    "row", [p for p in ROWS if not isinstance(p.values[0].routing, IterativeRouting)]
)
def test_a_routing_without_iterations_has_no_gradient_field(row):
    assert {field.name for field in dataclasses.fields(row.routing)} == {"kind"}


@pytest.mark.parametrize(
    ("row", "kind"), [p for p in CASES if isinstance(p.values[0].routing, IterativeRouting)]
)
def test_one_iteration_is_the_first_coupling(row, kind):
    """One readout, no update: a child divides itself equally, so it is uniform routing."""
    given = single(row)
    begun = {
        name: 0 * array if name in row.start else array for name, array in given.params.items()
    }
    given = given._replace(params=begun)
    result = run(dataclasses.replace(row.routing, num_iters=1), kind, given)
    assert row.start or not np.any(result.logits)
    places = allowed(kind).sum(-1, keepdims=True) + row.leaky
    shares = np.broadcast_to(allowed(kind) / places, (B, N_I, N_J))
    close(result.coupling, shares.astype(np.float32))
    if isinstance(row.routing, AgreementRouting) and not row.leaky:
        close(result._replace(residual=None), run(UniformRouting(), kind, given), atol=1e-7)
