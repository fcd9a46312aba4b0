"""ETH-80 in the protocols of smallNORB: which objects and views train, validate and test."""

import dataclasses
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pooch
import pytest
from PIL import Image

from capsjax.checks import FieldError, UserError
from capsjax.data import Eth80, KnownArchive, KnownFile
from capsjax.data.eth80_photographs import Photographs, Views
from capsjax.runs.config import load_config
from tests.data.neighbours import nearest_neighbour_error
from tests.data.publishing import tar_of

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
        "masks": np.zeros((len(rows), 32, 32), np.uint8),
    }


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write arrays as the set's file, and have it be the known one; returns the folder."""

    def write(arrays):
        np.savez_compressed(tmp_path / "eth80_32.npz", **arrays)
        whole = (tmp_path / "eth80_32.npz").read_bytes()
        file = KnownArchive("eth80_32.npz", len(whole), hashlib.sha256(whole).hexdigest())
        monkeypatch.setattr("capsjax.data.eth80.ARRAYS", file)
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
        (
            {"polar": np.zeros(399, np.int16)},
            r"arrays of \[399, 400\] examples, expected one number",
        ),
        ({"masks": np.array(NAMES, object)}, "masks: got Python objects of shape"),
        ({"images": np.zeros((400, 32, 32), np.uint8)}, "expected uint8 of 4 axes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(write, change, said):
    folder = write(made() | change)
    with pytest.raises(UserError, match=said):
        Eth80(folder=folder).load()


def picture(grey, size=256, mode="RGB"):
    """A PNG of one grey, with a white dot in its first pixel."""
    image = Image.new(mode, (size, size), (grey,) * 3 if mode == "RGB" else grey)
    image.putpixel((0, 0), (255, 255, 255) if mode == "RGB" else 255)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


TOP = "ETH-80-9243466"
PICTURES = {
    f"{TOP}/README.md": b"# ETH-80",
    f"{TOP}/2/car.txt": b"text",
    f"{TOP}/2/2/car2-090-338.png": picture(100),
    f"{TOP}/2/2/maps/car2-090-338-map.png": picture(200, mode="L"),
    f"{TOP}/2/10/car10-000-000.png": picture(50),
    f"{TOP}/2/10/maps/car10-000-000-map.png": picture(0, mode="L"),
    f"{TOP}/1/1/apple1-022-090.png": picture(20),
    f"{TOP}/1/1/maps/apple1-022-090-map.png": picture(255, mode="L"),
}


def test_photographs_are_reduced_and_sorted():
    found = Views.unpack(Photographs("x", 0, "").content(tar_of(PICTURES), "x"), "x")
    assert found.category.tolist() == [0, 1, 1]
    assert found.instance.tolist() == [1, 2, 10]
    assert found.polar.tolist() == [22, 90, 0]
    assert found.azimuth.tolist() == [90, 338, 0]
    assert found.images[:, 5, 5].tolist() == [[20] * 3, [100] * 3, [50] * 3]
    # Of a white dot in a grey of 50: 101 in a row of four, 63 in four rows, then 57 of two, and 54.
    assert found.images[:, 0, 0, 0].tolist() == [24, 103, 54]
    assert found.masks[:, 5, 5].tolist() == [255, 200, 0]
    with pytest.raises(UserError, match="x: got 7 bytes, expected a multiple of 4102"):
        Views.unpack(bytes(7), "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"2/2/car2-090-338.png": picture(1, 128)}, "got 128 x 128 pixels, expected 256 x 256"),
        ({"2/2/car2-090-338.png": picture(1)[:90]}, "got a broken picture"),
        ({"2/2/car2-090-338.png": b"GIF89a"}, "got a broken picture"),
        ({"2/2/car2-090-000.png": picture(1)}, "got 4 photographs of ETH-80 and 3 masks"),
        ({"2/2/car2-090-338.png": bytes(2 << 20)}, "bytes in .*, expected 1048576 at most"),
    ],
)
def test_photographs_that_are_none_are_refused(change, said):
    members = PICTURES | {f"{TOP}/{name}": content for name, content in change.items()}
    with pytest.raises(UserError, match=f"x: .*{said}"):
        Photographs("x", 0, "").content(tar_of(members), "x")
    with pytest.raises(UserError, match="got 0 photographs"):
        Photographs("x", 0, "").content(tar_of({"a": b"b"}), "x")


def test_what_is_downloaded_is_kept_reduced(tmp_path, server, monkeypatch):
    """Once: the archive is not kept, and what is kept is checked like any file."""
    content = Photographs("x", 0, "").content(tar_of(PICTURES), "x")
    digest = hashlib.sha256(content).hexdigest()
    file = Photographs("photographs.tar.gz", len(content), digest)
    packed = KnownFile("eth80_32", len(content), digest)
    monkeypatch.setattr("capsjax.data.eth80.PACKED", packed)
    ours = dataclasses.replace(
        Eth80.published(), files={"photographs": file}, mirrors=[f"{server.address}/"]
    )
    monkeypatch.setattr(Eth80, "published", classmethod(lambda cls: ours))
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    archive = tar_of(PICTURES)
    server.pages["/photographs.tar.gz"] = (200, archive, len(archive))
    with pytest.raises(UserError, match=r"photographs.tar.gz: is missing .*reduced photographs"):
        Eth80().read("photographs")
    kept = tmp_path / "eth80" / "eth80_32.gz"
    assert Eth80().fetch() == [kept]
    assert [path.name for path in kept.parent.iterdir()] == ["eth80_32.gz"]
    assert Eth80().verify() == [(str(kept), packed)]
    assert Eth80().fetch() == []
    # From the archive itself, where someone put it, the same.
    other = tmp_path / "other"
    other.mkdir()
    (other / "photographs.tar.gz").write_bytes(archive)
    for folder in (kept.parent, other):
        source = Eth80(folder=str(folder))
        assert source.read(next(iter(source.files())))[0] == content
    (other / "photographs.tar.gz").write_bytes(tar_of(dict(list(PICTURES.items())[:-2])))
    with pytest.raises(UserError, match="is truncated: found 8204 bytes of reduced photographs"):
        Eth80(folder=str(other)).load()


def test_an_archive_in_the_cache_is_reduced_once(tmp_path, monkeypatch):
    cars = {f"{TOP}/2/{n}/car{n}-090-000.png": picture(n) for n in range(1, 7)}
    maps = {f"{TOP}/2/{n}/maps/car{n}-090-000-map.png": picture(0, mode="L") for n in range(1, 7)}
    archive = tar_of(cars | maps)
    content = Photographs("x", 0, "").content(archive, "x")
    file = Photographs("photographs.tar.gz", len(content), hashlib.sha256(content).hexdigest())
    ours = dataclasses.replace(Eth80.published(), files={"photographs": file}, mirrors=[])
    monkeypatch.setattr(Eth80, "published", classmethod(lambda cls: ours))
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path)
    monkeypatch.delenv("CAPSJAX_DATA", raising=False)
    (tmp_path / "eth80").mkdir()
    (tmp_path / "eth80" / "photographs.tar.gz").write_bytes(archive)
    reduced = []

    def count(self, raw, source, _content=Photographs.content):
        reduced.append(source)
        return _content(self, raw, source)

    monkeypatch.setattr(Photographs, "content", count)
    found = Eth80(validation=0).load()
    assert (len(found.train), len(found.test)) == (5, 1)
    assert len(reduced) == 1


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
