"""Configurations written: complete, readable, and the same when read again."""

import dataclasses
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from capsjax.checks import LARGEST_FLOAT
from capsjax.schema.text import dump, to_tree
from capsjax.schema.tree import build

LOOKALIKES = ["no", "on", "y", "true", "null", "~", "", "1e3", "1e-3", "0x1f", "007", "1_0", "="]
LOOKALIKES += ["2024-01-01", ".inf", "- a", "a: b", "a #b", "#", "'", '"', "a\n\nb\n", " a ", "<<"]
LOOKALIKES += ["\x85", "a\x85b", "\u2028"]


def configs(toy):
    """Draw any configuration of the toy schema."""
    full = st.builds(toy.Full, remat=st.booleans())
    stage = full | st.builds(toy.Truncated, last=st.integers(0, 9))
    gradient = st.just(toy.Stop()) | stage
    dynamic = st.builds(toy.Dynamic, num_iters=st.integers(1, 100), gradient=gradient)
    hidden = st.lists(st.integers()).map(tuple)
    model = st.builds(
        toy.Model,
        channels=st.integers(),
        kernel=st.tuples(st.integers(), st.integers()),
        routing=st.just(toy.Uniform()) | dynamic,
        decoder=st.none() | st.builds(toy.Decoder, hidden=hidden, activation=st.just("tanh")),
    )
    training = st.builds(
        toy.Training,
        learning_rate=st.floats(0, LARGEST_FLOAT, exclude_min=True),
        steps=st.none() | st.integers(),
        stages=st.lists(stage, max_size=3).map(tuple),
    )
    name = st.sampled_from(LOOKALIKES) | st.text(st.characters(exclude_categories=["Cs"]))
    return st.builds(toy.Config, name=name, seed=st.integers(), model=model, training=training)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_dumped_config_builds_an_equal_one(toy, data):
    config = data.draw(configs(toy))
    tree = toy.read(dump(config))
    assert build(toy.Config, tree, source="toy.yaml") == config


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_string_that_looks_like_another_type_survives_every_reader(toy, name):
    text = dump(dataclasses.replace(toy.build(), name=name))
    assert toy.read(text)["name"] == name
    assert yaml.safe_load(text)["name"] == name


def test_a_dump_is_complete_and_readable(toy):
    config = toy.build("--model.decoder", "{}", "--training.learning_rate", "1e-6")
    assert (
        dump(config)
        == """\
name: toy
seed: 0
model:
  channels: 16
  kernel: [9, 9]
  routing:
    kind: dynamic
    num_iters: 2
    gradient:
      kind: truncated
      last: 1
  decoder:
    hidden: [512, 1024]
    activation: relu
training:
  learning_rate: 1.0e-06
  steps: null
  parallel: jit
  shift: true
  stages: []
"""
    )


def test_a_tree_is_plain_in_the_order_of_the_fields_but_for_the_kind(toy):
    tree = to_tree(toy.build("--training.stages", "[full]"))
    assert list(tree) == ["name", "seed", "model", "training"]
    assert tree["model"]["kernel"] == [9, 9]
    (stage,) = tree["training"]["stages"]
    assert list(stage.items()) == [("kind", "full"), ("remat", False)]
    assert json.loads(json.dumps(tree)) == tree
