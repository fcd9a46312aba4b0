"""Likelihood and binary cross entropy: values, several classes, finite where logarithms are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.losses import (
    BinaryLoss,
    LikelihoodLoss,
    binary_cross_entropy_loss,
    likelihood_loss,
)

ACTIVATION = np.array([[0.6, 0.1, 0.3], [0.2, 0.9, 0.4]])
PRESENT = np.array([[1, 0, 0], [0, 1, 1]])


def test_the_likelihood_is_that_of_shares():
    shares = ACTIVATION / ACTIVATION.sum(-1, keepdims=True)
    expected = -(PRESENT * np.log(shares)).sum(-1)
    np.testing.assert_allclose(
        likelihood_loss(jnp.asarray(ACTIVATION), jnp.asarray(PRESENT)), expected, rtol=1e-6
    )
    np.testing.assert_allclose(
        likelihood_loss(jnp.asarray(ACTIVATION), jnp.array([0, 1])),
        -np.log(shares[[0, 1], [0, 1]]),
        rtol=1e-6,
    )


def test_of_a_softmax_it_is_the_cross_entropy():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    labels = jnp.array([0, 4, 2, 2])
    found = likelihood_loss(jax.nn.softmax(logits), labels)
    expected = -jax.nn.log_softmax(logits)[jnp.arange(4), labels]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_binary_cross_entropy_is_that_of_each_class():
    logs = PRESENT * np.log(ACTIVATION) + (1 - PRESENT) * np.log(1 - ACTIVATION)
    found = binary_cross_entropy_loss(jnp.asarray(ACTIVATION), jnp.asarray(PRESENT))
    np.testing.assert_allclose(found, -logs.sum(-1), rtol=1e-6)


@pytest.mark.parametrize("logit", [-40.0, -20.0, -3.0, 3.0])
def test_a_class_that_is_hardly_active_has_the_gradient_of_its_logit(logit):
    """Of a sigmoid -log a has the gradient a - 1, and -log(1 - a) has a."""

    def loss(logits, labels):
        return binary_cross_entropy_loss(jax.nn.sigmoid(logits), labels).sum()

    a = 1 / (1 + np.exp(-logit))
    found = jax.grad(loss)(jnp.full((1, 2), logit), jnp.array([0]))
    np.testing.assert_allclose(found, [[a - 1, a]], rtol=1e-5)


@pytest.mark.parametrize("loss", [likelihood_loss, binary_cross_entropy_loss])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_activations_of_zero_and_one_give_finite_losses_and_gradients(loss, dtype):
    a = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype)
    labels = jnp.array([0, 1, 2])
    found = loss(a, labels)
    assert found.dtype == dtype
    assert jnp.isfinite(found).all()
    assert jnp.isfinite(jax.grad(lambda a: loss(a, labels).sum())(a)).all()


@pytest.mark.parametrize(
    ("loss", "kind"), [("likelihood", LikelihoodLoss), ("binary_cross_entropy", BinaryLoss)]
)
def test_configurations_name_them(loss, kind):
    assert cj.load_config("smoke", {"loss": loss}).loss == kind()
