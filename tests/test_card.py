"""Routing as a GPU runs it, at the 2017 network's size, beside float64 on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.gradients import ClosedForm, FullGradient, StopGradient
from capsjax.routing import DynamicRouting
from capsjax.votes import form_votes

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "gpu",
    reason="runs what only a GPU does: JAX_PLATFORMS=cuda,cpu; compared on the CPU in test_together.py",
)
RNG = np.random.default_rng(0)
# Uneven in the batch; as in the 2017 network else.
U, W = RNG.normal(size=(100, 1152, 8)), 0.1 * RNG.normal(size=(1152, 10, 8, 16))


def gradients(mode, form, u, w):
    routing = DynamicRouting(num_iters=3, gradient=mode, leaky=form == "dense")

    @jax.jit
    def both(u, w):
        def loss(u, w):
            pose = routing(form_votes(u, w, form)).pose
            return jnp.sum(jnp.sin(pose)), pose

        return jax.grad(loss, (0, 1), has_aux=True)(u, w)

    return jax.tree.map(np.asarray, both(u, w))


@pytest.mark.parametrize("form", ["dense", "linear"])
@pytest.mark.parametrize("mode", [StopGradient(), FullGradient(), ClosedForm()])
def test_a_card_computes_what_float64_does(mode, form):
    found = gradients(mode, form, jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32))
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        expected = gradients(mode, form, jnp.asarray(U), jnp.asarray(W))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.linalg.norm(one - other) < 2e-5 * np.linalg.norm(other)
