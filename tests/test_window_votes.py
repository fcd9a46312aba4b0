"""Votes of a convolution: against loops, against finite differences, and against votes of other kinds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.routing import Routing
from capsjax.votes import DenseVotes, Votes, WindowVotes
from capsjax.votes.grid import Window
from tests.oracles import window as oracle

# (grid, kernel, stride, types of children, types of parents, p, d, e): windows that overlap, with corners,
# borders and a middle; oblong and even ones with a stride, of pose matrices; and with gaps between.
OVERLAPPING = ((4, 3), (3, 2), 1, 2, 2, 1, 2, 3)
MATRICES = ((5, 6), (2, 4), 2, 1, 2, 2, 3, 2)
APART = ((5, 5), (2, 2), 3, 2, 1, 1, 3, 2)
CASES = (OVERLAPPING, MATRICES, APART)
BATCH = 2
MODES = (
    cj.StopGradient(),
    cj.FullGradient(),
    cj.ClosedForm(),
    cj.TruncatedGradient(last=1),
)


def arrays(case, seed=0):
    """Poses, matrices and a bias, float64."""
    grid, kernel, _, a, j, p, d, e = case
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(BATCH, *grid, a, p, d))
    W = rng.normal(size=(*kernel, a, j, d, e))
    return u, W, 0.3 * rng.normal(size=(j, p, e))


def made(case, share, u, W):
    p, stride = case[5], case[2]
    if p == 1:
        return cj.window_votes(u[..., 0, :], W, stride=stride, share=share)
    return cj.window_votes(u, W, stride=stride, share=share)


@functools.partial(jax.jit, static_argnums=(0, 1))
def operations(case, share, u, W, coupling, pose):
    """What votes are asked for, of the votes and of the same laid out for the iterations."""
    votes = made(case, share, u, W)
    held = votes.arranged()
    to_array, from_array = held.pairs.to_array, held.pairs.from_array
    c = from_array(coupling)
    return {
        "dense": (votes.dense(), held.dense()),
        "combine": (votes.combine(coupling), held.combine(c)),
        "agreement": (votes.agreement(pose), to_array(held.agreement(pose))),
        "uniform": (votes.uniform(), held.uniform()),
        "couple": (votes.couple(coupling), to_array(held.couple(c))),
        "leaky": (votes.couple(coupling, True), to_array(held.couple(c, True))),
        "pulled": (
            votes.pairs.couple_vjp(votes.couple(coupling), coupling),
            to_array(held.pairs.couple_vjp(held.couple(c), c)),
            jax.vjp(votes.couple, coupling)[1](coupling)[0],
        ),
        "scatter": (Votes.scatter(votes, coupling, pose), held.scatter(c, pose)),
        "distance": (
            Votes.distance(votes, pose, pose**2),
            to_array(held.distance(pose, pose**2)),
        ),
    }


@pytest.mark.parametrize("share", ["child", "position"])
@pytest.mark.parametrize("case", CASES, ids=["overlapping", "matrices", "apart"])
def test_all_that_votes_are_asked_for_is_what_loops_find(case, share, x64):
    u, W, _ = arrays(case)
    grid, stride = case[0], case[2]
    dense = oracle.votes(u, W, stride)  # [b, y, x, k, l, a, j, p, e]
    rng = np.random.default_rng(1)
    coupling = rng.normal(size=dense.shape[:-2])
    pose = rng.normal(size=(*dense.shape[:3], *dense.shape[6:]))  # [b, y, x, j, p, e]
    b, y, x, *_, j, p, e = dense.shape
    pairs, poses = (b, y, x, -1, j), (b, y, x, j, p * e)
    found = operations(case, share, u, W, coupling.reshape(pairs), pose.reshape(poses))

    evenly, coupled = (
        oracle.couple(b, grid, stride, share) for b in (np.zeros_like(coupling), coupling)
    )
    spread = dense - pose[:, :, :, None, None, None]
    expected = {
        "dense": dense.reshape(b, y, x, -1, j, p * e),
        "combine": oracle.combine(coupling, dense).reshape(poses),
        "agreement": oracle.agreement(pose, dense).reshape(pairs),
        "uniform": oracle.combine(evenly, dense).reshape(poses),
        "couple": coupled.reshape(pairs),
        "leaky": oracle.couple(coupling, grid, stride, share, leaky=True).reshape(pairs),
        "scatter": oracle.combine(coupling, spread**2).reshape(poses),
        "distance": oracle.agreement(pose**2, spread**2).reshape(pairs),
    }
    for name, one in expected.items():
        for way in found[name]:
            np.testing.assert_allclose(way, one, rtol=1e-10, atol=1e-12, err_msg=name)
    for way in found["pulled"][:2]:
        np.testing.assert_allclose(way, found["pulled"][2], rtol=1e-10, atol=1e-12)


def test_a_child_has_as_many_parents_as_windows_see_it():
    """Coupled per position, a child in the middle of 3 by 3 windows would count nine times."""
    u, W = jnp.ones([1, 5, 5, 1, 2]), jnp.ones([3, 3, 1, 1, 2, 2])
    windows = Window((3, 3), 1, (5, 5))
    assert windows.counts() == ((1, 2, 3, 2, 1), (1, 2, 3, 2, 1))
    assert Window((2, 4), 3, (6, 4)).counts() == ((1, 1, 0, 1, 1, 0), (1, 1, 1, 1))
    for share, middle, corner in (("child", 1, 1), ("position", 9, 1)):
        coupling = cj.UniformRouting()(cj.window_votes(u, W, share=share)).coupling
        held = jnp.moveaxis(coupling[..., 0], (3, 0), (0, 3))  # [k l a, y, x, b]
        total = windows.scatter(held, jnp.add, 0)[..., 0]
        assert total[2, 2] == pytest.approx(middle)
        assert total[0, 0] == pytest.approx(corner)


def routed(case, share, mode, u, W, bias):
    j, p, e = bias.shape
    return cj.dynamic_routing(made(case, share, u, W), gradient=mode, bias=bias.reshape(j, p * e))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def gradient(case, share, mode, arrays, bar):
    def total(arrays):
        result = routed(case, share, mode, *arrays)
        return jnp.sum(result.pose * bar), result

    return jax.grad(total, has_aux=True)(arrays)


def frozen(case, share, mode, u, W, bias):
    """The function whose gradient a mode gives: what it stops is held at its value for these arrays."""
    stride = case[2]
    if isinstance(mode, cj.StopGradient):
        _, c, _ = oracle.dynamic(u, W, bias, stride, share)
        return lambda u, W, bias: oracle.readout(c, oracle.votes(u, W, stride), bias)
    if isinstance(mode, cj.TruncatedGradient):
        _, _, b = oracle.dynamic(u, W, bias, stride, share, num_iters=2)
        last = functools.partial(oracle.dynamic, num_iters=2, logits=b)
        return lambda u, W, bias: last(u, W, bias, stride, share)[0]
    return lambda u, W, bias: oracle.dynamic(u, W, bias, stride, share)[0]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.kind)
@pytest.mark.parametrize(
    ("case", "share"),
    [(OVERLAPPING, "child"), (MATRICES, "child"), (OVERLAPPING, "position")],
    ids=["overlapping", "matrices", "position"],
)
def test_routing_and_its_gradient_are_those_of_loops(case, share, mode, x64):
    given = arrays(case)
    pose, coupling, logits = oracle.dynamic(*given, case[2], share)
    rng = np.random.default_rng(2)
    bar = rng.normal(size=pose.shape)
    *batch, j, p, e = pose.shape
    found, result = gradient(case, share, mode, given, bar.reshape(*batch, j, p * e))
    np.testing.assert_allclose(result.pose, pose.reshape(result.pose.shape), rtol=1e-9)
    for name, one in (("coupling", coupling), ("logits", logits)):
        np.testing.assert_allclose(
            getattr(result, name), one.reshape(result.coupling.shape), rtol=1e-9, atol=1e-12
        )
    # Along random directions, by differences of fourth order.
    function, step = frozen(case, share, mode, *given), 1e-3
    for seed in range(2):
        ways = [np.random.default_rng(seed + 3).normal(size=one.shape) for one in given]

        def at(t, ways=ways):
            moved = (one + t * way for one, way in zip(given, ways, strict=True))
            return np.sum(bar * function(*moved))

        slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        along = sum(float(np.vdot(g, way)) for g, way in zip(found, ways, strict=True))
        assert along == pytest.approx(slope, rel=1e-7, abs=1e-8)


@dataclasses.dataclass(frozen=True, repr=False)
class Derived(Votes):
    """The same votes formed, with all that `Votes` derives from `combine`."""

    array: jax.Array
    like: WindowVotes

    shape = property(lambda self: self.array.shape)
    dtype = property(lambda self: self.array.dtype)
    pairs = property(lambda self: self.like.pairs)

    def combine(self, coupling):
        return jnp.einsum("...ij,...ije->...je", coupling, self.array)


FULL = cj.FullGradient()
ROUTINGS = (
    cj.EMRouting(num_iters=2, gradient=FULL),
    cj.SelfRouting(),
    cj.FixedPointRouting(num_iters=4, gradient=cj.ImplicitGradient()),
    cj.DynamicRouting(num_iters=5, tolerance=0.02),
    cj.EMRouting(num_iters=2, gradient=FULL, form="released"),
    cj.VariationalRouting(num_iters=2, gradient=FULL),
    cj.HeinsenRouting(num_iters=2, gradient=FULL),
    cj.InvertedAttentionRouting(num_iters=2, gradient=FULL),
    cj.SelfAttentionRouting(gradient=FULL),
    cj.InterestRouting(num_iters=3, gradient=cj.ClosedForm()),
    cj.SoftKMeansRouting(num_iters=3, gradient=FULL),
    cj.SoftKMeansRouting(num_iters=3, gradient=cj.ClosedForm()),
    cj.SlotAttentionRouting(num_iters=2, gradient=FULL, hidden=2),
)
SEEN_TWICE = (
    (2, 3),
    (2, 2),
    1,
    1,
    2,
    2,
    2,
    2,
)  # pose matrices; two windows share a column of children


def named(routing):
    return "-".join(
        str(getattr(part, name))
        for part, name in ((routing, "kind"), (routing, "form"), (routing, "gradient"))
        if hasattr(part, name) and name != "gradient"
    ) + (f"-{routing.gradient.kind}" if hasattr(routing, "gradient") else "")


def test_every_routing_is_tried():
    known = {cls for cls in Routing.variants() if cls.__module__.startswith("capsjax.")}
    assert known == {*map(type, ROUTINGS), cj.UniformRouting}  # which is in `operations`


@pytest.mark.parametrize("share", ["child", "position"])
@pytest.mark.parametrize("routing", ROUTINGS, ids=named)
def test_every_routing_takes_them(routing, share, x64, as_installed):
    """Pose matrices, windows that overlap, a child and a parent left out: as of votes formed."""
    u, W, _ = map(jnp.asarray, arrays(SEEN_TWICE))
    rng = np.random.default_rng(4)
    params = {
        name: jnp.asarray(rng.normal(size=one.shape)) / (5000 if "activation_b" in name else 1)
        for name, one in routing.parameters(cj.routing.Sizes(4, 2, 4, 4)).items()
    }
    here, there = np.ones((BATCH, 2, 3, 1), bool), np.ones((BATCH, 1, 2, 2), bool)
    here[0, 0, 1] = False  # both windows see it
    there[1, 0, 1, 0] = False

    @functools.partial(jax.jit, static_argnums=0)
    def run(formed, given, here, there):
        def total(given):
            u, W, params = given
            votes = made(SEEN_TWICE, share, u, W)
            takes = {
                "poses": votes.seen(u.reshape(*u.shape[:-2], -1)),
                "activation": votes.seen(jax.nn.sigmoid(u[..., 0, 0])),
            }
            taken = {name: takes[name] for name in routing.takes}
            votes = cj.mask(votes, children=votes.seen(here), parents=there)
            like = jax.lax.stop_gradient(votes)
            asked = Derived(votes.dense(), like, masks=votes.masks) if formed else votes
            result = routing(asked, **taken, params=params)
            return jnp.sum(jnp.sin(result.pose)) + jnp.sum(jnp.cos(result.activation)), result

        return jax.grad(total, has_aux=True)(given)

    given = (u, W, params), jnp.asarray(here), jnp.asarray(there)
    (found, result), expected = run(False, *given), run(True, *given)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9),
        (found, result),
        expected,
    )
    assert not np.any(np.asarray(found[0])[~here])
    assert not np.any(np.asarray(result.pose)[~there])
    assert np.all(np.any(np.asarray(found[0])[here], axis=(-2, -1)))
    # Of the children that two windows see, which share decides.
    coupled = np.asarray(result.coupling).sum(-1)[:, 0]  # [b, x, k l]
    both = coupled[1, 0, 1] + coupled[1, 1, 0]
    assert both == pytest.approx(1 if share == "child" else 2)


@pytest.mark.parametrize("mode", MODES[:3], ids=lambda mode: mode.kind)
def test_a_grid_of_one_position_is_linear_to_the_bit(mode):
    """As tests are compiled: optimised, the closed form's sums are fused, and rounded otherwise."""
    u = jax.random.normal(jax.random.key(0), [3, 4, 2])
    W = jax.random.normal(jax.random.key(1), [4, 3, 2, 5])

    @functools.partial(jax.jit, static_argnums=0)
    def run(windows, u, W):
        def total(u, W):
            votes = (
                cj.window_votes(u[:, None, None], W[None, None]) if windows else cj.predict(u, W)
            )
            result = cj.dynamic_routing(votes, gradient=mode)
            return jnp.sum(result.pose**2), result

        return jax.grad(total, (0, 1), has_aux=True)(u, W)

    for one, other in zip(*(jax.tree.leaves(run(w, u, W)) for w in (True, False)), strict=True):
        np.testing.assert_array_equal(np.asarray(one).reshape(other.shape), other)


def test_of_positions_that_share_children_the_updates_end_together():
    """A tolerance is that of an example: positions alone would stop while their children still move."""
    u, W, _ = (jnp.asarray(x, jnp.float32) for x in arrays(OVERLAPPING))
    result = jax.jit(
        lambda u, W: cj.DynamicRouting(num_iters=9, tolerance=0.05)(
            made(OVERLAPPING, "child", u, W)
        )
    )(u, W)
    assert result.residual.shape == (BATCH, 2, 2)
    assert np.all(np.ptp(np.asarray(result.residual), axis=(1, 2)) == 0)
    assert result.residual[0, 0, 0] != result.residual[1, 0, 0]


@pytest.mark.parametrize("share", ["child", "position"])
def test_what_is_masked_is_as_if_it_were_not_there(share):
    """A child that no window may see, with NaN in it, and a parent that is nowhere."""
    u, W, _ = (jnp.asarray(x, jnp.float32) for x in arrays(OVERLAPPING))
    here = np.ones((BATCH, 4, 3, 2), bool)
    here[0, 1, 1, 1] = False

    @jax.jit
    def run(u, W, hole):
        def total(u, W):
            votes = made(OVERLAPPING, share, jnp.where(here[..., None, None], u, hole), W)
            parents = jnp.broadcast_to(jnp.array([True, False]), (BATCH, 2, 2, 2))
            votes = cj.mask(votes, children=votes.seen(jnp.asarray(here)), parents=parents)
            result = cj.dynamic_routing(votes, gradient=cj.ClosedForm())
            return jnp.sum(result.pose), result

        return jax.grad(total, (0, 1), has_aux=True)(u, W)

    (u_bar, W_bar), result = run(u, W, jnp.nan)
    # With the only other parent left out, zeros there are the same as no child.
    (_, alone_bar), alone = run(u, W, 0.0)
    assert np.all(np.asarray(u_bar)[~here] == 0)
    assert np.all(np.asarray(W_bar)[:, :, :, 1] == 0)
    assert np.all(np.asarray(result.pose)[..., 1, :] == 0)
    np.testing.assert_array_equal(result.pose, alone.pose)
    np.testing.assert_array_equal(W_bar, alone_bar)
    for leaf in jax.tree.leaves((u_bar, W_bar, result)):
        assert np.all(np.isfinite(leaf))


def test_leading_axes_are_those_of_vmap_and_halves_come_back_as_halves(as_installed):
    u, W, _ = (jnp.asarray(x, jnp.float32) for x in arrays(OVERLAPPING))
    route = cj.DynamicRouting(gradient=cj.FullGradient())

    @jax.jit
    def run(u, W):
        vectors = u[..., 0, :]
        together = route(cj.window_votes(vectors, W)).pose
        several = route(cj.window_votes(vectors[:, None], W)).pose
        each = jax.vmap(lambda one: route(cj.window_votes(one, W)).pose)(vectors)
        mapped = jax.vmap(lambda votes: route(votes).pose, in_axes=(WindowVotes(0, None),))
        half = route(cj.window_votes(*(x.astype(jnp.bfloat16) for x in (vectors, W)))).pose
        return together, each, several[:, 0], mapped(cj.window_votes(vectors, W)), half

    together, *others, half = run(u, W)
    for other in others:
        np.testing.assert_allclose(other, together, rtol=1e-5, atol=1e-6)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(half.astype(jnp.float32), together, atol=0.05)


@pytest.mark.parametrize(
    ("u", "W", "options", "shape"),
    [
        ((2, 5, 4, 3, 8), (3, 2, 3, 4, 8, 16), {}, (2, 3, 3, 18, 4, 16)),
        ((5, 4, 3, 8), (3, 2, 3, 4, 8, 16), {"stride": 2}, (2, 2, 18, 4, 16)),
        ((2, 5, 4, 3, 4, 8), (3, 2, 3, 4, 8, 2), {}, (2, 3, 3, 18, 4, 8)),
        # Both readings fit: one batch axis is likelier than none or two.
        ((2, 6, 6, 4, 4, 4), (3, 3, 4, 2, 4, 4), {}, (2, 4, 4, 36, 2, 16)),
        ((6, 6, 4, 4, 4), (3, 3, 4, 2, 4, 4), {}, (6, 4, 2, 36, 2, 4)),
        ((0, 5, 5, 3, 8), (3, 3, 3, 4, 8, 16), {}, (0, 3, 3, 27, 4, 16)),
    ],
)
def test_the_shape_is_that_of_the_contract(u, W, options, shape):
    def made(u, W):
        votes = cj.window_votes(u, W, **options)
        assert votes.shape == shape
        return votes.dense()

    assert (
        jax.eval_shape(made, *(jax.ShapeDtypeStruct(s, jnp.float32) for s in (u, W))).shape == shape
    )


@pytest.mark.parametrize(
    ("u", "W", "options", "message"),
    [
        ((2, 5, 5, 3, 8), (3, 3, 4, 4, 8, 16), {}, "the same types of children a"),
        ((2, 5, 5, 3, 8), (3, 3, 3, 4, 7, 16), {}, "the same child dimension d"),
        ((2, 5, 5, 3, 8), (3, 3, 3, 0, 8, 16), {}, "nothing of size 0"),
        ((3, 8), (3, 3, 3, 4, 8, 16), {}, r"expected u \[\*batch, h, w, a, d\]"),
        ((2, 6, 6, 4, 16), (3, 3, 4, 5, 4, 2), {}, r"\[2, 6, 6, 4, 16\] .* u.reshape\(\*u"),
        ((6, 6, 4, 16), (3, 3, 4, 5, 4, 2), {}, r"4 rows are u.reshape\(1, \*u.shape"),
        ((2, 5, 5, 3, 8), (7, 3, 3, 4, 8, 16), {}, r"grid \[5, 5\] and windows \[7, 3\]"),
        ((2, 5, 5, 3, 8), (3, 3, 3, 4, 8, 16), {"stride": 0}, "stride 0"),
        ((2, 5, 5, 3, 8), (3, 3, 3, 4, 8, 16), {"share": "childs"}, "did you mean 'child'"),
    ],
)
def test_what_does_not_fit_is_refused(u, W, options, message, as_installed):
    with pytest.raises(UserError, match=message):
        cj.window_votes(jnp.ones(u), jnp.ones(W), **options)


@pytest.mark.parametrize("shape", [(2, 7, 7, 4), (2, 5, 6, 4), (5, 6, 4), (1, 5, 6, 4, 2), (2, 5)])
def test_what_is_on_another_grid_is_refused(shape, as_installed):
    """Also what is larger, whose windows would lie elsewhere, and one for all examples."""
    votes = cj.window_votes(jnp.ones((2, 6, 6, 4, 3)), jnp.ones((3, 3, 4, 5, 3, 2)))
    with pytest.raises(UserError, match=r"expected \[2, 6, 6, 4\], \[\*batch, h, w, a\]"):
        votes.seen(jnp.ones(shape))
    one_for_all = jnp.broadcast_to(jnp.ones((6, 6, 4)), (2, 6, 6, 4))
    assert votes.seen(one_for_all).shape == (2, 4, 4, 36)


# Of a cell of DeepCaps at batch 8, and of a small stack of pose matrices; the share of memory that is met.
LARGER = {
    "vector": ((8, 8, 8, 32, 1, 8), (3, 3, 32, 32, 8, 8), 2, {"child": 0.25, "position": 0.27}),
    "matrix": ((8, 8, 8, 8, 4, 4), (3, 3, 8, 8, 4, 4), 1, {"child": 0.3, "position": 0.3}),
}


@pytest.mark.parametrize("kind", LARGER)
def test_value_and_gradient_never_form_the_votes(kind):
    """Compiled only: temporary bytes against routing the same votes formed."""
    *shapes, stride, met = LARGER[kind]
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def temporary(mode, share, form):
        def total(u, W):
            votes = WindowVotes(u, W, stride=stride, share=share)
            votes = DenseVotes(votes.dense()) if form else votes
            return jnp.sum(cj.dynamic_routing(votes, gradient=mode).pose)

        program = jax.jit(jax.value_and_grad(total, (0, 1))).lower(*arrays).compile()
        return program.memory_analysis().temp_size_in_bytes

    dense = temporary(cj.ClosedForm(), "position", True)
    assert temporary(cj.StopGradient(), "child", False) < 0.14 * dense
    for share, bar in met.items():
        assert temporary(cj.ClosedForm(), share, False) < bar * dense
