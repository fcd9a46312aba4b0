"""Branches that meet again, and the layers of DeepCaps and of homogeneous vector capsules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.convolution import conv2d
from capsjax.layers import (
    ActivationHead,
    Around,
    CapsNet,
    CapsuleShape,
    ConvConfig,
    ConvDecoderConfig,
    DecoderConfig,
    DenseConfig,
    Features,
    HomogeneousConfig,
    Merge,
    MergeConfig,
    NetworkConfig,
    PrimaryConfig,
    TypeCapsulesConfig,
    shapes,
)
from tests.oracles import deepcaps as oracle

AROUND = Around(
    image_shape=(6, 6, 1),
    num_classes=3,
    routing=cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient()),
    initialisation="keep_length",
    precision="float32",
)
GRID = CapsuleShape((4, 3), 2, 4)
CAPSULES = PrimaryConfig(types=2, dim=4, kernel=3, stride=1, padding="SAME", bias=False)
CELL = NetworkConfig(
    layers={
        "down": dataclasses.replace(CAPSULES, stride=2),
        "first": CAPSULES,
        "past": MergeConfig(of=("down",)),
        "skip": CAPSULES,
        "cell": MergeConfig(of=("first", "skip")),
        "both": MergeConfig(of=("cell", "down"), by="concatenate"),
        "classes": DenseConfig(dim=4),
    },
    routing=cj.DynamicRouting(num_iters=2),
)


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def capsules(shape=GRID, seed=0):
    pose = normal(3, shape.capsules, shape.dim, seed=seed)
    return cj.Capsules(pose, jnp.linalg.norm(pose, axis=-1))


def test_a_cell_adds_what_goes_past_and_a_branch_begins_where_it_is_told():
    network = CapsNet((6, 6, 1), 3, config=CELL, rngs=nnx.Rngs(0))
    images = jax.nn.sigmoid(normal(2, 6, 6, 1))
    output = network(images)
    layers = CELL.layers
    down = layers["down"].apply(network.down, images).value
    first = layers["first"].apply(network.first, down).value
    skip = layers["skip"].apply(network.skip, down).value
    both = jnp.concatenate([first.pose + skip.pose, down.pose], axis=1)
    np.testing.assert_allclose(output.children, both, atol=1e-6)
    expected = network.classes(both).pose
    np.testing.assert_allclose(output.poses, expected, atol=1e-6)
    assert not np.allclose(first.pose, skip.pose)
    steps = {step.name: step.shape for step in shapes(CELL, (6, 6, 1), 3)}
    assert steps["cell"] == CapsuleShape((3, 3), 2, 4)
    assert steps["both"] == CapsuleShape((1, 1), 36, 4)


def test_capsules_are_read_as_the_channels_of_their_position():
    module = CAPSULES.build(GRID, AROUND, rngs=nnx.Rngs(0))
    u = capsules()
    found = CAPSULES.apply(module, u).value
    channels = u.pose.reshape(3, 4, 3, 8)
    s = conv2d(channels, module.kernel[...], padding="SAME").reshape(3, 24, 4)
    np.testing.assert_allclose(found.pose, cj.squash(s), atol=1e-6)
    assert module.kernel.shape == (3, 3, 8, 8)


def test_merged_values_are_sums_rows_and_weighed_scores():
    one, two = capsules(), capsules(seed=1)
    added = Merge(MergeConfig(of=("a", "b")))((one, two))
    np.testing.assert_allclose(added.pose, one.pose + two.pose)
    np.testing.assert_allclose(added.activation, (one.activation + two.activation) / 2, rtol=1e-6)
    weigh = Merge(MergeConfig(of=("a", "b"), by="weigh"))
    weigh.weight[...] = jnp.array([2.0, -0.5])
    weighed = weigh((one, two))
    np.testing.assert_allclose(
        weighed.activation, 2 * one.activation - 0.5 * two.activation, atol=1e-5
    )
    np.testing.assert_allclose(weighed.pose[:, :, 4:], two.pose)
    x, y = normal(2, 3, 3, 4), normal(2, 3, 3, 4, seed=1)
    np.testing.assert_allclose(Merge(MergeConfig(of=("a", "b")))((x, y)), x + y)
    beside = Merge(MergeConfig(of=("a", "b"), by="concatenate"))((x, y))
    np.testing.assert_array_equal(beside[..., 4:], y)
    assert Merge(MergeConfig(of=("a",), by="weigh"))((one,)) is one


@pytest.mark.parametrize(
    ("merge", "before", "expected"),
    [
        (
            {},
            (GRID, GRID._replace(types=3)),
            r"of one shape, to be added, not a capsules \[24, 4\]",
        ),
        ({"by": "concatenate"}, (GRID, GRID._replace(dim=8)), "capsules of one dimension"),
        ({"by": "concatenate"}, (GRID, Features((4, 3), 8)), "of one grid"),
        ({"by": "weigh"}, (GRID, GRID._replace(types=3)), "as many capsules each"),
        ({"by": "weigh"}, (Features((4, 3), 8), GRID), "primary_capsules before it"),
    ],
)
def test_what_does_not_go_together_is_refused(merge, before, expected):
    around = dataclasses.replace(AROUND, before=dict(zip("ab", before, strict=True)))
    with pytest.raises(FieldError, match=expected):
        MergeConfig(of=("a", "b"), **merge).shape(GRID, around)


@pytest.mark.parametrize("of", ["later", "merged", "stem "])
def test_a_layer_takes_what_stands_before_it(of):
    layers = {"stem": ConvConfig(kernel=3), "merged": MergeConfig(of=(of,)), "later": CAPSULES}
    with pytest.raises(FieldError, match="names of layers before it, of stem") as raised:
        NetworkConfig(layers=layers)
    assert raised.value.field == "layers.merged.of"
    with pytest.raises(FieldError, match="at least one name"):
        MergeConfig()


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_types_vote_by_one_convolution_and_choose_among_all_positions(padding):
    layer = TypeCapsulesConfig(types=3, dim=5, kernel=3, padding=padding, routing_bias=True)
    module = layer.build(GRID, AROUND, rngs=nnx.Rngs(0))
    module.bias[...] = normal(3, 5, seed=2)
    found = layer.apply(module, capsules())
    pose = np.asarray(capsules().pose, np.float64).reshape(3, 4, 3, 2, 4)
    if padding == "SAME":
        pose = np.pad(pose, [(0, 0), (1, 1), (1, 1), (0, 0), (0, 0)])
    dense = oracle.votes(pose, np.asarray(module.kernel[...], np.float64), 3)
    v, c = oracle.route(dense, np.asarray(module.bias[...], np.float64), 3)
    shape = layer.shape(GRID, AROUND)
    assert shape == CapsuleShape({"VALID": (2, 1), "SAME": (4, 3)}[padding], 3, 5)
    np.testing.assert_allclose(found.value.pose, v.reshape(3, -1, 5), atol=2e-5)
    np.testing.assert_allclose(found.routed.coupling, c.reshape(3, 2, -1), atol=2e-5)
    np.testing.assert_allclose(found.value.activation, oracle.lengths(v).reshape(3, -1), atol=2e-5)
    assert np.ptp(c) > 0.01


def test_types_may_be_routed_by_em_but_not_by_poses_that_they_do_not_have():
    layer = TypeCapsulesConfig(types=3, dim=4, routing=cj.EMRouting(num_iters=2))
    module = layer.build(GRID, AROUND, rngs=nnx.Rngs(0))
    assert module.beta_u.shape == (3,)  # the same at every position
    given = capsules()  # numbered position by position: of each type the mean over positions counts
    weighed = np.asarray(given.activation).reshape(3, 12, 2).mean(axis=1)
    params = {name: jnp.tile(getattr(module, name)[...], 2) for name in ("beta_u", "beta_a")}
    wanted = layer.routing(module.votes(given.pose), activation=jnp.asarray(weighed), params=params)
    found = layer.apply(module, given).value
    np.testing.assert_allclose(found.activation, wanted.activation, rtol=1e-5)
    np.testing.assert_allclose(found.pose, wanted.pose, rtol=1e-4, atol=1e-6)
    with pytest.raises(FieldError, match="takes no poses of the children, such as dynamic"):
        dataclasses.replace(layer, routing=cj.SelfRouting()).shape(GRID, AROUND)


def test_what_types_route_begins_at_a_third_however_many_share_them():
    for grid, types in (((4, 4), 8), ((2, 3), 32)):
        given = CapsuleShape(grid, types, 8)
        layer = TypeCapsulesConfig(types=types, padding="SAME", routing=cj.UniformRouting())
        module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
        pose = normal(4, given.capsules, 8)
        pose = 0.5 * pose / jnp.linalg.norm(pose, axis=-1, keepdims=True)
        found = layer.apply(module, cj.Capsules(pose, jnp.full(pose.shape[:2], 0.5))).value
        # A third of the length 1 that squash makes 0.5, squashed: 0.1; less at the border of zeros.
        assert 0.03 < found.activation.mean() < 0.15


@pytest.mark.parametrize("children", ["channels", "positions"])
def test_homogeneous_capsules_multiply_component_by_component(children):
    layer, given = HomogeneousConfig(children=children), Features((2, 3), 4)
    module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
    module.train()
    x = normal(5, 2, 3, 4)
    found = layer.apply(module, x).value
    i, d = (4, 6) if children == "channels" else (6, 4)
    w, sums = np.asarray(module.weight[...]), np.zeros((5, 3, d))
    assert w.shape == (i, 3, d)
    for b, j, n, h in np.ndindex(5, 3, i, d):
        channel, position = (n, h) if children == "channels" else (h, n)
        sums[b, j, h] += w[n, j, h] * x[b, position // 3, position % 3, channel]
    normalised = (sums - sums.mean((0, 1))) / np.sqrt(sums.var((0, 1)) + 1e-5)
    np.testing.assert_allclose(found.pose, np.maximum(normalised, 0), atol=1e-4)
    np.testing.assert_allclose(
        found.activation, np.linalg.norm(found.pose, axis=-1), rtol=1e-5, atol=1e-6
    )
    assert layer.shape(given, AROUND) == CapsuleShape((1, 1), 3, d)
    assert layer.shape(GRID, AROUND) == CapsuleShape((1, 1), 3, 4)  # capsules as they are
    assert len(jax.tree.leaves(nnx.state(module, nnx.Param))) == 2  # w and a shift, no scale


def test_activations_without_bounds_become_shares():
    given = CapsuleShape((1, 1), 3, 4)
    head = ActivationHead(output="softmax").build(given, AROUND, rngs=nnx.Rngs(0))
    scores = head(cj.Capsules(None, jnp.array([[3.0, 1.0, 0.0]])))
    np.testing.assert_allclose(scores[0], np.exp([3, 1, 0]) / np.exp([3, 1, 0]).sum(), rtol=1e-6)


@pytest.mark.parametrize("decoder", [DecoderConfig(hidden=(7,)), ConvDecoderConfig(channels=(4,))])
def test_a_class_independent_decoder_draws_the_pose_whatever_the_class(decoder):
    given, pose = CapsuleShape((1, 1), 3, 4), normal(1, 1, 4)
    alike = dataclasses.replace(decoder, class_independent=True)
    poses = jnp.concatenate([pose, normal(1, 1, 4, seed=1), pose], axis=1)  # [1, 3, 4]
    drawn = {}
    for config in (decoder, alike):
        module = config.build(given, AROUND, rngs=nnx.Rngs(0))
        drawn[config] = [module(poses, jnp.eye(3)[n : n + 1]) for n in range(3)]
    np.testing.assert_allclose(drawn[alike][0], drawn[alike][2], atol=1e-6)
    assert not np.allclose(drawn[alike][0], drawn[alike][1])
    assert not np.allclose(drawn[decoder][0], drawn[decoder][2])
