"""What is written, measured, saved and told on the way of a run, on a model of one number."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capsjax import signals
from capsjax.checks import UserError
from capsjax.runs.finish import Recorder
from capsjax.runs.metrics_file import read_metrics
from capsjax.training import checkpoints
from capsjax.training.config import TrainingConfig
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.loop import _Pace, fit
from capsjax.training.parallel import JitStrategy
from capsjax.training.state import TrainState
from tests.training.number import CUT, SPLIT, broken_from, initial
from tests.training.number import compiled as compiled
from tests.training.test_loop import Record, watched

VALIDATION = EvalFeed(SPLIT, 1 / 255, batch_size=5)


def run(compiled, folder, total=7, state=None, observe=None, validation=VALIDATION, **fields):
    """Train seven steps of four: five to an epoch, one and two fifths of an epoch."""
    training = TrainingConfig(batch_size=4, steps=total, **fields)
    folder.mkdir(exist_ok=True)
    told, state = Record(), initial() if state is None else state
    recorder = Recorder(compiled, training, validation, folder, told, observe)
    with contextlib.closing(recorder.metrics):
        feed, every = TrainFeed(SPLIT, CUT, 3), training.log_every
        for moment in fit(
            compiled, state, feed, total_steps=total, log_every=every, label=folder.name
        ):
            recorder.record(moment)
    return moment.copy(), read_metrics(folder / "metrics.jsonl"), told.told


@pytest.fixture
def here(tmp_path):
    return tmp_path / "here"


def test_numbers_come_back_only_to_be_logged(compiled, tmp_path, monkeypatch):
    """Ten steps, a line every fourth and the last; two validations of five batches each."""
    fetched = []
    get = jax.device_get
    monkeypatch.setattr("jax.device_get", lambda tree: fetched.append(tree) or get(tree))
    _, lines, _ = run(compiled, tmp_path, total=10, log_every=4, checkpoint_every=100)
    logged = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in logged] == [4, 8, 10]
    sums = [tree for tree in fetched if isinstance(tree, dict) and "loss" in tree]
    assert len(sums) == 3 + 2 * 5


def test_images_a_second_are_those_since_the_last_line(compiled, tmp_path, monkeypatch):
    """A clock that moves on by a second for every step says as many images a second as are in a batch."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def watch(state, examples, start, stop):
        now[0] += stop - start

    _, lines, _ = run(watched(compiled, watch), tmp_path, total=7, log_every=2)
    rates = [line["images_per_second"] for line in lines if line["split"] == "train"]
    assert rates == [4, 4, 4, 4]


def test_lines_validation_and_checkpoints_come_when_they_should(compiled, here):
    _, lines, told = run(compiled, here, total=12, log_every=3)
    assert [(line["split"], line["step"]) for line in lines] == [
        *(("train", 3), ("validation", 5), ("train", 6), ("train", 9)),
        *(("validation", 10), ("train", 12), ("validation", 12)),
    ]
    assert checkpoints.steps(here / "checkpoints") == [5, 10, 12]
    assert told[0] == ("start", "here", 12, 0)
    reached = [call[1] for call in told[1:]]
    assert reached == sorted(reached)
    assert {3, 5, 6, 9, 10, 12} <= set(reached)
    assert "validation error" in told[-1][2]
    assert all(line["images_per_second"] > 0 for line in lines if line["split"] == "train")


def test_validation_comes_every_so_many_epochs_and_at_the_end(compiled, tmp_path):
    """Also where a run is resumed: at the end of an epoch in which none is due, none is made up for."""

    def validated(lines):
        return [line["step"] for line in lines if line["split"] == "validation"]

    _, lines, _ = run(compiled, tmp_path, total=22, eval_every=2)
    assert validated(lines) == [10, 20, 22]
    half = checkpoints.restore(tmp_path / "checkpoints", initial(), step=15)
    _, lines, _ = run(compiled, tmp_path / "part", 22, half, eval_every=2)
    assert validated(lines) == [20, 22]


def test_checkpoints_come_every_so_many_epochs_and_old_ones_go(compiled, tmp_path):
    run(compiled, tmp_path, total=22, checkpoint_every=2, keep_checkpoints=None)
    assert checkpoints.steps(tmp_path / "checkpoints") == [10, 20, 22]
    run(compiled, tmp_path / "two", total=22, keep_checkpoints=2)
    assert checkpoints.steps(tmp_path / "two" / "checkpoints") == [20, 22]


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(compiled, tmp_path):
    whole, lines, _ = run(compiled, tmp_path / "whole", total=12, log_every=1)
    run(compiled, tmp_path / "part", total=7, log_every=1)
    half = checkpoints.restore(tmp_path / "part" / "checkpoints", initial())
    assert half.step == 7
    resumed, resumed_lines, told = run(compiled, tmp_path / "part", 12, half, log_every=1)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert told[0] == ("start", "part", 12, 7)

    def losses(lines):
        return {(line["split"], line["step"]): line["loss"] for line in lines}

    ours = losses(resumed_lines)
    del ours["validation", 7]  # the part's own end
    assert ours == losses(lines)


def test_who_watches_sees_every_epoch_with_the_state_of_one_device(compiled, tmp_path):
    seen = []
    run(
        compiled,
        tmp_path,
        12,
        observe=lambda epoch, state: seen.append((epoch, int(state.step), state.params["w"].shape)),
    )
    assert seen == [(0, 0, ()), (1, 5, ()), (2, 10, ())]
    seen.clear()
    half = checkpoints.restore(tmp_path / "checkpoints", initial(), 5)
    run(
        compiled,
        tmp_path / "b",
        12,
        half,
        lambda epoch, state: seen.append((epoch, int(state.step))),
    )
    assert seen == [(1, 5), (2, 10)]


def test_nothing_is_validated_where_nothing_is_held_out(compiled, tmp_path):
    _, lines, told = run(compiled, tmp_path, validation=None, log_every=3)
    assert [(line["split"], line["step"]) for line in lines] == [("train", n) for n in (3, 6, 7)]
    assert checkpoints.steps(tmp_path / "checkpoints") == [5, 7]
    assert "validation" not in str(told)


def test_where_parameters_are_not_finite_nothing_is_measured_and_a_good_checkpoint_stays(here):
    compiled, optimiser = (
        broken_from(11, JitStrategy()),
        optax.sgd(lambda count: 0.01, momentum=0.5),
    )
    state = TrainState.create({"w": jnp.asarray(0.5)}, optimiser)
    with pytest.raises(UserError, match="here: got parameters that are not finite"):
        run(compiled, here, 12, state, keep_checkpoints=1)
    assert max(line["step"] for line in read_metrics(here / "metrics.jsonl")) == 10
    kept = checkpoints.restore(here / "checkpoints", state)
    assert kept.step == 10
    assert np.isfinite(kept.params["w"])


def test_a_signal_saves_no_parameters_that_are_not_finite(here, monkeypatch):
    compiled, optimiser = broken_from(3, JitStrategy()), optax.sgd(lambda count: 0.01, momentum=0.5)

    def ask(state, examples, start, stop):
        monkeypatch.setattr(signals, "asked", lambda: stop == 4)

    state = TrainState.create({"w": jnp.asarray(0.5)}, optimiser)
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    with pytest.raises(UserError, match=r"not finite \(w\) at step 4"):
        run(watched(compiled, ask), here, 22, state)
    assert checkpoints.steps(here / "checkpoints") == []
