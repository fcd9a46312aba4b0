"""Ten layers of capsules begin alive: lengths and gradients, uniform and routed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.layers import DenseCapsules, KeepLength
from capsjax.numerics import safe_norm
from capsjax.routing import Sizes

LAYERS = 10


def lengths_and_gradients(routing, start, capsules=16, dim=8, length=0.5):
    """The mean length after each layer, and the norm of the gradient by each layer's W."""
    rngs = nnx.Rngs(0)
    sizes = capsules, capsules, dim, dim
    weights = [
        DenseCapsules(Sizes(*sizes), routing=routing, initialisation=start, rngs=rngs).weight[...]
        for _ in range(LAYERS)
    ]
    u = jax.random.normal(jax.random.key(1), (16, capsules, dim))
    u = length * u / jnp.linalg.norm(u, axis=-1, keepdims=True)

    def total(weights):
        v, seen = u, []
        for W in weights:
            result = routing(cj.predict(v, W))
            v, seen = result.pose, [*seen, jnp.mean(safe_norm(result.pose))]
        return jnp.sum(safe_norm(v)), jnp.stack(seen)

    gradient, seen = jax.jit(jax.grad(total, has_aux=True))(weights)
    return np.asarray(seen), np.array([jnp.linalg.norm(one) for one in gradient])


@pytest.mark.parametrize(
    ("routing", "most"),
    [
        (cj.UniformRouting(), 10),
        (cj.DynamicRouting(), 100),
        (cj.DynamicRouting(gradient=cj.FullGradient()), 1e4),
    ],
    ids=["uniform", "dynamic, stop", "dynamic, full"],
)
def test_ten_layers_begin_alive(routing, most):
    lengths, gradients = lengths_and_gradients(routing, KeepLength(0.5))
    assert np.all((lengths > 0.1) & (lengths < 0.9)), lengths
    assert 1 / most < gradients[0] / gradients[-1] < most, gradients


@pytest.mark.parametrize("length", [0.3, 0.5, 1.0])
def test_three_layers_as_they_are_initialised_begin_alive(length):
    """By default, whatever the children's length: it need not be the one that the layers begin with."""
    rngs = nnx.Rngs(0)
    routing = cj.DynamicRouting(gradient=cj.FullGradient())
    layers = [DenseCapsules(Sizes(16, 16, 8, 8), routing=routing, rngs=rngs) for _ in range(3)]
    u = jax.random.normal(jax.random.key(1), (16, 16, 8))
    u = length * u / jnp.linalg.norm(u, axis=-1, keepdims=True)

    def total(u):
        for layer in layers:
            u = layer(u).pose
        return jnp.sum(safe_norm(u)), jnp.mean(safe_norm(u))

    gradient, last = jax.jit(jax.grad(total, has_aux=True))(u)
    assert 0.1 < last < 0.95
    assert jnp.linalg.norm(gradient) > 1e-2


def test_the_initialisation_of_a_single_layer_starves_them():
    """What it is for: poses that come from a convolution, one layer of classes above them."""
    lengths, gradients = lengths_and_gradients(cj.UniformRouting(), "scaled")
    assert lengths[-1] < 1e-9
    assert gradients[0] < 1e-9


@pytest.mark.parametrize("length", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("sizes", [(64, 8, 4, 8), (8, 64, 8, 4), (100, 10, 8, 16)])
def test_parents_are_as_long_as_children_whatever_the_fan(sizes, length):
    layer = DenseCapsules(
        Sizes(*sizes),
        routing=cj.UniformRouting(),
        bias=True,
        initialisation=KeepLength(length),
        rngs=nnx.Rngs(0),
    )
    u = jax.random.normal(jax.random.key(1), (50, sizes[0], sizes[2]))
    u = length * u / jnp.linalg.norm(u, axis=-1, keepdims=True)
    np.testing.assert_allclose(jnp.mean(layer(u).activation), length, rtol=0.15)
    assert not np.any(layer.bias[...])


@pytest.mark.parametrize("length", [0.0, 1.0, -0.5])
def test_lengths_that_no_capsule_has_are_refused(length):
    with pytest.raises(FieldError, match=r"KeepLength\.length: got .*, expected a number greater"):
        KeepLength(length)
