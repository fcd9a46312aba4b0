import numpy as np
import pytest

from capsjax.data import Digits


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


def test_split_never_changes(digits):
    assert digits.fingerprint() == (
        "200c2f5fb41ecfbe3a5eb1cbd0266440ca80fb79ee3d4735015311c7e69bba30"
    )


def test_class_counts(digits):
    counts = {name: np.bincount(split.labels).tolist() for name, split in digits.splits().items()}
    assert counts == {
        "train": [109, 110, 103, 117, 102, 125, 108, 99, 112, 112],
        "validation": [23, 20, 22, 16, 19, 20, 22, 22, 19, 17],
        "test": [46, 52, 52, 50, 60, 37, 51, 58, 43, 51],
    }


def test_splits_share_no_example_and_leave_none_out(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    everything = sorted(
        (image.tobytes(), int(label))
        for image, label in zip(source.images.astype(np.uint8), source.target, strict=True)
    )
    found = sorted(
        (image.tobytes(), int(label))
        for split in digits.splits().values()
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert len(set(everything)) == 1797  # no two images are alike, so this is disjointness
    assert found == everything


def test_pixels(digits):
    assert digits.image_shape == (8, 8, 1)
    assert digits.num_classes == 10
    assert digits.train.images.dtype == np.uint8
    assert digits.train.images.max() * digits.scale == 1.0
    assert digits.name == "digits"
