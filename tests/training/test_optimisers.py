"""Schedules are the formulas of the papers; Adam is Kingma and Ba's."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError
from capsjax.training.optimisers import Adam, Constant, Cosine, Exponential, Piecewise

STEPS = [0, 1, 1999, 2000, 50_000, 113_000, 300_000, 400_000]


@pytest.mark.parametrize("step", STEPS)
def test_the_authors_decay_reaches_its_floor(step):
    rate = float(Exponential().make(300_000)(step))
    assert rate == pytest.approx(max(1e-6, 1e-3 * 0.96 ** (step / 2000)), rel=1e-4)


def test_known_points_of_the_authors_decay():
    schedule = Exponential().make(300_000)
    assert float(schedule(113_000)) == pytest.approx(1e-4, rel=0.01)
    assert float(schedule(300_000)) == pytest.approx(2.19e-6, rel=0.01)
    assert float(schedule(400_000)) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.parametrize("step", STEPS)
def test_the_answer_of_the_2018_authors(step):
    schedule = Exponential(rate=3e-3, decay=0.96, every=20_000, floor=0.0).make(1)
    assert float(schedule(step)) == pytest.approx(3e-3 * 0.96 ** (step / 20_000), rel=1e-4)


@pytest.mark.parametrize("step", [0, 9, 10, 11, 29, 30, 31, 100])
def test_piecewise_falls_at_its_boundaries(step):
    schedule = Piecewise(rate=0.1, boundaries=(10, 30), factor=0.5).make(100)
    passed = sum(step >= boundary for boundary in (10, 30))
    assert float(schedule(step)) == pytest.approx(0.1 * 0.5**passed, rel=1e-5)


@pytest.mark.parametrize("step", [0, 3, 10, 25, 55, 99, 100])
def test_cosine_warms_up_and_ends_at_nothing(step):
    rate = float(Cosine(rate=0.2, warmup=10).make(100)(step))
    expected = 0.2 * step / 10 if step < 10 else 0.1 * (1 + np.cos(np.pi * (step - 10) / 90))
    assert rate == pytest.approx(expected, abs=1e-7)


def test_without_warm_up_cosine_begins_at_the_top():
    assert float(Cosine(rate=0.2).make(100)(0)) == pytest.approx(0.2)


def test_constant_stays():
    schedule = Constant(rate=0.3).make(10)
    assert [float(schedule(step)) for step in (0, 5, 100)] == pytest.approx([0.3] * 3)


def test_adam_is_the_formula_with_its_schedule():
    config = Adam(
        schedule=Piecewise(rate=0.1, boundaries=(2,), factor=0.5),
        beta1=0.8,
        beta2=0.95,
        epsilon=1e-3,
    )
    optimiser = config.make(10)
    w, m, v = 1.0, 0.0, 0.0
    params = {"w": jnp.array([w])}
    state, schedule = optimiser.init(params), config.schedule.make(10)
    for step in range(5):
        g = np.cos(step) + 0.5 * w
        updates, state = optimiser.update({"w": jnp.array([g])}, state, params)
        params = {"w": params["w"] + updates["w"]}
        m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
        m_hat, v_hat = m / (1 - 0.8 ** (step + 1)), v / (1 - 0.95 ** (step + 1))
        w -= float(schedule(step)) * m_hat / (np.sqrt(v_hat) + 1e-3)
        assert params["w"].item() == pytest.approx(w, rel=1e-5)


def test_the_defaults_are_the_released_code_s():
    assert Adam() == Adam(schedule=Exponential(rate=1e-3, decay=0.96, every=2000, floor=1e-6))
    assert (Adam().beta1, Adam().beta2, Adam().epsilon) == (0.9, 0.999, 1e-8)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Constant(rate=0.0), "rate"),
        (lambda: Constant(rate=float("nan")), "rate"),
        (lambda: Exponential(decay=0.0), "decay"),
        (lambda: Exponential(decay=1.1), "decay"),
        (lambda: Exponential(every=0), "every"),
        (lambda: Exponential(floor=-1.0), "floor"),
        (lambda: Exponential(rate=-1e-3), "rate"),
        (lambda: Piecewise(boundaries=(5, 5)), "boundaries"),
        (lambda: Piecewise(boundaries=(9, 5)), "boundaries"),
        (lambda: Piecewise(boundaries=(0,)), "boundaries"),
        (lambda: Piecewise(factor=0.0), "factor"),
        (lambda: Cosine(warmup=-1), "warmup"),
        (lambda: Cosine(warmup=10).make(10), "warmup"),
        (lambda: Adam(beta1=1.5), "beta1"),
        (lambda: Adam(beta1=1.0), "beta1"),
        (lambda: Adam(beta2=-0.1), "beta2"),
        (lambda: Adam(beta2=1.0), "beta2"),
        (lambda: Adam(epsilon=0.0), "epsilon"),
    ],
)
def test_bad_values_are_refused_by_name(build, field):
    with pytest.raises(FieldError) as caught:
        build()
    assert caught.value.field == field
    assert ", expected " in str(caught.value)
