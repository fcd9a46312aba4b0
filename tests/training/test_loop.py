"""The loop, on a model of one number: which steps it takes, and what its moments say."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capsjax.checks import UserError
from capsjax.progress import Reporter
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.loop import _Pace, evaluate, fit
from capsjax.training.parallel import JitStrategy, PmapStrategy
from capsjax.training.state import TrainState
from tests.training.number import CUT, IMAGES, SPLIT, broken_from, initial
from tests.training.number import compiled as compiled
from tests.training.watched import Watched


def moments(compiled, total, state=None, **options):
    state = initial() if state is None else state
    return fit(compiled, state, TrainFeed(SPLIT, CUT, 3), total_steps=total, **options)


def last(found):
    """The state after the last moment, on one device."""
    for moment in found:
        state = moment.on_one_device()
    return state


def watched(compiled, watch):
    return dataclasses.replace(compiled, train_steps=Watched(compiled.train_steps, watch))


def test_the_loop_is_the_steps_one_after_another(compiled):
    found = [(m.numbers(), m.copy()) for m in moments(compiled, 7, log_every=1)]
    feed = TrainFeed(SPLIT, CUT, 3)
    w, velocity = 0.5, 0.0
    assert found[0][0] == {}
    for step, (numbers, state) in enumerate(found[1:]):
        batch = feed.batch(step)
        x, y = np.asarray(batch.images).sum((1, 2, 3)), np.asarray(batch.labels)
        assert numbers["loss"] == pytest.approx(np.mean((w * x - y) ** 2), rel=1e-4)
        velocity = 0.5 * velocity + np.mean(2 * (w * x - y) * x)
        w -= 0.01 * velocity
        assert state.params["w"] == pytest.approx(w, rel=1e-4)
        assert state.step == step + 1


def test_a_moment_says_where_training_stands(compiled):
    """Seven steps of an epoch of five: the first is before any step, and comes at a resumption too."""
    found = [(m.step, m.epoch, m.is_first, m.is_last) for m in moments(compiled, 7, log_every=1)]
    assert found[0] == (0, 0, True, False)
    assert found[5:] == [(5, 1, False, False), (6, None, False, False), (7, None, False, True)]
    begun = initial()._replace(step=jnp.asarray(5))
    (moment, *_) = moments(compiled, 5, begun)
    assert (moment.step, moment.epoch, moment.is_first, moment.is_last) == (5, 1, True, True)


def test_who_leaves_the_loop_goes_on_from_a_copy_to_the_same_bits(compiled):
    whole = last(moments(compiled, 12))
    for moment in moments(compiled, 12, log_every=7):
        if moment.step == 7:
            break
    half = moment.copy()
    # The copy is left as it is, though the loop uses up what it is given.
    for _ in range(2):
        resumed = last(moments(compiled, 12, jax.tree.map(jnp.copy, half)))
        jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    assert half.step == 7


def test_the_device_takes_many_steps_in_a_call_and_the_same_ones(compiled, monkeypatch):
    """Twice as many each time, up to a quarter of a second's, a line of metrics, an epoch's end."""
    calls = []

    def watch(state, examples, start, stop):
        calls.append((start, stop))

    monkeypatch.setattr(_Pace, "SECONDS", 60)
    state = last(moments(watched(compiled, watch), 22, log_every=8))
    joins = [0, 1, 3, 5, 8, 10, 15, 16, 20, 22]
    assert calls == list(itertools.pairwise(joins))
    calls.clear()
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    one_by_one = last(moments(watched(compiled, watch), 22, log_every=8))
    assert calls == [(step, step + 1) for step in range(22)]
    jax.tree.map(np.testing.assert_array_equal, state, one_by_one)


def test_the_images_are_put_on_the_devices_once(compiled):
    seen = []

    def watch(state, examples, start, stop):
        seen.append(examples)

    last(moments(watched(compiled, watch), 12))
    assert len({id(examples.images) for examples in seen}) == 1
    orders = {examples.order.tobytes() for examples in map(jax.device_get, seen)}
    assert len(orders) == 3  # a new one every epoch


def test_a_call_is_as_long_as_one_is_willing_to_wait(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    pace, taken = _Pace(), []
    for seconds in (9.0, *[0.0099] * 6, 0.1, 0.1):
        taken.append(pace.steps)
        with pace.timing(pace.steps):
            now[0] += seconds * pace.steps
    assert taken == [1, 1, 2, 4, 8, 16, 25, 25, 2]


def test_a_loss_that_is_not_finite_stops_the_run(compiled):
    state = initial()._replace(params={"w": jnp.asarray(1e25)})
    found = moments(compiled, 7, state, label="here")
    next(found)
    with pytest.raises(
        UserError, match=r"here: got a loss of (inf|nan) at step 1, expected a finite.*rate\)$"
    ):
        next(found)


@pytest.mark.parametrize("strategy", [JitStrategy, PmapStrategy])
def test_parameters_that_are_not_finite_stop_the_run_in_its_last_step_too(strategy):
    compiled, optimiser = broken_from(11, strategy()), optax.sgd(lambda count: 0.01, momentum=0.5)
    state = TrainState.create({"w": jnp.asarray(0.5), "b": jnp.asarray(0.0)}, optimiser)
    message = r"here: got parameters that are not finite \(b, w\) at step 12, expected finite ones; .*rate\)$"
    seen = []
    with pytest.raises(UserError, match=message):
        seen.extend(moment.step for moment in moments(compiled, 12, state, label="here"))
    assert seen[-1] < 12


def test_parameters_that_are_not_finite_are_seen_in_the_next_loss(monkeypatch):
    calls = []

    def watch(state, examples, start, stop):
        calls.append((start, stop))

    compiled, optimiser = broken_from(3, JitStrategy()), optax.sgd(lambda count: 0.01, momentum=0.5)
    state = TrainState.create({"w": jnp.asarray(0.5)}, optimiser)
    monkeypatch.setattr(_Pace, "SECONDS", 0)
    with pytest.raises(
        UserError, match=r"here: got a loss of nan at step 5, expected a finite.*rate\)$"
    ):
        last(moments(watched(compiled, watch), 22, state, log_every=1000, label="here"))
    assert calls[-1] == (4, 5)


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


@pytest.mark.parametrize("size", [22, 10, 4, 1])
def test_evaluation_is_the_mean_over_all_examples_whatever_the_batch(compiled, size):
    record = Record()
    found, kept = evaluate(
        compiled,
        compiled.strategy.replicate({"w": jnp.asarray(0.7)}),
        EvalFeed(SPLIT, 1 / 255, batch_size=size),
        record,
    )
    x = IMAGES.astype(float).sum((1, 2, 3)) / 255
    assert found == {
        "loss": pytest.approx(np.mean((0.7 * x - SPLIT.labels) ** 2), rel=1e-5),
        "error": pytest.approx(np.mean((0.7 * x - SPLIT.labels) ** 2 > 1), rel=1e-5),
        "examples": 22,
    }
    assert kept is None  # nothing was scored
    assert record.told[0] == ("start", "evaluating", -(-22 // size), 0)
    assert record.told[-1][1] == -(-22 // size)
