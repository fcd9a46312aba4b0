"""Activations that no routing can weigh by, and scores out of reach, are refused; the ways out work."""

import copy
import dataclasses
import re

import jax
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax import layers
from capsjax.checks import UserError
from capsjax.layers import CapsNet, NetworkConfig, with_routings
from capsjax.runs.config import shipped_configs
from capsjax.runs.served import check_served, check_weighed


def refused(config, expected, several=1):
    with pytest.raises(UserError, match=expected) as raised:
        check_served(config, several)
    return raised.value


@pytest.mark.parametrize("kind", ["heinsen", "inverted_attention"])
def test_lengths_of_normalised_poses_say_nothing(kind, tmp_path):
    """Of a capsnet, whose head has no name, and of layers by name; each way out is taken."""
    config = cj.load_config("digits", {"model.routing": kind})
    error = refused(
        config, f"got {kind}, expected another routing, such as dynamic, as {kind} norm"
    )
    assert error.argument == "model.routing"
    check_served(cj.load_config("digits", {"model.routing": "dynamic"}))
    overrides = {"model.routing": kind, "training.steps": 21, "training.epochs": None}
    by_name = cj.load_config("digits_attention", {**overrides, "model.head": "activation"})
    with pytest.raises(UserError, match=r"^model\.head: got activation, expected linear, as"):
        cj.train(by_name, out=tmp_path / "refused")
    branch = {"model.layers.branch": {"kind": "merge", "of": ["classes"]}}
    passed_on = cj.load_config(
        "digits_attention", {**overrides, **branch, "model.head": "activation"}
    )
    refused(passed_on, f"as {kind} normalises the poses of branch")
    check_served(
        cj.load_config("digits_attention", {"model.head": "activation", "model.routing": "dynamic"})
    )
    check_served(cj.load_config("digits_attention", {**overrides, "model.head": "linear"}))


def test_scores_that_add_up_to_1_serve_one_class_of_an_image():
    """Both ways to such scores: a softmax, and a routing that shares 1 out among class capsules."""
    softmax = {"model.head.output": "softmax", "loss": "margin"}
    for overrides, name in ((softmax, "digits_cnn"), ({"loss": "spread"}, "digits_self")):
        config = cj.load_config(name, overrides)
        check_served(config)
        error = refused(config, r"expected likelihood, as .* each of the 2 that an image", 2)
        assert error.argument == "loss"
        check_served(cj.load_config(name, {**overrides, "loss": "likelihood"}), 2)


def test_lengths_without_a_bound_are_no_probabilities():
    weighed = "digits_hvc"
    wrong = {
        "model.head": {"kind": "activation", "output": "none"},
        "loss": "binary_cross_entropy",
    }
    error = refused(cj.load_config(weighed, wrong), "expected a loss that takes activations above")
    assert error.argument == "loss"
    check_served(cj.load_config(weighed, {**wrong, "loss": "margin"}))
    check_served(cj.load_config(weighed, {**wrong, "model.head": "linear"}))
    check_served(cj.load_config("digits", {"loss": "binary_cross_entropy"}))  # squashed


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_what_ships_is_served(name):
    config = cj.load_config(name)
    check_served(config, 2 if "multimnist" in name else 1)


STACK = {
    "kind": "network",
    "layers": {
        "stem": {"kind": "conv", "channels": 8, "kernel": 3},
        "primary": {"kind": "primary_capsules", "types": 2, "dim": 16, "kernel": 1, "stride": 1},
        "conv1": {
            "kind": "conv_capsules",
            "types": 3,
            "dim": 16,
            "pose": "matrix",
            "kernel": 3,
            "stride": 2,
        },
        "classes": {"kind": "shared_capsules", "dim": 16, "pose": "matrix"},
    },
    "routing": {"kind": "dynamic", "num_iters": 2},
}
# What makes the activations unfit, the layer whose routing weighs by them, and those that give them.
UNFIT = {
    "em above normalised poses": (
        {"conv1.routing": "inverted_attention", "classes.routing": "em"},
        ("classes", "conv1"),
    ),
    "self above normalised poses": (
        {"conv1.routing": "heinsen", "classes.routing": "self"},
        ("classes", "conv1"),
    ),
    "heinsen below variational": (
        {"routing": "heinsen", "classes.routing": "variational"},
        ("classes", "conv1"),
    ),
    "em above poses that are not squashed": (
        {"primary.nonlinearity": "none", "routing": "em"},
        ("conv1", "primary"),
    ),
    "self above poses that are not squashed": (
        {"primary.nonlinearity": "none", "conv1.routing": "self"},
        ("conv1", "primary"),
    ),
    "a branch passes them on": (
        {
            "conv1.routing": "inverted_attention",
            "branch": {"kind": "merge", "of": ["conv1"]},
            "above": {"kind": "shared_capsules", "dim": 16, "pose": "matrix"},
            "above.routing": "em",
            "classes": None,
        },
        ("above", "conv1"),
    ),
}


def stack(changes):
    """Return a configuration with changes of the stack: of a layer, or of the network's own routing."""
    model = copy.deepcopy(STACK)
    for key, value in changes.items():
        name, _, field = key.partition(".")
        if field:
            model["layers"][name][field] = value
        elif name == "routing":
            model["routing"] = value
        elif value is None:
            del model["layers"][name]
        else:
            model["layers"][name] = value
    return cj.load_config("digits", {"model": model, "loss": "spread"})


def ways(error):
    """Return the fields that an error says to set, as overrides, each by itself."""
    key, text = re.match(r"([\w.]+): got \w+, expected another (.*)", error).groups()
    assert text.startswith("routing, such as dynamic, as ")
    return [{key: "dynamic"}, *({k: v} for k, v in re.findall(r"or ([\w.]+\.\w+) (\w+)", text))]


def largest_weight(config, above):
    """Return the largest activation by which a layer's routing weighs."""
    network = CapsNet((8, 8, 1), 10, config=config.model, rngs=nnx.Rngs(0))
    images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 1))
    passed = network.passed(images)
    names = list(passed)
    return float(np.max(passed[names[names.index(above) - 1]].value.activation))


@pytest.mark.parametrize(("changes", "names"), UNFIT.values(), ids=UNFIT)
def test_children_are_weighed_by_activations_from_0_to_1_alone(changes, names):
    """Each field that the error says to set makes a network that is taken."""
    config, (above, below) = stack(changes), names
    # A constant length, or one that is not squashed, is no degree of presence.
    assert largest_weight(config, above) > 1
    error = refused(config, "weighs children by activations from 0 to 1, and")
    assert f" of {below}" in str(error)
    assert re.match(rf"model\.(layers\.{above}\.)?routing: got", str(error))
    remedies = ways(error.on_command_line)
    assert len(remedies) == 3 if below == "primary" else len(remedies) == 2
    for remedy in remedies:
        keys = {key.removeprefix("model.").removeprefix("layers."): v for key, v in remedy.items()}
        followed = stack({**changes, **keys})
        check_served(followed)
        weighs = "activation" in layers.routings(followed.model)[above].takes
        assert not weighs or largest_weight(followed, above) <= 1


def test_the_ways_out_are_told_in_the_words_of_python():
    """What is given to the layers' configurations, and to those of a capsnet."""
    config = stack({"primary.nonlinearity": "none", "routing": "em"})
    text = str(refused(config, r"such as DynamicRouting\(\), as em"))
    assert text.endswith("; or activation='sigmoid' or nonlinearity='squash' of primary")
    model = config.model
    check_weighed(dataclasses.replace(model, routing=cj.DynamicRouting()))
    for change in ({"activation": "sigmoid"}, {"nonlinearity": "squash"}):
        changed = {
            **model.layers,
            "primary": dataclasses.replace(model.layers["primary"], **change),
        }
        check_weighed(dataclasses.replace(model, layers=changed))
    config = stack({"conv1.routing": "inverted_attention", "classes.routing": "em"})
    text = str(refused(config, "such as DynamicRouting"))
    assert text.endswith("; or routing=DynamicRouting() of conv1")
    check_weighed(with_routings(config.model, {"conv1": cj.DynamicRouting()}))
    short = layers.CapsNetConfig(
        primary=layers.PrimaryConfig(nonlinearity="none"), routing=cj.EMRouting()
    )
    with pytest.raises(
        UserError, match=r"^model\.routing: got em.* of primary have no bound"
    ) as raised:
        check_weighed(short)
    assert "model.primary.activation sigmoid" in raised.value.on_command_line
    own = layers.PrimaryConfig(nonlinearity="none", activation="sigmoid")
    check_weighed(dataclasses.replace(short, primary=own))


def test_where_the_layer_below_cannot_be_changed_the_routing_is():
    """Homogeneous capsules have no other lengths; a branch by itself is no sum of several."""
    homogeneous = {"kind": "homogeneous_capsules", "types": 4}
    weighed = {"primary": homogeneous, "conv1": None, "classes.routing": "em"}
    error = refused(stack(weighed), "the activations of primary have no bound$")
    assert ways(error.on_command_line) == [{"model.layers.classes.routing": "dynamic"}]
    check_served(stack({**weighed, "classes.routing": "dynamic"}))
    names = ("primary", "conv1")
    given = {
        "primary": layers.PrimaryConfig(types=2, dim=8, kernel=1, stride=1),
        "conv1": layers.MergeConfig(of=("primary",), by="weigh"),
        "classes": layers.DenseConfig(dim=8),
    }
    check_weighed(NetworkConfig(layers=given, routing=cj.EMRouting()))
    given["conv1"] = layers.MergeConfig(of=(names[0], names[0]), by="weigh")
    with pytest.raises(UserError, match="the activations of conv1 have no bound"):
        check_weighed(NetworkConfig(layers=given, routing=cj.EMRouting()))
