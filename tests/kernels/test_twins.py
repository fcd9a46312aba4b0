"""The contractions for GPUs, the kernels interpreted on a CPU, are those that a CPU runs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import ClosedForm, FullGradient
from capsjax.kernels import children, parents
from capsjax.routing import DynamicRouting
from capsjax.votes import attention, contractions, platforms, predict

# Uneven, so that children, examples, parents and components all leave a tile unfilled.
N_I, D, B, N_J, E = 5, 2, 3, 3, 6
RNG = np.random.RandomState(0)
U, W = RNG.normal(size=(N_I, D, B)), RNG.normal(size=(N_J, N_I * D, E))
COUPLINGS = [RNG.uniform(size=(N_J, N_I, B)) for _ in range(2)]
POSES = [RNG.normal(size=(N_J, E, B)) for _ in range(2)]
START = RNG.normal(size=U.shape), RNG.normal(size=W.shape)
# Two networks of two examples.
NETWORKS_U, NETWORKS_W = RNG.normal(size=(2, 2, N_I, D)), RNG.normal(size=(2, N_I, N_J, D, E))
LARGE = (
    jax.ShapeDtypeStruct((1152, 8, 128), "float32"),
    jax.ShapeDtypeStruct((10, 9216, 16), "float32"),
)


def close(found, expected, atol=2e-6):
    same = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=atol)
    jax.tree.map(same, found, expected)


@pytest.fixture
def tiles(monkeypatch):
    """Several tiles of children and of examples, for few of each."""
    monkeypatch.setattr(children, "TILE", 2)
    monkeypatch.setattr(
        parents, "TOGETHER", 2 * U.size
    )  # groups of two parents, and one that is left


@pytest.fixture(params=["children", "parents"])
def twin(request, tiles):
    """The functions of either file, by name."""
    if request.param == "parents":
        return lambda name: getattr(parents, name)
    return lambda name: functools.partial(getattr(children, name), interpret=True)


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


class TestContractions:
    """Of `parents`, and of `children`."""

    def test_values_and_reverse_mode(self, twin):
        c, v, u, w, start = single((COUPLINGS, POSES, U, W, START))

        @jax.jit
        def found(c, v, u, w, start):
            values = twin("combine")(c[0], u, w), twin("agreements")(v, u, w)
            return values, twin("adjoint")(c, u, w, v, start)

        values = contractions.combine(c[0], u, w), contractions.agreements(v, u, w)
        close(found(c, v, u, w, start), (values, contractions.adjoint(c, u, w, v, start)))


@pytest.mark.parametrize("leaky", [False, True])
class TestAttention:
    """Of `children`, beside the contractions that it stands for."""

    def test_value_and_reverse_mode(self, leaky, tiles):
        (total, s_bar), u, w, start = single((POSES, U, W, START))

        @jax.jit
        def found(total, s_bar, u, w, start):
            s = children.attend(total, u, w, leaky=leaky, interpret=True)
            pulled = children.attend_adjoint(total, s_bar, u, w, start, leaky=leaky, interpret=True)
            return s, pulled

        s, pull = jax.vjp(lambda *x: attention.attend(*x, leaky), total, u, w)
        total_bar, *more = pull(s_bar)
        summed = tuple(map(jnp.add, start, more))
        close(found(total, s_bar, u, w, start), (s, (total_bar, summed)))
        close(attention.attend_adjoint(total, s_bar, u, w, start, leaky), (total_bar, summed))


def fits(u, w, dtype="float32"):
    """What `children` says of arrays of these shapes, which need not be there."""
    said = []
    shapes = (jax.ShapeDtypeStruct(shape, dtype) for shape in (u, w))
    jax.eval_shape(lambda u, w: said.append(children.fits(u, w)), *shapes)
    return said[0]


def test_kernels_take_what_fits_into_registers_and_is_worth_it():
    u, w = (x.shape for x in LARGE)
    assert fits(u, w)
    assert not fits(u, w, "float16")
    assert not fits((8, 8, 128), (10, 64, 16))
    assert not fits(u, (100, 9216, 16))
    assert not fits((1152, 64, 128), (10, 1152 * 64, 16))


@pytest.fixture
def accelerated(monkeypatch):
    """A process that may compile for a GPU, with one device."""
    monkeypatch.setattr(platforms, "accelerated", lambda: True)
    monkeypatch.setattr(jax, "device_count", lambda: 1)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("tpu", False)])
def test_the_form_follows_the_platform(platform, loops, accelerated):
    def loss(total, u, w):
        return jnp.sum(jnp.sin(attention.attend(total, u, w, False)))

    total = jax.ShapeDtypeStruct((10, 16, 128), "float32")
    traced = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).trace(total, *LARGE)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.while" in text) == loops
    assert "triton" not in text


@pytest.mark.parametrize("kernel", [False, True])
class TestChoice:
    """What is chosen when it is compiled, for the CPU that is here, and for the GPU that it stands for."""

    @pytest.fixture(autouse=True)
    def forms(self, kernel, accelerated, tiles, monkeypatch):
        """Let a CPU be the GPU: it runs the kernels, interpreted, or all parents in one product."""
        monkeypatch.setattr(children, "fits", lambda *_: kernel)
        run = children._call
        monkeypatch.setattr(children, "_call", lambda *given: run(*given[:-1], True))
        choose = platforms.Forms.on
        monkeypatch.setattr(platforms.Forms, "on", lambda forms, _, k: choose(forms, "cuda", k))

    @pytest.mark.parametrize("mode", [FullGradient(), ClosedForm()])
    def test_gradients_alone_and_batched(self, mode, monkeypatch):
        """The gradient through the loop of iterations, for several networks at once, and its own gradient."""
        routing, u, w = (
            DynamicRouting(num_iters=3, gradient=mode),
            *single((NETWORKS_U, NETWORKS_W)),
        )

        def loss(u, w):
            return jnp.sum(jnp.sin(routing(predict(u, w)).pose))

        def squared(u, w):
            return sum(jnp.sum(jnp.square(part)) for part in jax.grad(loss, (0, 1))(u, w))

        # New functions, as what JAX has traced of the old ones it would use again.
        def gradients():
            return [jax.jit(jax.vmap(jax.grad(f, (0, 1)))) for f in (loss, squared)]

        found = [gradient(u, w) for gradient in gradients()]
        alone = jax.jit(jax.grad(loss, (0, 1)))(u[1], w[1])
        monkeypatch.setattr(platforms, "accelerated", lambda: False)
        jax.clear_caches()
        close(found, [gradient(u, w) for gradient in gradients()], atol=2e-5)
        close(alone, jax.tree.map(lambda x: x[1], found[0]), atol=2e-5)

    def test_rows_of_pose_matrices(self, monkeypatch):
        """Rows are columns here, which share a coupling."""
        c, v, u, w, start = single((COUPLINGS, POSES, U, W, START))
        u, v = jnp.concatenate([u, 2 * u], -1), [jnp.concatenate([x, -x], -1) for x in v]
        start = jnp.concatenate([start[0]] * 2, -1), start[1]

        def found():
            values = contractions.combine(c[0], u, w), contractions.agreements(v, u, w, rows=2)
            return values, contractions.adjoint(c, u, w, v, start)

        here = found()
        monkeypatch.setattr(platforms, "accelerated", lambda: False)
        close(here, found())


def test_several_devices_have_no_kernel(accelerated, monkeypatch):
    """A kernel is not parted over devices: the compiler would gather what they share."""
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    monkeypatch.setattr(children, "fits", lambda *_: pytest.fail("asked for a kernel"))
    contractions.combine(*single((COUPLINGS[0], U, W)))
