"""Layers of convolutional capsules, and of class capsules above a grid."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.layers import (
    Around,
    BatchNorm,
    CapsNet,
    CapsuleShape,
    ConvCapsulesConfig,
    ConvConfig,
    Features,
    LayerNorm,
    NetworkConfig,
    PrimaryConfig,
    SharedCapsulesConfig,
    count_parameters,
    shapes,
)
from capsjax.metrics import children_entropy, coupling_entropy

AROUND = Around(
    image_shape=(8, 8, 1),
    num_classes=3,
    routing=cj.DynamicRouting(num_iters=2),
    initialisation="keep_length",
    precision="float32",
)
MATRICES = NetworkConfig(
    layers={
        "stem": ConvConfig(channels=4, kernel=3),
        "primary": PrimaryConfig(
            types=2, dim=4, kernel=1, stride=1, nonlinearity="none", activation="sigmoid"
        ),
        "conv1": ConvCapsulesConfig(types=2, dim=4, pose="matrix", stride=2),
        "classes": SharedCapsulesConfig(dim=4, pose="matrix", coordinates=0.1),
    },
    routing=cj.EMRouting(num_iters=2, gradient=cj.FullGradient()),
)


def children(shape, seed=0, size=0.5):
    """Capsules of a length, and as active as long."""
    pose = np.random.default_rng(seed).normal(size=(3, shape.capsules, shape.dim))
    pose = size * pose / np.linalg.norm(pose, axis=-1, keepdims=True)
    return cj.Capsules(jnp.asarray(pose, jnp.float32), jnp.full(pose.shape[:2], size))


def test_shapes_flow_and_parameters_are_counted():
    steps = shapes(MATRICES, (8, 8, 1), 3)
    assert [str(step.shape) for step in steps[1:]] == [
        "capsules [72, 4]",
        "capsules [8, 4]",
        "capsules [3, 4]",
    ]
    assert steps[2].shape == CapsuleShape((2, 2), 2, 4)
    network = CapsNet((8, 8, 1), 3, config=MATRICES, rngs=nnx.Rngs(0))
    # W of 2 by 2 matrices, and two numbers of EM routing for each parent.
    assert count_parameters(network.conv1) == 3 * 3 * 2 * 2 * 2 * 2 + 2 * 2
    assert count_parameters(network.classes) == 2 * 3 * 2 * 2 + 2 * 3


@pytest.mark.parametrize(
    ("layer", "given", "field", "expected"),
    [
        (ConvCapsulesConfig(), Features((6, 6), 8), "kind", "primary_capsules before it"),
        (
            ConvCapsulesConfig(kernel=5),
            CapsuleShape((4, 6), 2, 8),
            "kernel",
            r"at most 4, the height of the grid \[4, 6\] of the capsules \[48, 8\] that come in: choose "
            "kernel 4 or less, or padding SAME",
        ),
        (
            ConvCapsulesConfig(pose="matrix", dim=9),
            CapsuleShape((4, 4), 2, 8),
            "pose",
            r"vector, as the poses of the capsules \[32, 8\].*or let the layer before give poses of 9 "
            "components",
        ),
        (
            SharedCapsulesConfig(pose="matrix", dim=16),
            CapsuleShape((4, 4), 2, 6),
            "pose",
            "poses of 16 components, as these have",
        ),
    ],
)
def test_a_layer_that_does_not_fit_says_what_came_and_two_ways_out(layer, given, field, expected):
    with pytest.raises(FieldError, match=expected) as raised:
        layer.shape(given, AROUND)
    assert raised.value.field == field


def test_both_ways_out_of_poses_that_are_no_matrices_fit():
    layer, given = ConvCapsulesConfig(pose="matrix", dim=9), CapsuleShape((4, 4), 2, 8)
    advice = "give poses of 9 components, as these have, or, .* vectors, of another multiple of 3"
    with pytest.raises(FieldError, match=advice):
        layer.shape(given, AROUND)
    dataclasses.replace(layer, pose="vector").shape(given, AROUND)
    for before in ("vector", "matrix"):  # of a matrix a square number, which 6 is not
        below = ConvCapsulesConfig(pose=before, dim=9).shape(CapsuleShape((6, 6), 2, 9), AROUND)
        layer.shape(below, AROUND)
    below = ConvCapsulesConfig(pose="vector", dim=6).shape(CapsuleShape((6, 6), 2, 9), AROUND)
    layer.shape(below, AROUND)


@pytest.mark.parametrize("make", [ConvCapsulesConfig, SharedCapsulesConfig])
def test_a_pose_matrix_is_square(make):
    with pytest.raises(FieldError, match="such as 9 or 16; or pose vector"):
        make(dim=12, pose="matrix")


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_a_layer_routes_the_votes_of_its_windows(padding):
    given = CapsuleShape((4, 5), 2, 3)
    layer = ConvCapsulesConfig(types=2, dim=4, kernel=2, stride=2, padding=padding)
    module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
    passed = layer.apply(module, children(given))
    shape = layer.shape(given, AROUND)
    assert shape.grid == {"VALID": (2, 2), "SAME": (2, 3)}[padding]
    assert passed.value.pose.shape == (3, shape.capsules, 4)
    u = children(given).pose.reshape(3, 4, 5, 2, 3)
    here = np.ones((3, 4, 5, 2), bool)
    if padding == "SAME":  # as convolutions put it: the odd zero comes last
        u = jnp.pad(u, [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)])
        here = np.pad(here, [(0, 0), (0, 0), (0, 1), (0, 0)])
    votes = cj.window_votes(u, module.weight[...], stride=2)
    expected = cj.dynamic_routing(votes, num_iters=2)
    np.testing.assert_allclose(
        passed.value.pose.reshape(expected.pose.shape), expected.pose, rtol=1e-5
    )
    # Zeros vote for nothing, and are no children either.
    coupling = expected.coupling * np.asarray(votes.seen(jnp.asarray(here)))[..., None]
    np.testing.assert_allclose(passed.routed.coupling, coupling, rtol=1e-5)


def test_zeros_around_a_grid_are_no_children():
    """Not points of soft k-means, which does not know activations, and not undecided ones of an entropy."""
    given = CapsuleShape((2, 3), 1, 2)
    layer = ConvCapsulesConfig(
        types=2, dim=2, kernel=5, padding="SAME", share="position", routing=cj.SoftKMeansRouting()
    )
    module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
    capsules = children(given)
    routed = layer.apply(module, capsules, trace=True).routed
    # At the middle of the upper row the window sees all six children, in the places of a whole window.
    u, W = capsules.pose.reshape(3, 6, 2), module.weight[...][2:4, 1:4].reshape(6, 2, 2, 2)
    alone = cj.SoftKMeansRouting()(cj.predict(u, W), trace=True)
    np.testing.assert_allclose(routed.pose[:, 0, 1], alone.pose, rtol=1e-5)
    np.testing.assert_allclose(routed.activation[:, 0, 1], alone.activation, rtol=1e-5)
    np.testing.assert_allclose(routed.trace.entropy[:, :, 0, 1], alone.trace.entropy, rtol=1e-5)
    found = children_entropy(routed.coupling[:, :1, 1:2])
    np.testing.assert_allclose(found, children_entropy(alone.coupling), rtol=1e-5)


def test_a_residual_layer_adds_what_comes_in():
    given = CapsuleShape((3, 3), 2, 4)
    plain = ConvCapsulesConfig(types=2, dim=4, padding="SAME")
    layer = dataclasses.replace(plain, residual=True)
    module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
    found = layer.apply(module, children(given))
    alone = plain.apply(module, children(given))
    np.testing.assert_allclose(found.value.pose, alone.value.pose + children(given).pose, rtol=1e-6)
    np.testing.assert_array_equal(found.value.activation, alone.value.activation)
    larger = plain.build(given, AROUND, rngs=nnx.Rngs(0)).weight[...]
    np.testing.assert_allclose(3 * module.weight[...], larger, rtol=1e-6)


@pytest.mark.parametrize(
    "change", [{"padding": "VALID"}, {"padding": "SAME", "types": 3}, {"padding": "SAME", "dim": 9}]
)
def test_what_cannot_be_added_is_refused_with_two_ways_out(change):
    given = CapsuleShape((4, 4), 2, 4)
    layer = ConvCapsulesConfig(types=2, dim=4, residual=True)
    with pytest.raises(
        FieldError, match=r"false, as 2 types of 4 components on a grid .*; or the same"
    ):
        dataclasses.replace(layer, **change).shape(given, AROUND)
    dataclasses.replace(layer, **change, residual=False).shape(given, AROUND)
    dataclasses.replace(layer, padding="SAME").shape(given, AROUND)


@pytest.mark.parametrize(
    ("normalisation", "axis"), [(BatchNorm(), 0), (LayerNorm(), -1)], ids=["batch", "layer"]
)
def test_a_normalised_layer_normalises_each_component_of_each_type_or_each_pose(
    normalisation, axis
):
    given = CapsuleShape((3, 3), 2, 4)
    layer = ConvCapsulesConfig(types=2, dim=4, padding="SAME", normalisation=normalisation)
    module = layer.build(given, AROUND, rngs=nnx.Rngs(0))
    module.train()
    pose = layer.apply(module, children(given)).value.pose.reshape(-1, 2, 4)
    np.testing.assert_allclose(pose.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(pose.std(axis), 1, atol=2e-2)


@pytest.mark.parametrize(
    ("pose", "cells"), [("matrix", ((0, 1), (1, 1))), ("vector", ((0, 0), (0, 1)))]
)
def test_places_are_added_to_the_votes_of_shared_matrices(pose, cells):
    given = CapsuleShape((2, 3), 2, 4)
    plain = SharedCapsulesConfig(types=2, dim=4, pose=pose)
    placed = dataclasses.replace(plain, coordinates=0.5)
    votes = [
        layer.build(given, AROUND, rngs=nnx.Rngs(0)).votes(children(given).pose).dense()
        for layer in (plain, placed)
    ]
    rows = 2 if pose == "matrix" else 1
    found = np.asarray(votes[1] - votes[0])[0, 0, 0].reshape(2, 3, 2, 2, rows, 4 // rows)
    expected = np.zeros_like(found)
    for y, row in enumerate((-0.5, 0.5)):
        for x, column in enumerate((-0.5, 0, 0.5)):
            expected[(y, x, slice(None), slice(None), *cells[0])] = row
            expected[(y, x, slice(None), slice(None), *cells[1])] = column
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_network_of_matrix_capsules_routes_and_every_parameter_has_a_gradient():
    network = CapsNet((8, 8, 1), 3, config=MATRICES, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 8, 8, 1)), jnp.float32)

    @jax.jit
    def run(params):
        def total(params):
            output = nnx.merge(graph, params, rest)(images, trace=True)
            return jnp.sum(output.lengths * jnp.arange(1.0, 4.0)[None]) + jnp.sum(
                output.poses**2
            ), output

        return jax.grad(total, has_aux=True)(params)

    gradient, output = run(params)
    assert output.lengths.shape == (2, 3)
    conv1, classes = output.layers["conv1"], output.layers["classes"]
    assert conv1.coupling.shape == (2, 2, 2, 18, 2)
    assert classes.coupling.shape == output.coupling.shape == (2, 8, 3)
    assert classes.trace.coupling.shape == (2, 2, 8, 3)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


def test_a_stack_begins_alive():
    """Neither lengths nor gradients vanish or explode through four layers."""
    given, layer = CapsuleShape((5, 5), 4, 8), ConvCapsulesConfig(types=4, dim=8, padding="SAME")
    modules = [layer.build(given, AROUND, rngs=nnx.Rngs(seed)) for seed in range(4)]
    graphs = [nnx.split(module) for module in modules]

    @jax.jit
    def run(states, capsules):
        def total(states):
            value, lengths = capsules, []
            for (graph, _), state in zip(graphs, states, strict=True):
                value = layer.apply(nnx.merge(graph, state), value).value
                lengths.append(jnp.mean(value.activation))
            return jnp.sum(value.activation**2), jnp.stack(lengths)

        return jax.grad(total, has_aux=True)(states)

    gradients, lengths = run([state for _, state in graphs], children(given))
    assert np.all((lengths > 0.3) & (lengths < 0.9))
    sizes = [np.linalg.norm(jax.tree.leaves(one)[0]) for one in gradients]
    assert 0.02 < sizes[0] / sizes[-1] < 50


def test_the_entropy_of_a_child_is_over_all_its_parents():
    """Two windows of one child each give it a half: log 2 in all, though nothing is chosen at either."""
    assert children_entropy(jnp.full([1, 1, 2, 1, 1], 0.5))[0] == pytest.approx(np.log(2))
    apart = jnp.asarray([[[[[0.25, 0.75]], [[1.0, 0.0]]]]])
    assert children_entropy(apart)[0] == pytest.approx(float(coupling_entropy(apart).mean()))
