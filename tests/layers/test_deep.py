"""Ten layers of capsules begin alive: lengths and gradients, uniform and routed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.layers import CapsNet, DenseCapsules, KeepLength
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


CONVOLUTIONAL = {
    "kind": "network",
    "layers": {
        "stem": {"kind": "conv", "channels": 16, "kernel": 3},
        "primary": {"kind": "primary_capsules", "types": 4, "dim": 16, "kernel": 1, "stride": 1},
        "conv1": {"kind": "conv_capsules", "types": 8, "dim": 16, "pose": "matrix", "kernel": 3},
        "conv2": {"kind": "conv_capsules", "types": 8, "dim": 16, "pose": "matrix", "kernel": 3},
        "classes": {"kind": "shared_capsules", "dim": 16, "pose": "matrix", "coordinates": 0.1},
    },
    "routing": {"kind": "dynamic", "num_iters": 2, "gradient": "full"},
}


@pytest.fixture(scope="module")
def digits():
    """Images, 192 of them, and labels."""
    data = cj.load_config("digits").data.load()
    images = jnp.asarray(data.train.images[:192], jnp.float32) * data.scale
    return images, jnp.asarray(data.train.labels[:192])


def convolutional(*layers):
    """The network of docs/networks.md with some of its layers of capsules, as it begins."""
    kept = {
        k: v for k, v in CONVOLUTIONAL["layers"].items() if "conv_" not in v["kind"] or k in layers
    }
    config = cj.load_config("digits", {"model": CONVOLUTIONAL | {"layers": kept}}).model
    return CapsNet((8, 8, 1), 10, config=config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(("layers", "grid"), [(("conv1", "conv2"), 2), (("conv1",), 4), ((), 6)])
def test_class_capsules_above_a_grid_begin_alive(digits, layers, grid):
    """Whose votes add up in length: their matrices are the same at every position."""
    network = convolutional(*layers)
    assert network.classes.children.grid == (grid, grid)
    lengths = nnx.jit(lambda network, images: network(images).lengths)(network, digits[0][:32])
    assert 0.1 < float(lengths.mean()) < 0.6


def test_a_convolutional_network_learns_with_the_full_gradient(digits):
    graph, state = nnx.split(convolutional("conv1"))
    optimiser, (images, labels) = optax.adam(1e-2), digits

    def loss(state, rows):
        lengths = nnx.merge(graph, state)(images[rows]).lengths
        return cj.margin_loss(lengths, labels[rows]).mean()

    @jax.jit
    def step(carry, rows):
        state, of_optimiser = carry
        value, gradient = jax.value_and_grad(loss)(state, rows)
        change, of_optimiser = optimiser.update(gradient, of_optimiser)
        return (optax.apply_updates(state, change), of_optimiser), value

    rows = np.random.default_rng(0).permuted(np.tile(np.arange(192), (8, 1)), axis=1)
    carry, losses = (state, optimiser.init(state)), []
    for batch in rows.reshape(-1, 32):
        carry, value = step(carry, batch)
        losses.append(float(value))
    assert np.mean(losses[-6:]) < 0.25, losses  # 0.8 where it learns nothing
