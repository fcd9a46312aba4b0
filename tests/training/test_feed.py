"""Batches: order and shifts follow from seed and step alone, and evaluation counts every example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.data import Flip, Shift, Split, random_shift, to_float
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import BatchSlicer


def split(n=10, size=5):
    """Image k is 0 but for a pixel of k + 1 in its middle."""
    images = np.zeros((n, size, size, 1), np.uint8)
    images[:, size // 2, size // 2, 0] = np.arange(1, n + 1)
    return Split(images, np.arange(n) % 10)


def feed(n=10, batch_size=3, max_shift=1, seed=0, scale=1 / 16):
    shifts = (Shift(pixels=max_shift),) if max_shift else ()
    return TrainFeed(split(n), BatchSlicer(batch_size, shifts, scale, total_steps=8), seed)


def numbers(batch, scale=1 / 16):
    """Which examples a batch holds: the only bright pixel tells."""
    return (np.rint(np.asarray(batch.images).max((1, 2, 3)) / scale) - 1).astype(int).tolist()


def places(batch):
    flat = np.asarray(batch.images).reshape(len(batch.labels), -1)
    return [divmod(int(k), batch.images.shape[2]) for k in flat.argmax(1)]


def test_an_epoch_holds_no_example_twice_and_every_epoch_has_its_own_order():
    source = feed(n=12, batch_size=4)
    assert source.steps_per_epoch == 3
    epochs = [
        [k for step in range(3) for k in numbers(source.batch(3 * e + step))] for e in range(4)
    ]
    for order in epochs:
        assert sorted(order) == list(range(12))
    assert len({tuple(order) for order in epochs}) == 4
    assert epochs[0] == source.epoch(0).order.tolist()


def test_what_does_not_fill_a_batch_waits_for_the_next_epoch():
    source = feed(n=10, batch_size=4)
    assert source.steps_per_epoch == 2
    seen = [[*numbers(source.batch(2 * e)), *numbers(source.batch(2 * e + 1))] for e in range(30)]
    assert all(len(set(epoch)) == 8 for epoch in seen)
    assert {k for epoch in seen for k in epoch} == set(range(10))


def test_labels_go_with_their_images_and_every_example_counts():
    batch = feed().batch(5)
    assert [k % 10 for k in numbers(batch)] == batch.labels.tolist()
    assert batch.weights.tolist() == [1, 1, 1]
    assert batch.images.dtype == jnp.float32
    assert 0 <= batch.images.min() < batch.images.max() <= 1


def test_a_batch_is_a_function_of_seed_and_step_alone():
    forward, backward = feed(), feed()
    there = [forward.batch(step) for step in range(7)]
    back = {step: backward.batch(step) for step in reversed(range(7))}
    resumed = feed()
    for step, batch in enumerate(there):
        for again in (back[step], resumed.batch(step) if step >= 4 else batch):
            for ours, theirs in zip(batch, again, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_a_batch_can_be_cut_inside_a_compiled_loop():
    source = feed(n=20, batch_size=4)
    epoch = source.epoch(1)
    stacked = jax.jit(
        lambda: jax.lax.map(lambda step: source.slicer(epoch, step), jnp.arange(5, 10))
    )()
    for step in range(5, 10):
        found, expected = map(jax.tree.leaves, (stacked, source.batch(step)))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[step - 5], theirs)


def test_another_seed_gives_another_order_and_other_shifts():
    ours, theirs = (
        feed(n=40, batch_size=40, seed=0).batch(0),
        feed(n=40, batch_size=40, seed=1).batch(0),
    )
    assert numbers(ours) != numbers(theirs)
    assert places(ours) != places(theirs)


def test_shifts_differ_between_examples_and_steps_and_stay_in_range():
    source = feed(n=60, batch_size=60, max_shift=2)
    first, second = places(source.batch(0)), places(source.batch(1))
    assert set(first) <= {(y, x) for y in range(5) for x in range(5)}
    assert len(set(first)) > 10
    assert first != second
    assert {max(abs(y - 2), abs(x - 2)) for y, x in first} == {0, 1, 2}


def test_a_shift_alone_takes_the_key_of_the_step_itself():
    """As it did when it was the only augmentation: runs of before give the same numbers."""
    source = feed(n=12, batch_size=4, max_shift=2)
    epoch, batch = source.epoch(1), source.batch(4)
    raw = epoch.images[epoch.order[4:8]]
    key = jax.random.fold_in(epoch.augment_key, 4)
    np.testing.assert_array_equal(to_float(random_shift(key, raw, 2), 1 / 16), batch.images)


def test_augmentations_come_in_their_order_and_follow_from_seed_and_step():
    slicer = BatchSlicer(6, (Shift(pixels=1), Flip(probability=1.0)), 1 / 16)
    images = np.random.RandomState(0).randint(0, 17, (6, 5, 5, 1)).astype(np.uint8)
    source, resumed = (TrainFeed(Split(images, np.arange(6)), slicer, 0) for _ in range(2))
    alone = TrainFeed(
        Split(images, np.arange(6)), BatchSlicer(6, slicer.augmentations[:1], 1 / 16), 0
    )
    batch = source.batch(3)
    np.testing.assert_array_equal(batch.images, np.flip(alone.batch(3).images, 2))
    np.testing.assert_array_equal(batch.images, resumed.batch(3).images)


def test_progress_is_the_share_of_the_steps_that_is_done():
    source = feed(n=12, batch_size=4)
    assert source.batch(0).progress.tolist() == [0.0] * 4
    assert source.batch(6).progress.tolist() == [0.75] * 4
    assert all(batch.progress is None for batch in EvalFeed(split(5), 1 / 16, batch_size=4))


def test_without_shift_images_are_as_they_were():
    assert set(places(feed(max_shift=0).batch(0))) == {(2, 2)}


@pytest.mark.parametrize(("n", "batch_size", "batches"), [(10, 4, 3), (8, 4, 2), (3, 10, 1)])
def test_evaluation_has_every_example_once_and_in_order(n, batch_size, batches):
    source = EvalFeed(split(n), 1 / 16, batch_size=batch_size)
    found = list(source)
    assert len(found) == len(source) == batches
    assert len({batch.images.shape for batch in found}) == 1
    seen = [
        k
        for batch in found
        for k, weight in zip(numbers(batch), batch.weights.tolist(), strict=True)
        if weight
    ]
    assert seen == list(range(n))
    assert sum(float(batch.weights.sum()) for batch in found) == n
    assert all(place == (2, 2) for batch in found for place in places(batch))
    assert np.isfinite(np.asarray(found[-1].images)).all()


def test_evaluation_is_the_same_every_time():
    source = EvalFeed(split(10), 1 / 16, batch_size=4)
    for ours, theirs in zip(list(source), list(source), strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
