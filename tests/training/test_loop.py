"""The loop, on a model of one number: what is measured when, and what is kept."""

import contextlib
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capsjax import signals
from capsjax.checks import FieldError, UserError
from capsjax.data import Shift, Split
from capsjax.progress import Reporter
from capsjax.training import checkpoints
from capsjax.training.feed import Cut, EvalFeed, TrainFeed
from capsjax.training.loop import Program, TrainingConfig, _Pace, evaluate, fit
from capsjax.training.parallel import JitStrategy, PmapStrategy
from capsjax.training.state import TrainState
from capsjax.training.writers import MetricsWriter, read_metrics
from tests.training.watched import Watched

OPTIMISER = optax.sgd(0.01, momentum=0.5)
IMAGES = np.random.default_rng(0).integers(0, 256, (22, 2, 2, 1)).astype(np.uint8)
CUT = Cut(batch_size=4, augmentations=(Shift(pixels=1),), scale=1 / 255)
SPLIT = Split(IMAGES, np.arange(22) % 10)


def loss(params, batch):
    square = (params["w"] * batch.images.sum((1, 2, 3)) - batch.labels) ** 2
    return {"loss": square, "error": (square > 1).astype(square.dtype)}


class Record(Reporter):
    """Keep what it is told."""

    def __init__(self):
        self.told = []

    def start(self, label, total, done=0):
        self.told.append(("start", label, total, done))

    def update(self, done, note=""):
        self.told.append(("update", done, note))

    def say(self, line):
        self.told.append(("say", line))

    def close(self):
        self.told.append(("close",))


@pytest.fixture(scope="module", params=[JitStrategy, PmapStrategy])
def program(request):
    strategy = request.param()
    return Program(strategy, strategy.train_steps(loss, OPTIMISER, CUT), strategy.eval_step(loss))


def initial():
    return TrainState.create({"w": jnp.asarray(0.5)}, OPTIMISER)


def run(program, folder, total=7, state=None, observe=None, **fields):
    """Train seven steps of four: five to an epoch, one and two fifths of an epoch."""
    config = TrainingConfig(batch_size=4, steps=total, **fields)
    folder.mkdir(exist_ok=True)
    record = Record()
    with contextlib.closing(MetricsWriter(folder / "metrics.jsonl")) as writer:
        state = fit(
            program,
            initial() if state is None else state,
            TrainFeed(SPLIT, CUT, 3),
            EvalFeed(SPLIT, 1 / 255, batch_size=5),
            config=config,
            total_steps=total,
            writer=writer,
            folder=folder / "checkpoints",
            reporter=record,
            label="here",
            observe=observe,
        )
    return state, read_metrics(folder / "metrics.jsonl"), record.told


def test_numbers_come_back_only_to_be_logged(program, tmp_path, monkeypatch):
    """Ten steps, a line every fourth and the last; two validations of five batches each."""
    fetched = []
    get = jax.device_get
    monkeypatch.setattr("jax.device_get", lambda tree: fetched.append(tree) or get(tree))
    _, lines, _ = run(program, tmp_path, total=10, log_every=4, checkpoint_every=100)
    logged = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in logged] == [4, 8, 10]
    sums = [tree for tree in fetched if isinstance(tree, dict) and "loss" in tree]
    assert len(sums) == 3 + 2 * 5


def test_the_loop_is_the_steps_one_after_another(program, tmp_path):
    state, lines, _ = run(program, tmp_path, log_every=1)
    feed = TrainFeed(SPLIT, CUT, 3)
    w, velocity, losses = 0.5, 0.0, []
    for step in range(7):
        batch = feed.batch(step)
        x, y = np.asarray(batch.images).sum((1, 2, 3)), np.asarray(batch.labels)
        losses.append(np.mean((w * x - y) ** 2))
        velocity = 0.5 * velocity + np.mean(2 * (w * x - y) * x)
        w -= 0.01 * velocity
    assert state.params["w"] == pytest.approx(w, rel=1e-4)
    assert state.step == 7
    assert [line["loss"] for line in lines if line["split"] == "train"] == pytest.approx(
        losses, rel=1e-4
    )
    whole = IMAGES.astype(float).sum((1, 2, 3)) / 255
    expected = np.mean((w * whole - np.arange(22) % 10) ** 2)
    assert lines[-1]["loss"] == pytest.approx(expected, rel=1e-4)
    assert lines[-1]["examples"] == 22


def test_the_device_takes_many_steps_in_a_call_and_the_same_ones(program, tmp_path, monkeypatch):
    """Twice as many each time, up to a quarter of a second's, a line of metrics, an epoch's end."""
    calls = []

    def watch(state, examples, start, stop):
        calls.append((start, stop))

    watching = dataclasses.replace(program, train_steps=Watched(program.train_steps, watch))
    monkeypatch.setattr(_Pace, "SECONDS", 60)
    state, _, _ = run(watching, tmp_path / "many", total=22, log_every=8)
    joins = [0, 1, 3, 5, 8, 10, 15, 16, 20, 22]
    assert calls == list(itertools.pairwise(joins))
    calls.clear()
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    one_by_one, _, _ = run(watching, tmp_path / "one", total=22, log_every=8)
    assert calls == [(step, step + 1) for step in range(22)]
    jax.tree.map(np.testing.assert_array_equal, state, one_by_one)


def test_the_images_are_put_on_the_devices_once(program, tmp_path):
    seen = []

    def watch(state, examples, start, stop):
        seen.append(examples)

    watching = dataclasses.replace(program, train_steps=Watched(program.train_steps, watch))
    run(watching, tmp_path, total=12)
    assert len({id(examples.images) for examples in seen}) == 1
    orders = {examples.order.tobytes() for examples in map(jax.device_get, seen)}
    assert len(orders) == 3  # a new one every epoch


def test_images_a_second_are_those_since_the_last_line(program, tmp_path, monkeypatch):
    """A clock that moves on by a second for every step says as many images a second as are in a batch."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def watch(state, examples, start, stop):
        now[0] += stop - start

    watching = dataclasses.replace(program, train_steps=Watched(program.train_steps, watch))
    _, lines, _ = run(watching, tmp_path, total=7, log_every=2)
    rates = [line["images_per_second"] for line in lines if line["split"] == "train"]
    assert rates == [4, 4, 4, 4]


def test_nothing_is_validated_where_nothing_is_held_out(program, tmp_path):
    told = Record()
    with contextlib.closing(MetricsWriter(tmp_path / "metrics.jsonl")) as writer:
        fit(
            program,
            initial(),
            TrainFeed(SPLIT, CUT, 3),
            None,
            config=TrainingConfig(batch_size=4, steps=7, log_every=3),
            total_steps=7,
            writer=writer,
            folder=tmp_path / "checkpoints",
            reporter=told,
        )
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["split"], line["step"]) for line in lines] == [("train", n) for n in (3, 6, 7)]
    assert checkpoints.steps(tmp_path / "checkpoints") == [5, 7]
    assert "validation" not in str(told.told)


def test_a_call_is_as_long_as_one_is_willing_to_wait(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    pace, taken = _Pace(), []
    for seconds in (9.0, *[0.0099] * 6, 0.1, 0.1):
        taken.append(pace.steps)
        with pace.timing(pace.steps):
            now[0] += seconds * pace.steps
    assert taken == [1, 1, 2, 4, 8, 16, 25, 25, 2]


def test_lines_validation_and_checkpoints_come_when_they_should(program, tmp_path):
    _, lines, told = run(program, tmp_path, total=12, log_every=3)
    assert [(line["split"], line["step"]) for line in lines] == [
        *(("train", 3), ("validation", 5), ("train", 6), ("train", 9)),
        *(("validation", 10), ("train", 12), ("validation", 12)),
    ]
    assert checkpoints.steps(tmp_path / "checkpoints") == [5, 10, 12]
    assert told[0] == ("start", "here", 12, 0)
    reached = [call[1] for call in told[1:]]
    assert reached == sorted(reached)
    assert {3, 5, 6, 9, 10, 12} <= set(reached)
    assert "validation error" in told[-1][2]
    assert all(line["images_per_second"] > 0 for line in lines if line["split"] == "train")


def test_checkpoints_come_every_so_many_epochs_and_old_ones_go(program, tmp_path):
    run(program, tmp_path, total=22, checkpoint_every=2, keep_checkpoints=None)
    assert checkpoints.steps(tmp_path / "checkpoints") == [10, 20, 22]
    run(program, tmp_path / "two", total=22, keep_checkpoints=2)
    assert checkpoints.steps(tmp_path / "two" / "checkpoints") == [20, 22]


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(program, tmp_path):
    whole, lines, _ = run(program, tmp_path / "whole", total=12, log_every=1)
    run(program, tmp_path / "part", total=7, log_every=1)
    half = checkpoints.restore(tmp_path / "part" / "checkpoints", initial())
    assert half.step == 7
    resumed, resumed_lines, told = run(program, tmp_path / "part", 12, half, log_every=1)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert told[0] == ("start", "here", 12, 7)

    def losses(lines):
        return {(line["split"], line["step"]): line["loss"] for line in lines}

    ours = losses(resumed_lines)
    del ours["validation", 7]  # the part's own end
    assert ours == losses(lines)


def test_who_watches_sees_every_epoch_with_the_state_of_one_device(program, tmp_path):
    seen = []
    run(
        program,
        tmp_path,
        12,
        observe=lambda epoch, state: seen.append((epoch, int(state.step), state.params["w"].shape)),
    )
    assert seen == [(0, 0, ()), (1, 5, ()), (2, 10, ())]
    seen.clear()
    half = checkpoints.restore(tmp_path / "checkpoints", initial(), 5)
    run(
        program,
        tmp_path / "b",
        12,
        half,
        lambda epoch, state: seen.append((epoch, int(state.step))),
    )
    assert seen == [(1, 5), (2, 10)]


def test_a_loss_that_is_not_finite_stops_the_run(program, tmp_path):
    state = initial()._replace(params={"w": jnp.asarray(1e25)})
    with pytest.raises(
        UserError, match=r"here: got a loss of (inf|nan) at step 1, expected a finite.*rate\)$"
    ):
        run(program, tmp_path, state=state, log_every=1)
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    assert checkpoints.steps(tmp_path / "checkpoints") == []


def broken_from(step, strategy):
    """A program whose update is NaN at a step (counted from 0), while the loss there is finite."""
    optimiser = optax.sgd(lambda count: jnp.where(count == step, jnp.nan, 0.01), momentum=0.5)
    return Program(strategy, strategy.train_steps(loss, optimiser, CUT), strategy.eval_step(loss))


@pytest.mark.parametrize("strategy", [JitStrategy, PmapStrategy])
def test_parameters_that_are_not_finite_stop_the_run_in_its_last_step_too(tmp_path, strategy):
    program, optimiser = broken_from(11, strategy()), optax.sgd(lambda count: 0.01, momentum=0.5)
    state = TrainState.create({"w": jnp.asarray(0.5), "b": jnp.asarray(0.0)}, optimiser)
    message = r"here: got parameters that are not finite \(b, w\) at step 12, expected finite ones; .*rate\)$"
    with pytest.raises(UserError, match=message):
        run(program, tmp_path, 12, state, keep_checkpoints=1)
    # Neither is measured, and the good checkpoint stays where only one is kept.
    assert max(line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")) == 10
    kept = checkpoints.restore(tmp_path / "checkpoints", state)
    assert kept.step == 10
    assert np.isfinite(kept.params["w"])


def test_parameters_that_are_not_finite_are_seen_in_the_next_loss(tmp_path, monkeypatch):
    calls = []

    def watch(state, examples, start, stop):
        calls.append((start, stop))

    program, optimiser = broken_from(3, JitStrategy()), optax.sgd(lambda count: 0.01, momentum=0.5)
    watching = dataclasses.replace(program, train_steps=Watched(program.train_steps, watch))
    state = TrainState.create({"w": jnp.asarray(0.5)}, optimiser)
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    with pytest.raises(
        UserError, match=r"here: got a loss of nan at step 5, expected a finite.*rate\)$"
    ):
        run(watching, tmp_path, 22, state, log_every=1000)
    assert calls[-1] == (4, 5)


def test_a_signal_saves_no_parameters_that_are_not_finite(tmp_path, monkeypatch):
    program, optimiser = broken_from(3, JitStrategy()), optax.sgd(lambda count: 0.01, momentum=0.5)

    def ask(state, examples, start, stop):
        monkeypatch.setattr(signals, "asked", lambda: stop == 4)

    watching = dataclasses.replace(program, train_steps=Watched(program.train_steps, ask))
    state = TrainState.create({"w": jnp.asarray(0.5)}, optimiser)
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    with pytest.raises(UserError, match=r"not finite \(w\) at step 4"):
        run(watching, tmp_path, 22, state)
    assert checkpoints.steps(tmp_path / "checkpoints") == []


@pytest.mark.parametrize("size", [22, 10, 4, 1])
def test_evaluation_is_the_mean_over_all_examples_whatever_the_batch(program, size):
    record = Record()
    found = evaluate(
        program,
        program.strategy.replicate({"w": jnp.asarray(0.7)}),
        EvalFeed(SPLIT, 1 / 255, batch_size=size),
        record,
    )
    x = IMAGES.astype(float).sum((1, 2, 3)) / 255
    assert found == {
        "loss": pytest.approx(np.mean((0.7 * x - SPLIT.labels) ** 2), rel=1e-5),
        "error": pytest.approx(np.mean((0.7 * x - SPLIT.labels) ** 2 > 1), rel=1e-5),
        "examples": 22,
    }
    assert record.told[0] == ("start", "evaluating", -(-22 // size), 0)
    assert record.told[-1][1] == -(-22 // size)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"epochs": 1, "batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"steps": -1}, "steps"),
        ({"epochs": True}, "epochs"),
        ({}, "epochs"),
        ({"epochs": 1, "steps": 1}, "epochs"),
        ({"epochs": 1, "eval_batch_size": 0}, "eval_batch_size"),
        ({"epochs": 1, "log_every": 0}, "log_every"),
        ({"epochs": 1, "checkpoint_every": 0}, "checkpoint_every"),
        ({"epochs": 1, "keep_checkpoints": 0}, "keep_checkpoints"),
        ({"epochs": 1, "parallel": "pmpa"}, "parallel"),
    ],
)
def test_bad_values_are_refused_by_name(fields, field):
    with pytest.raises((FieldError, TypeError), match=field) as caught:
        TrainingConfig(**fields)
    assert getattr(caught.value, "field", field) == field


def test_steps_follow_from_epochs_and_whole_batches():
    assert TrainingConfig(batch_size=10, epochs=3).total_steps(29) == 6
    assert TrainingConfig(batch_size=10, steps=7).total_steps(29) == 7
    with pytest.raises(
        UserError, match=r"batch_size: got 30 for 29 training examples, expected at most 29"
    ):
        TrainingConfig(batch_size=30, epochs=1).total_steps(29)
