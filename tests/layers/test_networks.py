"""Whole networks: shapes, masks, parameters, and what looking must not change."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import subprocess
import sys

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.layers import (
    CapsNet,
    CapsNetConfig,
    ConvConfig,
    DecoderConfig,
    PrimaryConfig,
    count_parameters,
)

SMALL = CapsNetConfig(
    stem=ConvConfig(channels=3, kernel=3),
    primary=PrimaryConfig(types=2, dim=4, kernel=3),
    dim=5,
    routing=cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient()),
    decoder=DecoderConfig(hidden=(7,)),
)


SHAPE, CLASSES = (8, 7, 1), 4


@pytest.fixture(scope="module")
def network():
    return CapsNet(SHAPE, CLASSES, config=SMALL, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def call(network):
    """The network's call, compiled."""
    graph, state = nnx.split(network)
    apply = jax.jit(
        lambda state, *args, trace=False: nnx.merge(graph, state)(*args, trace=trace),
        static_argnames="trace",
    )
    return functools.partial(apply, state)


def shapes_of(shape, classes, config, n=3):
    """Return the shapes of a network's output, without computing anything."""

    def run(key, images):
        return CapsNet(shape, classes, config=config, rngs=nnx.Rngs(params=key))(images)

    images = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), images)


def pictures(n=6, shape=SHAPE, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, *shape)), jnp.float32)


@pytest.mark.parametrize(("shape", "classes"), [((8, 7, 1), 4), ((6, 11, 3), 2), ((5, 5, 2), 7)])
def test_any_image_and_any_number_of_classes(shape, classes):
    output = shapes_of(shape, classes, SMALL)
    children = 2 * -(-(shape[0] - 4) // 2) * -(-(shape[1] - 4) // 2)
    assert output.children.shape == (3, children, 4)
    assert output.poses.shape == (3, classes, 5)
    assert output.coupling.shape == (3, children, classes)
    assert output.reconstruction.shape == (3, *shape)


def test_the_output_is_what_its_fields_say(call):
    output = call(pictures())
    np.testing.assert_allclose(output.coupling.sum(-1), 1, rtol=1e-5)
    for poses, lengths in ((output.poses, output.lengths), (output.children, None)):
        norms = np.linalg.norm(poses, axis=-1)
        assert ((norms > 0) & (norms < 1)).all()
        if lengths is not None:
            np.testing.assert_allclose(lengths, norms, rtol=1e-5)
    assert 0 < output.reconstruction.min() < output.reconstruction.max() < 1


def test_the_label_s_capsule_is_drawn_in_training_and_the_longest_at_evaluation(network, call):
    images = pictures()
    free = call(images)
    best = np.asarray(free.lengths.argmax(-1))
    labels = (best + 1 + np.arange(6) % 3) % CLASSES
    assert (labels != best).all()
    told = call(images, jnp.asarray(labels))
    draw = jax.jit(network.decoder)

    def drawn(chosen):
        return draw(free.poses, jnp.asarray(np.eye(CLASSES, dtype=np.float32)[chosen]))

    np.testing.assert_allclose(told.reconstruction, drawn(labels), atol=1e-6)
    np.testing.assert_allclose(free.reconstruction, drawn(best), atol=1e-6)
    assert np.abs(told.reconstruction - free.reconstruction).max() > 1e-4
    for ours, theirs in zip(told[:4], free[:4], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_gradient_of_the_reconstruction_reaches_another_class(network, call):
    mask = jnp.asarray(np.eye(CLASSES, dtype=np.float32)[[0, 1, 2, 3, 0, 1]])
    gradient = jax.jit(jax.grad(lambda p: network.decoder(p, mask).sum()))(call(pictures()).poses)
    reached = np.abs(gradient).max(-1) > 0
    np.testing.assert_array_equal(reached, np.asarray(mask) > 0)


def test_looking_changes_nothing(network, call):
    plain, traced = call(pictures()), call(pictures(), trace=True)
    assert plain.trace is None
    for ours, theirs in zip(plain[:5], traced[:5], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert traced.trace.coupling.shape == (3, *plain.coupling.shape)
    np.testing.assert_allclose(traced.trace.coupling[-1], plain.coupling, rtol=1e-6)


def test_looking_changes_no_gradient_and_leaves_nothing_behind(network):
    graph, state = nnx.split(network)

    def loss(state, trace):
        output = nnx.merge(graph, state)(pictures(), trace=trace)
        return jnp.sum(output.lengths**2)

    plain, traced = (jax.jit(jax.grad(loss), static_argnums=1)(state, t) for t in (False, True))
    jax.tree.map(np.testing.assert_array_equal, plain, traced)
    kinds = {type(variable) for _, variable in nnx.to_flat_state(nnx.state(network))}
    assert kinds == {nnx.Param}


def test_an_example_does_not_depend_on_the_others_of_its_batch(call):
    images = pictures()
    whole, alone = call(images), call(images[2:3])
    for ours, theirs in zip(whole[:5], alone[:5], strict=True):
        np.testing.assert_allclose(ours[2:3], theirs, rtol=1e-5, atol=1e-6)


def test_a_network_without_decoder_draws_nothing():
    config = dataclasses.replace(SMALL, decoder=None)
    assert shapes_of(SHAPE, CLASSES, config).reconstruction is None
    network = CapsNet(SHAPE, CLASSES, config=config, rngs=nnx.Rngs(0))
    assert set(nnx.to_pure_dict(nnx.state(network))) == {"stem", "primary", "classes"}


@pytest.mark.parametrize(
    "routing",
    [
        cj.UniformRouting(),
        cj.DynamicRouting(num_iters=1),
        cj.DynamicRouting(gradient=cj.StopGradient()),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_seed_gives_the_same_parameters_whatever_the_routing(routing, bias):
    def parameters(routing, seed=3):
        config = dataclasses.replace(SMALL, routing=routing, routing_bias=bias)
        network = CapsNet(SHAPE, CLASSES, config=config, rngs=nnx.Rngs(seed))
        return nnx.to_pure_dict(nnx.state(network))

    ours, theirs, other = parameters(routing), parameters(SMALL.routing), parameters(routing, 4)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert not np.array_equal(ours["classes"]["weight"], other["classes"]["weight"])


def test_parameters_are_counted(network):
    assert count_parameters(network) == (
        (9 * 1 * 3 + 3) + (9 * 3 * 8 + 8) + 2 * 2 * 2 * 4 * 4 * 5 + (20 * 7 + 7) + (7 * 56 + 56)
    )


@pytest.mark.parametrize(
    ("shape", "axis", "layer"),
    [((2, 9, 1), "height", "stem"), ((9, 4, 1), "width", "primary")],
)
def test_images_that_are_too_small_are_refused(shape, axis, layer):
    message = (
        rf"model.{layer}.kernel: got 3, expected at most 2, the {axis} of .*; "
        rf"the images are \[{shape[0]}, {shape[1]}, 1\]"
    )
    with pytest.raises(UserError, match=message):
        CapsNet(shape, CLASSES, config=SMALL, rngs=nnx.Rngs(0))


def test_small_images_fit_with_padding():
    config = CapsNetConfig(
        stem=ConvConfig(channels=3, kernel=5, padding="SAME"),
        primary=PrimaryConfig(types=2, dim=4, kernel=5, padding="SAME"),
        decoder=None,
    )
    output = shapes_of((2, 3, 1), CLASSES, config)
    assert output.children.shape == (3, 1 * 2 * 2, 4)


@pytest.mark.parametrize("shape", [(6, 7, 8, 1), (6, 8, 7, 3), (8, 7, 1)])
def test_images_of_another_shape_are_refused(network, shape):
    # The annotation refuses what is not [b, h, w, c] where types are checked, the module anywhere.
    with pytest.raises((UserError, TypeError), match=r"(?s)expected \[batch, 8, 7, 1\]|images"):
        network(jnp.zeros(shape))


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: ConvConfig(channels=0), "ConvConfig.channels"),
        (lambda: ConvConfig(kernel=True), "ConvConfig.kernel"),
        (lambda: ConvConfig(padding="same"), "ConvConfig.padding: got 'same'"),
        (lambda: PrimaryConfig(types=0), "PrimaryConfig.types"),
        (lambda: PrimaryConfig(stride=0), "PrimaryConfig.stride"),
        (lambda: PrimaryConfig(coupling=0.0), "PrimaryConfig.coupling"),
        (lambda: DecoderConfig(hidden=()), "DecoderConfig.hidden"),
        (lambda: DecoderConfig(hidden=(3, 0)), "DecoderConfig.hidden"),
        (lambda: CapsNetConfig(dim=0), "CapsNetConfig.dim"),
        (lambda: CapsNetConfig(routing="dynamic"), "CapsNetConfig.routing: got 'dynamic'"),
        (lambda: CapsNetConfig(initialisation="he"), "CapsNetConfig.initialisation"),
        (lambda: CapsNetConfig(precision="float16"), "CapsNetConfig.precision"),
    ],
)
def test_bad_sizes_are_refused(build, field):
    # A type checker over the annotations may be quicker than the check itself.
    with pytest.raises((UserError, TypeError), match=field.split(".")[1].split(":")[0]):
        build()


class TestBfloat16:
    """Convolutions multiply bfloat16; parameters, routing and results stay float32."""

    SMALL = dataclasses.replace(SMALL, precision="bfloat16")

    def test_the_network_is_the_same_but_for_rounding(self, network):
        rough = CapsNet(SHAPE, CLASSES, config=self.SMALL, rngs=nnx.Rngs(0))
        for ours, theirs in zip(
            *map(jax.tree.leaves, map(nnx.state, (rough, network))), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        images = pictures()
        found, expected = rough(images), network(images)
        for name in ("poses", "coupling", "lengths", "reconstruction"):
            ours, theirs = getattr(found, name), getattr(expected, name)
            assert ours.dtype == jnp.float32
            apart = jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs)
            assert 0 < apart < 0.02, name

    def test_both_convolutions_and_nothing_else_multiply_it_on_an_accelerator(self, monkeypatch):
        # As networks of many channels have it; a GPU gets narrow ones as products of patches.
        monkeypatch.setattr("capsjax.convolution.NARROW", 0)

        def total(key, images):
            network = CapsNet(SHAPE, CLASSES, config=self.SMALL, rngs=nnx.Rngs(params=key))
            graph, state = nnx.split(network)

            def of_parameters(state):
                output = nnx.merge(graph, state)(images)
                return jnp.sum(output.lengths) + jnp.sum(output.reconstruction)

            return jax.tree.leaves(jax.grad(of_parameters)(state))

        images = jax.ShapeDtypeStruct((3, *SHAPE), jnp.float32)
        exported = jax.export.export(jax.jit(total), platforms=["cuda"])(jax.random.key(0), images)
        lines = exported.mlir_module().splitlines()

        def types(operation):
            return [line.split(" : ")[-1] for line in lines if operation in line]

        # No gradient goes to the images: two products for the first convolution, three for the second.
        assert ["bf16" in text for text in types("stablehlo.convolution")] == 5 * [True]
        assert types("stablehlo.dot_general")
        assert not any("bf16" in text for text in types("stablehlo.dot_general"))
        assert {array.dtype for array in exported.out_avals} == {jnp.dtype(jnp.float32)}


STEPS = """
import json
import jax, jax.numpy as jnp, optax
from flax import config, nnx
import capsjax as cj
from capsjax.layers import CapsNet
from capsjax.runs.plan import network_functions
from capsjax.training.state import TrainState, separate
from capsjax.types import Batch
from capsjax.training.step import make_train_step

smoke = cj.load_config("smoke", {"model.stem.normalisation": "batch"})
network = CapsNet((8, 8, 1), 10, config=smoke.model, rngs=nnx.Rngs(0))
parts = separate(network)
images = (jnp.arange(5 * 64.0) % 7 / 7).reshape(5, 8, 8, 1)
batch = Batch(images, jnp.arange(5), jnp.ones(5))
made = network_functions(smoke.model, smoke.loss, (8, 8, 1), 10)
step = jax.jit(make_train_step(made.training(None), optax.sgd(0.1)))
first = TrainState.create(parts.params, optax.sgd(0.1), parts.statistics)
state, values = step(first, batch)
state, values = step(state, batch)
network.eval()
print(json.dumps({
    "mode": [config.nnx_graph_mode, config.nnx_graph_updates],
    "lengths": [jax.jit(f)(images).lengths.ravel().tolist()
                for f in (network, lambda images: parts.apply(first.variables, images))],
    "loss": float(values["loss"]),
    "params": {name: value.ravel().tolist() for name, value in state.variables.items()},
}))
"""


def test_both_modes_of_nnx_train_the_same_network():
    mode = "false" if flax.config.nnx_graph_mode else "true"
    environment = os.environ | {
        "NNX_GRAPH_MODE": mode,
        "NNX_GRAPH_UPDATES": mode,
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir or ""),
    }
    there = subprocess.Popen(
        [sys.executable, "-c", STEPS], env=environment, stdout=-1, stderr=-1, text=True
    )
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(STEPS, {})
    printed, errors = there.communicate(timeout=300)
    assert there.returncode == 0, errors
    ours, theirs = json.loads(shown.getvalue()), json.loads(printed)
    assert {tuple(ours["mode"]), tuple(theirs["mode"])} == {(True, True), (False, False)}
    for found in (ours, theirs):
        assert found["lengths"][0] == found["lengths"][1] == ours["lengths"][0]
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-6)
    assert len(ours["params"]) == 9 + 4
    assert max(ours["params"]["stem.norm.mean"]) > 0.01
    for name, value in ours["params"].items():
        np.testing.assert_allclose(theirs["params"][name], value, rtol=1e-5, atol=1e-7)


def test_images_that_a_compiled_function_holds_are_looked_at_as_well(network, call):
    images = jax.random.uniform(jax.random.key(3), [2, *SHAPE])
    graph, state = nnx.split(network)

    def lengths(held):
        return jax.jit(lambda state: nnx.merge(graph, state)(held).lengths)(state)

    assert np.allclose(lengths(images), call(images).lengths, atol=1e-6)
    for wrong in (255 * images, images * jnp.nan):
        with pytest.raises(UserError, match="images"):
            lengths(wrong)
