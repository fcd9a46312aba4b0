"""Where routing has decided, no gradient flows through its couplings: the derivative of a softmax is gone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj

U = jax.random.normal(jax.random.key(0), [4, 12, 4])
W = jax.random.normal(jax.random.key(1), [12, 5, 4, 6]) / 4


@pytest.fixture(scope="module")
def measure():
    """From the scale of votes to couplings, and the gradients by stop and implicit mode."""

    def gradient(scale, mode):
        def loss(W):
            found = cj.FixedPointRouting(num_iters=300, gradient=mode)(cj.predict(U, scale * W))
            return found.pose[..., 0].sum(), found

        return jax.grad(loss, has_aux=True)(W)

    return jax.jit(
        lambda scale: (gradient(scale, cj.ImplicitGradient()), gradient(scale, cj.StopGradient()))
    )


def test_no_gradient_flows_through_decided_couplings(measure):
    shares, undecided = [], []
    for scale in (4.0, 16.0, 64.0):
        (implicit, found), (stop, _) = measure(scale)
        assert found.residual.max() < 1e-5  # they are fixed points
        c = np.asarray(found.coupling, np.float64)
        undecided.append(np.mean(1 - np.sum(c**2, axis=-1)))
        shares.append(float(jnp.linalg.norm(implicit - stop) / jnp.linalg.norm(implicit)))
    assert undecided[0] > 0.3 > 0.05 > undecided[1] > 1e-3 > undecided[2]
    assert shares[0] > 0.5 > 0.2 > shares[1] > 0.02 > shares[2]


def test_the_softmax_s_derivative_is_bounded_by_what_is_undecided():
    """No eigenvalue of diag(c) - c c^T is above 1 - |c|^2 <= 2 (J - 1) exp(-margin)."""
    rng = np.random.default_rng(0)
    for margin in (0.0, 1.0, 5.0, 20.0):
        logits = rng.normal(size=6)
        logits[0] = logits[1:].max() + margin
        c = np.exp(logits - logits.max())
        c /= c.sum()
        largest = np.linalg.eigvalsh(np.diag(c) - np.outer(c, c)).max()
        assert largest <= 1 - np.sum(c**2) + 1e-12
        assert 1 - np.sum(c**2) <= 2 * 5 * np.exp(-margin) + 1e-12
