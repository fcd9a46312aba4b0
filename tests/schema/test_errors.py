"""Every mistake is told in two lines: where, what came, what was expected, the nearest valid name."""

import pytest

from capsjax.checks import nearest
from capsjax.routing import Routing
from capsjax.schema.fields import kinds_of
from capsjax.schema.tree import build

# What the file holds in place of what it held, what the error says came, what it says was expected.
ERRORS = [
    (
        {"seeed": 3},
        "seeed: unknown key, with value 3",
        "one of name, seed, model, training; did you mean 'seed'?",
    ),
    ({"zzz": "x"}, "zzz: unknown key, with value 'x'", "one of name, seed, model, training"),
    (
        {"model.routing.num_itres": 5},
        "model.routing.num_itres: unknown key, with value 5",
        "one of kind, num_iters, gradient; did you mean 'num_iters'?",
    ),
    (
        {"model.routing.gradient.lats": 5},
        "model.routing.gradient.lats: unknown key, with value 5",
        "one of kind, last; did you mean 'last'?",
    ),
    (
        {"model.decoder.widths": [1]},
        "model.decoder.widths: unknown key, with value [1]",
        "one of hidden, activation",
    ),
    (
        {"training.stages": ["full", {"kind": "full", "rematt": True}]},
        "training.stages.1.rematt: unknown key, with value true",
        "one of remat, kind; did you mean 'remat'?",
    ),
    (
        {"model": {"chanels": 3, "routing": "uniform"}},
        "model.chanels: unknown key, with value 3 (and 1 more)",
        "one of channels, kernel, routing, decoder; did you mean 'channels'?",
    ),
    ({"seed": 3.0}, "seed: got 3.0", "an integer"),
    ({"seed": "3"}, "seed: got '3'", "an integer"),
    ({"seed": True}, "seed: got true", "an integer"),
    ({"training.steps": 0.5}, "training.steps: got 0.5", "an integer or null"),
    ({"training.learning_rate": False}, "training.learning_rate: got false", "a number"),
    ({"training.shift": 1}, "training.shift: got 1", "true or false"),
    ({"name": 3}, "name: got 3", "a string, in quotes where it looks like another type"),
    (
        {"training.parallel": "pmpa"},
        "training.parallel: got 'pmpa'",
        "one of jit, pmap; did you mean 'pmap'?",
    ),
    ({"model": 3}, "model: got 3", "a mapping with keys channels, kernel, routing, decoder"),
    ({"model.routing": 3}, "model.routing: got 3", "a mapping with kind one of dynamic, uniform"),
    (
        {"model.routing.gradient": None},
        "model.routing.gradient: got null",
        "a mapping with kind one of stop, full, truncated",
    ),
    (
        {"model.decoder": "dense"},
        "model.decoder: got 'dense'",
        "a mapping with keys hidden, activation or null",
    ),
    ({"model.decoder.hidden": 3}, "model.decoder.hidden: got 3", "a list [an integer, ...]"),
    ({"model.decoder.hidden": [1, "2"]}, "model.decoder.hidden.1: got '2'", "an integer"),
    ({"model.kernel": [9]}, "model.kernel: got [9]", "a list [an integer, an integer]"),
    ({"model.kernel": [9, 9, 9]}, "model.kernel: got [9, 9, 9]", "a list [an integer, an integer]"),
    ({"model.routing.num_iters": 0}, "model.routing.num_iters: got 0", "an integer from 1 to 100"),
    (
        {"training.stages": ["full", {"kind": "truncated", "last": -1}]},
        "training.stages.1.last: got -1",
        "an integer of at least 0",
    ),
    (
        {"training.learning_rate": float("nan")},
        "training.learning_rate: got NaN",
        "a number greater than 0",
    ),
    (
        {"model.decoder.activation": "relo"},
        "model.decoder.activation: got 'relo'",
        "one of relu, tanh; did you mean 'relu'?",
    ),
    (
        {"training": {"parallel": "pmap"}},
        'training: got {"parallel": "pmap"}',
        "other values: pmap takes no shift",
    ),
    (
        {"model.routing": {"kind": "dynamc", "num_iters": 3}},
        "model.routing.kind: got 'dynamc'",
        "one of dynamic, uniform; did you mean 'dynamic'?",
    ),
    (
        {"model.routing.gradient": {"kind": "stpo", "last": "x"}},
        "model.routing.gradient.kind: got 'stpo'",
        "one of stop, full, truncated; did you mean 'stop'?",
    ),
    (
        {"model.routing": {"kind": "dynamic", "gradient": "fulll"}},
        "model.routing.gradient: got 'fulll'",
        "one of stop, full, truncated; did you mean 'full'?",
    ),
    (
        {"model.routing": {"kind": ["dynamic"]}},
        'model.routing.kind: got ["dynamic"]',
        "one of dynamic, uniform; did you mean 'dynamic'?",
    ),
    ({"model.routing": {"num_iters": 3}}, "model.routing.kind: missing", "one of dynamic, uniform"),
    (
        {"model.routing": {"kind": "dynamic", "gradient": "truncated"}},
        "model.routing.gradient.last: missing",
        "an integer",
    ),
    (
        {"model": {"channels": 3}},
        "model.routing: missing",
        "a mapping with kind one of dynamic, uniform",
    ),
    (
        {"seed": "x", "name": 3, "model.channels": None, "model.routing": "unifrom"},
        "model.routing: got 'unifrom' (and 3 more)",
        "one of dynamic, uniform; did you mean 'uniform'?",
    ),
    (
        {"seed": "x" * 500},
        f"seed: got '{'x' * 56}...",
        "an integer",
    ),
    (
        {"seed": "a\nb", "s\nd": 1},
        "s d: unknown key, with value 1 (and 1 more)",
        "one of name, seed, model, training; did you mean 'seed'?",
    ),
]


@pytest.mark.parametrize(("changes", "came", "expected"), ERRORS)
def test_errors_in_a_file_to_the_letter(toy, message, changes, came, expected):
    tree = toy.read(toy.text)
    for key, value in changes.items():
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    text = message(build, toy.Config, tree, source="toy.yaml")
    assert text == f"toy.yaml: {came}\n  expected {expected}"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--seed", "x"], "seed: got 'x'\n  expected an integer"),
        (
            ["--model.routing.num_iters=0"],
            "model.routing.num_iters: got 0\n  expected an integer from 1 to 100",
        ),
        (
            ["--sead", "3"],
            "sead: unknown key, with value 3\n"
            "  expected one of name, seed, model, training; did you mean 'seed'?",
        ),
        (
            ["--model.rooting.num_iters", "3"],
            'model.rooting.num_iters: model.rooting: unknown key, with value {"num_iters": 3}\n'
            "  expected one of channels, kernel, routing, decoder; did you mean 'routing'?",
        ),
        (
            ["--model.routing.gradient", "{kind: truncated, last: -2}"],
            "model.routing.gradient: model.routing.gradient.last: got -2\n"
            "  expected an integer of at least 0",
        ),
        (
            ["--model.routing", "uniform", "--model.routing.num_iters", "3"],
            "model.routing.num_iters: unknown key, with value 3\n"
            "  expected one of kind; num_iters belongs to kind dynamic",
        ),
        (
            ["--model", "3"],
            "model: got 3\n  expected a mapping with keys channels, kernel, routing, decoder",
        ),
        (
            ["--name.first", "3"],
            'name.first: name: got {"kind": "toy", "first": 3}\n'
            "  expected a string, in quotes where it looks like another type",
        ),
        (
            ["--model.routing", "unifrom"],
            "model.routing: got 'unifrom'\n"
            "  expected one of dynamic, uniform; did you mean 'uniform'?",
        ),
    ],
)
def test_errors_in_overrides_name_the_override(toy, message, flags, text):
    assert message(toy.build, *flags) == text


def test_what_a_flag_leaves_missing_names_the_flag(toy, message):
    tree = {"name": "toy", "model": {"channels": 3, "routing": {"kind": "uniform"}}}
    by_kind = {"model.routing.kind": "dynamic", "model.routing.gradient.kind": "truncated"}
    text = message(build, toy.Config, tree, source="toy.yaml", overrides=by_kind)
    assert text.startswith("model.routing.gradient.kind: model.routing.gradient.last: missing\n")
    del tree["model"]["routing"]
    by_sibling = {"model.routing.num_iters": 3}
    text = message(build, toy.Config, tree, source="toy.yaml", overrides=by_sibling)
    assert text == (
        "model.routing.num_iters: model.routing.kind: missing\n  expected one of dynamic, uniform"
    )


def test_what_the_file_lacks_is_not_blamed_on_a_flag_beside_it(toy, message):
    tree = {"name": "toy", "model": {"routing": "uniform"}}
    text = message(build, toy.Config, tree, source="toy.yaml", overrides={"model.kernel": [3, 3]})
    assert text == "toy.yaml: model.channels: missing\n  expected an integer"


TOP = "one of name, seed, model, training"
ELSEWHERE = [
    ({"num_iters": 5}, TOP, "'model.routing.num_iters'"),
    ({"routing.num_iters": 5}, TOP, "'model.routing'"),
    ({"kind": "full"}, TOP, "'model.routing.kind' or 'model.routing.gradient.kind'"),
    ({"model.seed": 5}, "one of channels, kernel, routing, decoder", "'seed'"),
    ({"last": 5}, TOP, "'model.routing.gradient.last'"),
    ({"model.routing.hidden": [3]}, "one of kind, num_iters, gradient", "'model.decoder.hidden'"),
]


@pytest.mark.parametrize(("flags", "expected", "keys"), ELSEWHERE)
def test_a_key_of_another_level_is_suggested_in_full(toy, message, flags, expected, keys):
    text = message(build, toy.Config, toy.read(toy.text), source="toy.yaml", overrides=flags)
    assert text.splitlines()[1] == f"  expected {expected}; did you mean {keys}?"


def test_a_key_of_another_kind_is_not_suggested_at_another_level(toy, message):
    flags = "--model.routing.gradient", "stop", "--model.routing.gradient.remat", "true"
    assert message(toy.build, *flags) == (
        "model.routing.gradient.remat: unknown key, with value true\n"
        "  expected one of kind; remat belongs to kind full"
    )


def test_huge_numbers_and_broken_text_are_refused_without_a_crash(toy, message):
    assert "learning_rate: got " in message(toy.build, training__learning_rate=10**400)
    assert message(toy.build, name="\ud800").startswith("toy.yaml: ")


NEAREST = {
    "EM": "em",
    "EMRouting": "em",
    "em_routing": "em",
    "self_routing": "self",
    "self-routing": "self",
    "SelfRouting": "self",
    "Self-Attention": "self_attention",
    "self_atention": "self_attention",
    "dynamic_routing": "dynamic",
    "dynamc": "dynamic",
    "Inverted": "inverted_attention",
    "slot": "slot_attention",
    "k_means": "soft_k_means",
    "variational_bayes": "variational",
    "zzz": None,
    "": None,
}


@pytest.mark.parametrize(("given", "meant"), NEAREST.items())
def test_the_nearest_name_by_letters_or_by_words(given, meant):
    """Of routings: as it is called in code, with more words, with less, in other letters, with a slip."""
    expected = "" if meant is None else f"; did you mean {meant!r}?"
    assert nearest(given, kinds_of(Routing)) == expected


def test_a_slip_of_letters_comes_before_words_in_common():
    assert nearest("train_limt", ["train", "train_limit"]) == "; did you mean 'train_limit'?"
    assert nearest("--hepl", ["--version", "--help"]) == "; did you mean '--help'?"
    assert nearest("classes_of", ["of_classes", "classes"]) == "; did you mean 'classes'?"
