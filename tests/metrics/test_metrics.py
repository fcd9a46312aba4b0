"""What is measured of a classification and of a routing."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.metrics import accuracy, correct, coupled_agreement, coupling_entropy, dead_capsules
from tests.oracles.losses import entropy

RNG = np.random.RandomState(4)


def test_the_longest_capsule_decides_and_the_first_of_equals():
    lengths = jnp.asarray([[0.1, 0.9, 0.3], [0.9, 0.1, 0.3], [0.5, 0.5, 0.5], [0.2, 0.7, 0.7]])
    labels = jnp.asarray([1, 2, 0, 2])
    np.testing.assert_array_equal(correct(lengths, labels), [True, False, True, False])
    assert accuracy(lengths, labels) == 0.5
    assert correct(lengths[0], labels[0])


def test_accuracy_counts_exactly_beyond_half_precision():
    lengths = jnp.tile(jnp.asarray([[1.0, 0.0]], jnp.bfloat16), (1000, 1))
    labels = jnp.zeros(1000, jnp.int32).at[:3].set(1)
    np.testing.assert_allclose(accuracy(lengths, labels), 0.997, rtol=1e-6)


def test_entropy_is_that_of_the_oracle(x64):
    coupling = RNG.dirichlet(np.ones(3), size=(2, 5, 4))
    found = coupling_entropy(jnp.asarray(coupling))
    assert found.shape == (2, 5)
    for at in np.ndindex(2, 5):
        np.testing.assert_allclose(found[at], entropy(coupling[at]), rtol=1e-13)


@pytest.mark.parametrize("parents", [2, 10])
def test_entropy_runs_from_zero_to_the_logarithm_of_the_parents(parents):
    uniform = jnp.full((4, parents), 1 / parents)
    np.testing.assert_allclose(coupling_entropy(uniform), np.log(parents), rtol=1e-6)
    decided = jnp.zeros((4, parents)).at[:, 1].set(1.0)
    assert coupling_entropy(decided) == 0


def test_coupled_agreement_weighs_and_takes_the_mean_over_children():
    coupling = RNG.uniform(size=(2, 4, 3)).astype(np.float32)
    agreement = RNG.normal(size=(2, 4, 3)).astype(np.float32)
    found = coupled_agreement(jnp.asarray(coupling), jnp.asarray(agreement))
    expected = [
        sum(coupling[b, i, j] * agreement[b, i, j] for i in range(4) for j in range(3)) / 4
        for b in range(2)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_a_child_both_are_zero():
    none = jnp.ones([2, 0, 3])
    assert coupling_entropy(none).tolist() == coupled_agreement(none, none).tolist() == [0, 0]


def test_a_capsule_is_dead_when_no_example_activates_it():
    activation = jnp.asarray([[0.0, 0.2, 0.05, 0.1], [0.09, 0.0, 0.0, 0.0]])
    np.testing.assert_allclose(dead_capsules(activation), 0.5)
    np.testing.assert_allclose(dead_capsules(activation, threshold=0.15), 0.75)
    np.testing.assert_allclose(dead_capsules(activation.reshape(2, 1, 4)), 0.5)
    np.testing.assert_allclose(dead_capsules(activation[0]), 0.5)
