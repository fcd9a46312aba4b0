"""Layers of a network that are routed at once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.layers import (
    CapsNet,
    ConvCapsulesConfig,
    ConvConfig,
    DenseConfig,
    MergeConfig,
    NetworkConfig,
    PrimaryConfig,
    SharedCapsulesConfig,
    TypeCapsulesConfig,
    shapes,
    with_iterations,
)
from capsjax.layers.stacks import stacks
from capsjax.study.design import design
from tests.oracles import inverted_attention as oracle
from tests.oracles import window
from tests.oracles.numerics import softmax_over_parents
from tests.oracles.routing import agreement, votes

SHAPE, CLASSES, B, R = (6, 6, 1), 3, 2, 3
CONCURRENT = cj.InvertedAttentionRouting(num_iters=R, gradient=cj.FullGradient(), concurrent=True)
LAYERS = {
    "stem": ConvConfig(channels=4, kernel=3),
    "primary": PrimaryConfig(types=2, dim=4, kernel=1, stride=1),
    "conv1": ConvCapsulesConfig(types=3, dim=4, kernel=2),
    "classes": DenseConfig(dim=4),
}
IMAGES = np.random.default_rng(5).uniform(size=(B, *SHAPE))


def network(layers=LAYERS, routing=CONCURRENT):
    return NetworkConfig(layers=layers, routing=routing)


def built(config):
    return CapsNet(SHAPE, CLASSES, config=config, rngs=nnx.Rngs(0))


def in_loops(module, poses):
    """Poses of a layer of windows and of the classes above, both updated from the poses before."""
    grid = np.asarray(poses).reshape(B, 4, 4, 2, 1, 4)
    kernel, matrices = (np.asarray(one.weight[...]) for one in (module.conv1, module.classes))
    gain, offset = (np.asarray(x[...]) for x in (module.conv1.gain, module.conv1.offset))
    below = window.votes(grid, kernel, 1)  # [b, y, x, k, l, a, j, 1, e], the same at every update

    def windows(own):
        b = np.zeros(below.shape[:-2]) if own is None else window.agreement(own, below) / 2
        s = window.combine(window.couple(b, (4, 4), 1, "child"), below)
        lines = s.reshape(-1, 4)
        return np.array([oracle.layer_norm(one, gain, offset) for one in lines]).reshape(s.shape)

    def classes(lower, own):
        dense = votes(lower.reshape(B, -1, 4), matrices)  # position by position, type by type
        b = np.zeros(dense.shape[:3]) if own is None else agreement(dense, own) / 2
        c = np.stack([softmax_over_parents(one) for one in b])
        own = {"gain": np.asarray(module.classes.gain[...])}
        return oracle.readout(dense, c, own | {"offset": np.asarray(module.classes.offset[...])})

    lower = windows(None)
    upper = classes(lower, None)
    for _ in range(R - 1):
        lower, upper = windows(lower), classes(lower, upper)
    return lower.reshape(B, 3, 3, 3, 4), upper


def in_float64(config):
    """Return a module of which nothing is 0 or 1, gains and offsets neither."""
    module, rng = built(config), np.random.default_rng(1)
    state = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), nnx.state(module))
    nnx.update(module, state)
    return module


@nnx.jit
def called(module, images):
    return module(images, trace=True)


def test_a_configured_stack_agrees_with_loops(x64):
    module = in_float64(network())
    found = module.passed(jnp.asarray(IMAGES))
    lower, upper = in_loops(module, found["primary"].value.pose)
    np.testing.assert_allclose(found["conv1"].routed.pose, lower, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found["classes"].value.pose, upper, rtol=1e-9, atol=1e-11)
    one_by_one = in_float64(network(routing=dataclasses.replace(CONCURRENT, concurrent=False)))
    assert np.abs(one_by_one(jnp.asarray(IMAGES)).poses - upper).max() > 1e-3


@pytest.mark.parametrize("kind", ["share", "type", "same"])
def test_every_layer_that_routes_can_stand_in_a_stack(kind):
    middle = {
        "share": SharedCapsulesConfig(types=4, dim=4, pose="matrix", coordinates=0.1),
        "type": TypeCapsulesConfig(types=2, dim=4, kernel=3),
        "same": ConvCapsulesConfig(types=2, dim=4, kernel=3, padding="SAME"),
    }[kind]
    layers = {**LAYERS, "conv1": middle}
    results = {}
    for concurrent in (False, True):
        routing = dataclasses.replace(CONCURRENT, concurrent=concurrent)
        results[concurrent] = called(built(network(layers, routing)), jnp.float32(IMAGES))
    lower, upper = (results[True].layers[name] for name in ("conv1", "classes"))
    for name, one in results[True].layers.items():
        other = results[False].layers[name]
        assert jax.tree.map(jnp.shape, one) == jax.tree.map(jnp.shape, other)
        np.testing.assert_allclose(one.trace.coupling[-1], one.coupling, atol=1e-7)
    # What routes children that do not change is the same either way, trace and all; what is above is not.
    for found, wanted in zip(lower, results[False].layers["conv1"], strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, wanted)
    assert np.abs(upper.pose - results[False].layers["classes"].pose).max() > 1e-4


@pytest.mark.parametrize("mode", [cj.StopGradient(), cj.FullGradient()], ids=lambda m: m.kind)
def test_every_parameter_below_is_trained(mode):
    routing = dataclasses.replace(CONCURRENT, gradient=mode)
    graph, state = nnx.split(built(network(routing=routing)))

    def loss(state):
        return jnp.sum(nnx.merge(graph, state)(jnp.float32(IMAGES)).poses[:, 0, 0])

    for path, bar in nnx.to_flat_state(jax.jit(jax.grad(loss))(state)):
        assert np.any(bar[...]), path


def test_a_stack_ends_where_routing_or_the_value_does():
    layers = {
        **LAYERS,
        "branch": MergeConfig(of=("conv1",)),
        "conv2": LAYERS["conv1"],
        "classes": LAYERS["classes"],
    }
    layers = {
        name: layers[name] for name in ("stem", "primary", "conv1", "branch", "conv2", "classes")
    }
    alone = [("stem",), ("primary",)]
    found = list(stacks(layers, CONCURRENT))
    assert found == [*alone, ("conv1",), ("branch",), ("conv2", "classes")]
    found = list(
        stacks({**LAYERS, "classes": DenseConfig(routing=cj.UniformRouting())}, CONCURRENT)
    )
    assert found == [*alone, ("conv1",), ("classes",)]


@pytest.mark.parametrize(
    ("layer", "changed", "message"),
    [
        (
            "classes",
            {"routing": dataclasses.replace(CONCURRENT, num_iters=2)},
            r"model\.layers\.classes\.routing\.num_iters: got 2, expected 3, as of conv1, the layer "
            r"before, since both are updated at once; or concurrent False",
        ),
        (
            "conv1",
            {"residual": True, "types": 2, "kernel": 3, "padding": "SAME"},
            r"model\.layers\.conv1\.residual: got True, expected False, as the layer is updated at once",
        ),
        (
            "conv1",
            {"normalisation": cj.layers.BatchNorm()},
            r"model\.layers\.conv1\.normalisation: got BatchNorm\(.*expected None, as the layer",
        ),
    ],
)
def test_neighbours_that_cannot_be_updated_together_are_refused(layer, changed, message):
    layers = {**LAYERS, layer: dataclasses.replace(LAYERS[layer], **changed)}
    with pytest.raises(FieldError, match=message):
        shapes(network(layers), SHAPE, CLASSES)
    apart = dataclasses.replace(CONCURRENT, concurrent=False)
    if layer == "conv1":
        shapes(network(layers, apart), SHAPE, CLASSES)


def test_they_are_evaluated_by_one_number_of_iterations():
    found = with_iterations(network(), {"classes": R})
    assert found == with_iterations(network(), {"conv1": R, "classes": R})
    assert found.layers["conv1"].routing.gradient == cj.StopGradient()
    shapes(found, SHAPE, CLASSES)
    with pytest.raises(
        UserError, match=r"iterations: got .*, expected one number for conv1, cl"
    ) as e:
        with_iterations(network(), {"classes": 5})
    assert str(e.value).endswith("updated at once, such as {'conv1': 5, 'classes': 5}")
    advised = {"conv1": 5, "classes": 5}
    assert e.value.on_command_line.endswith("--iterations conv1=5 --iterations classes=5")
    shapes(with_iterations(network(), advised), SHAPE, CLASSES)


def test_a_comparison_names_the_modes_that_a_stack_can_have():
    config = dataclasses.replace(cj.load_config("digits_attention"), model=network())
    message = r"compare\.modes: got 'truncated', expected modes that model\.routing can have: .* full or stop"
    with pytest.raises(FieldError, match=message):
        design(config)
    fit = dataclasses.replace(config.compare, modes=("uniform", "stop", "full"))
    assert list(design(dataclasses.replace(config, compare=fit)).arms) == list(fit.modes)
    for name in ("attention_resnet", "attention_simple"):
        assert "stop" in design(cj.load_config(name)).arms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gradient": cj.TruncatedGradient(last=1)},
            r"gradient: got TruncatedGradient\(.*expected FullGradient\(\) or StopGradient\(\) of concurrent",
        ),
        (
            {"gradient": cj.StopGradient(), "tolerance": 0.1},
            r"tolerance: got 0\.1, expected None for concurrent layers",
        ),
        ({"concurrent": 1}, r"concurrent: got 1, expected True or False"),
    ],
)
def test_what_a_stack_has_no_meaning_for_is_refused(options, message, as_installed):
    with pytest.raises(FieldError, match=rf"InvertedAttentionRouting\.{message}"):
        dataclasses.replace(CONCURRENT, **options)
