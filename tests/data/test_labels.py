"""Labels and pixels as people have them, from Python and from files."""

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.data import Arrays, Digits
from capsjax.data.array_files import images_of
from capsjax.progress import Silent
from capsjax.runs.sources import check_data, with_data

IMAGES = np.random.RandomState(0).randint(0, 256, (20, 4, 3, 2), np.uint8)
NUMBERS = np.arange(20) % 4


def labels_of(dataset):
    """Class numbers by the first pixels of an image, whatever its split."""
    splits = dataset.splits().values()
    return {i.tobytes(): int(n) for s in splits for i, n in zip(s.images, s.labels, strict=True)}


EXPECTED = labels_of(Arrays().build((IMAGES, NUMBERS)))
NAMES = np.array(["ant", "bee", "cat", "dog"])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (NAMES[NUMBERS], tuple(NAMES)),
        (NAMES[NUMBERS].astype(object), tuple(NAMES)),
        (NAMES[NUMBERS].astype("S"), tuple(NAMES)),
        (NAMES[NUMBERS].tolist(), tuple(NAMES)),
        (NUMBERS + 1, (1, 2, 3, 4)),
        (NUMBERS[:, None] + 1, (1, 2, 3, 4)),
        (NUMBERS[None, :], ()),
        (np.eye(4)[NUMBERS], ()),
        (np.eye(4, dtype=bool)[NUMBERS], ()),
        (NUMBERS.astype(np.uint8), ()),
        (NUMBERS.astype(float), ()),  # MATLAB keeps all numbers so
        (NUMBERS[:, None] + 1.0, (1, 2, 3, 4)),
        (NUMBERS.astype(np.float16), ()),
    ],
)
def test_labels_that_say_plainly_what_they_mean(labels, names):
    dataset = Arrays().build((IMAGES, labels))
    assert labels_of(dataset) == EXPECTED
    assert dataset.class_names == names
    assert dataset.num_classes == 4


@pytest.mark.parametrize(
    "value", [np.float16(2048), np.float32(2**24), 2.0**31, np.uint64(2**64 - 1)]
)
def test_numbers_that_may_have_run_together_are_no_classes(value):
    labels = np.array([*NUMBERS[1:], value], value.dtype if hasattr(value, "dtype") else float)
    with pytest.raises(UserError, match=f"float|{2**64 - 1}"):
        Arrays().build((IMAGES, labels))


def test_names_have_one_number_in_all_splits():
    given = {
        "train": (IMAGES[:12], NAMES[NUMBERS[:12]]),
        "test": (IMAGES[14:15], NAMES[NUMBERS[14:15]]),
    }
    dataset = Arrays().build(given)
    assert dataset.test.labels.tolist() == [2]
    assert dataset.class_names == tuple(NAMES)
    with pytest.raises(UserError, match=r"data\.num_classes: got 5 for labels of 4 names"):
        Arrays(num_classes=5).build(given)


@pytest.mark.parametrize("missing", [0, 2])
def test_numbers_with_a_gap_are_not_renumbered_in_silence(missing):
    keep = missing != NUMBERS
    labels = NUMBERS[keep] + (2 if missing == 0 else 1)
    dataset = Arrays().build((IMAGES[keep], labels))
    assert dataset.class_names == ()
    with pytest.raises(UserError, match="no example of 0"):
        check_data(cj.load_config("smoke", {"data": "arrays"}), dataset, (IMAGES, labels), Silent())


@pytest.mark.parametrize("axes", ["nhwc", "nchw", "hwcn", "wchn"])
def test_axes_are_as_they_are_said_to_be(axes):
    images = np.transpose(IMAGES, ["nhwc".index(letter) for letter in axes])
    assert labels_of(Arrays(axes=axes).build((images, NUMBERS))) == EXPECTED


def test_grey_images_and_rows_have_axes_too():
    grey = Arrays(axes="hwn").build((np.moveaxis(IMAGES[..., 0], 0, -1), NUMBERS))
    assert labels_of(grey) == labels_of(Arrays().build((IMAGES[..., 0], NUMBERS)))
    rows = IMAGES.reshape(20, -1)
    assert Arrays(axes="nf").build((rows, NUMBERS)).image_shape == (1, 24, 1)
    with pytest.raises(UserError, match=r"data\.axes: got 'nf' for images \[20, 4, 3, 2\]"):
        Arrays(axes="nf").build((IMAGES, NUMBERS))
    with pytest.raises(FieldError, match="the letters n, h, w and c"):
        Arrays(axes="nhx")
    with pytest.raises(UserError, match=r"the examples come last: say data\.axes hwcn"):
        Arrays().build((np.moveaxis(IMAGES, 0, -1), NUMBERS))


@pytest.mark.parametrize(
    ("images", "ends"),
    [
        (IMAGES.astype(np.uint16) * 257, None),
        (IMAGES.astype(np.int16) * 16 - 100, (-100, 3980)),
        (IMAGES / 127.5 - 1, (-1, 1)),
        (IMAGES.astype(np.float64), (0, 255)),
    ],
)
def test_pixels_of_other_units_become_0_to_1(images, ends):
    dataset = Arrays(range=ends).build((images, NUMBERS))
    expected = Arrays().build((IMAGES, NUMBERS))
    np.testing.assert_allclose(
        dataset.train.images, expected.train.images / np.float32(255), atol=1e-6
    )
    # Of later ones a run says the same, in the unit that it was trained on.
    np.testing.assert_allclose(dataset.rescaling.checked(images), IMAGES / 255.0, atol=1e-6)
    np.testing.assert_allclose(
        dataset.rescaling.inverse(dataset.rescaling(images)), images, atol=0.01
    )


def test_pixels_beyond_the_range_are_refused():
    with pytest.raises(UserError, match=r"data\.range: got \[0, 100\] for pixels from 0 to 255"):
        Arrays(range=(0, 100)).build((IMAGES, NUMBERS))
    dataset = Arrays(range=(0, 255)).build((IMAGES, NUMBERS))
    with pytest.raises(UserError, match=r"expected values from 0, black in what.*to 255, white"):
        dataset.rescaling.checked(IMAGES * 2.0)


def test_standardised_data_want_a_decoder_without_a_sigmoid(tmp_path):
    images = np.random.RandomState(0).randn(40, 8, 8).astype(np.float32)
    labels = np.arange(40) % 10
    short = {"data.kind": "arrays", "data.range": "any", "training.batch_size": 8}
    short |= {"training.epochs": None, "training.steps": 1}
    with pytest.raises(UserError, match=r"model\.decoder: got one that ends in a sigmoid"):
        cj.train(cj.load_config("smoke", short), (images, labels))
    contrast = short | {"model.decoder.output": "linear", "augment": ["contrast"]}
    with pytest.raises(UserError, match="augment: got contrast for data that are not from 0 to 1"):
        cj.train(cj.load_config("smoke", contrast), (images, labels))
    config = cj.load_config("smoke", short | {"model.decoder.output": "linear"})
    run = cj.train(config, (images, labels), out=tmp_path / "run")
    drawn = run.outputs(images[:3]).reconstruction
    assert (drawn < 0).any()  # which no sigmoid draws
    assert cj.load(run.folder).predict(images).tolist() == run.predict(images).tolist()
    assert cj.evaluate(run, (images, labels))["error"] == run.test["error"]
    assert cj.report(run, (images, labels)).exists()


def test_what_cannot_be_an_array_is_named():
    class Elsewhere:
        def __array__(self, dtype=None, copy=None):
            raise TypeError("it is on a device")

    with pytest.raises(UserError, match="got Elsewhere, which does not give its numbers"):
        Arrays().build((Elsewhere(), NUMBERS))


def write_mat(path):
    scipy.io.savemat(path, {"X": np.moveaxis(IMAGES, 0, -1), "y": NUMBERS[:, None] + 1})


def test_files_of_matlab(tmp_path):
    write_mat(tmp_path / "x.mat")
    dataset = Arrays(path=str(tmp_path / "x.mat"), axes="hwcn").load()
    assert labels_of(dataset) == EXPECTED
    assert dataset.class_names == (1, 2, 3, 4)
    scipy.io.savemat(tmp_path / "y.mat", {"pixels": IMAGES, "kinds": NAMES[NUMBERS].astype(object)})
    with pytest.raises(UserError, match=r"got arrays .*pixels.*data\.keys \[pixels, kinds\]"):
        Arrays(path=str(tmp_path / "y.mat")).load()
    dataset = Arrays(path=str(tmp_path / "y.mat"), keys=("pixels", "kinds")).load()
    assert labels_of(dataset) == EXPECTED
    assert dataset.class_names == tuple(NAMES)


def test_a_file_of_matlab_needs_no_labels_where_nothing_is_learned(tmp_path):
    path = tmp_path / "x.mat"
    for arrays in ({"images": IMAGES, "more": NUMBERS}, {"anything": IMAGES}):
        scipy.io.savemat(path, arrays)
        np.testing.assert_array_equal(images_of(path, None), IMAGES)
    scipy.io.savemat(path, {"a": IMAGES, "b": IMAGES})
    with pytest.raises(UserError, match=r"got arrays a, b, expected images, or a single array$"):
        images_of(path, None)
    np.testing.assert_array_equal(images_of(path, ("b", "label")), IMAGES)


def test_a_file_of_matlab_of_version_4_is_saved_anew(tmp_path):
    path = tmp_path / "x.mat"
    arrays = {"images": IMAGES.reshape(20, -1), "labels": NUMBERS[:, None] + 1}
    for kind in (np.uint8, float):
        scipy.io.savemat(path, {**arrays, "images": arrays["images"].astype(kind)}, format="4")
        with pytest.raises(UserError, match=r"MATLAB, version 4, .*save\(FILE, .*'-v7'\)"):
            Arrays(path=str(path), axes="nf").load()
    scipy.io.savemat(path, arrays)  # in version 5, as MATLAB does by -v7
    assert Arrays(path=str(path), axes="nf").load().image_shape == (1, 24, 1)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_truncated_file_of_matlab_is_called_that(tmp_path, compressed):
    path = tmp_path / "x.mat"
    arrays = {"images": np.moveaxis(IMAGES, 0, -1), "labels": NUMBERS, "more": IMAGES}
    scipy.io.savemat(path, arrays, do_compression=compressed)
    whole = path.read_bytes()
    for part in (300, 600):
        path.write_bytes(whole[:part])  # scipy says nothing of arrays that are not there
        with pytest.raises(
            UserError, match=f"got a truncated file, {part} bytes of .* copy it again"
        ):
            Arrays(path=str(path), axes="hwcn").load()
    path.write_bytes(whole)
    assert labels_of(Arrays(path=str(path), axes="hwcn").load()) == EXPECTED
    with pytest.raises(UserError, match="got arrays"):
        Arrays(path=str(path), keys=("images", "kinds")).load()


@pytest.mark.parametrize("name", ["x.npz", "x.mat", "x.npy"])
def test_a_web_page_under_the_name_of_arrays_is_called_that(name, tmp_path):
    (tmp_path / name).write_text("\n<!DOCTYPE html><html>404", "utf-8")
    with pytest.raises(UserError, match=f"{name}: got a web page, not data, expected "):
        Arrays(path=str(tmp_path / name), labels_path="y.npy" if name == "x.npy" else None).load()
    with pytest.raises(UserError, match=f"{name}: got a web page, not data, expected "):
        images_of(tmp_path / name, None)


def test_single_arrays_have_their_labels_beside_them(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", NUMBERS)
    paths = {"path": str(tmp_path / "x.npy"), "labels_path": str(tmp_path / "y.npy")}
    assert labels_of(Arrays(**paths).load()) == EXPECTED
    with pytest.raises(UserError, match=r"data\.labels_path: got none, expected a file of labels"):
        Arrays(path=paths["path"]).load()
    with pytest.raises(UserError, match=r"data\.keys: got \['x', 'y'\] .* set data\.keys to null"):
        Arrays(**paths, keys=("x", "y")).load()
    assert labels_of(Arrays(**paths, keys=None).load()) == EXPECTED
    with pytest.raises(
        FieldError, match=r"Arrays\.labels_path: got '', expected a path as a string"
    ):
        Arrays(path=paths["path"], labels_path="")


@pytest.mark.parametrize("name", ["x.npz", "x.mat"])
def test_labels_beside_a_file_that_has_its_own_are_refused(name, tmp_path):
    if name == "x.npz":
        np.savez(tmp_path / name, images=IMAGES, labels=NUMBERS)
    else:
        scipy.io.savemat(tmp_path / name, {"images": IMAGES, "labels": NUMBERS})
    np.save(tmp_path / "y.npy", NUMBERS[::-1])
    source = Arrays(path=str(tmp_path / name), labels_path=str(tmp_path / "y.npy"))
    with pytest.raises(
        UserError, match=r"labels_path: got .* set data\.labels_path to null"
    ) as caught:
        source.load()
    assert caught.value.argument == "data.labels_path"
    assert labels_of(dataclasses.replace(source, labels_path=None).load()) == EXPECTED
    # Of arrays from Python neither is asked for.
    config = cj.load_config("smoke", {"data.kind": "arrays", "data.labels_path": "y.npy"})
    assert with_data(config, (IMAGES, NUMBERS))[0].data == Arrays()


def test_mistakes_in_a_file_keep_their_argument(tmp_path):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=NUMBERS)
    with pytest.raises(UserError, match=r"^data\.axes: got 'nf' for images") as caught:
        Arrays(path=str(tmp_path / "x.npz"), axes="nf").load()
    assert caught.value.argument == "data.axes"
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=NUMBERS[1:])
    with pytest.raises(UserError, match=r"^.*x\.npz: data: labels: got 19 labels for 20 images"):
        Arrays(path=str(tmp_path / "x.npz")).load()
    found = UserError("call f()", on_command_line="run f", argument="f").within("x.npz")
    assert (str(found), found.on_command_line) == ("x.npz: call f()", "x.npz: run f")


def test_arrays_of_other_names(tmp_path):
    np.savez(tmp_path / "x.npz", pixels=IMAGES, kinds=NUMBERS)
    path = str(tmp_path / "x.npz")
    assert labels_of(Arrays(path=path, keys=("pixels", "kinds")).load()) == EXPECTED
    with pytest.raises(UserError, match="got arrays pixels, kinds, expected pixels and sorts"):
        Arrays(path=path, keys=("pixels", "sorts")).load()
    with open(path, "wb") as stream:  # a single array, under the name of several
        np.save(stream, IMAGES)
    with pytest.raises(
        UserError, match=r"got a single array, expected a file that np\.savez wrote"
    ):
        Arrays(path=path, keys=("pixels", "kinds")).load()


MAT_73 = b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n"
OBJECTS = np.array([{}, {}], dtype=object)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.mat", b"no", "got a file of another kind, expected a file of MATLAB"),
        ("x.mat", b"MATLAB 5.0 MAT-file".ljust(200), r"got a broken file \("),
        ("x.mat", MAT_73, r"h5py.*pip install 'capsjax\[hdf5\]'; or save it in MATLAB with -v7"),
        ("x.npy", b"no", r"got a broken file \("),
        ("x.npy", OBJECTS, "got Python objects, which could run code"),
        ("x.npz", OBJECTS, "got Python objects in 'pixels', expected numbers"),
        ("x.npz", b"PK\x03\x04 no", r"got a broken file \(.*that np.savez wrote"),
    ],
)
def test_files_that_are_not_what_they_should_be(name, content, message, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)  # as where it is not installed
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif name == "x.npy":
        np.save(tmp_path / name, content, allow_pickle=True)
    else:
        np.savez(tmp_path / name, pixels=content, kinds=content)
    path = str(tmp_path / name)
    beside = {"labels_path": path} if name == "x.npy" else {"keys": ("pixels", "kinds")}
    source = Arrays(path=path, **beside)
    with pytest.raises(UserError, match=message):
        source.load()


class Unread:
    """An array of a file that none asked for."""

    shape = (10**6, 10**6)

    def __array__(self, *args, **kwargs):
        raise AssertionError("read")


def test_axes_of_matlab_7_3_come_reversed_and_other_arrays_are_not_read(tmp_path, monkeypatch):
    class File(dict):
        def __init__(self, path, mode):
            super().__init__(X=IMAGES.T, y=NUMBERS[None] + 1, nested={}, large=Unread())

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=File))
    (tmp_path / "x.mat").write_bytes(MAT_73)
    assert labels_of(Arrays(path=str(tmp_path / "x.mat")).load()) == EXPECTED
    with pytest.raises(UserError, match=r"got arrays X \[20, 4, 3, 2\], y \[20, 1\], large \["):
        Arrays(path=str(tmp_path / "x.mat"), keys=("X", "z")).load()


def test_other_arrays_of_matlab_are_not_read(tmp_path, monkeypatch):
    arrays = {"X": IMAGES, "y": NUMBERS + 1, "large": np.zeros(9)}
    scipy.io.savemat(tmp_path / "x.mat", arrays)
    wanted, load = [], scipy.io.loadmat

    def noted(path, variable_names=None):
        wanted.append(variable_names)
        return load(path, variable_names=variable_names)

    monkeypatch.setattr(scipy.io, "loadmat", noted)
    assert labels_of(Arrays(path=str(tmp_path / "x.mat")).load()) == EXPECTED
    assert wanted == [("X", "y")]


def test_what_ships_has_no_names():
    assert Digits().load().class_names == ()


@pytest.mark.parametrize(("first", "labels"), [(0, [1, 2]), (0, [1, 2, 3]), (1, [1, 3]), (1, [2])])
def test_a_run_is_measured_on_labels_as_they_are_written(first, labels, tmp_path):
    """Labels 1 and 2 are those of a run that counts from 0, and of one that counts from 1."""
    images, numbers = IMAGES_OF_FOUR, np.arange(40) % 4
    short = {"training.batch_size": 8, "training.epochs": None, "training.steps": 1}
    run = cj.train(cj.load_config("smoke", short), (images, numbers + first), out=tmp_path / "run")
    chosen = np.isin(numbers + first, labels)
    data = (images[chosen], numbers[chosen] + first)
    named = {"train": data, "test": data}
    wrong = np.mean(run.predict(data[0]) != data[1])
    assert cj.evaluate(run, named)["error"] == pytest.approx(wrong)
    assert 0 < wrong < 1 or len(labels) == 1


IMAGES_OF_FOUR = np.random.RandomState(3).randint(0, 256, (40, 8, 8), np.uint8)
