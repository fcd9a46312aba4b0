"""What is read of runs: means over logged batches, and courses over the runs of an arm."""

import numpy as np
import pytest

import capsjax as cj
from capsjax.study.arms import Arm, course, mode_of, recent_training, shown_split, values


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
