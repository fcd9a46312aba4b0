"""Routing in blocks of children, for many parents, is routing of all children at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import ClosedForm, FullGradient
from capsjax.routing import DynamicRouting, EMRouting, Sizes
from capsjax.votes import DenseVotes, child_blocks, mask, over_parents, predict, window_votes

BATCH, CHILDREN, PARENTS, D, E = 2, 6, 3, 2, 4
RNG = np.random.default_rng(0)
U, W, BIAS = (
    jnp.asarray(RNG.normal(size=shape), jnp.float32)
    for shape in ((BATCH, CHILDREN, D), (CHILDREN, PARENTS, D, E), (PARENTS, E))
)
WEIGHTS = jnp.asarray(RNG.normal(size=(2, BATCH, CHILDREN, PARENTS)), jnp.float32)


@pytest.mark.parametrize(("parents", "blocks"), [(10, 1), (100, 1), (1000, 6)])
def test_only_many_parents_are_worked_through_in_blocks(parents, blocks):
    found = []

    def count(u, W):
        found.append(child_blocks.count(predict(u, W).arranged()))

    shapes = (128, 1152, 8), (1152, parents, 8, 16)
    jax.eval_shape(count, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))
    assert found == [blocks]
    assert child_blocks.TOGETHER * 4 == 2**27  # 128 MB, as its comment says


def test_blocks_divide_the_children_and_are_as_few_as_fit(monkeypatch):
    pairs = BATCH * PARENTS
    for fitting, blocks in ((6, 1), (5, 2), (3, 2), (2, 3), (1, 6), (0, 6)):
        monkeypatch.setattr(child_blocks, "TOGETHER", fitting * pairs)
        assert child_blocks.count(predict(U, W).arranged()) == blocks


def test_what_cannot_be_cut_is_one_block(monkeypatch):
    monkeypatch.setattr(child_blocks, "TOGETHER", 1)
    votes = predict(U, W)
    assert child_blocks.count(votes.arranged()) == CHILDREN
    masked = mask(votes, children=jnp.ones((BATCH, CHILDREN), bool))
    for other in (DenseVotes(votes.dense()), masked):
        assert child_blocks.count(other.arranged()) == 1


@pytest.mark.parametrize("num_iters", [1, 2, 3])
@pytest.mark.parametrize("leaky", [False, True])
def test_value_and_gradient_do_not_depend_on_blocks(num_iters, leaky, monkeypatch):
    """Also where coupling and logits have gradients of their own."""
    routing = DynamicRouting(num_iters=num_iters, gradient=ClosedForm(), leaky=leaky)

    def loss(u, W, bias):
        routed = routing(predict(u, W), params={"bias": bias})
        pairs = routed.coupling * WEIGHTS[0] + jnp.sin(routed.logits) * WEIGHTS[1]
        return jnp.sum(jnp.cos(routed.pose)) + jnp.sum(pairs)

    def found():
        jax.clear_caches()  # of what was traced in one block
        return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(U, W, BIAS)

    whole = found()
    monkeypatch.setattr(child_blocks, "TOGETHER", 2 * BATCH * PARENTS)
    monkeypatch.setattr(over_parents, "LARGE", 0)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), found(), whole
    )


def test_blocks_bound_the_memory_of_pairs(monkeypatch):
    """In one block the backward pass holds several arrays of all pairs at once."""
    routing, parents = DynamicRouting(num_iters=3, gradient=ClosedForm()), 40
    shapes = (32, 64, 2), (64, parents, 2, 2)

    def loss(u, W):
        return jnp.sum(routing(predict(u, W)).pose ** 2)

    def memory():
        jax.clear_caches()
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        lowered = jax.jit(jax.grad(loss, (0, 1))).lower(*given)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    pairs = 32 * 64 * parents
    assert memory() > 5 * 4 * pairs
    monkeypatch.setattr(child_blocks, "TOGETHER", pairs // 8)
    in_blocks = memory()
    monkeypatch.setattr(over_parents, "LARGE", pairs // 16)
    assert memory() < in_blocks
    assert memory() < 3.5 * 4 * pairs


def test_what_is_large_is_written_to_arrays_that_are_there(monkeypatch):
    def step(total, x, held):
        return total + x, (2 * x, held[1] + x)

    def scan():
        held = jnp.full(3, jnp.nan), jnp.asarray([10.0, 20.0, 30.0])
        return over_parents.over_parents(step, 0.0, jnp.arange(3.0), held)

    once = scan()
    assert not over_parents.large(jax.ShapeDtypeStruct((2**19,), jnp.float32))
    assert over_parents.large(jax.ShapeDtypeStruct((2**19 + 1,), jnp.float32))
    monkeypatch.setattr(over_parents, "LARGE", 2)
    jax.tree.map(np.testing.assert_array_equal, scan(), once)
    np.testing.assert_array_equal(once[1], [[0, 2, 4], [10, 21, 32]])
    assert "dynamic_update_slice" in str(jax.make_jaxpr(scan)())


@pytest.mark.parametrize(
    "routing",
    [
        DynamicRouting(gradient=ClosedForm()),
        DynamicRouting(gradient=FullGradient()),
        EMRouting(num_iters=2, gradient=FullGradient()),
    ],
    ids=["closed form", "full", "EM"],
)
def test_where_loops_of_large_arrays_write_to_changes_nothing(routing, monkeypatch):
    """Of votes of a convolution, also what is differentiated twice."""
    u, matrices = RNG.normal(size=(BATCH, 4, 3, 2, D)), RNG.normal(size=(2, 2, 2, PARENTS, D, E))
    known = routing.parameters(Sizes(i=8, j=PARENTS, d=D, e=E))
    trained = {name: jnp.full(one.shape, 0.1) for name, one in known.items()}

    def loss(u, matrices, trained):
        votes = window_votes(u, matrices)
        present = jnp.full(votes.shape[:-2], 0.5)
        given = {"activation": present} if isinstance(routing, EMRouting) else {}
        return jnp.sum(jnp.sin(routing(votes, params=trained, **given).pose))

    def steepness(*arrays):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(jax.grad(loss, (0, 1, 2))(*arrays)))

    def found():
        jax.clear_caches()
        return jax.jit(jax.value_and_grad(steepness, (0, 1, 2)))(u, matrices, trained)

    scanned = found()
    monkeypatch.setattr(over_parents, "LARGE", 0)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), found(), scanned
    )
