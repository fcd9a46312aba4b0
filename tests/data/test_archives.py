"""KMNIST, CIFAR-10, SVHN, affNIST: small files in their formats; archives, of which nothing is unpacked."""

import dataclasses
import gzip
import os
import tarfile

import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.data import Affnist, Cifar10, Kmnist, Mnist, Svhn
from capsjax.data.affnist import parse_affnist
from capsjax.data.archive import read_tar, read_zip
from capsjax.data.cifar10 import RECORD, TEST, TRAIN, parse_cifar
from capsjax.data.published import published_sets
from capsjax.data.svhn import parse_svhn
from tests.data.publishing import mat_of, publish, tar_of, zip_of

RNG = np.random.RandomState(1)


def test_kmnist_is_read_as_mnist_is(tiny, monkeypatch, tmp_path):
    contents = {key: gzip.compress(content) for key, content in tiny.contents.items()}
    folder = publish(monkeypatch, tmp_path, Kmnist, contents)
    found = Kmnist(folder=folder, validation=4).load()
    assert (found.name, len(found.train), len(found.validation)) == ("kmnist", 8, 4)
    assert (found.test.images[..., 0] == tiny.arrays["test_images"]).all()
    # Decompressed it is another file, of which nobody states the checksum.
    name = f"{tiny.names['test_images']}.gz"
    (tmp_path / name).write_bytes(tiny.contents["test_images"])
    with pytest.raises(UserError, match=f"{name}: .*SHA-256"):
        Kmnist(folder=folder, validation=4).load()


def records(count):
    """Images and labels, and the records of them as CIFAR-10 has them: red, green and blue apart."""
    images, labels = RNG.randint(0, 256, (count, 32, 32, 3)), RNG.randint(0, 10, count)
    planes = images.transpose(0, 3, 1, 2).reshape(count, -1)
    return images, labels, np.concatenate([labels[:, None], planes], 1).astype(np.uint8).tobytes()


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    """An archive with batches of two images, and what is in it."""
    monkeypatch.setattr("capsjax.data.cifar10.PART", 2)
    batches = {name: records(2) for name in (*TRAIN, TEST)}
    members = {"cifar-10-batches-bin/readme.html": b"<html>"}
    members |= {name: raw for name, (*_, raw) in batches.items()}
    return publish(monkeypatch, tmp_path, Cifar10, {"archive": tar_of(members)}), batches


def test_cifar10_is_read_from_its_archive(cifar, tmp_path):
    folder, batches = cifar
    found = Cifar10(folder=folder, validation=3).load()
    images = np.concatenate([batches[name][0] for name in TRAIN])
    labels = np.concatenate([batches[name][1] for name in TRAIN])
    assert (found.validation.images == images[:3]).all()
    assert (found.train.images == images[3:]).all()
    assert found.train.labels.tolist() == labels[3:].tolist()
    assert (found.test.images == batches[TEST][0]).all()
    assert found.class_names[8] == "ship"
    assert Cifar10(folder=folder, validation=0).load().validation is None
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-binary.tar.gz"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "got 0 bytes, expected a multiple of 3073"),
        (bytes(RECORD - 1), "got 3072 bytes"),
        (bytes(RECORD) + b"\x0a" + bytes(RECORD - 1), "got label 10 in record 1, expected 0 to 9"),
    ],
)
def test_records_that_are_none_are_refused(content, said):
    with pytest.raises(UserError, match=f"x: {said}"):
        parse_cifar(content, "x")


def link(name, kind, target):
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


SIZES = {"in/a": 3, "in/b": 5}
GOOD = {"in/a": b"abc", "../outside": b"x", "/etc/outside": b"y", "in/b": b"12345"}


def test_of_an_archive_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_tar(tar_of(GOOD), "x.tar.gz", SIZES, 1 << 20) == {"in/a": b"abc", "in/b": b"12345"}
    found = read_zip(zip_of(a__bin=b"abc", b__bin=b"12345"), "x.zip", {"b.bin": 5})
    assert found == {"b.bin": b"12345"}
    assert list(tmp_path.iterdir()) == []
    assert not (tmp_path.parent / "outside").exists()


def encrypted():
    """A zip archive whose one file says that it is encrypted."""
    raw = bytearray(zip_of(a=b"abc"))
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    raw[6] |= 1
    return bytes(raw)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tar_of(GOOD)[:-40], "got a broken file"),
        (b"<html>", "got a broken file"),
        (b"", "got a broken file|got no in/a"),
        (tar_of(GOOD | {"in/b": b"123456"}), "got 6 bytes in in/b, expected 5 at most"),
        (tar_of(GOOD | {"in/b": b"1234"}), "got 4 bytes in in/b, expected 5"),
        (tar_of({"in/a": b"abc"}), r"got no in/b, expected in/a, in/b in an archive"),
        (
            tar_of(GOOD | {"in/b": link("in/b", tarfile.SYMTYPE, "/etc/passwd")}),
            "got in/b that is a link or no file",
        ),
        (
            tar_of(GOOD | {"in/b": link("in/b", tarfile.LNKTYPE, "in/a")}),
            "got in/b that is a link or no file",
        ),
        (tar_of(GOOD | {"in/b": link("in/b", tarfile.FIFOTYPE, "")}), "a link or no file"),
        (tar_of({"bomb": bytes(1 << 21)} | GOOD), "holds more than 1048576 bytes"),
    ],
)
def test_an_archive_that_is_not_as_it_should_be_is_refused(content, said):
    with pytest.raises(UserError, match=f"x.tar.gz: .*({said})"):
        read_tar(content, "x.tar.gz", SIZES, 1 << 20)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zip_of(a=bytes(1 << 20)), "got more than 1000 bytes in a, expected at most that many"),
        (zip_of(b=b"abc"), "got no a, expected a in a zip archive"),
        (zip_of(a=b"abc")[:-30], "got a broken file"),
        (b"<html>", "got a broken file"),
        (encrypted(), "got a broken file"),
    ],
)
def test_a_zip_archive_that_is_not_as_it_should_be_is_refused(content, said):
    with pytest.raises(UserError, match=f"x.zip: {said}"):
        read_zip(content, "x.zip", {"a": 1000})


def svhn(count):
    """Images, labels of digits, and a file of them as it is published: examples last, 10 for 0."""
    images, labels = RNG.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8), np.arange(count) % 10
    stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    return images, labels, mat_of(X=images.transpose(1, 2, 3, 0), y=stored)


def test_svhn_is_read_with_examples_first_and_tens_as_zeros(monkeypatch, tmp_path):
    images, labels, train = svhn(12)
    test_images, test_labels, test = svhn(11)
    folder = publish(monkeypatch, tmp_path, Svhn, {"train": train, "test": test})
    found = Svhn(folder=folder, validation=2).load()
    assert (found.validation.images == images[:2]).all()
    assert (found.train.images == images[2:]).all()
    assert found.train.labels.tolist() == labels[2:].tolist()
    assert (found.test.images == test_images).all()
    assert found.test.labels.tolist() == test_labels.tolist()


def test_the_further_images_of_svhn_train_where_they_are_asked_for(monkeypatch, tmp_path):
    (images, labels, train), (more, others, extra), (_, _, test) = svhn(12), svhn(13), svhn(11)
    folder = publish(monkeypatch, tmp_path, Svhn, {"train": train, "test": test, "extra": extra})
    without, found = (Svhn(folder=folder, validation=2, extra=is_).load() for is_ in (False, True))
    assert (found.train.images == np.concatenate([images[2:], more])).all()
    assert found.train.labels.tolist() == [*labels[2:].tolist(), *others.tolist()]
    assert (found.validation.images == images[:2]).all()
    assert (found.test.images == without.test.images).all()
    assert len(without.train) == 10
    (tmp_path / "extra_32x32.mat").unlink()
    assert Svhn(folder=folder).missing() == []
    assert Svhn(folder=folder, extra=True).missing() == ["extra_32x32.mat"]
    with pytest.raises(UserError, match=r"extra_32x32\.mat: is missing"):
        Svhn(folder=folder, extra=True).load()
    with pytest.raises(UserError, match=r"capsjax data fetch svhn --data\.extra true$"):
        Svhn(folder=folder, extra=True).verify()
    assert Svhn().examples() == {"train": 73_257, "test": 26_032}
    assert sum(Svhn(extra=True).examples().values()) == 630_420


PIXELS, ONES = np.zeros((32, 32, 3, 4), np.uint8), np.ones((4, 1), np.uint8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<html>", "starts with the bytes 3c 68 74 6d 6c 3e"),
        (b"MATLAB 7.3 MAT-file" + bytes(500), "starts with the bytes .*version 5"),
        (b"MATLAB 5.0 MAT-file" + bytes(20), "got a broken file"),
        (mat_of(X=PIXELS, y=ONES)[:-20], "got a broken file|got X|got y"),
        (mat_of(X=PIXELS), r"got y \[\] of class nothing, expected uint8 or int32 or double"),
        (mat_of(X=PIXELS.astype(float), y=ONES), "of class double, expected uint8 of 4 axes"),
        (mat_of(X=np.array([{"a": 1}], object), y=ONES), "of class cell, expected uint8"),
        (mat_of(X=PIXELS[:8], y=ONES), r"got X \[8, 32, 3, 4\] and y \[4, 1\], expected X \[32,"),
        (mat_of(X=PIXELS, y=ONES[:3]), r"y \[3, 1\], expected X"),
        (mat_of(X=PIXELS, y=ONES + 10), "got labels from 11 to 11, expected 1 to 10"),
    ],
)
def test_files_of_matlab_that_are_something_else_are_refused(content, said):
    with pytest.raises(UserError, match=f"x.mat: .*({said})"):
        parse_svhn(content, "x.mat")


def affnist(**fields):
    return zip_of(test__mat=mat_of(affNISTdata=fields))


def test_affnist_tests_and_mnist_on_its_canvas_trains(tiny, monkeypatch, tmp_path):
    images = RNG.randint(0, 256, (5, 40, 40)).astype(np.uint8)
    labels = np.arange(5, dtype=np.uint8)
    content = affnist(image=images.reshape(5, -1).T, label_int=labels[None], more=np.eye(3))
    folder = publish(monkeypatch, tmp_path, Affnist, {"test": content})
    digits = RNG.randint(0, 256, (12, 28, 28, 1)).astype(np.uint8)

    def load(self, report=None):
        assert (self.folder, self.validation) == ("there", 4)
        from capsjax.data import Dataset, Split

        part = Split(digits, np.arange(12) % 10)
        return Dataset("mnist", part, part, part, 10, 1 / 255)

    monkeypatch.setattr(Mnist, "load", load)
    found = Affnist(folder=folder, mnist="there", validation=4).load()
    assert (found.test.images[..., 0] == images).all()
    assert found.test.labels.tolist() == labels.tolist()
    assert (found.train.images[:, 6:34, 6:34] == digits).all()
    assert found.train.images.sum() == digits.sum()
    assert (found.name, found.image_shape) == ("affnist", (40, 40, 1))


def test_affnist_lacks_what_mnist_lacks(tiny, server, monkeypatch, tmp_path):
    """Fetched, it loads without a network: MNIST's files are missed, downloaded and checked as its own."""
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    (tmp_path / "affnist").mkdir()
    content = affnist(image=IMAGE, label_int=LABELS)
    publish(monkeypatch, tmp_path / "affnist", Affnist, {"test": content})
    digits = dataclasses.replace(
        Mnist.published(), files=tiny.files, mirrors=[f"{server.address}/"]
    )
    monkeypatch.setattr(Mnist, "published", classmethod(lambda cls: digits))
    names = [f"{name}.gz" for name in tiny.names.values()]
    for key, name in zip(tiny.names, names, strict=True):
        server.pages[f"/{name}"] = (200, tiny.contents[key], len(tiny.contents[key]))
    assert Affnist().missing() == names
    with pytest.raises(UserError, match=f"{names[0]}: is missing.*capsjax data fetch mnist"):
        Affnist().verify()
    assert server.seen == []
    assert Affnist().fetch() == [tmp_path / "mnist" / name for name in names]
    assert (Affnist().missing(), Affnist().fetch()) == ([], [])
    assert len(Affnist().verify()) == 5
    assert len(Affnist(validation=0).load().train) == 12
    # Where MNIST is said to be, there it is looked for.
    assert Affnist(mnist=str(tmp_path / "other")).missing() == names


IMAGE, LABELS = np.zeros((1600, 3), np.uint8), np.zeros((1, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (affnist(image=IMAGE), "got 1 of fields image, expected a struct with image and label_int"),
        (affnist(image=IMAGE.T, label_int=LABELS), r"got image uint8 \[3, 1600\]"),
        (affnist(image=IMAGE * 1.0, label_int=LABELS), "got image float64"),
        (affnist(image=IMAGE, label_int=LABELS[:, :2]), r"got label_int uint8 \[1, 2\]"),
        (zip_of(test__mat=mat_of(affNISTdata=IMAGE)), "of class uint8, expected struct of 2 axes"),
        (zip_of(train__mat=b"x"), "got no test.mat"),
        (zip_of(test__mat=b"x"), "x.zip: test.mat: starts with the bytes 78"),
    ],
)
def test_archives_that_are_not_affnist_are_refused(content, said):
    with pytest.raises(UserError, match=said):
        parse_affnist(content, "x.zip")


def test_fields_out_of_range():
    for cls in (Cifar10, Svhn, Affnist):
        with pytest.raises(FieldError):
            cls(validation=10_001)


@pytest.mark.parametrize("name", published_sets())
def test_shapes_are_known_before_anything_is_there(name, tmp_path, monkeypatch):
    """Every published set says what it is without a file, and names the first that it misses."""
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    source = published_sets()[name]
    height, width, channels = source.shape().image_shape
    assert min(height, width, channels) >= 1
    if not source.published().files:
        return
    with pytest.raises(UserError, match=f"{tmp_path / name}.*is missing.*SHA-256 [0-9a-f]{{64}}"):
        source.load()
    assert os.listdir(tmp_path) == []
