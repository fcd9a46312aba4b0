"""Alignment and cost, each against its definition."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import capsjax as cj
from capsjax.bench.timing import Cost, TimedStep, ratio, time_steps
from capsjax.data import Digits
from capsjax.progress import Silent
from capsjax.runs.plan import plan
from capsjax.study.alignment import align, make_analysis
from capsjax.training.feed import TrainFeed
from capsjax.training.state import TrainState, group_of
from capsjax.types import Batch


def test_gradients_are_compared_group_by_group():
    rng = np.random.default_rng(0)
    shapes = {"a.kernel": (3, 4), "a.bias": (4,), "b.layers.0.kernel": (2,)}
    ours, theirs = ({n: rng.normal(size=s) for n, s in shapes.items()} for _ in range(2))
    as_arrays = ({n: jnp.asarray(v, jnp.float32) for n, v in g.items()} for g in (ours, theirs))
    found = align(*as_arrays)
    assert list(found) == ["all", "a", "b"]
    for group, names in {
        "all": list(shapes),
        "a": ["a.kernel", "a.bias"],
        "b": ["b.layers.0.kernel"],
    }.items():
        x, y = (np.concatenate([g[n].ravel() for n in names]) for g in (ours, theirs))
        lengths = np.linalg.norm(x), np.linalg.norm(y)
        assert found[group].cosine == pytest.approx(x @ y / np.prod(lengths), rel=1e-5)
        assert found[group].norm_ratio == pytest.approx(lengths[0] / lengths[1], rel=1e-5)


def test_a_gradient_of_zero_has_no_direction():
    zero, one = {"a.b": jnp.zeros(3)}, {"a.b": jnp.ones(3)}
    assert align(zero, one)["a"].cosine == align(one, zero)["a"].cosine == 0
    assert align(zero, one)["a"].norm_ratio == 0
    assert np.isfinite(align(one, zero)["a"].norm_ratio)


def test_the_first_part_of_a_name_is_its_group():
    assert group_of("decoder.layers.0.bias") == "decoder"
    assert group_of("bias") == "bias"


def test_alignment_weighs_examples():
    def loss(params, batch):
        return {"loss": params["a.w"] @ batch.images.reshape(-1, 2).T}

    def reference(params, batch):
        return {"loss": 2 * loss(params, batch)["loss"]}

    images = jnp.asarray([[1.0, 0.0], [0.0, 5.0]]).reshape(2, 1, 2, 1)
    batch = Batch(images, jnp.zeros(2, int), jnp.asarray([1.0, 0.0]))
    optimiser = optax.sgd(0.1)
    state = TrainState.create({"a.w": jnp.ones(2)}, optimiser)
    found = make_analysis(loss, reference, optimiser, examples=1)(state, batch).gradient["all"]
    assert found.cosine == pytest.approx(1.0)
    assert found.norm_ratio == pytest.approx(0.5)


def test_ratios_are_taken_round_by_round():
    found = ratio(Cost((2.0, 3.0, 10.0), 1), Cost((1.0, 2.0, 4.0), 1))
    assert found == (2.0, 1.75, 2.25)  # the median, and the quartiles


def test_a_timing_is_the_mean_of_its_steps(monkeypatch):
    """A clock that moves on by a second for every step that is taken says one second for a step."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class Steps:
        def lower(self, *arguments):
            return self

        def compile(self):
            return self

        def memory_analysis(self):
            return types.SimpleNamespace(temp_size_in_bytes=7)

        def __call__(self, state, examples, start, stop):
            now[0] += stop - start
            return state, {}

    config, dataset = cj.load_config("smoke"), Digits().load()
    planned = plan(config, dataset)
    compiled = dataclasses.replace(planned.compiled, train_steps=Steps())
    epoch = TrainFeed(dataset.train, planned.slicer, 0).epoch(1)
    state = planned.initial_state(0)
    costs = time_steps({"full": TimedStep(compiled, state, epoch)}, rounds=3, reporter=Silent())
    assert costs == {"full": Cost((1.0, 1.0, 1.0), 7)}


def test_timing_leaves_the_state_and_trains_nothing():
    config, dataset = cj.load_config("smoke"), Digits().load()
    uniform = dataclasses.replace(config.model, routing=cj.UniformRouting())
    plans = {
        "full": plan(config, dataset),
        "uniform": plan(dataclasses.replace(config, model=uniform), dataset),
    }
    state = plans["full"].initial_state(0)
    before = jax.tree.map(np.array, state)
    epoch = TrainFeed(dataset.train, plans["full"].slicer, 0).epoch(0)
    steps = {
        name: TimedStep(planned.compiled, state, epoch, steps=2) for name, planned in plans.items()
    }
    costs = time_steps(steps, rounds=4, reporter=Silent())
    jax.tree.map(np.testing.assert_array_equal, state, before)
    assert list(costs) == ["full", "uniform"]
    for cost in costs.values():
        assert len(cost.seconds) == 4
        assert 0 < min(cost.seconds) < 10
    assert costs["full"].temp_bytes > costs["uniform"].temp_bytes > 0
