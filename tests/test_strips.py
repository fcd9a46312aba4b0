"""A large convolution of few examples is evaluated in strips, and trained as before."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax import convolution
from capsjax.convolution import cheapest, cheapest_value, conv2d


@pytest.mark.parametrize(
    ("batch", "forms"),
    [(4, ("patches", "patches")), (16, ("strips", "transform")), (128, ("transform",) * 2)],
)
def test_few_examples_are_evaluated_without_a_transform_of_the_kernel(batch, forms):
    sizes = (batch, 20, 20, 256), (9, 9, 256, 256), 2
    assert (cheapest_value(*sizes), cheapest(*sizes)) == forms


def test_a_small_convolution_is_evaluated_as_it_is_trained():
    sizes = (64, 6, 6, 16), (3, 3, 16, 32), 2
    assert cheapest_value(*sizes) == cheapest(*sizes) == "patches"


def test_what_is_differentiated_is_not_done_in_strips(monkeypatch):
    """Strips are one product for each row of the kernel; patches are one product."""
    rng = np.random.default_rng(0)
    images, kernel = (
        jnp.asarray(rng.normal(size=size), jnp.float32) for size in ((2, 9, 8, 3), (3, 5, 3, 4))
    )
    convolve = functools.partial(conv2d, stride=3)

    def loss(images, kernel):
        return jnp.sum(convolve(images, kernel) ** 2)

    def forward(images, kernel):
        return jax.jvp(convolve, (images, kernel), (images, kernel))

    def products(function):
        jax.clear_caches()  # of what was traced before the choice was another
        return str(jax.make_jaxpr(function)(images, kernel)).count("dot_general")

    def counts():
        return [products(function) for function in (convolve, jax.grad(loss, (0, 1)), forward)]

    expected, before = convolve(images, kernel), counts()
    monkeypatch.setattr(convolution, "cheapest_value", lambda *sizes: "strips")
    assert counts() == [before[0] + 2, *before[1:]]
    np.testing.assert_allclose(convolve(images, kernel), expected, rtol=1e-5, atol=1e-5)
