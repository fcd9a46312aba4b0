"""Each layer is the formula of the paper, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import capsjax as cj
from capsjax.convolution import conv2d
from capsjax.layers import (
    Conv,
    ConvConfig,
    Decoder,
    DecoderConfig,
    DenseCapsules,
    PrimaryCapsules,
    PrimaryConfig,
)
from capsjax.layers.decoder import longest
from capsjax.routing import Sizes

ROUTING = cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient())


def squash(s):
    square = (s**2).sum(-1, keepdims=True)
    return square / (1 + square) * s / np.sqrt(square)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_stem_is_convolution_bias_relu():
    stem = Conv(
        2, ConvConfig(channels=5, kernel=3, stride=2), initialisation="scaled", rngs=nnx.Rngs(0)
    )
    stem.bias[...] = jnp.arange(5.0) / 10
    images = normal(2, 7, 9, 2)
    x = (
        conv2d(jnp.asarray(images), stem.kernel[...], stride=2)
        + jnp.arange(5.0).reshape(1, 1, 1, 5) / 10
    )
    found = stem(jnp.asarray(images))
    assert found.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(found, np.maximum(np.asarray(x), 0), rtol=1e-6)
    assert (np.asarray(x) < 0).any()


@pytest.mark.parametrize("coupling", [1.0, 1 / 32])
def test_a_primary_capsule_is_the_channels_of_one_position(coupling):
    config = PrimaryConfig(types=3, dim=4, kernel=2, stride=1, coupling=coupling)
    layer = PrimaryCapsules(2, config, initialisation="released", rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(normal(12, seed=1))
    features = normal(2, 3, 4, 2)
    raw = np.asarray(conv2d(jnp.asarray(features), layer.kernel[...]))
    found = np.asarray(layer(jnp.asarray(features)))
    assert found.shape == (2, 2 * 3 * 3, 4)
    for y in range(2):
        for x in range(3):
            for t in range(3):
                channels = slice(4 * t, 4 * t + 4)
                s = coupling * raw[:, y, x, channels] + np.asarray(layer.bias[...])[channels]
                i = (y * 3 + x) * 3 + t
                np.testing.assert_allclose(found[:, i], squash(s), rtol=1e-5, atol=1e-6)


def test_a_pixel_far_away_does_not_move_a_primary_capsule():
    config = PrimaryConfig(types=2, dim=4, kernel=2, stride=2)
    layer = PrimaryCapsules(1, config, initialisation="scaled", rngs=nnx.Rngs(0))
    features = normal(1, 4, 4, 1)
    moved = features.copy()
    moved[0, 3, 3] += 1
    changed = (
        np.abs(np.asarray(layer(jnp.asarray(features)) - layer(jnp.asarray(moved)))).max(-1)[0] > 0
    )
    assert changed.tolist() == [False] * 6 + [True] * 2  # the two types of the last position


@pytest.mark.parametrize("bias", [False, True])
def test_dense_capsules_are_votes_and_routing(bias):
    layer = DenseCapsules(Sizes(6, 3, 4, 5), routing=ROUTING, bias=bias, rngs=nnx.Rngs(0))
    u = jnp.asarray(normal(2, 6, 4))
    if bias:
        layer.bias[...] = jnp.asarray(normal(3, 5, seed=2))
    votes = jnp.einsum("bid,ijde->bije", u, layer.weight[...])
    expected = cj.dynamic_routing(
        votes, gradient=cj.FullGradient(), bias=layer.bias[...] if bias else None
    )
    found = layer(u)
    assert layer.weight.shape == (6, 3, 4, 5)
    for ours, theirs in zip(found[:4], expected[:4], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    if bias:
        layer.bias[...] = jnp.zeros((3, 5))
        assert not np.allclose(layer(u).pose, found.pose)


def test_a_routing_s_options_reach_the_layer():
    u = jnp.asarray(normal(2, 6, 4))
    layers = {
        routing: DenseCapsules(Sizes(6, 3, 4, 5), routing=routing, rngs=nnx.Rngs(0))
        for routing in (ROUTING, cj.DynamicRouting(num_iters=2), cj.UniformRouting())
    }
    coupling = [np.asarray(layer(u).coupling) for layer in layers.values()]
    np.testing.assert_allclose(coupling[2], 1 / 3, rtol=1e-6)
    assert np.abs(coupling[0] - coupling[1]).max() > 1e-4
    assert layers[ROUTING](u, trace=True).trace.entropy.shape == (3, 2)
    assert layers[ROUTING](u).trace is None


def test_the_decoder_is_relu_layers_and_a_sigmoid():
    decoder = Decoder(
        3, 4, (2, 5, 2), DecoderConfig(hidden=(7, 6)), initialisation="released", rngs=nnx.Rngs(0)
    )
    poses, mask = normal(2, 3, 4), np.eye(3, dtype=np.float32)[[2, 0]]
    x = (poses * mask[:, :, None]).reshape(2, 12)
    assert [layer.kernel.shape for layer in decoder.layers] == [(12, 7), (7, 6), (6, 20)]
    for number, layer in enumerate(decoder.layers):
        x = x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])
        x = np.maximum(x, 0) if number < 2 else 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(
        decoder(jnp.asarray(poses), jnp.asarray(mask)), x.reshape(2, 2, 5, 2), rtol=1e-5, atol=1e-6
    )


def test_the_longest_capsule_is_kept():
    assert longest(jnp.array([[0.1, 0.9, 0.3], [0.5, 0.2, 0.4]])).tolist() == [[0, 1, 0], [1, 0, 0]]


class LinenDenseCapsules(linen.Module):
    """The same layer in Linen, from the same functions."""

    num_children: int
    num_parents: int
    child_dim: int
    parent_dim: int
    routing: cj.Routing

    @linen.compact
    def __call__(self, u):
        shape = (self.num_children, self.num_parents, self.child_dim, self.parent_dim)
        weight = self.param("weight", linen.initializers.normal(0.1), shape)
        bias = self.param("bias", linen.initializers.zeros, (self.num_parents, self.parent_dim))
        return self.routing(cj.predict(u, weight), params=bias)


def test_the_same_layer_in_linen():
    u = jnp.asarray(normal(2, 6, 4))
    layer = DenseCapsules(Sizes(6, 3, 4, 5), routing=ROUTING, bias=True, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.asarray(normal(3, 5, seed=2))
    module = LinenDenseCapsules(6, 3, 4, 5, ROUTING)
    variables = {"params": {"weight": layer.weight[...], "bias": layer.bias[...]}}
    assert jax.tree.map(jnp.shape, module.init(jax.random.key(0), u)) == jax.tree.map(
        jnp.shape, variables
    )
    graph, state = nnx.split(layer)

    def ours(state):
        return jnp.sum(jnp.sin(nnx.merge(graph, state)(u).pose))

    def theirs(variables):
        return jnp.sum(jnp.sin(module.apply(variables, u).pose))

    value, gradient = jax.value_and_grad(ours)(state)
    other_value, other_gradient = jax.value_and_grad(theirs)(variables)
    np.testing.assert_allclose(value, other_value, rtol=1e-5)
    for name in ("weight", "bias"):
        theirs = other_gradient["params"][name]
        np.testing.assert_allclose(gradient[name][...], theirs, rtol=1e-4, atol=1e-6)
