"""ETH-80 in the protocols of smallNORB: which objects and views train, validate and test."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.data import Eth80, KnownArchive
from capsjax.runs.config import load_config
from tests.data.neighbours import nearest_neighbour_error

NAMES = ("apple", "car", "cow", "cup", "dog", "horse", "pear", "tomato")
VIEWS = ((0, 0), (35, 45), (66, 333), (90, 90), (90, 180))  # polar angle, azimuth
NUMBERS = (1, 2, 3, 5, 6, 7, 9, 11, 12, 14)  # of objects, as those of cars are


def made():
    """Ten objects of each category, five views of each; a pixel says what is seen, and no two are alike."""
    rows = [
        (category, number, *view) for category in range(8) for number in NUMBERS for view in VIEWS
    ]
    category, instance, polar, azimuth = np.array(rows).T
    images = np.zeros((len(rows), 32, 32, 3), np.uint8)
    for place, told in enumerate((category, instance, np.arange(len(rows)) % len(VIEWS))):
        images[:, 0, place, :] = told[:, None]
    images[:, 1, 0] = (1, 2, 6)
    return {
        "images": images,
        "category": category.astype(np.uint8),
        "instance": instance.astype(np.uint8),
        "polar": polar.astype(np.int16),
        "azimuth": azimuth.astype(np.int16),
        "names": np.array(NAMES),
        "masks": np.zeros((len(rows), 32, 32), np.uint8),
    }


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write arrays as the set's file, and have it be the known one; returns the folder."""

    def write(arrays):
        np.savez_compressed(tmp_path / "eth80_32.npz", **arrays)
        whole = (tmp_path / "eth80_32.npz").read_bytes()
        file = KnownArchive("eth80_32.npz", len(whole), hashlib.sha256(whole).hexdigest())
        published = dataclasses.replace(Eth80.published(), files={"whole": file})
        monkeypatch.setattr(Eth80, "published", classmethod(lambda cls: published))
        return str(tmp_path)

    return write


def seen(split):
    """The numbers of objects and views in a split, which has each of them of every category once."""
    told = np.rint(split.images[:, 0, :3, 0] * (255 if split.images.dtype == np.float32 else 1))
    assert (told[:, 0] == split.labels).all()
    rows = [tuple(row) for row in told.astype(int).tolist()]
    objects = {NUMBERS.index(number) for _, number, _ in rows}
    views = {view for *_, view in rows}
    assert len({*rows}) == len(rows) == 8 * len(objects) * len(views)
    return objects, views


FRONT, SIDE, LOW, HIGH = {0, 1, 2}, {3, 4}, {2, 3, 4}, {0, 1}


@pytest.mark.parametrize(
    ("protocol", "views", "learned", "tested"),
    [
        ("objects", "novel", FRONT | SIDE, FRONT | SIDE),
        ("azimuth", "novel", FRONT, SIDE),
        ("azimuth", "familiar", FRONT, FRONT),
        ("elevation", "novel", LOW, HIGH),
        ("elevation", "familiar", LOW, LOW),
    ],
)
def test_protocols(write, protocol, views, learned, tested):
    folder = write(made())
    for validation in (0, 1, 2):
        source = Eth80(folder=folder, protocol=protocol, views=views, validation=validation)
        dataset = source.load()
        assert seen(dataset.train) == ({*range(5 - validation)}, learned)
        assert seen(dataset.test) == ({5, 6, 7, 8, 9}, tested)
        if validation:
            assert seen(dataset.validation) == ({*range(5 - validation, 5)}, learned)
        assert (dataset.validation is None) == (validation == 0)
        assert dataset.class_names == NAMES


def test_grey_is_the_mean_and_colour_is_kept(write):
    folder = write(made())
    grey, colour = (Eth80(folder=folder, colour=colour) for colour in (False, True))
    assert grey.load().train.images[0, 1, 0] == pytest.approx(3 / 255)
    assert colour.load().train.images[0, 1, 0].tolist() == [1, 2, 6]
    for source in (grey, colour):
        assert source.shape().image_shape == source.load().image_shape
        assert source.load().scale == (1 / 255 if source.colour else 1.0)


def test_what_is_measured_is_in_the_name(write):
    folder = write(made())
    names = {
        Eth80(folder=folder).load().name,
        Eth80(folder=folder, protocol="azimuth").load().name,
        Eth80(folder=folder, protocol="azimuth", views="familiar").load().name,
    }
    assert names == {"eth80", "eth80 azimuth", "eth80 azimuth familiar"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"category": np.arange(400) % 8}, "category: got int64 of shape .*, expected uint8"),
        ({"polar": np.zeros(399, np.int16)}, r"arrays of \[399, 400\] examples"),
        ({"names": np.array(NAMES[::-1])}, "categories.*tomato.*expected one number, and"),
        ({"names": np.array(NAMES, object)}, "names: got Python objects of shape"),
        ({"images": np.zeros((400, 32, 32), np.uint8)}, "expected uint8 of 4 axes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(write, change, said):
    folder = write(made() | change)
    with pytest.raises(UserError, match=said):
        Eth80(folder=folder).load()


def test_a_file_that_is_not_there_is_asked_for(tmp_path, monkeypatch):
    """Wherever it may be put as the error says, it is found."""
    file = Eth80.published().files["whole"]
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")
    monkeypatch.delenv("CAPSJAX_DATA", raising=False)
    for source in (Eth80(), Eth80(folder=str(tmp_path / "own"))):
        with pytest.raises(UserError) as caught:
            source.load()
        text = str(caught.value)
        assert f"{source.place().folder / 'eth80_32.npz'}: is missing" in text
        assert f"SHA-256 {file.sha256}" in text
        assert "nobody publishes it in this form" in text
        assert "commit 9243466" in text
        assert text.endswith(
            "Put it there, or into a folder eth80 of the folder that CAPSJAX_DATA names"
        )
    for folder in (tmp_path / "cache" / "eth80", tmp_path / "data" / "eth80"):
        folder.mkdir(parents=True)
        (folder / "eth80_32.npz").write_bytes(b"other")
        with pytest.raises(UserError, match=f"{folder}/eth80_32.npz: is truncated: found 5 bytes"):
            Eth80().load()
        monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path / "data"))


@pytest.mark.parametrize("fields", [{"views": "familiar"}, {"validation": 5}, {"validation": -1}])
def test_fields_out_of_range(fields):
    with pytest.raises(FieldError) as caught:
        Eth80(**fields)
    assert caught.value.field == next(iter(fields))


@pytest.mark.parametrize("field", ["protocol", "views", "colour"])
def test_words_that_mean_nothing_are_refused(field):
    with pytest.raises(UserError, match=f"data.{field}: got 'lighting'"):
        load_config("digits", {"data": {"kind": "eth80", field: "lighting"}})


REAL = {
    ("objects", "novel"): (1640, 1640, 34.7),
    ("azimuth", "familiar"): (520, 520, 37.3),
    ("azimuth", "novel"): (520, 1120, 43.3),
    ("elevation", "familiar"): (1120, 1120, 27.9),
    ("elevation", "novel"): (1120, 520, 54.4),
}


@pytest.mark.parametrize("asked", REAL)
def test_real_photographs(asked):
    """Numbers and the nearest neighbour's error of each protocol, where CAPSJAX_DATA has the set."""
    root = os.environ.get("CAPSJAX_DATA")
    if not (root and (Path(root) / "eth80").is_dir()):
        print("real data: CAPSJAX_DATA holds no eth80, so only images made here are tested")
        return
    print("real data: ETH-80 from CAPSJAX_DATA")
    protocol, views = asked
    dataset = Eth80(protocol=protocol, views=views, validation=0).load()
    learned, tested, error = REAL[asked]
    assert (len(dataset.train), len(dataset.test)) == (learned, tested)
    assert nearest_neighbour_error(dataset.train, dataset.test) == pytest.approx(error, abs=0.051)
