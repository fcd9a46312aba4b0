"""The 2017 network has the sizes and beginnings that the paper and the released code give."""

import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.layers import CapsNet, count_parameters
from capsjax.losses import LossConfig
from capsjax.runs.plan import network_functions

MNIST = (28, 28, 1)
PAPER = {"model.initialisation": "scaled", "model.primary.coupling": 1, "model.routing_bias": False}


def sabour2017(overrides=None):
    """Return the network as the authors' code has it, with changes."""
    return cj.load_config("mnist_sabour2017", overrides).model


def count(config, shape=MNIST):
    network = nnx.eval_shape(lambda: CapsNet(shape, 10, config=config, rngs=nnx.Rngs(0)))
    return count_parameters(network)


@pytest.mark.parametrize("variant", [PAPER, {}], ids=["paper", "released"])
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
    changes = {"model.routing_bias": bias, **({} if decoder else {"model.decoder": None})}
    assert count(sabour2017(variant | changes)) == expected


def test_the_2017_network_has_1152_children():
    shapes = network_functions(sabour2017(PAPER), LossConfig(), MNIST, 10).shapes()
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


@pytest.fixture(scope="module")
def released():
    """The initial parameters of the released variant."""
    return network_functions(sabour2017(), LossConfig(), MNIST, 10).initial(0)


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
    params = network_functions(cj.load_config("digits").model, LossConfig(), (8, 8, 1), 10).initial(
        0
    )
    for name in ("stem.bias", "primary.bias", "decoder.layers.0.bias"):
        assert not np.asarray(params[name]).any()
    kernel = np.asarray(params["primary.kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (3 * 3 * 32)), rel=0.05)
    weight = np.asarray(params["classes.weight"])
    i, j, d, _ = weight.shape
    assert weight.std() == pytest.approx(np.sqrt(j / (i * d)), rel=0.05)
