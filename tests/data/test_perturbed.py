"""Sets that are made from others: where images lie, that readings are the same, and what is refused."""

import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.data import (
    Affine,
    Arrays,
    Cutout,
    Digits,
    Mnist,
    Noise,
    NumberTable,
    Perturbed,
    Shift,
)
from capsjax.data import perturbed as module

CHANGES = (Affine(degrees=20, scale=0.2, shear=0.2), Noise(std=0.1))


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


def test_images_are_put_in_the_middle_of_the_canvas(digits):
    source = Perturbed(canvas=13)
    made = source.load()
    assert source.shape() == (made.image_shape, made.num_classes) == ((13, 13, 1), 10)
    assert (made.name, made.scale) == ("perturbed digits", 1 / 16)
    for name, split in digits.splits().items():
        there = made.splits()[name]
        np.testing.assert_array_equal(there.images[:, 2:10, 2:10], split.images)
        assert there.images.sum() == split.images.sum()
        np.testing.assert_array_equal(there.labels, split.labels)


def test_translated_digits_lie_anywhere_and_are_whole(digits):
    made = Perturbed(canvas=16, changes=(Shift(pixels=4),)).load()
    assert made.test.images.dtype == np.uint8
    sums = made.test.images.sum((1, 2, 3), dtype=int)
    np.testing.assert_array_equal(sums, digits.test.images.sum((1, 2, 3), dtype=int))
    rows = {int(np.argmax(image.any((1, 2)))) for image in made.test.images}
    assert rows >= set(range(9))


def test_it_is_the_same_at_every_reading_and_other_for_each_split_and_seed(digits):
    made, again = (Perturbed(changes=CHANGES).load() for _ in range(2))
    assert made.fingerprint() == again.fingerprint()
    # By its name it is told from other changes of the same set.
    assert made.name == "perturbed digits, affine degrees=20 scale=0.2 shear=0.2, noise"
    assert made.fingerprint() != Perturbed(changes=CHANGES, seed=1).load().fingerprint()
    changes = made.test.images.astype(int) - digits.test.images
    assert (changes != 0).mean() > 0.2


def test_every_split_and_image_has_random_numbers_of_its_own(tmp_path):
    grey = {
        f"{name}_images": np.full((600, 5, 5, 1), 0.5, np.float32) for name in ("train", "test")
    }
    labels = {f"{name}_labels": np.arange(600) % 2 for name in ("train", "test")}
    np.savez(tmp_path / "x.npz", **grey, **labels)
    source = Arrays(path=str(tmp_path / "x.npz"), validation_fraction=0.0)
    made = Perturbed(source=source, changes=(Noise(std=0.1),)).load()
    assert (made.train.images != made.test.images).mean() > 0.9
    assert (made.test.images[0] != made.test.images[module.BLOCK]).mean() > 0.9
    assert made.train.images.std() == pytest.approx(0.1, rel=0.2)


def test_what_becomes_of_an_image_does_not_depend_on_how_many_follow(tmp_path, digits):
    images, labels = digits.train.images, digits.train.labels

    def of(count):
        np.savez(
            tmp_path / "x.npz",
            **{
                f"{name}_{what}": values[:count]
                for name in ("train", "test")
                for what, values in (("images", images / np.float32(16)), ("labels", labels))
            },
        )
        source = Arrays(path=str(tmp_path / "x.npz"), num_classes=10)
        return Perturbed(source=source, changes=CHANGES).load().test.images

    few, many = of(700), of(1000)
    assert few.dtype == np.float32
    assert module.BLOCK < 700
    np.testing.assert_array_equal(few, many[:700])


def test_only_the_splits_that_are_named_change(digits):
    made = Perturbed(changes=(Cutout(size=5),), splits=("test",)).load()
    np.testing.assert_array_equal(made.train.images, digits.train.images)
    assert (made.test.images != digits.test.images).any()


def test_the_other_set_s_files_may_move(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = Perturbed(source=Mnist(folder="a"), canvas=40)
    assert ours.located().source.folder == str(tmp_path / "a")
    assert ours.moved_to(Perturbed(source=Mnist(folder="b"))) == Perturbed(
        source=Mnist(folder="b"), canvas=40
    )
    assert ours.moved_to(Digits()) == ours


def test_what_does_not_fit_is_refused(tmp_path, as_installed):
    with pytest.raises(FieldError, match=r"canvas.*got 7, expected 8 or more"):
        Perturbed(canvas=7).shape()
    with pytest.raises(FieldError, match=r"splits.*'tests'.*some of train, validation, test"):
        Perturbed(splits=("tests",))
    with pytest.raises(FieldError, match=r"Cutout.*size"):
        Perturbed(changes=(Cutout(size=8),)).load()
    Perturbed(canvas=9, changes=(Cutout(size=8),)).load()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=values, labels=np.arange(40) % 2)
    standardised = Arrays(path=str(tmp_path / "x.npz"), range="any")
    with pytest.raises(UserError, match=r"standardised images.*data\.source\.range") as caught:
        Perturbed(source=standardised).load()
    assert caught.value.argument == "data.source.range"
    lowest, highest = float(values.min()), float(values.max())
    within = Arrays(path=str(tmp_path / "x.npz"), range=(lowest, highest))
    assert Perturbed(source=within, changes=(Noise(),)).load().bounded


def test_mistakes_in_the_other_set_name_its_fields_as_they_are_here(tmp_path):
    path = str(tmp_path / "data.csv")
    values = np.random.default_rng(0).normal(size=(40, 4, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=values, labels=np.arange(40) % 2)
    with pytest.raises(UserError, match=r"^data\.source\.range: got") as caught:
        Perturbed(source=Arrays(path=str(tmp_path / "x.npz"), range=(0.0, 1.0))).load()
    assert caught.value.argument == "data.source.range"
    assert caught.value.on_command_line.startswith("data.source.range: ")
    with pytest.raises(UserError, match=r"without data\.source\.path") as caught:
        Perturbed(source=Arrays()).shape()
    assert caught.value.argument == "data.source.kind"
    with pytest.raises(UserError, match=r"/data\.csv"):  # the name of a file, not of a field
        Perturbed(source=NumberTable(path=path)).load()
