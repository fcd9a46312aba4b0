"""`capsjax data`: what is listed, downloaded, checked and drawn of published sets."""

import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from capsjax.checks import UserError
from capsjax.data import (
    Affnist,
    Dataset,
    KnownArchive,
    Mnist,
    Overlapping,
    Split,
    Usps,
    published_sets,
)
from capsjax.reports.examples import LAID_OVER, examples_figure
from capsjax.reports.figures import save
from capsjax.runs.config import shipped_configs
from tests.data.conftest import server, tiny, to_idx

__all__ = ["server", "tiny", "to_idx"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CAPSJAX_DATA", str(tmp_path / "sets"))


@pytest.fixture
def published(tiny, server, monkeypatch):
    """MNIST of twelve and five images, on a server of this machine."""
    counts = {"train": 12, "test": 5}
    ours = dataclasses.replace(
        Mnist.published(), files=tiny.files, mirrors=[f"{server.address}/"], examples=counts
    )
    monkeypatch.setattr(Mnist, "published", classmethod(lambda cls: ours))
    for key, content in tiny.contents.items():
        server.pages[f"/{tiny.names[key]}.gz"] = (200, content, len(content))
    return ours


def test_sets_are_listed_with_what_they_are_and_where(
    answer, tmp_path, published, tiny, monkeypatch
):
    code, out, _ = answer("data", "list")
    text = "\n".join(out)
    assert code == 0
    for name, source in published_sets().items():
        row = next(line for line in out if line.startswith(f"{name}\t")).split("\t")
        assert len(row) == len(out[0].split("\t")) == 6
        assert row[4] == source.published().licence
        assert row[3] == str(source.num_classes)
    assert "60,000 train + 10,000 test" in text
    assert "comes with scikit-learn" in text
    assert "not there: capsjax data fetch mnist" in text
    tiny.write(tmp_path / "sets" / "mnist")
    assert f"\t{tmp_path / 'sets' / 'mnist'}\n" in "\n".join(answer("data", "list")[1])
    next((tmp_path / "sets" / "mnist").iterdir()).unlink()
    text = "\n".join(answer("data", "list")[1])
    assert "1 files missing: capsjax data fetch mnist" in text
    # What it lacks of another set is not all of it; but without its own there is nothing.
    assert "not there: capsjax data fetch affnist" in text
    monkeypatch.setattr(Affnist, "missing", lambda self: ["t10k-labels-idx1-ubyte.gz"])
    assert "1 files missing: capsjax data fetch affnist" in "\n".join(answer("data", "list")[1])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    assert "│" in "\n".join(answer("data", "list")[1])
    monkeypatch.setenv("COLUMNS", "40")  # set by set, not in parts of a table below each other
    out = answer("data", "list")[1]
    assert max(map(len, out)) <= 40
    place = out.index("usps")
    assert out[place + 1 : place + 5] == [
        "  images   7,291 train + 2,007 test",
        "  pixels   16 x 16",
        "  classes  10",
        "  licence  none stated",
    ]
    assert out[place + 5].startswith("  where    ")


def test_every_published_set_says_where_it_is_from():
    assert {"digits", "mnist", "fashion_mnist", "usps", "eth80"} <= published_sets().keys()
    for name, source in published_sets().items():
        known = source.published()
        assert known.name == name
        assert known.page.startswith("http")
        assert known.licence
        assert known.reference
        assert bool(known.mirrors) == bool(known.files)
        assert all(len(file.sha256) == 64 for file in known.files.values())


def test_a_set_is_fetched_once_checked_and_left_alone(answer, published, server, tmp_path):
    folder = tmp_path / "sets" / "mnist"
    code, _, err = answer("data", "verify", "mnist")
    assert code == 2
    assert err[-1].endswith("; have it downloaded: capsjax data fetch mnist")
    code, out, _ = answer(*err[-1].split("capsjax ")[-1].split())
    assert code == 0
    assert [line.split(": ")[0] for line in out[:4]] == ["downloaded"] * 4
    assert out[-1] == f"mnist: 4 files as expected, in {folder}"
    seen = list(server.seen)
    assert answer("data", "fetch", "mnist")[1] == out[-1:]
    assert server.seen == seen
    file = published.files["test_labels"]
    path = folder / f"{file.name}.gz"
    path.write_bytes(b"mine")
    for task in ("fetch", "verify"):
        code, _, err = answer("data", task, "mnist")
        assert code == 2
        assert f"{path}: is truncated: found 4 bytes" in err[-1]
    assert path.read_bytes() == b"mine"
    assert server.seen == seen


def test_files_are_verified_and_images_counted(answer, published, tiny, tmp_path, monkeypatch):
    tiny.write(tmp_path / "sets" / "mnist")
    monkeypatch.setattr(Mnist, "load", lambda self, report=None: without_validation(tiny))
    code, out, _ = answer("data", "verify", "mnist")
    assert code == 0
    file = published.files["train_images"]
    name = f"{file.name}.gz"
    assert out[0] == f"{name}: {file.size} bytes decompressed, SHA-256 {file.sha256}: as expected"
    assert out[-1] == "mnist: 17 images (12 train, 5 test), 10 classes"
    fewer = dataclasses.replace(published, examples={"train": 13, "test": 5})
    monkeypatch.setattr(Mnist, "published", classmethod(lambda cls: fewer))
    assert "got 17 images, expected 18" in answer("data", "verify", "mnist")[2][-1]


def without_validation(tiny):
    """A dataset of the tiny images without a validation split."""
    train, test = (
        Split(
            tiny.arrays[f"{part}_images"].astype(np.uint8)[..., None], tiny.arrays[f"{part}_labels"]
        )
        for part in ("train", "test")
    )
    return Dataset("tiny", train, None, test, 10, 1 / 255)


def test_the_digits_need_no_download(answer):
    assert answer("data", "fetch", "digits")[1] == [
        "digits: comes with scikit-learn, nothing to download"
    ]
    code, out, _ = answer("data", "verify", "digits")
    assert (code, out) == (
        0,
        ["digits: 1797 images (1097 train, 200 validation, 500 test), 10 classes"],
    )


def test_images_of_each_class_are_drawn(answer, tmp_path):
    code, out, err = answer("data", "show", "digits", "--quiet")
    assert (code, out, err) == (0, ["picture: digits.png"], [])
    with Image.open(tmp_path / "digits.png") as drawn:
        assert 600 < drawn.width < 1200
    code, _, err = answer("data", "show", "digits")
    assert code == 2
    assert "got no --out, and digits.png exists, expected a new file: --out digits-2.png" in err[-1]
    assert answer("data", "show", "digits", *err[-1].split(": ")[-1].split())[0] == 0
    assert "--out digits-3.png" in answer("data", "show", "digits")[2][-1]
    code, _, err = answer("data", "show", "digits", "--out", "digits.png")
    assert (code, "--out: got 'digits.png', which exists" in err[-1]) == (2, True)
    code, out, _ = answer("data", "show", "digits", "--out", "again.png", "--split", "test")
    assert (code, out[-1]) == (0, "picture: again.png")
    drawn = (tmp_path / "digits.png").read_bytes()
    assert (tmp_path / "again.png").read_bytes() != drawn
    code, out, _ = answer("data", "show", "digits_cnn", "--quiet")  # of a configuration its data
    assert (code, out) == (0, ["picture: digits_cnn.png"])
    assert (tmp_path / "digits_cnn.png").read_bytes() == drawn


def test_data_of_one_s_own_are_drawn_too(answer, tmp_path):
    images = np.zeros((40, 6, 9, 2), np.uint8)
    np.savez("mine.npz", images=images, labels=np.arange(40) % 2)
    code, out, _ = answer("data", "show", "mine.npz", "--data.test_fraction", "0.2")
    assert (code, out[-1]) == (0, "picture: mine.png")


def test_the_data_of_a_file_of_one_s_own_are_drawn(answer, tmp_path):
    """A configuration, whatever its file is called, as `train` takes it; flags change its data."""
    text = shipped_configs()["smoke"].read_text()
    text = text.replace("data: digits", "data: {kind: overlapping, source: digits, canvas: 12}")
    for name in ("mine.yaml", "mine.cfg"):
        (tmp_path / name).write_text(text)
    code, out, err = answer("data", "show", "mine.yaml", "--quiet")
    assert (code, out, err) == (0, ["picture: mine.png", LAID_OVER], [])
    code, _, _ = answer("data", "show", "mine.cfg", "--data.shift", "0", "--out", "other.png")
    drawn = [(tmp_path / name).read_bytes() for name in ("mine.png", "other.png")]
    assert code == 0
    assert drawn[0] != drawn[1]


def test_a_set_made_from_another_is_drawn_by_its_fields(answer, tmp_path):
    fields = "{kind: perturbed, source: digits, canvas: 12, changes: [affnist_like]}"
    code, out, err = answer("data", "show", fields, "--quiet")
    assert (code, out, err) == (0, ["picture: perturbed.png"], [])
    flags = ("--data.source", "digits", "--data.canvas", "12", "--data.changes", "[affnist_like]")
    assert answer("data", "show", "perturbed", *flags, "--out", "flags.png")[0] == 0
    assert answer("data", "show", fields, "--data.changes", "[]", "--out", "plain.png")[0] == 0
    drawn = [(tmp_path / f"{name}.png").read_bytes() for name in ("perturbed", "flags", "plain")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_no_name_of_a_class_is_lost(answer, tmp_path):
    """A name with letters that the font lacks is a number in the picture; which, the command says."""
    images = np.zeros((40, 8, 8), np.uint8)
    names = np.array(["é猫", "\x1bcat", "dog", "é"])[np.arange(40) % 4]
    np.savez("mine.npz", images=images, labels=names)
    code, out, _ = answer("data", "show", "mine.npz")
    assert (code, out) == (0, ["picture: mine.png", "3 stands for é猫, which the font lacks"])


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("data", ["got nothing, expected what to do: list, fetch, verify, show"]),
        ("data lst", ["invalid choice: 'lst'", "did you mean 'list'?"]),
        ("data list --data.path x", ["--data.path: unknown flag"]),
        ("data fetch digits --seed 3", ["--seed: got it beside digits"]),
        ("data verify svhn --data.extra true", ["capsjax data fetch svhn --data.extra true"]),
        ("data fetch usp", ["got 'usp', expected one of", "did you mean 'usps'?"]),
        ("data verify mnst", ["did you mean 'mnist'?"]),
        ("data show mnst", ["did you mean 'mnist'?"]),
        (
            "data show mltimnist",
            ["a configuration or one of affnist", "did you mean 'multimnist'?"],
        ),
        (
            "data verify perturbed",
            ["which is made of another set", "nobody published, expected one of"],
        ),
        ("data show digits --colour true", ["--colour: unknown flag", "--quiet, --split"]),
        ("data show eth80 --colour true", ["did you mean '--data.colour'?"]),
        ("data fetch usps", ["usps.bz2: no mirror gave it"]),
        ("data show mine.npz", ["got 'mine.npz', no such file or folder", ".npz, .npy, .mat"]),
        ("data show mine.yaml", ["mine.yaml: got no such file, expected a path to a YAML file"]),
        (
            "data show mnist --data {kind:overlapping}",
            ["--data: got it beside mnist", "; other data stand in place of mnist"],
        ),
        ("data show {}", ["data: got {}, expected its kind among the fields, as in {kind: usps}"]),
        ("data show {kind", ["{kind, line 1", "expected plain YAML"]),
        ("data show digits --split tst", ["--split: got 'tst'", "did you mean 'test'?"]),
        ("data show digits --out x.jpg", ["--out: got 'x.jpg', expected a name that ends in .png"]),
        ("data show digits --seed 3", ["--seed: got it beside digits"]),
        ("data show usps", ["usps.bz2: is missing", "unset CAPSJAX_DATA to have it downloaded"]),
    ],
)
def test_mistakes_are_answered_in_words(argv, parts, answer, tmp_path, monkeypatch):
    nowhere = dataclasses.replace(Usps.published(), mirrors=[])
    monkeypatch.setattr(Usps, "published", classmethod(lambda cls: nowhere))
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    code, out, err = answer(*argv.split())
    assert (code, out) == (2, [])
    for part in parts:
        assert part in "\n".join(err)
    if "digits --colour" in argv:  # which has no field that a flag could set
        assert "--data." not in "\n".join(err)
    assert list(tmp_path.iterdir()) == []


def test_a_row_of_the_grid_is_a_class(tmp_path):
    """Classes of one grey each: what is drawn in a row is that grey, channels beside each other."""
    labels = np.repeat(np.arange(3), 4)
    images = np.zeros((12, 32, 32, 2), np.uint8)
    images[..., 0], images[..., 1] = (60 * labels[:, None, None] + 30 for _ in range(2))
    images[..., 1] += 20
    split = Split(images, labels)
    dataset = Dataset("greys", split, None, split, 3, 1 / 255, class_names=("a", "b", "c"))
    figure = examples_figure(dataset)
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape == (3 * 34 - 2, 10 * 66 - 2, 3)
    for row in range(3):
        middle = np.asarray(canvas[34 * row + 16])
        for place, grey in (
            (16, 30),
            (48, 50),
            (66 * 3 + 16, 30),
        ):  # left, right, and the fourth of them
            np.testing.assert_allclose(middle[place], (60 * row + grey) / 255, atol=1e-6)
        assert middle[66 * 4 + 16].tolist() == [1, 1, 1]  # there is no fifth
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    with pytest.raises(UserError, match="split: got 'validation', expected one of train, test"):
        examples_figure(dataset, "validation")
    assert save(figure, tmp_path / "x.png").stat().st_size > 1000


def test_files_of_a_set_may_come_in_other_forms(tmp_path, monkeypatch, server):
    """A file that is known by its own bytes is fetched under its own name."""
    body = b"bytes of any kind"
    file = KnownArchive("usps.bz2", len(body), hashlib.sha256(body).hexdigest())
    ours = dataclasses.replace(
        Usps.published(), files={"train": file}, mirrors=[f"{server.address}/"]
    )
    monkeypatch.setattr(Usps, "published", classmethod(lambda cls: ours))
    server.pages["/usps.bz2"] = (200, body, len(body))
    assert Usps().fetch() == [tmp_path / "sets" / "usps" / "usps.bz2"]
    assert Usps().verify() == [(str(tmp_path / "sets" / "usps" / "usps.bz2"), file)]


def test_overlapping_images_are_drawn_as_they_are():
    pairs = Overlapping(canvas=12, shift=0).load()
    # Two digits over each other leave less black than one, and more than none over the other would.
    one, two = (
        float(np.mean(np.asarray(examples_figure(dataset).axes[0].images[0].get_array()) != 0))
        for dataset in (pairs.map_splits(lambda split: split, overlap=None), pairs)
    )
    assert one + 0.03 < two < 2 * one
    assert (
        examples_figure(pairs).axes[0].get_xlabel() == LAID_OVER
    )  # the picture says what a row is
