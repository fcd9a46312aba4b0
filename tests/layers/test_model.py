"""A network is layers by name: shapes before arrays, errors that name the layer, values that compose."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.layers import (
    BatchNorm,
    CapsNet,
    CapsNetConfig,
    ConvCapsulesConfig,
    ConvConfig,
    ConvDecoderConfig,
    DecoderConfig,
    DenseConfig,
    GroupNorm,
    LinearHead,
    NetworkConfig,
    PrimaryConfig,
    ResNetConfig,
    count_parameters,
    map_routings,
    routing_keys,
    routings,
    shapes,
    with_gradient,
)
from capsjax.training.state import group_of, separate

SHAPE, CLASSES = (8, 7, 1), 4
FULL = cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient())
SHORT = CapsNetConfig(
    stem=ConvConfig(channels=3, kernel=3),
    primary=PrimaryConfig(types=2, dim=4, kernel=3),
    dim=5,
    routing=FULL,
    routing_bias=True,
    decoder=DecoderConfig(hidden=(7,)),
)
LONG = NetworkConfig(
    layers={
        "stem": ConvConfig(channels=3, kernel=3),
        "primary": PrimaryConfig(types=2, dim=4, kernel=3),
        "classes": DenseConfig(dim=5, routing_bias=True),
    },
    routing=FULL,
    decoder=DecoderConfig(hidden=(7,)),
    initialisation="scaled",
)
DEEP = NetworkConfig(
    layers={
        "stem": ConvConfig(channels=4, kernel=3, normalisation=BatchNorm()),
        "primary": PrimaryConfig(types=2, dim=3, kernel=3),
        "hidden": DenseConfig(types=3, dim=4, routing=cj.DynamicRouting(num_iters=2)),
        "classes": DenseConfig(dim=5),
    },
    routing=FULL,
)


def pictures(n=5, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random((n, *SHAPE)), jnp.float32)


def made(config, seed=0, shape=SHAPE):
    return separate(CapsNet(shape, CLASSES, config=config, rngs=nnx.Rngs(seed)))


@pytest.fixture(scope="module")
def deep():
    return made(DEEP)


def abstract(config, shape=SHAPE, n=2):
    """Return the shapes of a network's parameters and output, without computing anything."""

    def run(key, images):
        network = CapsNet(shape, CLASSES, config=config, rngs=nnx.Rngs(params=key))
        return separate(network).params, network(images)

    images = jax.ShapeDtypeStruct((n, *shape), jnp.float32)
    return jax.eval_shape(run, jax.random.key(0), images)


def test_the_short_form_is_its_three_layers_to_the_bit():
    short, long = made(SHORT), made(LONG)
    assert list(short.params) == list(long.params)
    jax.tree.map(np.testing.assert_array_equal, short.params, long.params)
    labels = jnp.arange(5) % CLASSES

    def loss(apply, params):
        output = apply(params, pictures(), labels)
        return jnp.sum(output.lengths**2) + jnp.sum(output.reconstruction**2), output

    found, expected = (
        jax.jit(jax.value_and_grad(lambda p, a=part.apply: loss(a, p), has_aux=True))(part.params)
        for part in (short, long)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert SHORT.network() == LONG
    assert {group_of(name) for name in short.params} == {"stem", "primary", "classes", "decoder"}


def test_names_of_parameters_are_those_of_old_checkpoints():
    assert sorted(made(SHORT).params) == [
        "classes.bias",
        "classes.weight",
        "decoder.layers.0.bias",
        "decoder.layers.0.kernel",
        "decoder.layers.1.bias",
        "decoder.layers.1.kernel",
        "primary.bias",
        "primary.kernel",
        "stem.bias",
        "stem.kernel",
    ]


STEMS = {
    "conv": ConvConfig(
        channels=8, kernel=3, stride=2, bias=False, normalisation=GroupNorm(groups=4)
    ),
    "same": ConvConfig(channels=3, kernel=4, stride=3, padding="SAME", activation="gelu"),
    "resnet": ResNetConfig(channels=(2, 5, 3), blocks=2, stride=2, kernel=5),
    "plain": ResNetConfig(channels=(2,), normalisation=None),
}


@pytest.mark.parametrize("stem", STEMS.values(), ids=STEMS)
@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_the_shapes_that_layers_say_are_those_that_come_out(stem, padding):
    kernel = 1 if padding == "VALID" else 2
    primary = PrimaryConfig(types=3, dim=2, kernel=kernel, stride=2, padding=padding)
    layers = {"stem": stem, "primary": primary, "classes": DenseConfig(dim=6)}
    model, shape = NetworkConfig(layers=layers), (11, 9, 2)
    steps = shapes(model, shape, CLASSES)

    def first(images):
        return CapsNet(shape, CLASSES, config=model, rngs=nnx.Rngs(0)).stem(images)

    features = jax.eval_shape(first, jnp.zeros((2, *shape)))
    assert features.shape == (2, *steps[0].shape.grid, steps[0].shape.channels)
    _, output = abstract(model, shape)
    assert output.children.shape == (2, steps[1].shape.capsules, steps[1].shape.dim)
    assert output.poses.shape == (2, steps[2].shape.capsules, steps[2].shape.dim) == (2, 4, 6)
    assert [step.given for step in steps[1:]] == [step.shape for step in steps[:-1]]


def test_each_layer_that_routes_tells_what_it_did_by_its_name(deep):
    variables = deep.params | deep.statistics
    call = jax.jit(deep.apply, static_argnames="trace")
    output, plain = call(variables, pictures(), trace=True), call(variables, pictures())
    assert list(output.layers) == ["hidden", "classes"]
    hidden, last = output.layers.values()
    assert hidden.coupling.shape == (5, 2 * 2 * 2, 3)
    assert hidden.trace.coupling.shape == (2, *hidden.coupling.shape)
    assert last.trace.coupling.shape == (3, 5, 3, CLASSES)
    for ours, theirs in (
        (output.coupling, last.coupling),
        (output.trace.coupling, last.trace.coupling),
        (output.children, hidden.pose),
        (output.poses, last.pose),
        (output.lengths, last.activation),
        (output.lengths, plain.lengths),
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert plain.trace is None
    assert plain.layers["hidden"].trace is None
    assert "layers={hidden: RoutingResult(" in repr(plain)


def test_a_deep_network_begins_alive(deep):
    lengths = deep.apply(deep.params | deep.statistics, pictures()).lengths
    assert 0.05 < lengths.mean() < 0.95
    scaled = made(dataclasses.replace(DEEP, initialisation="scaled"))
    assert (
        scaled.apply(scaled.params | scaled.statistics, pictures()).lengths.mean() < lengths.mean()
    )


def test_the_gradient_through_two_routings_and_a_batch_s_statistics_is_that_of_differences():
    with jax.enable_x64(True):
        model = with_gradient(DEEP, cj.FullGradient())
        parts = made(model)
        double = jax.tree.map(lambda x: x.astype(jnp.float64), parts.params | parts.statistics)
        params = {name: double[name] for name in parts.params}
        images = pictures(3).astype(jnp.float64)

        @jax.jit
        def loss(params):
            output, _ = parts.track(double | params, images)
            return jnp.sum(jnp.sin(3 * output.poses))

        gradient = jax.grad(loss)(params)
        rng = np.random.default_rng(1)
        for name in ("stem.kernel", "stem.norm.scale", "primary.kernel", "hidden.weight"):
            step = jnp.asarray(rng.normal(size=params[name].shape))

            def along(h, name=name, step=step):
                return loss(params | {name: params[name] + h * step})

            found = jnp.sum(gradient[name] * step)
            np.testing.assert_allclose(found, (along(1e-5) - along(-1e-5)) / 2e-5, rtol=1e-6)
            assert abs(found) > 1e-6


def test_layers_of_their_own_routing_keep_it_and_others_take_the_network_s():
    assert routings(DEEP) == {"hidden": cj.DynamicRouting(num_iters=2), "classes": FULL}
    assert list(routing_keys(DEEP)) == ["model.layers.hidden.routing", "model.routing"]
    assert routings(SHORT) == {"classes": FULL}
    assert list(routing_keys(SHORT)) == ["model.routing"]


def test_a_gradient_is_set_on_every_iterative_routing():
    mixed = dataclasses.replace(
        DEEP,
        layers={**DEEP.layers, "hidden": DenseConfig(types=3, dim=4, routing=cj.SelfRouting())},
    )
    for model in (DEEP, SHORT, LONG, mixed):
        stopped = with_gradient(model, cj.StopGradient())
        for name, routing in routings(stopped).items():
            before = routings(model)[name]
            if isinstance(before, cj.SelfRouting):
                assert routing == before
            else:
                assert routing == dataclasses.replace(before, gradient=cj.StopGradient())
        assert hash(stopped) == hash(with_gradient(model, cj.StopGradient()))
        assert map_routings(model, lambda routing: routing) == model
    with pytest.raises(UserError, match=r"gradient\.last: got 5|last"):
        with_gradient(DEEP, cj.TruncatedGradient(last=5))


def conv(**fields):
    return ConvConfig(**{"channels": 3, "kernel": 3} | fields)


PRIMARY, CLASS = PrimaryConfig(types=2, dim=4, kernel=3), DenseConfig(dim=5)


@pytest.mark.parametrize(
    ("layers", "fields", "message"),
    [
        (
            {"stem": conv(), "primary": dataclasses.replace(PRIMARY, kernel=6), "classes": CLASS},
            {},
            r"model.layers.primary.kernel: got 6, expected at most 5, the width of the features "
            r"\[6, 5, 3\] that come in: choose kernel 5 or less, or padding SAME; the images are \[8, 7, 1\]",
        ),
        (
            {
                "stem": conv(),
                "primary": dataclasses.replace(PRIMARY, kernel=6, stride=1),
                "more": ConvCapsulesConfig(types=2, dim=4, kernel=3),
                "classes": CLASS,
            },
            {},
            r"come in: choose kernel 3 or less, for model.layers.more, or padding SAME; the images",
        ),
        (
            {
                "stem": conv(),
                "primary": dataclasses.replace(PRIMARY, kernel=6, stride=3),
                "more": ConvCapsulesConfig(types=2, dim=4, kernel=3),
                "classes": CLASS,
            },
            {},
            "or padding SAME, which alone is not enough; the images are",
        ),
        (
            {"stem": conv(), "classes": CLASS},
            {},
            "model.layers.classes.kind: got 'dense_capsules', expected a layer that takes features.*"
            "primary_capsules before it",
        ),
        (
            {"primary": PRIMARY, "stem": conv(), "classes": CLASS},
            {},
            r"model.layers.stem.kind: got 'conv', expected a layer that takes capsules, as capsules "
            r"\[18, 4\] come in",
        ),
        (
            {"stem": conv()},
            {},
            "model.layers.stem.kind: got 'conv', expected a last layer that gives",
        ),
        (
            {"primary": PRIMARY, "classes": DenseConfig(types=3)},
            {},
            "model.head.kind: got 'activation', expected a head that maps .* to 4 classes, such as linear",
        ),
        (
            {"primary": PRIMARY, "classes": DenseConfig(types=3)},
            {"head": LinearHead(), "decoder": DecoderConfig(hidden=(3,))},
            "model.decoder: got 'dense', expected null",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_its_key(layers, fields, message):
    config = NetworkConfig(layers=layers, **fields)
    with pytest.raises(FieldError, match=message):
        abstract(config)


def test_a_network_need_not_route():
    primary = dataclasses.replace(PRIMARY, types=2, kernel=7)
    part = made(NetworkConfig(layers={"primary": primary}, head=LinearHead()))
    output = part.apply(part.params, pictures())
    assert output.lengths.shape == (5, 4)  # the classes
    assert not output.layers


@pytest.mark.parametrize(
    "name", ["loss", "decoder", "2nd", "a-b", "train", "class", "_x", "", "a.b"]
)
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(FieldError, match=f"layers: got {name!r}, expected a name"):
        NetworkConfig(layers={name: CLASS})


def test_a_linear_head_maps_any_capsules_to_classes():
    layers = {"primary": PRIMARY, "hidden": DenseConfig(types=3, dim=2)}
    part = made(NetworkConfig(layers=layers, head=LinearHead()))
    output = part.apply(part.params, pictures())
    x = np.asarray(output.poses).reshape(5, 6) @ np.asarray(part.params["head.map.kernel"])
    np.testing.assert_allclose(output.lengths, 1 / (1 + np.exp(-x)), rtol=1e-5)
    assert group_of("head.map.kernel") == "head"


def test_activations_of_their_own_reach_the_routing():
    primary = dataclasses.replace(PRIMARY, activation="sigmoid", nonlinearity="none", bias=False)
    model = NetworkConfig(layers={"primary": primary, "classes": CLASS}, routing=cj.EMRouting())
    part = made(model)
    assert "primary.bias" not in part.params
    lengths = part.apply(part.params, pictures()).lengths
    dark = part.params["primary.present_kernel"] - 9
    assert not np.allclose(
        part.apply(part.params | {"primary.present_kernel": dark}, pictures()).lengths, lengths
    )


def test_the_convolutional_decoder_draws_any_image():
    for shape in ((8, 7, 1), (5, 12, 3)):
        decoder = ConvDecoderConfig(channels=(4, 3))
        model = NetworkConfig(layers={"primary": PRIMARY, "classes": CLASS}, decoder=decoder)
        params, output = abstract(model, shape)
        assert output.reconstruction.shape == (2, *shape)
        assert params["decoder.layers.1.kernel"].shape == (3, 3, 3, shape[2])
        grid = -(-shape[0] // 4) * -(-shape[1] // 4)
        assert params["decoder.coarse.kernel"].shape == (4 * 5, grid * 4)


def test_only_the_capsule_to_draw_reaches_the_convolutional_decoder():
    decoder = ConvDecoderConfig(channels=(4,))
    model = NetworkConfig(layers={"primary": PRIMARY, "classes": CLASS}, decoder=decoder)
    network = CapsNet(SHAPE, CLASSES, config=model, rngs=nnx.Rngs(0))
    poses = jnp.ones((2, CLASSES, 5))
    mask = jnp.eye(CLASSES)[jnp.array([1, 3])]
    images = network.decoder(poses, mask)
    assert ((images > 0) & (images < 1)).all()
    moved = network.decoder(poses.at[:, 0].add(1), mask)
    np.testing.assert_array_equal(images, moved)
    assert not np.allclose(images, network.decoder(poses.at[:, 1].add(1), mask)[0])


def test_parameters_of_layers_are_counted(deep):
    network = CapsNet(SHAPE, CLASSES, config=DEEP, rngs=nnx.Rngs(0))
    stem, primary = 9 * 4 + 4 + 2 * 4, 9 * 4 * 6 + 6
    assert count_parameters(network) == stem + primary + 8 * 3 * 3 * 4 + 3 * 4 * 4 * 5
    assert sorted(deep.statistics) == ["stem.norm.mean", "stem.norm.var"]


def test_advice_on_a_kernel_works_to_the_letter():
    before = {"stem": conv(), "primary": dataclasses.replace(PRIMARY, kernel=6, stride=1)}
    layers = before | {
        "more": ConvCapsulesConfig(types=2, dim=4, kernel=3),
        "classes": CLASS,
    }
    with pytest.raises(FieldError) as caught:
        shapes(NetworkConfig(layers=layers), SHAPE, CLASSES)
    most = re.search(r"choose kernel (\d) or less, .*, or padding SAME", str(caught.value))
    assert most is not None
    fields = [{"kernel": n} for n in range(1, int(most[1]) + 1)] + [{"padding": "SAME"}]
    for changed in fields:
        layers["primary"] = dataclasses.replace(before["primary"], **changed)
        assert shapes(NetworkConfig(layers=layers), SHAPE, CLASSES)[-1].name == "classes"
    layers["primary"] = dataclasses.replace(before["primary"], kernel=int(most[1]) + 1)
    with pytest.raises(FieldError, match=r"model\.layers\.more\.kernel: got 3, expected at most 2"):
        shapes(NetworkConfig(layers=layers), SHAPE, CLASSES)
