"""Pairs of images: who lies over whom, where, and that both are what a batch says they are."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.data import (
    Affine,
    Arrays,
    Dataset,
    Digits,
    Mnist,
    Noise,
    Overlap,
    Overlapping,
    Perturbed,
    Split,
)
from capsjax.data.overlap import draw_pairs, fixed_pairs, lay_over, others_of
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import BatchSlicer

LABELS = np.array([2, 0, 1, 1, 2, 0, 0, 2, 1, 0])


def split(labels=LABELS):
    """Image k is 0 but for four pixels of k + 1 in its middle."""
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    images[:, 3:5, 3:5, 0] = np.arange(1, len(labels) + 1)[:, None, None]
    return Split(images, labels)


def feeds(shift=2, batch_size=5, augmentations=(), seed=0):
    overlap = Overlap(shift=shift, seed=4)
    slicer = BatchSlicer(batch_size, augmentations, 1 / 16, 8, overlap)
    train = TrainFeed(split(), slicer, seed)
    return train, EvalFeed(split(), 1 / 16, batch_size=4, overlap=overlap)


def who(image):
    """Which example an image is: the brightest pixel tells."""
    return round(float(image.max()) * 16) - 1


def where(image):
    """How far the four pixels are from the middle."""
    rows, columns = np.nonzero(np.asarray(image)[..., 0])
    assert (np.ptp(rows), np.ptp(columns)) == (1, 1)
    return int(rows.min()) - 3, int(columns.min()) - 3


def test_the_other_is_of_another_class_and_all_of_those_are_equally_likely():
    others, n = others_of(LABELS), 3000
    for first in range(len(LABELS)):
        key = jax.random.key(first)
        pairs = np.asarray(draw_pairs(key, jnp.full(n, first), jnp.asarray(LABELS), others))
        low, high = LABELS[pairs].T
        assert (low < high).all()  # in the order of class numbers, and never alike
        assert (pairs == first).sum(1).tolist() == [1] * n
        other = pairs.sum(1) - first
        expected = np.flatnonzero(LABELS[first] != LABELS)
        counts = np.bincount(other, minlength=len(LABELS))[expected]
        assert counts.sum() == n
        spread = (n / len(expected)) ** 0.5
        assert np.abs(counts - n / len(expected)).max() < 4.5 * spread


def test_what_is_brighter_than_white_is_white():
    parts = jnp.asarray(np.random.default_rng(0).random((3, 2, 4, 5, 1), np.float32))
    found = np.asarray(lay_over(parts))
    for b, y, x in np.ndindex(3, 4, 5):
        total = float(parts[b, 0, y, x, 0]) + float(parts[b, 1, y, x, 0])
        assert found[b, y, x, 0] == pytest.approx(min(1.0, total))


@pytest.mark.parametrize("which", ["train", "test"])
def test_a_batch_holds_both_images_and_their_classes(which):
    train, judged = feeds()
    for batch in [train.batch(step) for step in range(4)] if which == "train" else judged:
        b = len(batch.weights)
        assert batch.images.shape == (b, 8, 8, 1)
        assert batch.targets.shape == (b, 2, 8, 8, 1)
        np.testing.assert_array_equal(batch.images, lay_over(batch.targets))
        for labels, parts in zip(np.asarray(batch.labels), batch.targets, strict=True):
            assert labels.tolist() == [LABELS[who(part)] for part in parts]
            assert labels[0] < labels[1]
            assert all(max(map(abs, where(part))) <= 2 for part in parts)


def test_every_example_comes_once_in_an_epoch_beside_another_every_time():
    train, _ = feeds(batch_size=5)
    seen = []
    for epoch in range(6):
        batches = [train.batch(2 * epoch + step) for step in range(2)]
        order = np.asarray(train.epoch(epoch).order)
        pairs = [{who(part) for part in parts} for batch in batches for parts in batch.targets]
        assert all(first in pair for first, pair in zip(order.tolist(), pairs, strict=True))
        seen += pairs
    # Of ten examples with six or seven others each, six times in turn.
    assert len({tuple(sorted(pair)) for pair in seen}) > 20
    moves = [where(part) for batch in batches for parts in batch.targets for part in parts]
    assert len(set(moves)) > 8


def test_pairs_follow_from_seed_and_step_alone_inside_compiled_loops_too():
    train, again = feeds()[0], feeds()[0]
    other = feeds(seed=1)[0]
    epoch = train.epoch(1)
    looped = jax.jit(
        lambda: jax.lax.map(lambda step: train.slicer(epoch, step), jnp.arange(2, 4))
    )()
    for step in (3, 2):
        batch = again.batch(step)
        for ours, theirs in zip(batch, train.batch(step), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for ours, theirs in zip(batch, looped, strict=True):
            np.testing.assert_array_equal(ours, theirs[step - 2])
        assert (np.asarray(other.batch(step).images) != np.asarray(batch.images)).any()


def test_what_judges_is_the_same_whatever_the_batch_and_each_example_comes_once():
    judged = feeds()[1]
    batches = list(judged)
    assert [batch.weights.tolist() for batch in batches][-1] == [1, 1, 0, 0]
    images = np.concatenate([batch.images for batch in batches])[:10]
    whole = next(iter(EvalFeed(split(), 1 / 16, batch_size=10, overlap=Overlap(shift=2, seed=4))))
    np.testing.assert_array_equal(images, whole.images)
    for number, parts in enumerate(whole.targets):
        assert number in {who(part) for part in parts}
    places, offsets = map(np.asarray, judged.pairs)
    np.testing.assert_array_equal(LABELS[places], whole.labels)
    found = [[where(part) for part in parts] for parts in whole.targets]
    np.testing.assert_array_equal(found, offsets)
    other = EvalFeed(split(), 1 / 16, batch_size=10, overlap=Overlap(shift=2, seed=5))
    assert (np.asarray(next(iter(other)).images) != np.asarray(whole.images)).any()


def test_both_images_are_augmented_each_by_itself_before_they_meet():
    batch = feeds(shift=0, augmentations=(Noise(std=0.2),))[0].batch(0)
    parts = np.asarray(batch.targets)
    assert (parts[:, 0] != parts[:, 1]).mean() > 0.4
    np.testing.assert_allclose(batch.images, np.minimum(parts.sum(1), 1), atol=1e-6)


def test_a_set_of_pairs_holds_single_images_and_says_how_they_meet():
    source = Overlapping(canvas=12, shift=2, seed=7)
    made, digits = source.load(), Digits().load()
    assert source.shape() == (made.image_shape, made.num_classes) == ((12, 12, 1), 10)
    assert made.overlap == source.overlap == Overlap(shift=2, seed=7)
    assert (made.labels_per_image, digits.labels_per_image) == (2, 1)
    np.testing.assert_array_equal(made.train.labels, digits.train.labels)
    np.testing.assert_array_equal(made.test.images[:, 2:10, 2:10], digits.test.images)
    prints = {
        Overlapping(canvas=12, shift=m, seed=s).load().fingerprint()
        for m, s in ((2, 7), (2, 8), (3, 7))
    }
    assert len(prints) == 3
    assert made.fingerprint() in prints
    moved = Perturbed(canvas=12, changes=(Affine(degrees=20),))
    assert Overlapping(source=moved).load().image_shape == (12, 12, 1)


def test_what_cannot_be_paired_is_refused(as_installed):
    with pytest.raises(FieldError, match=r"Overlapping\.shift: got 8, expected at most 7"):
        Overlapping(shift=8).load()
    with pytest.raises(FieldError, match=r"shift: got -1"):
        Overlapping(shift=-1)
    images = np.random.default_rng(0).random((40, 4, 4), np.float32)
    two = Overlapping(source=Arrays(), shift=1)
    with pytest.raises(UserError, match="got 2 classes, expected at least 3"):
        two.made(lambda _: Arrays().build((images, np.arange(40) % 2)))
    alone = {"train": (images, np.arange(40) % 3), "test": (images[:3], np.full(3, 1))}
    with pytest.raises(UserError, match="test has examples of one class, expected at least two"):
        two.made(lambda _: Arrays().build(alone))


def test_changes_come_before_images_meet(as_installed):
    for source in (Perturbed(source=Overlapping()), Overlapping(source=Overlapping())):
        with pytest.raises(UserError, match=r"set data\.kind to overlapping") as caught:
            source.load()
        assert caught.value.argument == "data.source.kind"
    assert Overlapping(source=Perturbed(source=Digits())).load().labels_per_image == 2


@pytest.mark.parametrize(("shift", "area"), [(4, 0.726), (6, 0.616)])
def test_boxes_of_digits_overlap_as_much_as_the_paper_s(shift, area):
    """Of boxes of 20 x 20, as MNIST's digits fit: at 6 pixels, what the released code draws."""
    root = os.environ.get("CAPSJAX_DATA")
    if root and os.path.isdir(os.path.join(root, "mnist")):
        print("real data: MNIST from CAPSJAX_DATA")
        labels = Mnist().load().test.labels
    else:
        print("real data: CAPSJAX_DATA holds no mnist, so labels of the digits are paired instead")
        labels = np.tile(Digits().load().train.labels, 8)
    pairs = fixed_pairs(labels, Overlap(shift=shift))
    apart = np.abs(np.diff(np.asarray(pairs.offsets), axis=1))[:, 0]  # [n, 2]
    shares = np.prod(1 - apart / 20, axis=-1)
    assert shares.mean() == pytest.approx(area, abs=4 * shares.std() / len(labels) ** 0.5)
    low, high = labels[np.asarray(pairs.places)].T
    assert (low < high).all()


def test_every_class_is_one_of_a_pair_about_equally_often():
    labels = np.repeat(np.arange(10), 100)
    counts = np.bincount(labels[np.asarray(fixed_pairs(labels, Overlap(shift=0)).places)].ravel())
    assert counts.min() > 160
    assert counts.sum() == 2000


def test_a_dataset_is_of_pairs_however_it_is_changed():
    made = Overlapping().load()
    found = made.map_splits(lambda of: Split(of.images[:9], of.labels[:9]))
    assert isinstance(found, Dataset)
    assert found.overlap == made.overlap
