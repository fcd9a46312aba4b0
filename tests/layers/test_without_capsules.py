"""Networks without capsules or without routing, pooling and heads: what a baseline is made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.layers import (
    Around,
    CapsNet,
    CapsuleShape,
    ConvConfig,
    DecoderConfig,
    DenseFeaturesConfig,
    Features,
    LinearHead,
    NetworkConfig,
    PoolConfig,
    PrimaryConfig,
    ResNetConfig,
)
from capsjax.metrics import CouplingEntropy, DeadCapsules
from capsjax.types import Batch, Capsules

AROUND = Around(
    image_shape=(6, 6, 1),
    num_classes=3,
    routing=cj.DynamicRouting(),
    initialisation="scaled",
    precision="float32",
)
CNN = NetworkConfig(
    layers={
        "conv": ConvConfig(channels=4, kernel=3),
        "pool": PoolConfig(kernel=2),
        "dense": DenseFeaturesConfig(channels=5),
    },
    head=LinearHead(output="softmax"),
    decoder=DecoderConfig(hidden=(3,)),
)


def test_a_network_without_capsules_classifies_and_draws_without_the_label():
    network = CapsNet((6, 6, 1), 3, config=CNN, rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).random((2, 6, 6, 1)), jnp.float32)
    output = network(images)
    np.testing.assert_allclose(output.lengths.sum(-1), 1, rtol=1e-5)
    assert output.coupling is output.children is output.trace is None
    assert output.poses.shape == (2, 1, 5)
    assert output.reconstruction.shape == images.shape
    told = network(images, jnp.array([0, 2])).reconstruction
    np.testing.assert_array_equal(told, output.reconstruction)
    batch = Batch(images, jnp.array([0, 2]), jnp.ones(2))
    assert CouplingEntropy()(output, batch).tolist() == [0, 0]
    with pytest.raises(UserError, match=r"nothing is routed.*of='classes'"):
        DeadCapsules()(output, batch)
    assert DeadCapsules(of="classes")(output, batch).shape == (2, 3)


def test_a_network_without_capsules_wants_a_head_that_makes_scores():
    config = dataclasses.replace(CNN, head=cj.layers.head.ActivationHead())
    with pytest.raises(FieldError, match=r"gives capsules, such as dense_capsules.*head linear"):
        CapsNet((6, 6, 1), 3, config=config, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (PoolConfig(kernel=2), (2, 2)),
        (PoolConfig(kernel=3, stride=1), (3, 2)),
        (PoolConfig(kernel=2, padding="SAME"), (3, 2)),
        (PoolConfig(kernel=None), (1, 1)),
    ],
)
def test_pooling(config, shape, pooling):
    config = dataclasses.replace(config, pooling=pooling)
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    given = Features((5, 4), 3)
    assert config.shape(given, AROUND) == Features(shape, 3)
    found = config.build(given, AROUND, rngs=nnx.Rngs(0))(jnp.asarray(x))
    size = config.kernel or 5
    step = config.stride or size
    reduce = np.max if pooling == "max" else np.mean
    for y in range(shape[0]):
        for column in range(shape[1]):
            square = x[:, y * step : y * step + size, column * step : column * step + size]
            np.testing.assert_allclose(
                found[:, y, column], reduce(square, axis=(1, 2)), rtol=1e-5, atol=1e-6
            )


def test_squares_larger_than_the_grid_are_refused():
    with pytest.raises(FieldError, match=r"choose kernel 4 or less"):
        PoolConfig(kernel=5).shape(Features((6, 4), 3), AROUND)


def test_one_map_for_all_class_capsules_scores_each_by_its_own_pose():
    head = LinearHead(shared=True, output="softmax")
    module = head.build(CapsuleShape((1, 1), 3, 4), AROUND, rngs=nnx.Rngs(0))
    pose = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    scores = pose @ np.asarray(module.map.kernel[...])[:, 0]
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    found = module(Capsules(jnp.asarray(pose), None))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(
        FieldError, match=r"false, as .* come in, not one for each of the 3 classes"
    ):
        head.build(CapsuleShape((1, 1), 2, 4), AROUND, rngs=nnx.Rngs(0))


def test_depthwise_primary_capsules_see_a_channel_each():
    config = PrimaryConfig(types=2, dim=3, kernel=2, stride=1, depthwise=True, nonlinearity="none")
    given = Features((3, 2), 6)
    module = config.build(given, AROUND, rngs=nnx.Rngs(0))
    assert module.kernel.shape == (2, 2, 1, 6)
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 6)).astype(np.float32)
    kernel = np.asarray(module.kernel[...])[:, :, 0]
    expected = [(x[:, y : y + 2] * kernel).sum((1, 2)).reshape(2, 2, 3) for y in range(2)]
    np.testing.assert_allclose(module(jnp.asarray(x)), np.concatenate(expected, 1), rtol=1e-4)
    # The network's precision is that of every convolution.
    half = config.build(given, dataclasses.replace(AROUND, precision="bfloat16"), rngs=nnx.Rngs(0))
    found = half(jnp.asarray(x))
    np.testing.assert_allclose(found, np.concatenate(expected, 1), rtol=0.05, atol=0.05)
    np.testing.assert_array_equal(found, found.astype(jnp.bfloat16).astype(found.dtype))
    with pytest.raises(FieldError, match=r"false, as 5 channels come in for 2 types of 3"):
        config.shape(Features((3, 2), 5), AROUND)


@pytest.mark.parametrize("normalisation", [cj.layers.BatchNorm(), cj.layers.LayerNorm()])
def test_primary_capsules_are_normalised(normalisation):
    config = PrimaryConfig(
        types=2, dim=4, kernel=1, stride=1, normalisation=normalisation, nonlinearity="none",
        activation="sigmoid",
    )  # fmt: skip
    module = config.build(Features((3, 3), 5), AROUND, rngs=nnx.Rngs(0))
    module.train()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3, 5)), jnp.float32)
    pose, activation = config.apply(module, x).value
    rows = np.asarray(pose).reshape(-1, 2, 4)
    axis = -1 if isinstance(normalisation, cj.layers.LayerNorm) else 0
    np.testing.assert_allclose(rows.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis), 1, atol=2e-2)
    assert (module.present_norm is None) == (axis == -1)
    assert ((activation > 0) & (activation < 1)).all()
    moved = dataclasses.replace(config, activation_offset=-1.0)
    _, lower = moved.apply(moved.build(Features((3, 3), 5), AROUND, rngs=nnx.Rngs(0)), x).value
    np.testing.assert_allclose(
        jax.scipy.special.logit(activation) - 1, jax.scipy.special.logit(lower), atol=1e-3
    )
    with pytest.raises(
        FieldError, match=r"activation_offset: got -1.0, expected 0, as lengths have no logits"
    ):
        PrimaryConfig(activation_offset=-1.0)


def test_a_shortcut_that_pads_trains_nothing_and_keeps_every_other_position():
    config = ResNetConfig(channels=(2, 3), blocks=(1, 2), shortcut="pad", normalisation=None)
    module = config.build(Features((4, 4), 1), AROUND, rngs=nnx.Rngs(0))
    assert len(module.blocks) == 3
    block = module.blocks[1]
    assert block.shortcut is None
    block.second.kernel[...] = jnp.zeros_like(block.second.kernel[...])
    x = jnp.asarray(np.random.default_rng(0).random((1, 4, 4, 2)), jnp.float32)
    expected = np.pad(np.asarray(x)[:, ::2, ::2], [(0, 0), (0, 0), (0, 0), (0, 1)])
    np.testing.assert_allclose(block(x), expected, rtol=1e-6)
    with pytest.raises(FieldError, match=r"for each of the 2 stages, or one for all"):
        ResNetConfig(channels=(2, 3), blocks=(1,))


def test_shared_positions_do_not_make_matrices_larger():
    given = CapsuleShape((4, 4), 2, 3)
    layer = cj.layers.ConvCapsulesConfig(types=2, dim=4)
    child, position = (
        dataclasses.replace(layer, share=share).build(given, AROUND, rngs=nnx.Rngs(0)).weight[...]
        for share in ("child", "position")
    )
    # Four windows of 9 on 16 positions: 36 / 16.
    np.testing.assert_allclose(child, 36 / 16 * position, rtol=1e-5)
    assert jax.numpy.any(position)
