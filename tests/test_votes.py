"""Votes: the two contractions against the oracle, and their adjoints, which keep only operands."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax import numerics
from capsjax.checks import UserError
from capsjax.gradients import ClosedForm, FullGradient
from capsjax.routing import dynamic_routing
from capsjax.votes import (
    DenseVotes,
    LinearVotes,
    Votes,
    as_votes,
    contractions,
    couplings,
    form_votes,
    predict,
)
from capsjax.votes.base import Masks
from tests.oracles import routing as oracle

RNG = np.random.RandomState(5)
B, N_I, N_J, D, E = 3, 4, 2, 3, 5
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
COUPLING, POSE = RNG.uniform(size=(B, N_I, N_J)), RNG.normal(size=(B, N_J, E))
KINDS = ["dense", "linear"]


def make(kind, u, W):
    return predict(u, W) if kind == "linear" else DenseVotes(jnp.einsum("...id,ijde->...ije", u, W))


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


class TestArranged:
    """Linear votes as routing contracts them, parents first and the batch last, show the same."""

    @pytest.mark.parametrize("leading", [(B,), (2, B)])
    @pytest.mark.parametrize(("d", "e"), [(D, E), (contractions.UNROLLED + 1,) * 2])
    def test_contractions_and_their_adjoints(self, d, e, leading, x64):
        rng = np.random.RandomState(3)
        u, W_ = (jnp.asarray(rng.normal(size=s)) for s in ((*leading, N_I, d), (N_I, N_J, d, e)))
        c, v = (jnp.asarray(rng.normal(size=(*leading, *s))) for s in ((N_I, N_J), (N_J, e)))
        votes, dense = predict(u, W_).arranged(), make("dense", u, W_)
        assert votes.shape == dense.shape
        assert votes.dtype == dense.dtype
        arranged = votes.pairs.from_array(c)
        assert arranged.shape == votes.zeros().shape == (N_J, N_I, np.prod(leading))
        close(votes.pairs.to_array(arranged), c)
        close(votes.dense(), dense.dense())
        close(votes.combine(arranged), dense.combine(c))
        close(votes.pairs.to_array(votes.agreement(v)), dense.agreement(v))
        close(votes.pairs.to_array(votes.agreements([v, 2 * v])[1]), 2 * dense.agreement(v))
        s, bars = votes.adjoint([arranged, arranged**2], [v, jnp.sin(v)], votes)
        close(s, dense.combine(c))

        def form(u, W_):
            """T of both terms, by the readable twin."""
            found = make("dense", u, W_)
            first = jnp.sum(c * found.agreement(v))
            return first + jnp.sum(c**2 * found.agreement(jnp.sin(v)))

        u_bar, W_bar = jax.grad(form, argnums=(0, 1))(u, W_)
        wanted = predict(u + u_bar, W_ + W_bar).arranged()
        for found, expected in zip(*map(jax.tree.leaves, (bars, wanted)), strict=True):
            close(found, expected)

    @pytest.mark.parametrize("leaky", [False, True])
    @pytest.mark.parametrize("parents", [1, 3, contractions.UNROLLED + 1])
    def test_coupling_and_its_adjoint(self, parents, leaky, x64):
        logits = jnp.asarray(np.random.RandomState(1).normal(size=(parents, 4, 2)) * 5)
        bar = jnp.cos(logits)
        last = (2, 1, 0)  # [b, i, j], as the readable twins want it
        wanted, pull = jax.vjp(lambda x: numerics.couple(x, leaky), logits.transpose(last))
        found, own_pull = jax.vjp(lambda x: couplings.couple(x, leaky), logits)
        close(found.transpose(last), wanted)
        (expected,) = pull(bar.transpose(last))
        close(own_pull(bar)[0].transpose(last), expected)
        close(couplings.couple_adjoint(found, bar).transpose(last), expected)

    def test_huge_logits_couple_to_finite_shares(self):
        logits = jnp.asarray([[[1e30]], [[-1e30]], [[0.0]]])
        np.testing.assert_array_equal(couplings.couple(logits, False)[:, 0, 0], [1, 0, 0])
        np.testing.assert_array_equal(couplings.couple(-logits, True)[:, 0, 0], [0, 1, 0])


@pytest.mark.parametrize("kind", KINDS)
class TestContractions:
    def test_they_are_those_of_the_oracle(self, kind, x64):
        votes = make(kind, jnp.asarray(U), jnp.asarray(W))
        dense = oracle.votes(U, W)
        close(votes.dense(), dense)
        close(votes.combine(jnp.asarray(COUPLING)), oracle.combine(dense, COUPLING))
        close(votes.agreement(jnp.asarray(POSE)), oracle.agreement(dense, POSE))

    def test_leading_axes_are_batch(self, kind, x64):
        u, c, v = jnp.asarray(U), jnp.asarray(COUPLING), jnp.asarray(POSE)
        votes, alone = make(kind, u, jnp.asarray(W)), make(kind, u[1], jnp.asarray(W))
        close(alone.combine(c[1]), votes.combine(c)[1])
        close(alone.agreement(v[1]), votes.agreement(v)[1])
        twice = make(kind, jnp.stack([u, u[::-1]]), jnp.asarray(W))
        assert twice.shape == (2, B, N_I, N_J, E)
        close(twice.combine(jnp.stack([c, c[::-1]]))[1, ::-1], votes.combine(c))
        close(twice.agreement(jnp.stack([v, v[::-1]]))[1, ::-1], votes.agreement(v))

    def test_shape_type_zeros_and_coupling(self, kind):
        votes = make(kind, jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32))
        assert votes.shape == votes.dense().shape == (B, N_I, N_J, E)
        assert votes.dtype == votes.dense().dtype == jnp.float32
        assert votes.zeros().shape == (B, N_I, N_J)
        assert votes.zeros().dtype == jnp.float32
        assert not np.any(votes.zeros())
        np.testing.assert_allclose(votes.couple(votes.zeros()), 1 / N_J)
        np.testing.assert_allclose(
            votes.couple(votes.zeros(), leaky=True), 1 / (N_J + 1), rtol=1e-6
        )
        half = jax.tree.map(lambda array: array.astype(jnp.bfloat16), votes)
        assert type(half) is type(votes)
        assert half.dtype == half.zeros().dtype == jnp.bfloat16

    def test_they_pass_through_transformations(self, kind):
        votes = make(kind, jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32))
        leaves, tree = jax.tree.flatten(votes)
        assert jax.tree.unflatten(tree, leaves) == votes or len(leaves) in (1, 2)
        again = jax.jit(lambda votes: votes)(votes)
        assert isinstance(again, type(votes))
        np.testing.assert_array_equal(again.dense(), votes.dense())

    @pytest.mark.parametrize("contraction", ["combine", "agreement"])
    def test_no_example_at_all(self, kind, contraction):
        votes = make(kind, jnp.zeros((0, N_I, D)), jnp.zeros((N_I, N_J, D, E)))
        operand = jnp.zeros((0, N_I, N_J) if contraction == "combine" else (0, N_J, E))
        found = getattr(votes, contraction)(operand)
        assert found.shape == ((0, N_J, E) if contraction == "combine" else (0, N_I, N_J))


class TestAdjoints:
    """The hand-written adjoints of linear votes are those of the dense einsum."""

    @pytest.mark.parametrize("contraction", ["combine", "agreement"])
    def test_they_are_those_of_the_dense_einsum(self, contraction, x64):
        operand, bar = (COUPLING, POSE) if contraction == "combine" else (POSE, COUPLING)

        def total(kind):
            def product(operand, u, W):
                return jnp.sum(bar * getattr(make(kind, u, W), contraction)(operand))

            return jax.jit(jax.grad(product, argnums=(0, 1, 2)))(*map(jnp.asarray, (operand, U, W)))

        for found, expected in zip(total("linear"), total("dense"), strict=True):
            close(found, expected)

    @pytest.mark.parametrize("kind", KINDS)
    def test_several_contractions_at_once(self, kind, x64):
        """The first `combine`, and the derivatives of T = sum_k c_k . agreement(v_k) by reverse mode."""
        couplings, poses = np.stack([COUPLING, -(COUPLING**2)]), np.stack([POSE, np.sin(POSE)])
        votes = make(kind, jnp.asarray(U), jnp.asarray(W))
        dense = oracle.votes(U, W)
        found = votes.agreements(list(jnp.asarray(poses)))
        close(jnp.stack(found), np.stack([oracle.agreement(dense, pose) for pose in poses]))
        s, bars = votes.adjoint(list(jnp.asarray(couplings)), list(jnp.asarray(poses)), votes)
        close(s, oracle.combine(dense, COUPLING))
        expected = jax.grad(
            lambda votes: sum(
                jnp.sum(c * votes.agreement(jnp.asarray(v)))
                for c, v in zip(couplings, poses, strict=True)
            )
        )(votes)
        leaves = map(jax.tree.leaves, (bars, votes, expected))
        for one, onto, other in zip(*leaves, strict=True):
            close(one, onto + other)

    @pytest.mark.parametrize("leaky", [False, True])
    @pytest.mark.parametrize("kind", [*KINDS, "arranged"])
    def test_the_uniform_sum_is_that_of_the_first_coupling(self, kind, leaky, x64):
        """With all logits zero: `combine` of the couplings, in value and derivative."""
        votes = make("linear" if kind == "arranged" else kind, jnp.asarray(U), jnp.asarray(W))
        votes, v = votes.arranged() if kind == "arranged" else votes, jnp.asarray(POSE)
        coupling = votes.couple(votes.zeros(), leaky)
        found, pull = jax.vjp(lambda votes: votes.uniform(leaky), votes)
        close(found, votes.combine(coupling))
        expected = votes.adjoint([coupling], [v], jax.tree.map(jnp.zeros_like, votes))[1]
        for one, other in zip(*map(jax.tree.leaves, (pull(v)[0], expected)), strict=True):
            close(one, other)

    def test_the_uniform_sum_is_differentiated_by_the_same_products_as_ever(self):
        """To the bit, so that runs repeat: what JAX makes of a product, [b, i d], sums in another order."""
        sizes = (4, 3, 3), (2, 12, 5), (2, 5, 3)  # u [i, d, b], W [j, i d, e], cotangent [j, e, b]
        u, W_, bar = (jnp.asarray(RNG.normal(size=size), jnp.float32) for size in sizes)
        u_bar, W_bar = jax.vjp(contractions.total, u, W_)[1](bar)
        flat = u.reshape(12, 3)
        np.testing.assert_array_equal(u_bar.reshape(12, 3), jnp.einsum("jxe,jeb->xb", W_, bar))
        np.testing.assert_array_equal(W_bar, jnp.einsum("xb,jeb->jxe", flat, bar))

    @pytest.mark.parametrize("leaky", [False, True])
    @pytest.mark.parametrize("kind", [*KINDS, "arranged"])
    def test_the_uniform_sum_leaves_out_what_is_not_there(self, kind, leaky, x64):
        """The same under masks, of which one example has no parent."""
        votes = make("linear" if kind == "arranged" else kind, jnp.asarray(U), jnp.asarray(W))
        children = jnp.arange(B * N_I).reshape(B, N_I) % 3 > 0
        masks = Masks(children, jnp.zeros((B, N_J), bool).at[1:, 1:].set(True))
        votes = dataclasses.replace(votes, masks=masks)
        votes = votes.arranged() if kind == "arranged" else votes
        close(votes.uniform(leaky), votes.combine(votes.couple(votes.zeros(), leaky)))

    @pytest.mark.parametrize("contraction", ["combine", "agreement"])
    @pytest.mark.parametrize("half", ["u", "W", "both", "operand"])
    def test_a_gradient_has_the_type_of_what_it_is_a_gradient_by(self, contraction, half):
        given = {"operand": COUPLING if contraction == "combine" else POSE, "u": U, "W": W}
        chosen = {"both": {"u", "W"}}.get(half, {half})
        given = {
            name: jnp.asarray(array, jnp.bfloat16 if name in chosen else jnp.float32)
            for name, array in given.items()
        }

        def total(given):
            found = getattr(predict(given["u"], given["W"]), contraction)(given["operand"])
            return jnp.sum(found).astype(jnp.float32)

        gradient = jax.eval_shape(jax.grad(total), given)
        assert jax.tree.map(lambda leaf: leaf.dtype, gradient) == jax.tree.map(
            lambda leaf: leaf.dtype, given
        )

    @pytest.mark.parametrize("contraction", ["combine", "agreement"])
    def test_they_save_only_their_operands(self, contraction):
        operand = jnp.asarray(COUPLING if contraction == "combine" else POSE, jnp.float32)
        u, matrices = jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32)

        def saved(function):
            pull = jax.eval_shape(lambda *given: jax.vjp(function, *given)[1], operand, u, matrices)
            return sum(leaf.size for leaf in jax.tree.leaves(pull))

        operands = operand.size + u.size + matrices.size
        assert saved(lambda x, u, W: getattr(predict(u, W), contraction)(x)) <= operands

        def automatic(x, u, W):
            """The same sums over the parents, differentiated by JAX: it keeps every (c u) as well."""
            if contraction == "combine":
                parts = [(x[:, :, j, None] * u).reshape(B, -1) for j in range(N_J)]
                return [part @ W[:, j].reshape(N_I * D, E) for j, part in enumerate(parts)]
            parts = [(x[:, j] @ W[:, j].reshape(N_I * D, E).T).reshape(u.shape) for j in range(N_J)]
            return [jnp.sum(part * u, axis=-1) for part in parts]

        assert saved(automatic) > operands


def largest(function, *given):
    """Size of the largest array that a function makes, in all of its inner functions too."""

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (variable.aval.size for variable in equation.outvars)
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            ):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(*given).jaxpr))


class TestMemory:
    def gradient(self, kind, mode):
        def total(u, W):
            return jnp.sum(dynamic_routing(make(kind, u, W), num_iters=3, gradient=mode).pose)

        return jax.value_and_grad(total, argnums=(0, 1))

    @pytest.mark.parametrize("mode", [FullGradient(), ClosedForm()])
    def test_linear_votes_are_never_formed(self, mode):
        """No array of b i j e numbers, forward or backward, inside scans or out of them."""
        b, i, j, d, e = 5, 7, 3, 2, 4
        given = jnp.ones((b, i, d)), jnp.ones((i, j, d, e))
        assert largest(self.gradient("linear", mode), *given) < b * i * j * e
        assert largest(self.gradient("dense", mode), *given) >= b * i * j * e

    def test_linear_votes_need_less_memory(self):
        b, i, j, d, e = 16, 144, 10, 8, 16
        given = jnp.ones((b, i, d)), jnp.ones((i, j, d, e))
        need = {
            kind: jax.jit(self.gradient(kind, FullGradient()))
            .lower(*given)
            .compile()
            .memory_analysis()
            .temp_size_in_bytes
            for kind in KINDS
        }
        assert 0 < need["linear"] < need["dense"] / 2


def test_an_array_is_dense_votes():
    array = jnp.ones((N_I, N_J, E))
    assert isinstance(as_votes(array), DenseVotes)
    assert as_votes(array).array is array
    votes = predict(jnp.ones((N_I, D)), jnp.ones((N_I, N_J, D, E)))
    assert as_votes(votes) is votes
    assert isinstance(votes, Votes)


class TestRefused:
    @pytest.mark.parametrize(
        ("u", "W"),
        [
            ((3, 4, 2), (5, 2, 2, 3)),  # other children
            ((3, 4, 2), (4, 2, 3, 2)),  # other dimensions
            ((3, 4, 2), (4, 2, 2)),
            ((4,), (4, 2, 2, 3)),
            ((4,), (4, 4, 2)),
            ((), (4, 2, 2)),
        ],
    )
    def test_matrices_that_do_not_fit(self, u, W, as_installed):
        for make in (predict, LinearVotes):
            with pytest.raises(UserError) as caught:
                make(jnp.ones(u), jnp.ones(W))
            assert f"got u {list(u)} and W {list(W)}" in str(caught.value)
            assert "expected u [*batch, i, d] and W [i, j, d, e]" in str(caught.value)

    def test_whole_numbers(self, as_installed):
        message = r"got u int32\[4, 2\] and W float32\[4, 2, 2, 3\], expected floating-point"
        with pytest.raises(UserError, match=message):
            predict(jnp.ones((4, 2), jnp.int32), jnp.ones((4, 2, 2, 3)))
        with pytest.raises(UserError, match=r"got int32\[4, 2, 3\], expected a floating-point"):
            DenseVotes(jnp.ones((4, 2, 3), jnp.int32))

    @pytest.mark.parametrize("given", [None, (U, W), "votes", [[1.0], [1.0, 2.0]]])
    def test_what_is_no_array(self, given, as_installed):
        for make in (dynamic_routing, lambda u: predict(u, W)):
            with pytest.raises(UserError, match=r"got (None|a \w+), expected an array"):
                make(given)
        for make in (lambda: DenseVotes(3), lambda: DenseVotes(None), lambda: LinearVotes(0, None)):
            for use in (dynamic_routing, lambda votes: votes.shape, lambda votes: votes.dtype):
                with pytest.raises(UserError, match=r"got .*, expected (a )?floating-point"):
                    use(make())
        for make in (lambda: DenseVotes(True), lambda: LinearVotes(jnp.asarray(U), None)):
            with pytest.raises(UserError, match=r"expected (a )?floating-point array"):
                make()
        with pytest.raises(UserError, match="got u a list and W"):
            LinearVotes([[1.0, 2.0]], W)
        with pytest.raises(UserError, match="got a list, expected a floating-point array"):
            DenseVotes([[[1.0]]])

    def test_lists_of_numbers_are_arrays(self, as_installed):
        votes = predict([[1.0, 2.0]], [[[[3.0], [4.0]]]])
        assert votes.dense().tolist() == [[[11.0]]]
        assert as_votes([[[11.0]]]).dense().tolist() == [[[11.0]]]

    def test_arrays_of_others_are_jax_s(self, as_installed):
        class Tensor:
            """What another library's arrays look like: a type of its own, and NumPy's way to read it."""

            dtype, shape = "other.float32", U.shape

            def __array__(self, dtype=None, copy=None):
                return np.asarray(U, dtype)

        for given in (U, Tensor()):
            votes = predict(given, W)
            assert isinstance(votes.u, jax.Array)
            assert votes.dtype == jnp.float32
            assert as_votes(given).dtype == jnp.float32

    @pytest.mark.parametrize("W", [(4, 2, 3), (4, 2, 2)])
    def test_a_forgotten_axis_is_no_matter_of_vmap(self, W, as_installed):
        with pytest.raises(UserError) as caught:
            predict(jnp.ones((7, 4, 2)), jnp.ones(W))
        assert "vmap" not in str(caught.value)

    def test_no_parent(self, as_installed):
        with pytest.raises(UserError, match=r"W \[4, 0, 2, 3\], expected .* at least one parent"):
            predict(jnp.ones((3, 4, 2)), jnp.ones((4, 0, 2, 3)))
        with pytest.raises(UserError, match=r"float32\[4, 0, 3\], expected .* at least one parent"):
            dynamic_routing(jnp.ones((4, 0, 3)))

    @pytest.mark.parametrize("kind", KINDS)
    def test_couplings_and_poses_that_would_broadcast(self, kind, as_installed):
        votes = make(kind, U, W)
        for coupling in (COUPLING[0], COUPLING[:1], COUPLING[..., :1]):
            with pytest.raises(UserError, match=r"combine: got a coupling .*\[\*batch, i, j\]"):
                votes.combine(coupling)
        for pose in (POSE[0], POSE[:, :1], POSE[..., :1]):
            with pytest.raises(UserError, match=r"agreement: got a pose .*\[\*batch, j, e\]"):
                votes.agreement(pose)

    def test_dense_votes_of_two_axes(self, as_installed):
        with pytest.raises(
            UserError, match=r"got float32\[4, 2\], expected .* \[\*batch, i, j, e\]"
        ):
            DenseVotes(jnp.ones((4, 2)))


class TestMapped:
    """Linear votes share W between examples, and say so where `jax.vmap` is told otherwise."""

    def test_votes_may_enter(self, as_installed):
        votes = predict(jnp.asarray(U), jnp.asarray(W))
        mapped = jax.vmap(lambda votes: votes.uniform(), in_axes=(LinearVotes(0, None),))(votes)
        np.testing.assert_allclose(mapped, votes.uniform(), rtol=1e-5)
        dense = DenseVotes(votes.dense())
        mapped = jax.vmap(lambda votes: votes.uniform(), in_axes=(DenseVotes(0),))(dense)
        np.testing.assert_allclose(mapped, votes.uniform(), rtol=1e-5)

    def test_votes_that_repeat_their_matrices_are_refused(self, as_installed):
        votes = jax.vmap(lambda u: predict(u, jnp.asarray(W)))(jnp.asarray(U))
        for use in (lambda votes: votes.shape, lambda votes: votes.dense(), dynamic_routing):
            with pytest.raises(UserError, match=r"jax.vmap repeats the W .*LinearVotes\(0, None\)"):
                use(votes)

    def test_a_mapped_axis_of_the_matrices_is_refused(self, as_installed):
        votes = predict(jnp.ones((4, 4, 2)), jnp.ones((4, 3, 2, 5)))
        with pytest.raises(UserError, match=r"jax.vmap repeats the W .*LinearVotes\(0, None\)"):
            jax.vmap(dynamic_routing)(votes)


class TestForms:
    def test_the_same_votes_in_every_form(self, x64):
        u, W_ = jnp.asarray(U), jnp.asarray(W)
        for form, kind in (("linear", LinearVotes), ("dense", DenseVotes), ("auto", Votes)):
            votes = form_votes(u, W_, form)
            assert isinstance(votes, kind)
            close(votes.dense(), oracle.votes(U, W))

    @pytest.mark.parametrize(
        ("examples", "d", "e", "form"),
        [
            (8, 8, 16, LinearVotes),
            (7, 8, 16, DenseVotes),  # rows of examples take time to begin
            (64, 24, 16, DenseVotes),
            (64, 8, 4, LinearVotes),  # and dense poses are filled to 16
        ],
    )
    def test_the_faster_form_on_a_cpu(self, examples, d, e, form, monkeypatch):
        u, W_ = jnp.zeros([examples // 8, 8, 3, d]), jnp.zeros([3, 2, d, e])
        u = u if examples % 8 == 0 else jnp.zeros([examples, 3, d])
        assert isinstance(form_votes(u, W_), form)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        assert isinstance(form_votes(u, W_), DenseVotes)

    def test_an_unknown_form_is_refused(self, as_installed):
        with pytest.raises(UserError, match=r"got form 'dens'.*did you mean 'dense'"):
            form_votes(jnp.asarray(U), jnp.asarray(W), "dens")
