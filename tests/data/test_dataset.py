import subprocess
import sys

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import Dataset, Split


def bytes_split(n=4, shape=(3, 2, 1), seed=0):
    rng = np.random.RandomState(seed)
    return Split(rng.randint(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % 3)


def make(train=None, validation=None, test=None, num_classes=3, scale=1 / 255, name="mine"):
    return Dataset(
        name,
        train or bytes_split(),
        validation or bytes_split(seed=1),
        test or bytes_split(seed=2),
        num_classes,
        scale,
    )


def test_import_is_light():
    heavy = "{'sklearn', 'pooch', 'requests', 'matplotlib'}"
    code = (
        "import sys, jax; before = set(sys.modules); import capsjax.data; "
        f"print(sorted((set(sys.modules) - before) & {heavy}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_split_keeps_values_and_makes_labels_int32():
    images = np.arange(12, dtype=np.uint8).reshape(2, 3, 2, 1)
    split = Split(images, np.array([7, 2], np.uint64))
    assert len(split) == 2
    assert split.labels.dtype == np.int32
    assert split.labels.tolist() == [7, 2]
    assert (split.images == images).all()


def test_split_cannot_be_written_to():
    images, labels = np.zeros((2, 3, 2, 1), np.uint8), np.zeros(2, np.int32)
    split = Split(images, labels)
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1
    images[0] = 1  # the user's own arrays stay theirs


PIXELS = np.zeros((2, 3, 2, 1), np.uint8)
LABELS = np.array([0, 1])
NOT_A_NUMBER = np.zeros((2, 3, 2, 1), np.float32)
NOT_A_NUMBER[1, 2] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (PIXELS[..., 0], LABELS, r"images: got shape \[2, 3, 2\], expected \[n, h, w, c\]"),
        (PIXELS[:0], LABELS[:0], r"images: got shape \[0, 3, 2, 1\], expected at least one image"),
        (PIXELS[:, :0], LABELS, r"images: got shape \[2, 0, 2, 1\], expected at least one image"),
        (PIXELS.astype(np.int64), LABELS, "images: got type int64, expected uint8 or float32"),
        (PIXELS.astype(float), LABELS, "images: got type float64, expected uint8 or float32"),
        (PIXELS, np.eye(2), r"labels: got shape \[2, 2\].*argmax"),
        (PIXELS, LABELS[:1], "labels: got 1 labels for 2 images"),
        (PIXELS, LABELS.astype(float), "labels: got type float64, expected integers"),
        (PIXELS, LABELS.astype(bool), "labels: got type bool, expected integers"),
        (PIXELS, np.array([0, 2**31]), "labels: they run from 0 to 2147483648"),
        (NOT_A_NUMBER, LABELS, r"image 1 has a pixel that is NaN or infinite \(1 of 2"),
        (NOT_A_NUMBER - np.inf, LABELS, r"image 0 has a pixel that is NaN or infinite \(2 of 2"),
    ],
)
def test_split_refuses(images, labels, message):
    with pytest.raises(UserError, match=message):
        Split(images, labels)


def test_dataset_shape_and_splits():
    dataset = make()
    assert dataset.image_shape == (3, 2, 1)
    assert list(dataset.splits()) == ["train", "validation", "test"]
    assert dataset.splits()["test"] is dataset.test


@pytest.mark.parametrize("which", ["train", "validation", "test"])
@pytest.mark.parametrize("label", [3, -1])
def test_label_out_of_range_is_named(which, label):
    labels = np.array([0, 1, label, label])
    broken = Split(bytes_split().images, labels)
    message = f"mine: {which} labels: label 2 is {label}, expected an integer from 0 to 2 \\(2 of 4"
    with pytest.raises(UserError, match=message):
        make(**{which: broken})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "got num_classes=1, expected at least 2"),
        ({"scale": 0.0}, "got scale=0.0, expected a number above 0"),
        ({"scale": float("nan")}, "got scale=nan"),
        (
            {"test": bytes_split(shape=(2, 2, 1))},
            r"test images have shape \[2, 2, 1\], expected \[3, 2, 1\] as in train",
        ),
        (
            {"validation": Split(np.zeros((1, 3, 2, 1), np.float32), np.array([0]))},
            "validation images have type float32, expected uint8 as in train",
        ),
        (
            {"scale": 1 / 16},
            r"train images: pixels run from .* after multiplication by scale=0.0625, expected 0 to 1",
        ),
    ],
)
def test_dataset_refuses(change, message):
    with pytest.raises(UserError, match=message):
        make(**change)


def test_white_is_in_range_whatever_the_scale_rounds_to():
    for top in range(1, 256):
        white = Split(np.full((1, 1, 1, 1), top, np.uint8), np.array([0]))
        make(white, white, white, scale=1 / top)


def changed(split, *, pixel=0, label=0):
    images, labels = split.images.copy(), split.labels.copy()
    images[-1, -1, -1, -1] ^= pixel
    labels[-1] = (labels[-1] + label) % 3
    return Split(images, labels)


def test_fingerprint_is_of_the_content():
    assert make().fingerprint() == make(name="other").fingerprint()
    assert len(make().fingerprint()) == 64
    train = bytes_split()
    moved = Split(train.images[:3], train.labels[:3])
    reshaped = {
        n: Split(s.images.reshape(-1, 2, 3, 1), s.labels) for n, s in make().splits().items()
    }
    as_float = {n: Split(s.images / np.float32(255), s.labels) for n, s in make().splits().items()}
    prints = [
        make().fingerprint(),
        make(train=changed(train, pixel=1)).fingerprint(),
        make(train=changed(train, label=1)).fingerprint(),
        make(validation=changed(bytes_split(seed=1), pixel=1)).fingerprint(),
        make(test=changed(bytes_split(seed=2), label=1)).fingerprint(),
        make(train=bytes_split(seed=1), validation=bytes_split()).fingerprint(),
        make(train=moved).fingerprint(),
        make(**reshaped).fingerprint(),
        make(**as_float, scale=1.0).fingerprint(),
        make(num_classes=4).fingerprint(),
        make(scale=1 / 256).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)


def test_fingerprint_does_not_depend_on_the_layout_in_memory():
    train = bytes_split()
    turned = Split(np.asfortranarray(train.images), train.labels)
    assert make(train=turned).fingerprint() == make(train=train).fingerprint()
