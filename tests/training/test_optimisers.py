"""Schedules are the formulas of the papers, and so are optimisers."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import capsjax as cj
from capsjax.checks import FieldError
from capsjax.schema.text import dump
from capsjax.training.optimisers import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Optimiser,
    Piecewise,
    freeze,
)

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


def adam(memory, g, w, t, decay=0.0):
    m, v = memory or (0.0, 0.0)
    m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g * g
    m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.95**t)
    return (m, v), m_hat / (np.sqrt(v_hat) + 1e-3) + decay * w


def adamw(memory, g, w, t):
    return adam(memory, g, w, t, decay=0.1)


def penalised(memory, g, w, t):
    return adam(memory, g + 0.3 * w, w, t)


def sgd(memory, g, w, t):
    return None, g


def momentum(memory, g, w, t):
    velocity = g if memory is None else 0.8 * memory + g
    return velocity, velocity


def nesterov(memory, g, w, t):
    g = g + 0.1 * w
    velocity = g if memory is None else 0.8 * memory + g
    return velocity, g + 0.8 * velocity


MOMENTS = {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
FORMULAS = {
    Adam(**MOMENTS): adam,
    Adam(weight_decay=0.3, **MOMENTS): penalised,
    AdamW(weight_decay=0.1, **MOMENTS): adamw,
    SGD(momentum=0.0): sgd,
    SGD(momentum=0.8): momentum,
    SGD(momentum=0.8, nesterov=True, weight_decay=0.1): nesterov,
}


@pytest.mark.parametrize("clip_norm", [None, 1.2])
@pytest.mark.parametrize("config", FORMULAS, ids=lambda config: FORMULAS[config].__name__)
def test_an_optimiser_is_its_formula_with_its_schedule(config, clip_norm):
    formula = FORMULAS[config]
    schedule = Piecewise(rate=0.1, boundaries=(2,), factor=0.5)
    config = dataclasses.replace(config, schedule=schedule, clip_norm=clip_norm)
    optimiser = config.make(10)
    params = {"a.w": jnp.array([1.0, -0.5]), "b.w": jnp.array([0.25])}
    w, memory, state, slicer = np.array([1.0, -0.5, 0.25]), None, optimiser.init(params), 0
    for step in range(5):
        g = (0.2, 2.0)[step % 2] * np.cos(step + np.arange(3)) + 0.1 * w
        gradient = {"a.w": jnp.asarray(g[:2]), "b.w": jnp.asarray(g[2:])}
        updates, state = optimiser.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        if clip_norm is not None and np.linalg.norm(g) > clip_norm:
            g, slicer = g * clip_norm / np.linalg.norm(g), slicer + 1
        memory, direction = formula(memory, g, w, step + 1)
        w = w - (0.1 if step < 2 else 0.05) * direction
        found = np.concatenate([params["a.w"], params["b.w"]])
        np.testing.assert_allclose(found, w, rtol=1e-5)
    assert slicer == (0 if clip_norm is None else 2)


def test_every_optimiser_that_ships_has_its_formula_here():
    shipped = {cls for cls in Optimiser.variants() if cls.__module__.startswith("capsjax.")}
    assert shipped == {type(config) for config in FORMULAS}


@pytest.mark.parametrize("clip_norm", [None, 1e-2])
@pytest.mark.parametrize("config", FORMULAS, ids=lambda config: FORMULAS[config].__name__)
def test_what_is_frozen_stays_and_the_others_train_as_alone(config, clip_norm):
    """Weight decay moves nothing that is frozen, and its gradient counts for no norm."""
    made = dataclasses.replace(config, clip_norm=clip_norm).make(10)
    both, params = freeze(made, ["a"]), {"a.w": jnp.array([-0.0, 2.0]), "b.w": jnp.array([1.0])}
    state, ours = both.init(params), dict(params)
    single, theirs = made.init({"b.w": params["b.w"]}), {"b.w": params["b.w"]}
    for step in range(3):
        gradient = {"a.w": jnp.full(2, 50.0), "b.w": jnp.array([0.5 + step])}
        updates, state = both.update(gradient, state, ours)
        ours = optax.apply_updates(ours, updates)
        updates, single = made.update({"b.w": gradient["b.w"]}, single, theirs)
        theirs = optax.apply_updates(theirs, updates)
    assert np.asarray(ours["a.w"]).tobytes() == np.asarray(params["a.w"]).tobytes()
    assert np.asarray(ours["b.w"]).tobytes() == np.asarray(theirs["b.w"]).tobytes()
    assert ours["b.w"] != params["b.w"]
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(single))


def test_a_checkpoint_of_adam_has_the_layout_that_it_had():
    params = {"w": jnp.ones(2)}
    found, before = (
        Adam().make(10).init(params),
        optax.adam(optax.constant_schedule(1.0)).init(params),
    )
    assert jax.tree.structure(found) == jax.tree.structure(before)


def test_a_configuration_without_a_kind_is_adam_as_before(tmp_path):
    """There was one optimiser, whose kind could be left out."""
    text = dump(cj.load_config("smoke"))
    assert "  kind: adam\n" in text
    file = tmp_path / "before.yaml"
    file.write_text(text.replace("  kind: adam\n", "").replace("beta1: 0.9\n", "beta1: 0.8\n"))
    found = cj.load_config(file)
    assert found.optimiser == Adam(schedule=Constant(rate=1e-2), beta1=0.8)
    assert cj.load_config(file, {"optimiser": "sgd"}).optimiser == SGD()
    tuned = cj.load_config(file, {"optimiser.beta2": 0.9, "optimiser.kind": "adam"}).optimiser
    assert tuned == dataclasses.replace(found.optimiser, beta2=0.9)
    with pytest.raises(
        ValueError, match=r"momentum: unknown key.*\n.*momentum belongs to kind sgd"
    ):
        cj.load_config(file, {"optimiser.momentum": 0.9})
    file.write_text("data: digits\ntraining: {batch_size: 8, epochs: 1}\n")
    assert cj.load_config(file, {"optimiser.beta1": 0.5}).optimiser == Adam(beta1=0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SignDescent(Optimiser):
    """An optimiser that capsjax has not: it goes by the sign of the gradient."""

    scale: float = 1.0
    kind: Literal["test_sign"] = "test_sign"

    def rule(self, rate):
        return optax.chain(
            optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates)),
            optax.scale_by_learning_rate(lambda step: self.scale * rate(step)),
        )


def test_an_optimiser_of_one_s_own_is_found_by_its_kind(tmp_path):
    overrides = {"optimiser": {"kind": "test_sign", "scale": 2.0, "schedule.kind": "constant"}}
    file = tmp_path / "mine.yaml"
    file.write_text(dump(cj.load_config("smoke", overrides)))
    found = cj.load_config(
        file, {"optimiser.schedule.rate": 0.1, "optimiser.clip_norm": 1}
    ).optimiser
    assert found == SignDescent(scale=2.0, schedule=Constant(rate=0.1), clip_norm=1.0)
    made, params = found.make(10), {"w": jnp.array([1.0, 1.0])}
    updates, _ = made.update({"w": jnp.array([3.0, -4.0])}, made.init(params), params)
    np.testing.assert_allclose(updates["w"], [-0.2, 0.2], rtol=1e-6)


def test_a_run_trains_with_one_that_clips_and_warms_up_and_loads_and_resumes(tmp_path):
    """Its reader makes the optimiser for another length: the state has the same layout."""
    schedule = {"kind": "linear", "rate": 0.05, "warmup_fraction": 0.25}
    optimiser = {"kind": "sgd", "nesterov": True, "weight_decay": 1e-3, "clip_norm": 1.0}
    overrides = {
        "training": {"epochs": None, "steps": 4, "freeze": ["stem"]},
        "optimiser": {**optimiser, "schedule": schedule},
    }
    run = cj.train(cj.load_config("smoke", overrides), out=tmp_path / "run")
    loaded = cj.load(run.folder)
    assert loaded.config == run.config
    (run.folder / "metrics.jsonl").write_text("")
    resumed = cj.resume(run.folder)
    for name, value in run.params.items():
        assert np.asarray(value).tobytes() == np.asarray(loaded.params[name]).tobytes(), name
        assert np.asarray(value).tobytes() == np.asarray(resumed.params[name]).tobytes(), name
        assert np.isfinite(value).all()


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
        (lambda: AdamW(beta2=1.0), "beta2"),
        (lambda: Adam(weight_decay=-0.1), "weight_decay"),
        (lambda: AdamW(weight_decay=-0.1), "weight_decay"),
        (lambda: SGD(momentum=1.0), "momentum"),
        (lambda: SGD(momentum=0.0, nesterov=True), "nesterov"),
        (lambda: SGD(nesterov=1), "nesterov"),
        (lambda: SGD(weight_decay=float("inf")), "weight_decay"),
        (lambda: SGD(schedule=0.1), "schedule"),
        (lambda: SGD(clip_norm=0.0), "clip_norm"),
        (lambda: Adam(clip_norm="1"), "clip_norm"),
    ],
)
def test_bad_values_are_refused_by_name(build, field, as_installed):
    with pytest.raises(FieldError) as caught:
        build()
    assert caught.value.field == field
    assert ", expected " in str(caught.value)
