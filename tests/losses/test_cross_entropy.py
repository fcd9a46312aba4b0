"""The cross entropy against the oracle, and its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError
from capsjax.losses import CrossEntropyLoss, cross_entropy_loss
from tests.oracles import losses as oracle
from tests.oracles.routing import finite_differences

RNG = np.random.RandomState(5)
ACTIVATION = RNG.uniform(size=(5, 4))
LABELS = np.array([0, 3, 2, 1, 1])
SOFT = RNG.dirichlet(np.ones(4), size=5)


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("labels", [LABELS, SOFT])
def test_value_and_gradient_are_those_of_the_oracle(labels, scale, x64):
    present = np.eye(4)[labels] if labels.ndim == 1 else labels

    def loss(a):
        return cross_entropy_loss(a, jnp.asarray(labels), scale=scale)

    expected = oracle.cross_entropy_loss(ACTIVATION, present, scale)
    np.testing.assert_allclose(loss(jnp.asarray(ACTIVATION)), expected, rtol=1e-13)
    (slope,) = finite_differences(
        lambda a: sum(oracle.cross_entropy_loss(a, present, scale)), (ACTIVATION,)
    )
    found = jax.grad(lambda a: loss(a).sum())(jnp.asarray(ACTIVATION))
    np.testing.assert_allclose(found, slope, rtol=1e-6, atol=1e-8)


def test_an_absent_class_that_is_hopeless_costs_no_nan():
    activation = jnp.asarray([[3e37, -3e37]], jnp.float32)
    assert cross_entropy_loss(activation, jnp.asarray([0]), scale=10.0).tolist() == [0.0]


def test_bfloat16_stays_bfloat16():
    found = cross_entropy_loss(jnp.asarray(ACTIVATION, jnp.bfloat16), jnp.asarray(LABELS))
    assert found.dtype == jnp.bfloat16


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf")])
def test_a_scale_is_above_0(scale, as_installed):
    with pytest.raises(FieldError, match=r"CrossEntropyLoss\.scale: got"):
        CrossEntropyLoss(scale=scale)
