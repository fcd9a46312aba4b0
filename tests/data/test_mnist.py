import gzip
import os
from pathlib import Path

import numpy as np
import pooch
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.data import Digits, FashionMnist, Mnist, known
from capsjax.data.known import Place
from capsjax.data.mnist import FILES, MIRRORS, read_family
from capsjax.data.published import Published


def find_place(folder):
    return known.find_place(folder, "mnist")


def read_mnist(where, *, files, mirrors=MIRRORS, **options):
    return read_family(where, Published("mnist", files, mirrors), **options)


def place(folder, is_cache=False):
    return Place(Path(folder), "ask the doctor", is_cache)


def read(tiny, folder, **options):
    return read_mnist(place(folder), files=tiny.files, **{"validation": 4} | options)


@pytest.mark.parametrize("compressed", [True, False])
def test_first_training_images_validate(tmp_path, tiny, compressed):
    tiny.write(tmp_path, compressed)
    dataset = read(tiny, tmp_path)
    images, labels = tiny.arrays["train_images"], tiny.arrays["train_labels"]
    assert (dataset.validation.images[..., 0] == images[:4]).all()
    assert (dataset.train.images[..., 0] == images[4:]).all()
    assert (dataset.test.images[..., 0] == tiny.arrays["test_images"]).all()
    assert dataset.validation.labels.tolist() == labels[:4].tolist()
    assert dataset.train.labels.tolist() == labels[4:].tolist()
    assert dataset.test.labels.tolist() == tiny.arrays["test_labels"].tolist()
    assert dataset.image_shape == (4, 3, 1)
    assert (dataset.num_classes, dataset.scale, dataset.name) == (10, 1 / 255, "mnist")


def test_train_limit_takes_the_first_after_validation(tmp_path, tiny):
    tiny.write(tmp_path)
    dataset = read(tiny, tmp_path, train_limit=3)
    assert (dataset.train.images[..., 0] == tiny.arrays["train_images"][4:7]).all()
    assert dataset.train.labels.tolist() == tiny.arrays["train_labels"][4:7].tolist()
    assert len(dataset.validation) == 4
    assert len(dataset.test) == 5


def test_all_images_train_where_none_validates(tmp_path, tiny):
    tiny.write(tmp_path)
    dataset = read(tiny, tmp_path, validation=0)
    assert (dataset.train.images[..., 0] == tiny.arrays["train_images"]).all()
    assert dataset.validation is None
    assert list(dataset.splits()) == ["train", "test"]


def test_missing_file_is_named_with_what_it_must_be(tmp_path, tiny):
    tiny.write(tmp_path)
    missing = tiny.files["test_labels"]
    (tmp_path / f"{missing.name}.gz").unlink()
    with pytest.raises(UserError) as caught:
        read(tiny, tmp_path)
    text = str(caught.value)
    assert f"{tmp_path / missing.name}.gz: is missing" in text
    assert "the folder has t10k-images-idx3-ubyte.gz, train-images" in text
    assert f"expected {missing.size} bytes decompressed, SHA-256 {missing.sha256}" in text
    assert text.endswith("; ask the doctor")


def cut(raw):
    return raw[: len(raw) // 2]


def flip(raw):
    content = bytearray(gzip.decompress(raw))
    content[-1] ^= 1
    return gzip.compress(bytes(content))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda raw: b"", "is empty"),
        (cut, "is truncated, its gzip data end early"),
        (lambda raw: raw[:-8] + bytes(8), "is corrupt, not valid gzip"),
        (flip, "has the wrong content"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "is truncated"),
        (lambda raw: gzip.compress(gzip.decompress(raw) + b"x"), "has the wrong content"),
        (lambda raw: b"<html>not found</html>", "is a web page, not data"),
    ],
)
@pytest.mark.parametrize("is_cache", [False, True])
def test_damaged_file_is_named_and_kept(tmp_path, tiny, damage, problem, is_cache):
    tiny.write(tmp_path)
    known = tiny.files["train_images"]
    path = tmp_path / f"{known.name}.gz"
    path.write_bytes(damaged := damage(path.read_bytes()))
    with pytest.raises(UserError) as caught:
        read_mnist(place(tmp_path, is_cache), files=tiny.files, mirrors=(), validation=4)
    text = str(caught.value)
    assert text.startswith(f"{path}: {problem}")
    assert "found" in text
    assert f"expected {known.size} bytes decompressed, SHA-256 {known.sha256}" in text
    assert text.endswith("; ask the doctor")
    assert path.read_bytes() == damaged


def test_unreadable_file_is_named(tmp_path, tiny):
    tiny.write(tmp_path)
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.unlink()
    path.mkdir()
    with pytest.raises(
        UserError,
        match=r"t10k-labels-idx1-ubyte\.gz: got a directory, expected 13 bytes.*the doctor",
    ):
        read(tiny, tmp_path)


def test_looks_in_the_folder_then_the_variable_then_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path / "data"))
    assert find_place("given").folder == Path("given")
    assert not find_place("given").is_cache
    assert find_place("~/x").folder == Path("~/x").expanduser()
    assert find_place(None).folder == tmp_path / "data" / "mnist"
    assert not find_place(None).is_cache
    for unset in (
        lambda: monkeypatch.setenv("CAPSJAX_DATA", ""),
        lambda: monkeypatch.delenv("CAPSJAX_DATA"),
    ):
        unset()
        assert find_place(None).folder == tmp_path / "cache" / "capsjax" / "mnist"
        assert find_place(None).is_cache
        assert "delete this file" in find_place(None).advice


def test_variable_without_the_files_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    message = (
        "mnist.*is missing.*folder does not exist.*expected 47040016 bytes.*unset CAPSJAX_DATA"
    )
    with pytest.raises(UserError, match=message):
        Mnist().load()
    assert not (tmp_path / "mnist").exists()
    (tmp_path / "mnist").mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        Mnist().load()
    with pytest.raises(UserError, match="leave folder out"):
        Mnist(folder=str(tmp_path / "other")).load()


def test_advice_about_files_works_as_it_is_given(tmp_path, tiny, server, monkeypatch):
    for number, damage in enumerate((b"", tiny.contents["test_labels"][:9], None)):
        folder = tmp_path / f"data{number}" / "mnist"
        tiny.write(folder)
        path = folder / f"{tiny.names['test_labels']}.gz"
        published = path.read_bytes()
        path.unlink() if damage is None else path.write_bytes(damage)
        monkeypatch.setenv("CAPSJAX_DATA", str(folder.parent))
        with pytest.raises(UserError, match="put the published file there, or unset CAPSJAX_DATA"):
            read_mnist(find_place(None), files=tiny.files, mirrors=(), validation=4)
        with pytest.raises(
            UserError, match="there, or leave folder out to have it read from "
        ) as at:
            read_mnist(find_place(str(folder)), files=tiny.files, mirrors=(), validation=4)
        assert str(at.value).endswith(str(folder))
        path.write_bytes(published)
        assert len(read_mnist(find_place(None), files=tiny.files, validation=4).test) == 5
        # The same in the cache: what is deleted is downloaded, and what is put there is taken.
        monkeypatch.delenv("CAPSJAX_DATA")
        assert find_place("x").advice.endswith("to have it downloaded")
        monkeypatch.setattr(pooch, "os_cache", lambda project, root=folder.parent: root)
        cache = {"files": tiny.files, "mirrors": [f"{server.address}/"], "validation": 4}
        if damage is not None:
            path.write_bytes(damage)
            with pytest.raises(UserError, match="delete this file to have it downloaded again"):
                read_mnist(find_place(None), **cache)
        path.unlink()
        server.pages[f"/{path.name}"] = (200, published, len(published))
        assert len(read_mnist(find_place(None), **cache).test) == 5
        path.unlink()
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        with pytest.raises(UserError, match="get it elsewhere and put it into ") as caught:
            read_mnist(find_place(None), **cache | {"mirrors": [f"{server.address}/none/"]})
        path.write_bytes(published)
        assert str(caught.value).endswith(str(path.parent))
        assert len(read_mnist(find_place(None), **cache).test) == 5


def test_files_that_are_not_the_published_ones_are_refused(tmp_path, tiny):
    tiny.write(tmp_path)
    with pytest.raises(UserError, match=FILES["train_images"].sha256):
        Mnist(folder=str(tmp_path)).load()


def test_downloads_into_the_cache_what_is_missing_there(tmp_path, tiny, server):
    tiny.write(tmp_path)
    missing = f"{tiny.names['test_images']}.gz"
    body = (tmp_path / missing).read_bytes()
    (tmp_path / missing).unlink()
    server.pages[f"/{missing}"] = (200, body, len(body))
    reports = []

    def load():
        return read_mnist(
            place(tmp_path, is_cache=True),
            files=tiny.files,
            mirrors=[server.address + "/"],
            validation=4,
            report=lambda *report: reports.append(report),
        )

    first = load()
    assert server.seen == [f"/{missing}"]
    assert reports[-1] == (missing, len(body), len(body))
    assert load().fingerprint() == first.fingerprint()
    assert len(server.seen) == 1  # the second time it was there


@pytest.mark.parametrize(
    "fields",
    [
        {"train_limit": 0},
        {"train_limit": 50_001},
        {"train_limit": True},
        {"train_limit": 60_000, "validation": 1},
        {"validation": -1},
        {"validation": 10_001},
        {"folder": ""},
    ],
)
def test_fields_out_of_range(fields):
    with pytest.raises(FieldError) as caught:
        Mnist(**fields)
    assert caught.value.field == next(iter(fields))


def test_real_data():
    """The published files where CAPSJAX_DATA holds them; the digits that need no file elsewhere."""
    root = os.environ.get("CAPSJAX_DATA")
    if root and (Path(root) / "mnist").is_dir():
        print("real data: MNIST from CAPSJAX_DATA")
        dataset = Mnist().load()
        assert dataset.fingerprint() == (
            "85083df7e69dba38fe05fae8871bcadcae9af1c7412564ff54fd332649cbff07"
        )
        shapes, classes = {"train": 50_000, "validation": 10_000, "test": 10_000}, 980
        limited = Mnist(train_limit=7).load()
        assert (limited.train.images == dataset.train.images[:7]).all()
    else:
        print("real data: CAPSJAX_DATA holds no mnist, so the bundled digits are tested instead")
        dataset = Digits().load()
        shapes, classes = {"train": 1097, "validation": 200, "test": 500}, 46
    assert {name: len(split) for name, split in dataset.splits().items()} == shapes
    assert np.bincount(dataset.test.labels)[0] == classes


def test_another_set_of_the_family_is_where_its_name_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"fashion_mnist.*is missing.*SHA-256 c59f468a2f672dc8"):
        FashionMnist().load()


def test_real_clothes():
    """The published files where CAPSJAX_DATA holds them; that they are others than MNIST's elsewhere."""
    root = os.environ.get("CAPSJAX_DATA")
    if root and (Path(root) / "fashion_mnist").is_dir():
        print("real data: Fashion-MNIST from CAPSJAX_DATA")
        dataset = FashionMnist(train_limit=100).load()
        assert (dataset.name, len(dataset.train), len(dataset.test)) == (
            "fashion_mnist",
            100,
            10_000,
        )
        assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    else:
        print("real data: CAPSJAX_DATA holds no fashion_mnist, so only its checksums are tested")
        theirs = FashionMnist().published().files
        assert all(theirs[key].sha256 != FILES[key].sha256 for key in FILES)
