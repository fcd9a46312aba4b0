"""Parts of a set, read ahead: the same batches as from the whole set, read and held a part at a time."""

import dataclasses
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import CropTo, Split, Standardise
from capsjax.data.overlap import Overlap
from capsjax.memory import room
from capsjax.training import stream
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.loop import evaluate, fit
from capsjax.training.slicing import BatchSlicer
from capsjax.training.stream import StreamedEvalFeed, StreamedTrainFeed, part_shapes, steps_of_part
from tests.training.number import CUT, IMAGES, SPLIT, initial
from tests.training.number import compiled as compiled
from tests.training.watched import Watched

BATCH = 16  # bytes of four images; five batches make an epoch, and two examples are left over
PREPARING = (CropTo(size=4), Standardise())


@pytest.fixture
def two_steps(monkeypatch):
    """Parts of two steps: three of them to an epoch, of which the last is filled up."""
    monkeypatch.setattr(stream, "PART", 2 * BATCH)


def trained(compiled, feed, total, state=None, watch=None):
    if watch is not None:
        compiled = dataclasses.replace(compiled, train_steps=Watched(compiled.train_steps, watch))
    state = initial() if state is None else state
    moments = fit(compiled, state, feed(SPLIT, CUT, 3), total_steps=total)
    return [(m.step, m.epoch, m.numbers(), m.copy()) for m in moments]


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("part", [1, 2 * BATCH, 1 << 26])
def test_training_gives_the_same_bits_however_large_the_parts_are(compiled, part, monkeypatch):
    """Three epochs and two fifths of one, with shifts; the two examples left over differ every time."""
    monkeypatch.setattr(stream, "PART", part)
    whole = trained(compiled, TrainFeed, 17)
    found = trained(compiled, StreamedTrainFeed, 17)
    assert [step for step, epoch, *_ in found if epoch is not None] == [0, 5, 10, 15]
    reached = {step: numbers for step, _, numbers, _ in whole}
    shared = [(numbers, reached[step]) for step, _, numbers, _ in found if step in reached]
    assert len(shared) > 4
    assert all(ours == theirs for ours, theirs in shared)
    assert_same(found[-1][-1], whole[-1][-1])


def test_a_run_that_is_resumed_within_an_epoch_ends_as_one_from_the_whole_set(compiled, two_steps):
    whole, half = (trained(compiled, TrainFeed, total)[-1][-1] for total in (12, 7))
    resumed = trained(compiled, StreamedTrainFeed, 12, half)
    assert resumed[0][0] == 7
    assert_same(resumed[-1][-1], whole)


def test_what_comes_to_the_devices_has_one_shape_and_is_a_part_of_the_set(compiled, two_steps):
    """So that nothing is compiled twice, and never more lies there than two parts for each device."""
    seen, there = [], []

    def held():
        return sum(x.nbytes for x in jax.live_arrays() if x.dtype == np.uint8)

    def watch(state, examples, start, stop):
        seen.append(jax.tree.map(lambda x: (x.shape, x.dtype), examples))
        there.append(held() - before)

    before = held()
    trained(compiled, StreamedTrainFeed, 12, watch=watch)
    described = compiled.strategy.replicated_shapes(part_shapes(SPLIT, CUT.batch_size))
    expected = jax.tree.map(lambda x: (x.shape, x.dtype), described)
    assert all(found == expected for found in seen)
    copies = len(compiled.strategy.devices)
    part = room.size_of(described.images)
    assert max(there) <= 2 * part < copies * IMAGES.nbytes


class Noted:
    """Images that note which of them are read."""

    def __init__(self, images):
        self.images, self.read, self.shape = images, [], images.shape

    def __getitem__(self, places):
        if isinstance(places, np.ndarray):
            self.read.append(places.tolist())
        return self.images[places]


def noted(images):
    """A split of such images."""
    split = Split(IMAGES, SPLIT.labels)
    object.__setattr__(split, "images", images)
    return split


def test_nothing_is_read_that_is_not_trained_on(two_steps):
    """From step 7 to 12: the rest of the second epoch, and two steps of the third."""
    split = noted(Noted(IMAGES))
    given = list(StreamedTrainFeed(split, CUT, 3).parts(7, 12, lambda part: part))
    whole = TrainFeed(SPLIT, CUT, 3)
    second, third = (whole.epoch(number).order.tolist() for number in (1, 2))
    wanted = second[8:16], second[16:20], third[:8]
    expected = [places + (9 - len(places)) * places[-1:] for places in wanted]  # filled up
    assert sorted(split.images.read) == sorted(expected)
    assert [(int(part.first), end) for part, end in given] == [(7, 9), (9, 10), (10, 12)]


def test_reading_runs_a_part_ahead_and_not_more(two_steps):
    """While the first part is trained on, the second is read, and the first of the next epoch."""
    split = noted(Noted(IMAGES))
    parts = StreamedTrainFeed(split, CUT, 3).parts(0, 50, lambda part: part)
    next(parts)
    reading = [t for t in threading.enumerate() if t.name.startswith("grain-prefetch")]
    parts.close()
    for thread in reading:
        thread.join(10)
    assert reading
    assert not any(thread.is_alive() for thread in reading)  # who leaves the loop stops the reading
    assert len(split.images.read) <= 3


def test_what_goes_wrong_while_reading_ends_the_training(two_steps, compiled):
    class Gone(Noted):
        def __getitem__(self, places):
            if isinstance(places, np.ndarray) and len(self.read) == 1:
                raise OSError("the disk is gone")
            return super().__getitem__(places)

    split = noted(Gone(IMAGES))
    with pytest.raises(OSError, match="the disk is gone"):
        for _ in fit(compiled, initial(), StreamedTrainFeed(split, CUT, 3), total_steps=20):
            pass


@pytest.mark.parametrize(
    ("examples", "batch", "part", "steps"),
    [
        (22, 4, 1, 1),
        (22, 4, 32, 2),
        (22, 4, 64, 3),
        (22, 4, 1 << 26, 5),
        (24, 4, 64, 3),
        (3, 4, 64, 1),
    ],
)
def test_parts_are_few_and_of_one_size(examples, batch, part, steps, monkeypatch):
    """Five steps of which four fit are three and two, not four and one."""
    monkeypatch.setattr(stream, "PART", part)
    split = Split(np.zeros((examples, 2, 2, 1), np.uint8), np.zeros(examples, int))
    assert steps_of_part(split, batch) == steps
    assert part_shapes(split, batch).images.shape[0] == min(steps * batch + 1, examples)


@pytest.mark.parametrize("size", [22, 10, 4, 1])
def test_evaluation_counts_the_same_examples_to_the_same_bits(compiled, size):
    params = compiled.strategy.replicate({"w": jnp.asarray(0.7)})
    found, whole = (
        evaluate(compiled, params, feed(SPLIT, 1 / 255, batch_size=size)).numbers
        for feed in (StreamedEvalFeed, EvalFeed)
    )
    assert found == whole
    assert found["examples"] == 22


def test_batches_of_evaluation_are_those_of_the_whole_set():
    """As prepared by augmentations, from another place of the image, and with what fills up the last."""
    images = np.random.default_rng(0).integers(0, 256, (10, 6, 6, 1)).astype(np.uint8)
    split = Split(images, np.arange(10))
    ways = {"batch_size": 4, "augmentations": PREPARING, "offset": (1, 0)}
    found, whole = (feed(split, 1 / 255, **ways) for feed in (StreamedEvalFeed, EvalFeed))
    assert len(found) == len(whole) == 3
    for ours, theirs in zip(found, whole, strict=True):
        assert_same(ours, theirs)
    assert ours.weights.tolist() == [1, 1, 0, 0]


def test_a_file_that_is_mapped_is_read_part_by_part(tmp_path, two_steps):
    np.save(tmp_path / "images.npy", IMAGES)
    split = Split(np.load(tmp_path / "images.npy", mmap_mode="r"), SPLIT.labels)
    found, whole = (
        [part for part, _ in feed.parts(0, 5, lambda part: part)]
        for feed in (StreamedTrainFeed(split, CUT, 3), StreamedTrainFeed(SPLIT, CUT, 3))
    )
    assert_same(
        [part._replace(augment_key=None) for part in found],
        [part._replace(augment_key=None) for part in whole],
    )


@pytest.mark.parametrize("installed", [True, False])
def test_what_cannot_be_streamed_says_what_to_set(installed, monkeypatch):
    if not installed:
        monkeypatch.setitem(sys.modules, "grain", None)
    overlap = Overlap(shift=1, seed=0) if installed else None
    message = (
        r"training\.feed: got grain for images that lie over each other, .*: set training\.feed to device$"
        if installed
        else r"training\.feed: got grain, .*pip install 'capsjax\[grain\]'; or set training\.feed to device$"
    )
    slicer = BatchSlicer(4, (), 1 / 255, overlap=overlap)
    with pytest.raises(UserError, match=message):
        StreamedTrainFeed(SPLIT, slicer, 3)
    with pytest.raises(UserError, match=message):
        StreamedEvalFeed(SPLIT, 1 / 255, batch_size=4, overlap=overlap)
