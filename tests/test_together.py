"""The contractions for GPUs, all parents in one product, are those that a CPU runs, one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import ClosedForm, FullGradient
from capsjax.routing import DynamicRouting
from capsjax.votes import DenseVotes, LinearVotes, contractions, form_votes, predict, together

# Uneven, so that the last group of parents is not full.
N_I, D, B, N_J, E = 5, 2, 3, 3, 6
RNG = np.random.RandomState(0)
U, W = RNG.normal(size=(N_I, D, B)), RNG.normal(size=(N_J, N_I * D, E))
COUPLINGS = [RNG.uniform(size=(N_J, N_I, B)) for _ in range(2)]
POSES = [RNG.normal(size=(N_J, E, B)) for _ in range(2)]
START = RNG.normal(size=U.shape), RNG.normal(size=W.shape)
# Two networks of two examples.
NETWORKS_U, NETWORKS_W = RNG.normal(size=(2, 2, N_I, D)), RNG.normal(size=(2, N_I, N_J, D, E))


def close(found, expected, atol=2e-6):
    same = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=atol)
    jax.tree.map(same, found, expected)


def single(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


@pytest.fixture
def accelerate(monkeypatch):
    """Let the process be one of a GPU, or of a CPU again; groups have two parents, and one is left."""
    monkeypatch.setattr(together, "TOGETHER", 2 * U.size)
    return lambda yes: monkeypatch.setattr(jax, "default_backend", lambda: "gpu" if yes else "cpu")


@pytest.mark.parametrize("rows", [1, 2])
def test_values_and_reverse_mode(rows, accelerate):
    """Rows of pose matrices are columns here, which share a coupling."""
    c, v, u, w, start = single((COUPLINGS, POSES, U, W, START))
    u, v = jnp.concatenate([u, 2 * u][:rows], -1), [jnp.concatenate([x, -x][:rows], -1) for x in v]
    start = jnp.concatenate([start[0]] * rows, -1), start[1]

    def found():
        values = contractions.combine(c[0], u, w), contractions.agreements(v, u, w, rows=rows)
        return values, contractions.adjoint(c, u, w, v, start)

    accelerate(True)
    there = found()
    accelerate(False)
    close(there, found())


@pytest.mark.parametrize("mode", [FullGradient(), ClosedForm()])
def test_gradients_for_several_networks_at_once(mode, accelerate):
    """Through the loop of iterations, and the gradient's own gradient."""
    routing, u, w = DynamicRouting(num_iters=3, gradient=mode), *single((NETWORKS_U, NETWORKS_W))

    def loss(u, w):
        return jnp.sum(jnp.sin(routing(predict(u, w)).pose))

    def squared(u, w):
        return sum(jnp.sum(jnp.square(part)) for part in jax.grad(loss, (0, 1))(u, w))

    # New functions, as what JAX has traced of the old ones it would use again.
    def gradients():
        return [jax.jit(jax.vmap(jax.grad(f, (0, 1))))(u, w) for f in (loss, squared)]

    accelerate(True)
    there = gradients()
    accelerate(False)
    jax.clear_caches()
    close(there, gradients(), atol=5e-5)


def test_a_gpu_forms_votes_as_long_as_they_fit(accelerate, monkeypatch):
    u, w = single((NETWORKS_U[0], NETWORKS_W[0]))
    accelerate(True)
    assert type(form_votes(u, w)) is DenseVotes
    monkeypatch.setattr("capsjax.votes.LARGEST_ACCELERATED", 10)
    assert type(form_votes(u, w)) is LinearVotes


def test_nothing_goes_round_where_all_parents_fit(accelerate):
    """A GPU starts kernels for every turn of a loop; a CPU's loop goes round once for each parent."""
    c, u, w = single((COUPLINGS[0], U, W))

    def text():
        return jax.jit(lambda *x: contractions.combine(*x)).lower(c, u, w).as_text()

    assert "stablehlo.while" in text()
    accelerate(True)
    together.TOGETHER = 2**24
    assert "stablehlo.while" not in text()
