"""Networks by name have the sizes and beginnings that the paper and the released code give."""

import inspect

import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.losses import LossConfig
from capsjax.modules import CapsNet, count_parameters, digits, sabour2017
from capsjax.runs.plan import functions

MNIST = (28, 28, 1)


def count(config, shape=MNIST):
    network = nnx.eval_shape(lambda: CapsNet(shape, 10, config=config, rngs=nnx.Rngs(0)))
    return count_parameters(network)


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize(
    ("bias", "decoder", "expected"),
    [
        (False, True, 8_215_568),
        (False, False, 6_804_224),
        (True, True, 8_215_728),
        (True, False, 6_804_384),
    ],
)
def test_the_2017_network_has_the_known_number_of_parameters(variant, bias, decoder, expected):
    assert count(sabour2017(variant, routing_bias=bias, decoder=decoder)) == expected


def test_the_2017_network_has_1152_children():
    shapes = functions(sabour2017(), LossConfig(), MNIST, 10).shapes()
    assert {name: shape.shape for name, shape in shapes.items()} == {
        "stem.kernel": (9, 9, 1, 256),
        "stem.bias": (256,),
        "primary.kernel": (9, 9, 256, 256),
        "primary.bias": (256,),
        "classes.weight": (1152, 10, 8, 16),
        "decoder.layers.0.kernel": (160, 512),
        "decoder.layers.0.bias": (512,),
        "decoder.layers.1.kernel": (512, 1024),
        "decoder.layers.1.bias": (1024,),
        "decoder.layers.2.kernel": (1024, 784),
        "decoder.layers.2.bias": (784,),
    }


def test_both_variants_route_as_the_authors_did():
    for variant in ("paper", "released"):
        config = sabour2017(variant)
        assert config.routing == cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient())
        assert (config.dim, config.primary.dim, config.primary.types) == (16, 8, 32)
    assert sabour2017().primary.coupling == 1.0
    assert sabour2017("released").primary.coupling == 1 / 32
    assert sabour2017(routing=cj.UniformRouting()).routing == cj.UniformRouting()


@pytest.fixture(scope="module")
def released():
    """The initial parameters of the released variant."""
    config = sabour2017("released", routing_bias=True)
    return functions(config, LossConfig(), MNIST, 10).initial(0)


def test_the_released_biases_begin_at_a_tenth(released):
    biases = {name: value for name, value in released.items() if name.endswith("bias")}
    assert sorted(biases) == [
        "classes.bias",
        *(f"decoder.layers.{n}.bias" for n in range(3)),
        "primary.bias",
        "stem.bias",
    ]
    for name, value in biases.items():
        np.testing.assert_array_equal(value, np.float32(0.1), err_msg=name)


@pytest.mark.parametrize(
    ("name", "stddev"),
    [
        ("stem.kernel", 0.05),
        ("primary.kernel", 0.1),
        ("classes.weight", 0.1),
        ("decoder.layers.0.kernel", 0.1),
        ("decoder.layers.2.kernel", 0.1),
    ],
)
def test_the_released_weights_are_normal_truncated_at_two_deviations(released, name, stddev):
    value = np.asarray(released[name])
    assert np.abs(value).max() <= 2 * stddev * (1 + 1e-6)
    assert np.abs(value).max() > 1.9 * stddev
    # Cutting a normal at two standard deviations leaves 0.8796 of its own.
    assert value.std() == pytest.approx(0.8796 * stddev, rel=0.03)
    assert abs(value.mean()) < 5 * stddev / np.sqrt(value.size)


def test_the_paper_s_variant_begins_with_biases_of_zero_and_scaled_weights():
    config = digits()
    params = functions(config, LossConfig(), (8, 8, 1), 10).initial(0)
    for name in ("stem.bias", "primary.bias", "decoder.layers.0.bias"):
        assert not np.asarray(params[name]).any()
    kernel = np.asarray(params["primary.kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 32)), rel=0.05)
    weight = np.asarray(params["classes.weight"])
    i, j, d, _ = weight.shape
    assert weight.std() == pytest.approx(np.sqrt(j / (i * d)), rel=0.05)


def test_the_small_network_is_the_one_of_the_digits_configuration():
    assert cj.load_config("digits").model == digits()
    assert digits(routing=cj.UniformRouting()).routing == cj.UniformRouting()


def test_the_2017_configuration_is_the_released_preset():
    assert cj.load_config("mnist_sabour2017").model == sabour2017("released", routing_bias=True)


def test_an_unknown_variant_is_refused():
    message = r"got variant 'release', expected 'paper' or 'released'; did you mean 'released'\?"
    with pytest.raises(UserError, match=message):
        inspect.unwrap(sabour2017)("release")
