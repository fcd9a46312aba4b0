"""Images and labels from a NumPy file, as `np.savez` writes them."""

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from capsjax.checks import UserError, nearest

Pair = tuple[np.ndarray, np.ndarray]
SPLITS = ("train", "validation", "test")
WHOLE = ("images", "labels")
NAMED = tuple(f"{split}_{what}" for split in SPLITS for what in WHOLE)
EXPECTED = (
    "expected a file that np.savez wrote, with images and labels; or with train_images, train_labels, "
    "test_images, test_labels and, if wanted, validation_images and validation_labels"
)


def read_npz(path: str | Path, keys: tuple[str, str] | None = None) -> Pair | dict[str, Pair]:
    """Read what `Arrays.build` takes from a file; objects, which could run code, are not read.

    Args:
        path: a file that `np.savez` or `np.savez_compressed` wrote, with arrays `images` and `labels`; or
            with `train_images`, `train_labels`, `test_images`, `test_labels` and, if wanted,
            `validation_images` and `validation_labels`.
        keys: what the arrays of images and of labels are called, where they are called something else.

    Returns:
        (images, labels), or a mapping from the names of splits to such pairs.

    Raises:
        UserError: If there is no such file, it is of another kind, or it holds other arrays.
    """
    place = Path(path).expanduser()
    if not place.is_file():
        got = "a directory" if place.is_dir() else "no such file"
        message = f"data.path: got {str(path)!r}, {got}, {EXPECTED}"
        raise UserError(message, argument="data.path")
    try:
        with place.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)  # a pickle could run code
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise UserError(f"{path}: got a single array, {EXPECTED}")
            if keys is not None:
                return _named(str(path), file, keys)
            return _arrays(str(path), file, splits_named(str(path), list(file.files)))
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # What NumPy says of a file of objects advises to read them, and so to run what is in it.
        got = "a file of another kind" if "pickle" in str(error) else f"a broken file ({error})"
        raise UserError(f"{path}: got {got}, {EXPECTED}") from error


def read_members(
    content: bytes, source: str, expected: Mapping[str, tuple[str, int]]
) -> dict[str, np.ndarray]:
    """Read arrays of known names, types and numbers of axes, each looked at before it takes memory.

    Args:
        content: the bytes of a file that `np.savez` or `np.savez_compressed` wrote.
        source: where it is from, for the message.
        expected: the type of each array, such as "uint8" or "<U" for any strings, and how many axes it has.

    Returns:
        The arrays, by name.

    Raises:
        UserError: If the file is broken, an array is missing, of another type or number of axes, or its
            header tells another size than there is.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name, (dtype, ndim) in expected.items():
                member = f"{name}.npy"
                if member not in archive.namelist():
                    raise UserError(f"{source}: got no array {name!r}, expected one")
                arrays[name] = _member(archive, member, f"{source}: {name}", dtype, ndim)
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{source}: got a broken file ({error}), expected arrays of NumPy"
        ) from error
    return arrays


def _member(archive: zipfile.ZipFile, member: str, what: str, dtype: str, ndim: int) -> np.ndarray:
    """Read one array; its header is compared with what is expected, and with the bytes that there are."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise UserError(f"{what}: got version {version} of NumPy's format, expected 1.0 or 2.0")
        shape, by_columns, found = read_header(stream)
        text = f"{found.str[:2]}" if found.kind == "U" else found.name
        if text != dtype or len(shape) != ndim:
            got = f"{'Python objects' if found.hasobject else found.name} of shape {list(shape)}"
            raise UserError(f"{what}: got {got}, expected {dtype} of {ndim} axes")
        # What the header says would be allocated, however little there is.
        told = math.prod(shape) * found.itemsize
        there = archive.getinfo(member).file_size - stream.tell()
        if told != there:
            raise UserError(f"{what}: got {there} bytes, expected {told} for shape {list(shape)}")
        values = np.frombuffer(stream.read(told), found)
        return values.reshape(shape, order="F" if by_columns else "C")


def splits_named(path: str, keys: list[str]) -> list[str]:
    """Check the names of arrays.

    Args:
        path: what the arrays are in, for errors.
        keys: their names.

    Returns:
        The splits that are there; none if it is one pair.

    Raises:
        UserError: If a name is unknown or missing.
    """
    # One name of a split decides: then all are expected to be of splits.
    known = NAMED if any(key in NAMED for key in keys) else WHOLE
    for key in keys:
        if key not in known:
            raise UserError(f"{path}: got an array {key!r}, {EXPECTED}{nearest(key, known)}")
    splits = [split for split in SPLITS if any(key.startswith(f"{split}_") for key in keys)]
    wanted = [f"{split}_{what}" for split in {*splits, "train", "test"} for what in WHOLE]
    for key in sorted(wanted) if known == NAMED else WHOLE:
        if key not in keys:
            raise UserError(f"{path}: got no array {key!r}, {EXPECTED}")
    return splits


def _as_numbers(key: str, splits: list[str]) -> str:
    """Say how an array of objects becomes one of numbers; classes get one number in all splits."""
    if key.endswith("images"):
        return f"np.asarray({key}.tolist(), np.uint8 or np.float32)"
    if not splits:
        return f"np.unique({key}.tolist(), return_inverse=True)[1]"
    names = " + ".join(f"{split}_labels.tolist()" for split in splits)
    return f"np.searchsorted(np.unique({names}), {key}.tolist())"


def _named(path: str, file: np.lib.npyio.NpzFile, keys: tuple[str, str]) -> Pair:
    """Return the two arrays of these names."""
    for key in keys:
        if key not in file.files:
            raise UserError(
                f"{path}: got arrays {', '.join(file.files) or 'of no name'}, expected "
                f"{' and '.join(keys)}; say what they are called: data.keys [X, y]"
            )
    return _array(path, file, keys[0], []), _array(path, file, keys[1], [])


def _array(path: str, file: np.lib.npyio.NpzFile, key: str, splits: list[str]) -> np.ndarray:
    try:
        return file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(
            f"{path}: got Python objects in {key!r}, expected numbers; save an array of one shape and "
            f"type: {_as_numbers(key, splits)}"
        ) from None


def _arrays(path: str, file: np.lib.npyio.NpzFile, splits: list[str]) -> Pair | dict[str, Pair]:
    def array(key: str) -> np.ndarray:
        return _array(path, file, key, splits)

    if not splits:
        return array("images"), array("labels")
    return {split: (array(f"{split}_images"), array(f"{split}_labels")) for split in splits}
