"""Runs whose examples come part by part: to the same bits as from the whole set, wherever they stop."""

import os
import signal
import sys

import numpy as np
import pytest

import capsjax as cj
from capsjax import signals
from capsjax.checks import UserError
from capsjax.memory import room
from capsjax.progress import Silent
from capsjax.runs import memory, predictions
from capsjax.runs.feeds import check_feed
from capsjax.runs.metrics_file import read_metrics
from capsjax.training import stream

SMOKE = cj.load_config("smoke")
STREAMED = cj.load_config("smoke", {"training.feed": "grain"})
BATCH = 128 * 8 * 8  # bytes


@pytest.fixture(scope="module", autouse=True)
def three_steps():
    """Parts of three steps, of which an epoch has eight; the last is filled up."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "PART", 3 * BATCH)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return cj.train(SMOKE, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return cj.train(STREAMED, out=tmp_path_factory.mktemp("streamed") / "run")


def measured(folder):
    """Every measured number but for the clock's."""
    return [
        {name: value for name, value in line.items() if name != "images_per_second"}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def assert_same(ours, theirs):
    assert ours.params.keys() == theirs.params.keys()
    for name, values in ours.params.items():
        np.testing.assert_array_equal(values, theirs.params[name])
    assert measured(ours.folder) == measured(theirs.folder)


def test_a_run_learns_and_measures_the_same_to_the_bit(whole, streamed):
    """With shifts, over three epochs, 24 test batches of which the last is ragged."""
    assert_same(streamed, whole)
    assert cj.evaluate(streamed) == cj.evaluate(whole)
    ours, theirs = (
        predictions.load(of.folder / "evaluations" / "test-step24.npz") for of in (streamed, whole)
    )
    np.testing.assert_array_equal(ours.lengths, theirs.lengths)


class Stop(Silent):
    """Ask to end, as Ctrl-C does, in the middle of the second epoch."""

    def update(self, done, note=""):
        if done == 12:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("first", ["device", "grain"])
def test_a_run_that_stops_within_an_epoch_is_resumed_either_way(first, whole, tmp_path):
    """What is fed may change where it is resumed: nothing depends on it."""
    then = {"device": "grain", "grain": "device"}[first]
    config = {"device": SMOKE, "grain": STREAMED}[first]
    with pytest.raises(signals.Interrupted):
        cj.train(config, out=tmp_path / "run", reporter=Stop())
    resumed = cj.resume(tmp_path / "run", overrides={"training.feed": then})
    assert_same(resumed, whole)
    assert cj.load(tmp_path / "run").config.training.feed == then


def test_a_run_is_measured_part_by_part_wherever_it_was_trained(whole, monkeypatch):
    made = []
    feed = stream.StreamedEvalFeed
    monkeypatch.setattr(
        feed, "__iter__", lambda self, i=feed.__iter__: made.append(self) or i(self)
    )
    assert cj.evaluate(whole, overrides={"training.feed": "grain"}) == cj.evaluate(whole)
    assert len(made) == 1


def test_what_cannot_be_streamed_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    pairs = {
        "data": {"kind": "overlapping", "source": "digits", "canvas": 12, "shift": 2},
        "max_shift": 0,
        "training.feed": "grain",
    }
    config = cj.load_config("smoke", pairs)
    with pytest.raises(UserError, match=r"lie over each other, .* set training\.feed to device"):
        cj.train(config, out=tmp_path / "run")
    check_feed(memory._with(config, "training.feed", "device"), config.data.load())
    monkeypatch.setitem(sys.modules, "grain", None)
    message = r"got grain, which reads examples ahead, .*pip install 'capsjax\[grain\]'; or set"
    for call in (cj.train, cj.compare):
        with pytest.raises(UserError, match=message):
            call(STREAMED, out=tmp_path / "run")
    check_feed(memory._with(STREAMED, "training.feed", "device"), STREAMED.data.load())
    assert not (tmp_path / "run").exists()


def test_the_estimator_learns_the_same():
    images, labels = SMOKE.data.load().train.images[:300, ..., 0], np.arange(300) % 3
    found = [
        cj.CapsNetClassifier(
            "smoke", data="arrays", data__range=(0, 16), training__feed=feed, training__epochs=1
        ).fit(images, labels)
        for feed in ("device", "grain")
    ]
    ours, theirs = (of.run_.params for of in found)
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])


def test_splits_that_are_mapped_into_memory_stay_files(tmp_path):
    """Bytes, with all three splits named: nothing of them is copied before it is wanted."""
    digits, given = SMOKE.data.load(), {}
    for name, split in digits.splits().items():
        np.save(tmp_path / f"{name}.npy", split.images * 15)
        given[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r"), split.labels
    dataset = cj.load_config("smoke", {"data": "arrays"}).data.build(given)
    for name, split in dataset.splits().items():
        assert np.shares_memory(split.images, given[name][0])


def follow(text, config):
    key, value = text.rpartition("; set ")[2].removesuffix(", which fits").split(" to ")
    return memory._with(config, key, value)


@pytest.mark.parametrize("check", [memory.check_held, memory.check, memory.check_evaluation])
def test_images_that_do_not_fit_at_once_come_part_by_part(check, monkeypatch):
    """13 MB of them, in the memory that a step and a few parts take."""
    config = cj.load_config("smoke", {"data": "arrays", "data.range": [0, 16]})
    config = memory._with(config, "max_shift", 0)
    images = np.zeros((200_000, 8, 8), np.uint8)
    images[0] = 16
    dataset = config.data.build((images, np.arange(len(images)) % 10))
    monkeypatch.setattr(room, "available", lambda: 10e6)
    with pytest.raises(UserError, match=r"to grain, which fits$") as caught:
        check(config, dataset)
    assert caught.value.on_command_line == str(caught.value)
    streamed = follow(str(caught.value), config)
    assert streamed.training.feed == "grain"
    memory.check(streamed, dataset)


def test_a_run_that_is_resumed_where_memory_is_short_is_advised_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PART", 1)
    dataset = SMOKE.data.load()
    text, _ = memory._way_out("images", SMOKE, dataset, tmp_path)
    assert text == "set training.feed to grain, which fits"


def test_pairs_are_not_advised_to_come_part_by_part():
    config = cj.load_config(
        "smoke", {"data": {"kind": "overlapping", "source": "digits", "canvas": 12, "shift": 2}}
    )
    assert not memory._fits_in_parts("images", config, config.data.load(), 1e12)
