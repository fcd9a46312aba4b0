"""Warm-ups and falling schedules at their corners; test_optimisers.py holds those of the papers."""

import jax
import numpy as np
import optax
import pytest

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.display import changed
from capsjax.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Piecewise,
    Polynomial,
    Schedule,
)

TOTAL, WARMUP = 100, 20
AFTER = {  # the rate at a step counted from the end of the warm-up, of `left` steps
    Constant(rate=0.2): lambda step, left: 0.2,
    Exponential(rate=0.2, decay=0.5, every=10): lambda step, left: 0.2 * 0.5 ** (step / 10),
    Exponential(rate=0.2, decay=0.5, every=10, staircase=True): lambda step, left: (
        0.2 * 0.5 ** (step // 10)
    ),
    Cosine(rate=0.2, floor=0.05): lambda step, left: (
        0.05 + 0.15 * (1 + np.cos(np.pi * step / left)) / 2
    ),
    Linear(rate=0.2): lambda step, left: 0.2 * (1 - step / left),
    Linear(rate=0.2, floor=0.05): lambda step, left: 0.05 + 0.15 * (1 - step / left),
    Polynomial(rate=0.2, floor=0.05, power=3): lambda step, left: (
        0.05 + 0.15 * (1 - step / left) ** 3
    ),
}


def points(schedule, steps):
    return np.array([float(schedule(step)) for step in steps])


@pytest.mark.parametrize("schedule", AFTER, ids=changed)
@pytest.mark.parametrize("warmup", [{}, {"warmup": WARMUP}, {"warmup_fraction": 0.2}], ids=str)
def test_any_schedule_warms_up_in_steps_or_a_fraction_of_the_run(schedule, warmup):
    steps = [0, 1, 10, 19, 20, 21, 29, 30, 59, 60, 61, 99, 100]
    begin = WARMUP if warmup else 0
    left = TOTAL - begin
    expected = [
        0.2 * step / begin if step < begin else AFTER[schedule](step - begin, left)
        for step in steps
    ]
    warmed = type(schedule)(**vars(schedule) | warmup).make(TOTAL)
    np.testing.assert_allclose(points(warmed, steps), expected, rtol=2e-5, atol=1e-8)


def test_every_schedule_that_ships_has_its_formula_here():
    shipped = {cls for cls in Schedule.variants() if cls.__module__.startswith("capsjax.")}
    assert shipped == {type(schedule) for schedule in AFTER} | {Piecewise}


def test_boundaries_count_from_the_beginning_of_the_run_with_a_warm_up_too():
    steps = [0, 5, 9, 10, 29, 30, 31, 60, 99]
    expected = [0, 0.1, 0.18, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05]
    for warmup in ({"warmup": 10}, {"warmup_fraction": 0.1}):
        made = Piecewise(rate=0.2, boundaries=(30, 60), factor=0.5, **warmup).make(TOTAL)
        np.testing.assert_allclose(points(made, steps), expected, rtol=1e-5, atol=1e-8)


def test_a_boundary_within_a_fraction_takes_effect_at_its_end():
    made = Piecewise(rate=0.2, boundaries=(5,), factor=0.5, warmup_fraction=0.1).make(TOTAL)
    assert points(made, [5, 9, 10, 11]) == pytest.approx([0.1, 0.18, 0.1, 0.1])


@pytest.mark.parametrize("warmup", [0, 20])
def test_cosine_is_what_it_was_to_the_bit(warmup):
    """Runs of before resume along the same rates: warmup_cosine_decay_schedule gave them."""
    start = 0.0 if warmup else 5e-3
    before = jax.jit(optax.warmup_cosine_decay_schedule(start, 5e-3, warmup, 510))
    now = jax.jit(Cosine(rate=5e-3, warmup=warmup).make(510))
    assert [before(step).tobytes() for step in range(0, 511, 10)] == [
        now(step).tobytes() for step in range(0, 511, 10)
    ]


def test_a_fraction_is_rounded_to_steps_and_leaves_one():
    made = Constant(rate=1.0, warmup_fraction=0.29).make(100)  # 0.29 * 100 is 28.999...
    assert points(made, [28, 29]) == pytest.approx([28 / 29, 1.0])
    assert points(Constant(rate=1.0, warmup_fraction=0.99).make(10), [8, 9]) == pytest.approx(
        [8 / 9, 1.0]
    )
    assert points(Constant(rate=1.0, warmup_fraction=0.1).make(1), [0]) == pytest.approx([1.0])


@pytest.mark.parametrize(
    "kind", [cls for cls in Schedule.variants() if "capsjax" in cls.__module__]
)
def test_runs_of_any_length_are_made(kind):
    """What reads a run makes its optimiser for 2^31 - 1 steps, for the layout of its state alone."""
    for total in (1, 2**31 - 1):
        made = kind(rate=0.5, warmup_fraction=0.1).make(total)
        assert float(made(0)) == pytest.approx(0.5 if total == 1 else 0.0)


def test_yaml_chooses_them():
    overrides = {"optimiser.schedule": {"kind": "linear", "rate": 0.1, "warmup_fraction": 0.1}}
    found = cj.load_config("smoke", overrides).optimiser.schedule
    assert found == Linear(rate=0.1, warmup_fraction=0.1)
    with pytest.raises(
        ValueError, match=r"warmup_fraction: got 0\.1\n  expected 0 beside warmup = 3"
    ):
        cj.load_config("smoke", {**overrides, "optimiser.schedule.warmup": 3})


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Constant(warmup=-1), "warmup"),
        (lambda: Constant(warmup=0.1), "warmup"),
        (lambda: Constant(warmup_fraction=1.0), "warmup_fraction"),
        (lambda: Constant(warmup_fraction=-0.1), "warmup_fraction"),
        (lambda: Linear(warmup=10, warmup_fraction=0.1), "warmup_fraction"),
        (lambda: Constant(warmup=10).make(10), "warmup"),
        (lambda: Piecewise(warmup=10, boundaries=(9, 20)), "boundaries"),
        (lambda: Exponential(staircase=1), "staircase"),
        (lambda: Cosine(rate=0.1, floor=0.2), "floor"),
        (lambda: Linear(floor=-1.0), "floor"),
        (lambda: Polynomial(power=0.0), "power"),
    ],
)
def test_bad_values_are_refused_by_name(build, field, as_installed):
    with pytest.raises(FieldError) as caught:
        build()
    assert caught.value.field == field
    assert ", expected " in str(caught.value)
