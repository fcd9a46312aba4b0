"""USPS: as LIBSVM publishes it and as one file of arrays, the same digits; the real ones where they are."""

import bz2
import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import capsjax.data.usps
from capsjax.checks import FieldError, UserError
from capsjax.data import KnownArchive, Published, Usps, known
from capsjax.data.usps import parse_libsvm
from tests.data.neighbours import nearest_neighbour_error


def text_of(pixels, labels):
    """Digits as LIBSVM writes them: thousandths from -1 to 1, labels from 1."""
    lines = (
        f"{label + 1} " + " ".join(f"{place}:{x / 1000:g}" for place, x in enumerate(row, start=1))
        for row, label in zip(pixels, labels, strict=True)
    )
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Seven training and three test digits in `tmp_path`, in both forms; returns the arrays."""
    rng = np.random.RandomState(0)
    arrays, files, contents = {}, {}, {}
    for part, count in (("train", 7), ("test", 3)):
        thousandths, labels = rng.randint(-1000, 1001, (count, 256)), rng.randint(0, 10, count)
        pixels = ((thousandths / 1000).astype(np.float32) + 1) / 2
        arrays |= {f"x_{part}": pixels.reshape(-1, 16, 16), f"y_{part}": labels.astype(np.int32)}
        name = "usps.bz2" if part == "train" else "usps.t.bz2"
        packed = bz2.compress(text_of(thousandths, labels))
        (tmp_path / name).write_bytes(packed)
        files[part] = KnownArchive(name, len(packed), hashlib.sha256(packed).hexdigest())
        held = pixels.tobytes() + labels.astype("<i4").tobytes()
        contents[part] = hashlib.sha256(held).hexdigest()
    np.savez_compressed(tmp_path / "usps.npz", **arrays)
    whole = (tmp_path / "usps.npz").read_bytes()
    module = capsjax.data.usps
    known_arrays = KnownArchive("usps.npz", len(whole), hashlib.sha256(whole).hexdigest())
    monkeypatch.setattr(module, "ARRAYS", known_arrays)
    monkeypatch.setattr(module, "CONTENTS", contents)
    published = dataclasses.replace(Usps.published(), files=files)
    monkeypatch.setattr(Usps, "published", classmethod(lambda cls: published))
    return arrays


def test_both_forms_are_the_same_digits(tiny, tmp_path):
    source = Usps(folder=str(tmp_path), validation=2)
    found = source.load()
    assert list(source.files()) == ["whole"]
    (tmp_path / "usps.npz").unlink()
    assert list(source.files()) == ["train", "test"]
    assert source.load().fingerprint() == found.fingerprint()
    assert (found.validation.images[..., 0] == tiny["x_train"][:2]).all()
    assert (found.train.images[..., 0] == tiny["x_train"][2:]).all()
    assert found.test.labels.tolist() == tiny["y_test"].tolist()
    assert (found.image_shape, found.num_classes, found.scale) == ((16, 16, 1), 10, 1.0)
    assert Usps(folder=str(tmp_path), validation=0).load().validation is None


def test_other_digits_in_the_right_form_are_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(capsjax.data.usps, "CONTENTS", {"train": "0" * 64, "test": "0" * 64})
    with pytest.raises(UserError, match=f"train: got pixels and labels of SHA-256 .*{'0' * 64}"):
        Usps(folder=str(tmp_path)).load()


LINE = text_of(np.zeros((1, 256), int), [3])


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"<html>", "a broken file"),
        (bz2.compress(LINE * 50)[:-20], "a truncated file"),
        (bz2.compress(LINE.replace(b" 7:", b" 8:")), "other pairs"),
        (bz2.compress(LINE.replace(b"7:0", b"7:2")), "other pairs"),
        (bz2.compress(LINE.replace(b" 7:0", b"")), "other text"),
        (bz2.compress(b"no digits at all"), "other text"),
        (bz2.compress(bytes((1 << 26) + 10)), "more than can be"),  # of few bytes
    ],
)
def test_other_text_is_refused(content, got):
    assert parse_libsvm(bz2.compress(LINE), "usps")[1].tolist() == [3]
    with pytest.raises(UserError, match=f"usps: got {got}"):
        parse_libsvm(content, "usps")


def test_a_set_that_is_not_there_is_named_with_what_it_must_be(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"usps\.bz2: is missing \(.*SHA-256 3771e9dd.*unset CAPS"):
        Usps().load()
    assert known.find_place(None, "usps").folder == tmp_path / "usps"
    assert isinstance(Usps.published(), Published)


def test_fields_out_of_range():
    for fields in ({"validation": 3001}, {"validation": -1}, {"folder": ""}):
        with pytest.raises(FieldError):
            Usps(**fields)


def test_real_digits():
    """The nearest neighbour errs as the textbook says, where CAPSJAX_DATA holds the digits."""
    root = os.environ.get("CAPSJAX_DATA")
    if not (root and (Path(root) / "usps").is_dir()):
        print("real data: CAPSJAX_DATA holds no usps, so only digits made here are tested")
        return
    print("real data: USPS from CAPSJAX_DATA")
    dataset = Usps(validation=0).load()
    assert (len(dataset.train), len(dataset.test)) == (7291, 2007)
    assert np.bincount(dataset.test.labels).tolist() == [
        359, 264, 198, 166, 200, 160, 170, 147, 166, 177,
    ]  # fmt: skip
    assert nearest_neighbour_error(dataset.train, dataset.test) == pytest.approx(5.63, abs=0.005)
    assert len(Usps().load().train) == 6291
