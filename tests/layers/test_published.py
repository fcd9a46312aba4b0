"""Published networks from their files: as many parameters as the papers state, found without any array."""

import collections
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import capsjax as cj
from capsjax.layers import CapsNet

MNIST, STEREO, CIFAR, WIDE = (28, 28, 1), (32, 32, 2), (32, 32, 3), (36, 36, 1)

# What the paper states, or, where it rounds, what comes to that; with and without decoder.
STATED = [
    ("capsnet2017", MNIST, 10, 8_215_568, 6_804_224),
    ("em2018", STEREO, 5, 316_650, 316_650),
    ("em2018_small", STEREO, 5, 68_618, 68_618),
    ("efficient_capsnet", MNIST, 10, 1_573_168, 161_824),
    ("self_routing", CIFAR, 10, 3_269_456, 3_269_456),
    ("attention_resnet", CIFAR, 10, 1_828_817, 1_828_817),
    ("attention_simple", CIFAR, 10, 492_177, 492_177),
    ("deepcaps", MNIST, 10, 8_477_649, 8_441_920),
    ("hvc", MNIST, 10, 1_514_187, 1_514_187),
    ("cnn_sabour2017", MNIST, 10, 35_445_522, 35_445_522),
    ("cnn_multimnist2017", WIDE, 10, 24_563_978, 24_563_978),
    ("cnn_average_pool", (40, 40, 1), 10, 5_332_234, 5_332_234),
]
# Small networks on digits, most of them versions of these.
SMALL = (
    "digits",
    "digits_attention",
    "digits_deepcaps",
    "digits_efficient",
    "digits_em",
    "digits_hvc",
    "digits_residual",
    "digits_self",
)
# How many images train, after how many epochs of them the rate falls, and how many epochs there are.
EPOCHS = [
    ("self_routing", 45_000, (150, 250), 350),
    ("attention_resnet", 50_000, (150, 250), 350),
    ("attention_simple", 50_000, (150, 250), 350),
    ("efficient_capsnet", 60_000, (1,), 150),
    ("deepcaps", 60_000, (10,), 100),
    ("hvc", 60_000, (1,), 300),
]
# A network without capsules, the capsule network that it stands beside, and the images of both.
BESIDE = [
    ("digits_cnn", "digits", (8, 8, 1), 10),
    ("mnist_small_cnn", "mnist_small", MNIST, 10),
    ("images_cnn", "images", CIFAR, 8),
    ("usps_cnn", "usps", (16, 16, 1), 10),
    ("fashion_cnn", "fashion", MNIST, 10),
    ("eth80_cnn", "eth80", (32, 32, 1), 8),
    ("multimnist_cnn", "multimnist", WIDE, 10),
    ("vectors_mlp", "vectors", (1, 4, 1), 3),
]


def header(name):
    """Return what a configuration's opening comment says, as one line."""
    lines = cj.runs.config.find_config(name).read_text("utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(" ".join(line[1:] for line in comment).split())


@functools.cache
def looked_at(name, shape, classes):
    """Return how many numbers each part trains, and the shapes of an output of two images."""
    model = cj.load_config(name).model

    def run(key, images):
        network = CapsNet(shape, classes, config=model, rngs=nnx.Rngs(params=key))
        network.eval()
        return nnx.state(network, nnx.Param), network(images)

    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    state, output = jax.eval_shape(run, jax.random.key(0), images)
    parts = collections.Counter()
    for path, leaf in nnx.to_flat_state(state):
        parts[path[0]] += leaf.size
    return parts, output


@pytest.mark.parametrize(("name", "shape", "classes", "whole", "without"), STATED)
def test_a_published_network_has_the_parameters_that_are_stated(
    name, shape, classes, whole, without
):
    parts, output = looked_at(name, shape, classes)
    assert parts.total() == whole
    assert parts.total() - parts["decoder"] == without
    assert output.lengths.shape == (2, classes)
    text = cj.runs.config.find_config(name).read_text("utf-8")
    assert f"{without:,}" in text


@pytest.mark.parametrize("name", SMALL)
def test_a_small_version_says_how_many_parameters_it_has(name):
    parts, _ = looked_at(name, (8, 8, 1), 10)
    assert f" {parts.total():,} parameters" in header(name)


@pytest.mark.parametrize(("name", "images", "falls", "epochs"), EPOCHS)
def test_a_published_schedule_is_that_of_the_paper_in_epochs(name, images, falls, epochs):
    config = cj.load_config(name)
    whole = {"cifar10": 50_000}.get(config.data.kind, 60_000)
    assert whole - config.data.validation == images
    length = images // config.training.batch_size
    schedule, training = config.optimiser.schedule, config.training
    found = schedule.boundaries if schedule.kind == "piecewise" else (schedule.every,)
    assert found == tuple(length * after for after in falls)
    assert training.epochs == epochs or training.steps == length * epochs


@pytest.mark.parametrize("name", ["em2018", "em2018_small"])
def test_matrix_capsules_learn_from_every_object_as_the_paper_has_it(name):
    assert cj.load_config(name).data.validation == 0


def test_self_routing_has_matrices_for_class_poses_that_the_paper_has_not():
    parts, _ = looked_at("self_routing", CIFAR, 10)
    assert parts.total() - 512 * 10 * 16 == 3_187_536


def test_deepcaps_has_the_parameters_of_the_released_code_on_larger_images():
    parts, output = looked_at("deepcaps", (64, 64, 3), 10)
    assert parts.total() - parts["decoder"] == 13_359_424
    # Types choose among all positions, and both last cells' capsules vote for the classes.
    assert output.layers["skip4"].coupling.shape == (2, 32, 4 * 4 * 32)
    assert output.coupling.shape == (2, (4 * 4 + 8 * 8) * 32, 10)
    assert "13,359,424" in cj.runs.config.find_config("deepcaps").read_text("utf-8")


def test_the_2017_network_written_out_is_its_short_form():
    written = cj.load_config("capsnet2017").model
    short = cj.layers.CapsNetConfig(routing=written.routing)
    assert short.network() == written


@pytest.mark.parametrize(("name", "beside", "shape", "classes"), BESIDE)
def test_a_baseline_has_parameters_data_and_schedule_of_the_capsules(name, beside, shape, classes):
    (ours, _), (theirs, _) = (looked_at(one, shape, classes) for one in (name, beside))
    text = cj.runs.config.find_config(name).read_text("utf-8")
    config, other = cj.load_config(name), cj.load_config(beside)
    for field in ("data", "max_shift", "augment", "metrics", "optimiser", "training"):
        assert getattr(config, field) == getattr(other, field)
    for drawn in ("", "decoder") if config.model.decoder else ("",):
        cnn, capsules = (
            parts.total() - parts["decoder"] * (drawn == "") for parts in (ours, theirs)
        )
        assert cnn == pytest.approx(capsules, rel=0.01)
        assert f"{cnn:,}" in text
        assert f"{capsules:,}" in text


@pytest.mark.parametrize("name", [name for name, *_ in STATED if not name.startswith("cnn")])
def test_a_published_network_says_what_a_step_takes(name):
    batch = cj.load_config(name).training.batch_size
    assert re.search(rf"step of batch {batch} takes [\w. ]*second", header(name))
    assert re.search(r"on two (busy )?CPU cores", header(name))
