"""One decoder that draws several images of an example, each from a class capsule of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.layers import CapsNet
from capsjax.layers.decoder import longest_few

CONFIG = cj.load_config("smoke")
NETWORK = CapsNet((8, 8, 1), 10, config=CONFIG.model, rngs=nnx.Rngs(0))
IMAGES = jnp.asarray(np.random.default_rng(0).random((4, 8, 8, 1)), jnp.float32)
LABELS = jnp.asarray([[1, 7], [0, 9], [3, 4], [2, 3]])


def test_each_image_is_what_its_capsule_alone_draws():
    found = NETWORK(IMAGES, LABELS)
    assert found.reconstruction.shape == (4, 2, 8, 8, 1)
    for place in range(2):
        alone = NETWORK(IMAGES, LABELS[:, place]).reconstruction
        np.testing.assert_allclose(found.reconstruction[:, place], alone, atol=1e-6)
    # A one for each class still draws one image of all of them.
    both = jax.nn.one_hot(LABELS, 10).sum(1)
    assert NETWORK(IMAGES, both).reconstruction.shape == (4, 8, 8, 1)


def test_without_labels_the_longest_are_drawn_in_the_order_of_their_numbers():
    found = NETWORK(IMAGES, drawn=2)
    order = np.sort(np.argsort(-np.asarray(found.lengths), axis=1)[:, :2], axis=1)
    expected = NETWORK(IMAGES, jnp.asarray(order)).reconstruction
    np.testing.assert_allclose(found.reconstruction, expected, atol=1e-6)
    np.testing.assert_array_equal(found.lengths, NETWORK(IMAGES).lengths)


def test_masks_keep_one_capsule_each():
    masks = longest_few(jnp.asarray([[0.1, 0.9, 0.3, 0.8]]), 2)
    assert masks.tolist() == [[[0, 1, 0, 0], [0, 0, 0, 1]]]


def test_numbers_that_no_class_has_are_refused(as_installed):
    with pytest.raises(UserError, match=r"label 3 is 10, expected an integer from 0 to 9"):
        NETWORK(IMAGES, LABELS.at[1, 1].set(10))
    for wrong in (LABELS[:3], LABELS[:, :1], LABELS * 1.0):
        with pytest.raises(UserError, match=r"labels"):
            NETWORK(IMAGES, wrong)
        with pytest.raises(UserError, match=r"labels"):
            jax.jit(NETWORK)(IMAGES, wrong)
