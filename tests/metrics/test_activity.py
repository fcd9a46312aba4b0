"""How active a layer is, counted one capsule at a time."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.metrics import layer_activity


def test_capsules_are_counted_one_by_one():
    activation = np.random.default_rng(0).random((4, 5)) ** 3
    activation[:, 2] = 0.05  # below the threshold in every example
    coupling = np.random.default_rng(1).dirichlet(np.ones(3), size=(4, 6))
    found = layer_activity(jnp.asarray(activation), jnp.asarray(coupling))
    active = [[a >= 0.1 for a in example] for example in activation]
    assert found.active == pytest.approx(np.mean(active))
    assert found.dead == pytest.approx(
        np.mean([not any(column) for column in zip(*active, strict=True)])
    )
    assert found.dead > 0
    assert found.mean == pytest.approx(activation.mean())
    entropy = np.mean([[-sum(c * np.log(c) for c in child) for child in one] for one in coupling])
    assert found.entropy == pytest.approx(entropy, rel=1e-5)


def test_features_count_unless_they_are_zero():
    x = np.zeros((2, 3, 3, 4), np.float32)
    x[0, 1, 1, 2], x[1, 0, 0, 3] = -2, 1e-6
    found = layer_activity(jnp.asarray(x))
    assert found.active == pytest.approx(2 / x.size)
    assert found.dead == 0.5
    assert found.mean == pytest.approx(2 / x.size, rel=1e-5)
    assert found.entropy is None
