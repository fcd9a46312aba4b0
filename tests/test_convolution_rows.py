"""Large rows of a kernel are made again for the backward pass, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.convolution import transform
from tests.test_convolution import arrays


def kept_or_made_again(batch):
    shapes = [
        jax.ShapeDtypeStruct(x, jnp.float32) for x in ((batch, 20, 20, 256), (9, 9, 256, 256))
    ]
    jaxpr = jax.make_jaxpr(lambda x, k: transform.conv2d_transform(x, k, 2))(*shapes)
    return "remat" in str(jaxpr) or "checkpoint" in str(jaxpr)


def test_the_rows_of_a_kernel_are_made_again_where_they_are_large():
    assert kept_or_made_again(128)
    assert not kept_or_made_again(16)


def test_rows_that_are_made_again_change_no_bit(monkeypatch):
    images, kernel = arrays(7, 6, 3, 2, dtype=np.float32)

    def total(images, kernel):
        return jnp.sum(jnp.sin(transform.conv2d_transform(images, kernel, 2)))

    def found():
        return jax.jit(jax.value_and_grad(total, (0, 1)))(images, kernel)

    kept = found()
    monkeypatch.setattr(transform, "KEPT_BYTES", 0)
    for one, other in zip(*map(jax.tree.leaves, (kept, found())), strict=True):
        np.testing.assert_array_equal(one, other)
