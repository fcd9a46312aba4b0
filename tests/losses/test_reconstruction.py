"""The reconstruction loss against the oracle, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.losses import reconstruction_loss
from tests.oracles import losses as oracle

RNG = np.random.RandomState(2)


def test_it_is_the_sum_over_the_pixels(x64):
    drawn, image = RNG.uniform(size=(2, 3, 4, 5, 2)), RNG.uniform(size=(2, 3, 4, 5, 2))
    found = reconstruction_loss(jnp.asarray(drawn), jnp.asarray(image))
    for n in range(2):
        expected = oracle.reconstruction_loss(drawn[n], image[n])
        np.testing.assert_allclose(found[n], expected, rtol=1e-14)
    one = reconstruction_loss(jnp.asarray(drawn[0, 0]), jnp.asarray(image[0, 0]))
    np.testing.assert_allclose(one, found[0, 0], rtol=1e-14)


def test_other_shapes_are_refused(as_installed):
    with pytest.raises(UserError) as caught:
        reconstruction_loss(jnp.ones((2, 4, 5, 1)), jnp.ones((2, 5, 4, 1)))
    assert "got [2, 4, 5, 1] for an image [2, 5, 4, 1]" in str(caught.value)
