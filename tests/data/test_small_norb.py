"""smallNORB: its matrix format, stereo as channels, sizes, and which objects and views train and test."""

import gzip
import struct

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import SmallNorb
from capsjax.data.small_norb import parse_norb
from capsjax.runs.config import load_config
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import BatchSlicer
from tests.data.publishing import norb_of, publish

TRAIN, TEST = (4, 6, 7, 8, 9), (0, 1, 2, 3, 5)
VIEWS = ((0, 30), (2, 4), (3, 0), (8, 6), (4, 18))  # codes of elevation and azimuth


def part(objects):
    """The three files of a part: every object from five sides; a pixel says what is seen."""
    info = np.array([(n, *view, 0) for _ in range(5) for n in objects for view in VIEWS])
    category = np.repeat(np.arange(5), len(objects) * len(VIEWS))
    images = np.zeros((len(info), 2, 96, 96), np.uint8)
    images[:, 0, 40:56, 40:56] = (10 * info[:, 0] + info[:, 1])[:, None, None]
    images[:, 1, 40:56, 40:56] = category[:, None, None]
    images[:, 0, :2, :2] = ((1, 2), (3, 5))  # whose mean is 2.75
    arrays = {"dat": images, "cat": category, "info": info}
    return {name: gzip.compress(norb_of(array), 1) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def contents():
    parts = {"train": part(TRAIN), "test": part(TEST)}
    return {f"{name}_{what}": raw for name, files in parts.items() for what, raw in files.items()}


def seen(split, size):
    """Numbers of objects, and codes of elevation, in a split."""
    middle = split.images[:, size // 2, size // 2]
    assert (middle[:, 1] == split.labels).all()
    told = middle[:, 0].astype(int)
    return {*(told // 10).tolist()}, {*(told % 10).tolist()}


@pytest.mark.parametrize(
    ("protocol", "views", "learned", "tested"),
    [
        ("objects", "novel", {0, 2, 3, 4, 8}, {0, 2, 3, 4, 8}),
        ("azimuth", "novel", {0, 2, 3}, {4, 8}),
        ("azimuth", "familiar", {0, 2, 3}, {0, 2, 3}),
        ("elevation", "novel", {0, 2}, {3, 4, 8}),
        ("elevation", "familiar", {0, 2}, {0, 2}),
    ],
)
def test_protocols(contents, monkeypatch, tmp_path, protocol, views, learned, tested):
    folder = publish(monkeypatch, tmp_path, SmallNorb, contents)
    found = SmallNorb(folder=folder, protocol=protocol, views=views, size=32).load()
    assert seen(found.train, 32) == ({4, 6, 7, 8}, learned)
    assert seen(found.validation, 32) == ({9}, learned)
    assert seen(found.test, 32) == ({*TEST}, tested)
    assert found.class_names == ("animal", "human", "airplane", "truck", "car")


def test_sizes(contents, monkeypatch, tmp_path):
    folder = publish(monkeypatch, tmp_path, SmallNorb, contents)
    whole, half, middle = (SmallNorb(folder=folder, size=size) for size in (96, 48, 32))
    for source in (whole, half, middle):
        assert source.shape().image_shape == source.load().image_shape
    assert whole.load().train.images[0, :2, :2, 0].tolist() == [[1, 2], [3, 5]]
    assert half.load().train.images[0, 0, 0].tolist() == [3, 0]  # the mean, rounded
    cut = half.load().train.images[:, 8:40, 8:40]
    assert (middle.load().train.images == cut).all()
    with pytest.raises(UserError, match=r"data\.size: got 64"):
        load_config("digits", {"data": {"kind": "small_norb", "size": 64}})


def test_arrays_come_back():
    for array in (
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(5),
        np.arange(48, dtype=np.uint8).reshape(2, 2, 3, 4),
    ):
        assert (parse_norb(norb_of(array), "x") == array).all()


HEAD = norb_of(np.zeros((2, 3, 4, 5), np.uint8))[:24]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "starts with the bytes"),
        (b"<html><body>", "starts with the bytes 3c 68 74"),
        (struct.pack(">I", 0x1E3D4C55) + HEAD[4:], "starts with the bytes 1e 3d 4c 55"),
        (
            HEAD[:4] + struct.pack("<I", 200),
            "starts with the bytes 55 4c 3d 1e c8 .*and the number of axes",
        ),
        (HEAD[:10], "is truncated: found 10 bytes"),
        (HEAD + bytes(119), "is truncated: found 143 bytes, expected 144"),
        (HEAD + bytes(121), "has trailing bytes: found 145 bytes, expected 144"),
        (
            HEAD[:8] + struct.pack("<4I", *[2**32 - 1] * 4),
            r"is truncated: found 24 bytes, expected \d{38,40} for",
        ),
    ],
)
def test_what_is_no_array_is_refused(content, said):
    with pytest.raises(UserError, match=f"x: {said}"):
        parse_norb(content, "x")


def test_files_that_do_not_belong_together_are_refused(contents, monkeypatch, tmp_path):
    other = contents | {"test_cat": gzip.compress(norb_of(np.zeros(7, int)))}
    folder = publish(monkeypatch, tmp_path, SmallNorb, other)
    with pytest.raises(
        UserError, match=r"test: got cat \[7\], info \[125, 4\], dat \[125, 2, 96, 96\]"
    ):
        SmallNorb(folder=folder).load()


def test_a_file_that_holds_more_than_can_be_is_refused(contents, monkeypatch, tmp_path):
    """Few bytes of gzip that would be a hundred times as many as the largest file has."""
    monkeypatch.setattr("capsjax.data.small_norb.LIMIT", 1000)
    folder = publish(monkeypatch, tmp_path, SmallNorb, contents)
    with pytest.raises(UserError, match="holds more than 1000 bytes"):
        SmallNorb(folder=folder).load()


def test_the_papers_protocol_crops_at_random_to_learn_and_the_middle_to_judge(
    contents, monkeypatch, tmp_path
):
    folder = publish(monkeypatch, tmp_path, SmallNorb, contents)
    config = load_config("em2018_small", {"data.folder": folder})
    found = config.data.load()
    assert found.image_shape == (48, 48, 2)
    assert config.input_shape(found.image_shape) == (32, 32, 2)
    judged = next(
        iter(EvalFeed(found.test, found.scale, batch_size=4, augmentations=config.augmentations))
    )
    middle = found.test.images[:4, 8:40, 8:40] / 255
    np.testing.assert_allclose(judged.targets, middle, atol=1e-6)
    # Both channels of a photograph together.
    assert np.abs(np.asarray(judged.images).mean((1, 2, 3))).max() < 1e-4
    assert np.abs(np.asarray(judged.images).mean((1, 2))).max() > 0.01
    slicer = BatchSlicer(8, config.augmentations, found.scale)
    batch = TrainFeed(found.train, slicer, seed=0).batch(0)
    assert batch.images.shape == (8, 32, 32, 2)
    seen = [
        np.argwhere(image[..., 0] > 1e-3).min(0).tolist() for image in np.asarray(batch.targets)
    ]
    assert len({tuple(place) for place in seen}) > 1
    assert (SmallNorb(folder=folder, size=32).load().test.images[:4] / 255 == middle).all()
