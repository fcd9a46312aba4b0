"""What is read of runs: means over logged batches, and courses over the runs of an arm."""

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.reports import page
from capsjax.schema.text import read_yaml
from capsjax.schema.tree import build
from capsjax.study.arms import (
    Arm,
    course,
    describe_routing,
    each,
    in_words,
    iterations,
    mode_of,
    recent_training,
    routing_kind,
    shown_split,
    values,
)
from capsjax.study.design import design, variant

NETWORK = """
data: {kind: arrays}
model:
  kind: network
  layers:
    primary: {kind: primary_capsules, types: 2, dim: 3, kernel: 2}
    hidden: {kind: dense_capsules, types: 4, dim: 3, routing: {kind: em, num_iters: 2, gradient: full}}
    classes: {kind: dense_capsules, dim: 3, routing: {kind: fixed_point, num_iters: 4, gradient: stop}}
  routing: {kind: dynamic, num_iters: 9}
training: {batch_size: 8, epochs: 1}
optimiser: {kind: adam, schedule: {kind: constant, rate: 1.0e-2}}
"""


def training(steps, errors):
    return [
        {"split": "train", "step": step, "error": error, "loss": 2 * error}
        for step, error in zip(steps, errors, strict=True)
    ]


@pytest.mark.parametrize(
    ("steps", "first", "batches"),
    [
        ([10], 10, 1),
        ([10, 20, 30], 10, 3),
        (list(range(10, 110, 10)), 60, 5),  # a tenth would be the last one
        (list(range(1, 101)), 91, 10),
        (list(range(1, 1001)), 901, 100),
    ],
)
def test_the_training_error_is_averaged_over_the_last_tenth_and_five_batches_at_least(
    steps, first, batches
):
    errors = np.random.default_rng(0).random(len(steps))
    found = recent_training(training(steps, errors))
    assert (found.first, found.last, found.batches) == (first, steps[-1], batches)
    assert found.error == pytest.approx(errors[-batches:].mean())
    assert found.loss == pytest.approx(2 * errors[-batches:].mean())


def test_one_lucky_batch_is_not_the_training_error():
    found = recent_training(training(range(17, 511, 17), [0.05] * 29 + [0.0]))
    assert found.error == pytest.approx(0.04)


def test_what_never_trained_has_no_training_error():
    assert recent_training([{"split": "test", "step": 3, "error": 0.5}]) is None


def test_what_is_no_number_is_nan():
    lines = [{"split": "train", "step": 1, "error": None}, {"split": "train", "step": 2}]
    steps, found = values(lines, "train", "error")
    assert steps.tolist() == [1, 2]
    assert np.isnan(found).all()


def test_a_course_is_mean_and_range_at_the_steps_that_all_runs_have():
    runs = (training([1, 2, 3], [0.1, 0.2, 0.3]), training([1, 2], [0.3, 0.6]))
    found = course(Arm("a", "stop", runs), "train", "error")
    assert found.steps.tolist() == [1, 2]
    assert found.mean == pytest.approx([0.2, 0.4])
    assert found.low == pytest.approx([0.1, 0.2])
    assert found.high == pytest.approx([0.3, 0.6])
    assert course(Arm("a", "stop", ()), "train", "error") is None
    assert shown_split([Arm("a", "stop", runs)]) == "train"
    validated = [{"split": "validation", "step": 1, "error": 0.1}]
    assert shown_split([Arm("a", "stop", (*runs, validated))]) == "validation"


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        ({"model.routing.gradient": "stop"}, "stop"),
        ({"model.routing.gradient": {"kind": "truncated", "last": 1}}, "truncated"),
        ({"model.routing": "uniform"}, "uniform"),
        ({"model.routing.gradient": "closed_form"}, "closed_form"),
    ],
)
def test_a_configuration_has_one_mode(overrides, mode):
    assert mode_of(cj.load_config("digits", overrides)) == mode


def network(**overrides):
    return build(cj.Config, read_yaml(NETWORK, "net.yaml"), source="net.yaml", overrides=overrides)


def test_a_network_is_called_by_the_routings_of_its_layers_not_by_one_that_none_uses():
    config = network()
    assert mode_of(config) == "full + stop"
    assert routing_kind(config) == "em + fixed_point"
    assert iterations(config) == "2 + 4"
    assert describe_routing(config) == "routing em + fixed_point, r = 2 + 4"
    assert each([mode_of(config), "stop"]) == {"full", "stop"}


def test_what_layers_have_in_common_is_said_once():
    config = network(**{"model.layers.hidden.routing": "fixed_point"})
    config = variant(config, "full", 0)
    assert (mode_of(config), routing_kind(config)) == ("full", "fixed_point")
    assert iterations(network(**{"model.layers.hidden.routing.num_iters": 4})) == "4"


def test_a_layer_without_iterations_has_no_mode_beside_one_that_iterates():
    config = network(**{"model.layers.hidden.routing": "self"})
    assert (mode_of(config), iterations(config)) == ("stop", "4")
    both = network(**{f"model.layers.{n}.routing": "self" for n in ("hidden", "classes")})
    assert (mode_of(both), iterations(both), describe_routing(both)) == ("self", "", "routing self")


def test_modes_are_set_where_the_layers_name_their_routings():
    arms = design(network(**{"compare.modes": ["stop", "full"]})).arms
    hidden, classes = (f"model.layers.{n}.routing.gradient" for n in ("hidden", "classes"))
    assert arms["stop"].changes == {hidden: "stop", classes: "stop"}
    assert mode_of(arms["stop"].config) == "stop"
    config = network(**{"model.layers.hidden.routing.num_iters": 1, "compare.modes": ["full"]})
    with pytest.raises(UserError, match=r"got model\.layers\.hidden\.routing\.num_iters 1"):
        design(config)


@pytest.mark.parametrize("name", ["hvc", "digits_cnn"])
def test_a_network_that_routes_nothing_says_so(name):
    """An empty cell of a table, or "a run with routing", would look like a fault."""
    config = cj.load_config(name)
    assert routing_kind(config) == "none"
    assert describe_routing(config) == in_words("none") == "no routing"
    assert Arm("a", mode_of(config), (), routing_kind(config)).label == "a"
    assert "none" in page.ROUTINGS
