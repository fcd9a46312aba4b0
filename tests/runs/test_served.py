"""Scores that no training brings to what a loss asks are refused before it begins; the ways out work."""

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.runs.served import check_served


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


@pytest.mark.parametrize("name", ["digits_attention", "digits_hvc", "multimnist", "multimnist_cnn"])
def test_what_ships_is_served(name):
    config = cj.load_config(name)
    check_served(config, 2 if "multimnist" in name else 1)
