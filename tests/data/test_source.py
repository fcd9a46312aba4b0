"""Sources of data: what each says of itself without being read, and where its files are."""

from pathlib import Path

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import Arrays, Digits, FashionMnist, Mnist, Source


def test_each_says_the_shape_that_its_data_have(tmp_path):
    images, labels = np.zeros((20, 6, 5, 2), np.uint8), np.arange(20) % 4
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    for source in (Digits(), Arrays(path=str(tmp_path / "x.npz"))):
        dataset = source.load()
        assert source.shape() == (dataset.image_shape, dataset.num_classes)
    assert Mnist().shape() == FashionMnist().shape() == ((28, 28, 1), 10)


def test_arrays_without_a_file_say_what_would_be_known():
    with pytest.raises(UserError, match=r"got arrays without data\.path.*mnist.*digits") as caught:
        Arrays().shape()
    assert caught.value.argument == "data.kind"


@pytest.mark.parametrize(
    ("source", "field"), [(Mnist, "folder"), (FashionMnist, "folder"), (Arrays, "path")]
)
def test_paths_become_absolute_and_may_move(source, field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = source(**{field: "here/data"})
    assert getattr(ours.located(), field) == str(tmp_path / "here/data")
    assert getattr(source(**{field: "~/x"}).located(), field) == str(Path("~/x").expanduser())
    assert source().located() == source()
    theirs = source(**{field: "there"})
    assert ours != ours.moved_to(theirs) == theirs
    assert ours.moved_to(Digits()) == ours


def test_nothing_but_its_places_moves():
    ours, theirs = Mnist(folder="a", validation=5), Mnist(folder="b", validation=6)
    assert ours.moved_to(theirs) == Mnist(folder="b", validation=5)


def test_no_two_have_one_kind():
    kinds = [source.kind for source in Source.variants()]
    assert len(set(kinds)) == len(kinds) >= 4
