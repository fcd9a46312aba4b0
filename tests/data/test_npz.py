"""Arrays from a file: what np.savez writes, and nothing that could run code."""

import io
import json
import shlex
import zipfile

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import Arrays, read_npz
from capsjax.data.npz import read_members
from capsjax.schema.text import read_value

IMAGES = np.arange(20 * 6, dtype=np.uint8).reshape(20, 3, 2)
LABELS = np.arange(20) % 4
SPLITS = {
    "train_images": IMAGES,
    "train_labels": LABELS,
    "test_images": IMAGES[:8],
    "test_labels": LABELS[:8],
}


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "x.npz", **arrays)
        return tmp_path / "x.npz"

    return write


@pytest.mark.parametrize("compressed", [False, True])
def test_a_pair_is_the_pair_that_was_saved(tmp_path, compressed):
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "x.npz", labels=LABELS, images=IMAGES
    )
    found = Arrays(path=str(tmp_path / "x.npz"), seed=3).load()
    assert found.fingerprint() == Arrays(seed=3).build((IMAGES, LABELS)).fingerprint()


def test_named_splits_are_as_they_were_saved(save):
    expected = {"train": (IMAGES, LABELS), "test": (IMAGES[:8], LABELS[:8])}
    for more in ({}, {"validation": (IMAGES[4:], LABELS[4:])}):
        names = {f"{key}_images": pair[0] for key, pair in more.items()}
        names |= {f"{key}_labels": pair[1] for key, pair in more.items()}
        path = save(**SPLITS, **names)
        found = Arrays(path=str(path)).load()
        assert found.fingerprint() == Arrays().build(expected | more).fingerprint()


def test_a_mapping_may_name_its_arrays_as_a_file_does(save):
    """What np.load gives of a file of splits is taken in its place."""
    expected = Arrays(path=str(save(**SPLITS))).load().fingerprint()
    assert Arrays().build(SPLITS).fingerprint() == expected
    with np.load(save(**SPLITS)) as file:
        assert Arrays().build(file).fingerprint() == expected
    with pytest.raises(UserError, match="data: got no array 'test_labels'"):
        Arrays().build({name: SPLITS[name] for name in list(SPLITS)[:3]})


OBJECTS = np.array([[1], [1, 2]], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "got no array 'labels', expected a file that np.savez wrote"),
        ({"images": IMAGES, "lables": LABELS}, "got an array 'lables', .*did you mean 'labels'"),
        ({"arr_0": IMAGES, "arr_1": LABELS}, "got an array 'arr_0', expected .* with images and"),
        ({"images": IMAGES, **SPLITS}, "got an array 'images', .*did you mean '[a-z]+_images'"),
        (dict(list(SPLITS.items())[:2]), "got no array 'test_images'"),
        ({**SPLITS, "validation_images": IMAGES}, "got no array 'validation_labels'"),
        ({}, "got no array 'images'"),
        (
            {"images": IMAGES, "labels": LABELS.astype(object)},
            r"got Python objects in 'labels', expected numbers or names; .*np.asarray\(labels.tolist\(\)\)",
        ),
        ({"images": OBJECTS, "labels": LABELS}, "got Python objects in 'images'"),
        ({"images": IMAGES[:, 0], "labels": LABELS}, r"x.npz: data: images: got shape \[20, 2\]"),
    ],
)
def test_other_arrays_are_named(save, arrays, message):
    with pytest.raises(UserError, match=message):
        Arrays(path=str(save(**arrays))).load()


@pytest.mark.parametrize("labels", [LABELS, np.array(["ant", "bee", "cat", "dog"])[LABELS]])
def test_the_remedy_for_objects_brings_the_same_numbers_and_names(save, labels):
    with pytest.raises(UserError, match="got Python objects in 'labels'") as caught:
        read_npz(save(images=IMAGES, labels=labels.astype(object)))
    code = str(caught.value).rsplit(": ", 1)[1]
    fixed = eval(code, {"np": np, "labels": labels.astype(object)})
    images = np.asarray(np.array([*IMAGES, None], object)[:-1].tolist(), np.uint8)
    found = read_npz(save(images=images, labels=fixed))
    np.testing.assert_array_equal(found[0], IMAGES)
    np.testing.assert_array_equal(found[1], labels)
    assert found[1].dtype == labels.dtype


@pytest.mark.parametrize(
    ("arrays", "keys", "advised"),
    [
        ({"X": IMAGES, "Y": LABELS}, None, ("X", "Y")),
        ({"X": IMAGES, "Y": LABELS}, ("X", "Z"), ("X", "Y")),
        ({"Y": LABELS, "X": IMAGES}, ("a", "Y"), ("X", "Y")),
        ({"one hot": np.eye(4)[LABELS], "null": IMAGES}, None, ("null", "one hot")),
        ({"a": np.zeros(7), "b": IMAGES, "c": np.zeros((20, 4)), "d": LABELS}, None, ("b", "d")),
        ({"images": IMAGES, "labels": LABELS, "ids": LABELS}, None, ("images", "labels")),
        (
            {"images": IMAGES, "more": np.zeros((20, 9, 9)), "y": LABELS},
            ("images", "l"),
            ("images", "y"),
        ),
        ({"images": IMAGES, "lables": LABELS}, None, ("images", "lables")),
        ({"a": IMAGES}, None, None),
        ({**SPLITS, "more": LABELS}, None, None),  # of splits, two names would leave one out
        ({f"{what}_{of}": LABELS for of in ("train", "test") for what in "xy"}, None, None),
        ({"X": IMAGES, "Y": LABELS, "X_val": IMAGES, "Y_val": LABELS}, None, None),
    ],
)
def test_the_names_that_are_advised_are_those_of_the_file(save, arrays, keys, advised):
    path = save(**arrays)
    with pytest.raises(UserError) as caught:
        read_npz(path, keys)
    words = shlex.split(caught.value.on_command_line)
    found = words[words.index("--data.keys") + 1] if "--data.keys" in words else "null"
    assert read_value(found, "keys") == (advised and list(advised))
    assert ("data.keys" in str(caught.value)) == (advised is not None)
    if advised:
        np.testing.assert_array_equal(read_npz(path, advised)[0], arrays[advised[0]])


class Harm:
    """Stand for what runs when it is read."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


def test_what_is_no_such_file_is_refused_and_nothing_in_it_runs(tmp_path, save):
    path = tmp_path / "x.npz"
    with pytest.raises(UserError, match=r"data.path: got '.*x.npz', no such file, expected a file"):
        read_npz(path)
    with pytest.raises(UserError, match=r"data.path: got '.*', a directory, expected a file"):
        read_npz(tmp_path)
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(
        UserError, match=r"got a file of another kind, expected a file that np\.savez"
    ):
        read_npz(path)
    np.save(path.with_suffix(".npy"), IMAGES)
    with pytest.raises(UserError, match=r"got a single array, expected a file that np\.savez"):
        read_npz(path.with_suffix(".npy"))
    whole = save(images=IMAGES, labels=LABELS).read_bytes()
    for broken in (b"", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="got a broken file"):
            read_npz(path)
    flipped = bytearray(whole)
    flipped[150] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(UserError, match="got a broken file"):
        read_npz(path)
    harm = np.array([Harm()], dtype=object)
    with pytest.raises(UserError, match="got Python objects in 'images'"):
        read_npz(save(images=harm, labels=LABELS))


def packed(**arrays):
    """The bytes of a file that np.savez wrote."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def lying(shape):
    """The bytes of a file whose one array x has six bytes, and a header that tells of others."""
    stream, array = io.BytesIO(), io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", array.getvalue() + bytes(6))
    return stream.getvalue()


def test_members_are_read_by_name_type_and_axes():
    asked = {"x": ("uint8", 2), "n": ("<U", 1), "f": ("float32", 2)}
    columns = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    found = read_members(packed(x=IMAGES[0], n=np.array(["a", "bc"]), f=columns), "x.npz", asked)
    assert (found["x"] == IMAGES[0]).all()
    assert found["n"].tolist() == ["a", "bc"]
    assert (found["f"] == columns).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (packed(x=IMAGES), r"x.npz: x: got uint8 of shape \[20, 3, 2\], expected uint8 of 2 axes"),
        (packed(x=LABELS), "got int64"),
        (packed(x=OBJECTS), "got Python objects of shape"),
        (packed(y=IMAGES), "got no array 'x', expected one"),
        (
            lying((1 << 20, 1 << 20)),
            r"x: got 6 bytes, expected 1099511627776 for shape \[1048576, 1",
        ),
        (lying((2, 2)), "x: got 6 bytes, expected 4"),
        (packed(x=IMAGES[0])[:-30], "got a broken file"),
        (b"<html>", "got a broken file"),
        (b"", "got a broken file"),
    ],
)
def test_members_that_are_not_what_they_should_be_are_refused(content, said):
    with pytest.raises(UserError, match=said):
        read_members(content, "x.npz", {"x": ("uint8", 2)})
