"""Images and labels from a NumPy file, as `np.savez` writes them."""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capsjax import files
from capsjax.checks import UserError, nearest
from capsjax.schema.text import dump

Pair = tuple[np.ndarray, np.ndarray]
SPLITS = ("train", "validation", "test")
WHOLE = ("images", "labels")
OF_SPLIT = re.compile("train|test|(?:^|_)val(?:id|idation)?(?:_|$)")  # in the name of an array
USUAL = (WHOLE, ("X", "y"), ("x", "y"), ("data", "labels"), ("data", "label"))
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
            try:
                splits = splits_named(str(path), list(file.files))
            except UserError as error:
                if {*NAMED} & {*file.files}:  # of splits, which are not named one by one
                    raise
                raise suggest_keys(error, _shapes(place), "; or ") from None
            return _arrays(str(path), file, splits)
    except UserError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # What NumPy says of a file of objects advises to read them, and so to run what is in it.
        got = "a file of another kind" if "pickle" in str(error) else f"a broken file ({error})"
        with place.open("rb") as stream:
            got = "a web page, not data" if files.is_web_page(stream.read(256)) else got
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
        shape, by_columns, found = _header(stream, what)
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


def _header(stream: Any, what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read what an array says of itself: its shape, whether it lies by columns, and its type."""
    version = np.lib.format.read_magic(stream)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read_header is None:
        raise UserError(f"{what}: got version {version} of NumPy's format, expected 1.0 or 2.0")
    return read_header(stream)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every array of a file, of which no more than that is read."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = member.removesuffix(".npy")
            if name != member:
                with archive.open(member) as stream:
                    found[name] = _header(stream, name)[0]
    return found


def suggest_keys(
    error: UserError,
    shapes: Mapping[str, Sequence[int]],
    words: str = "; ",
    keys: Sequence[str] = (),
) -> UserError:
    """Say after a mistake which arrays of a file may be images and labels, by `data.keys`.

    Args:
        error: the mistake.
        shapes: the shape of each array of the file, by name.
        words: what stands between.
        keys: the names that were given; that of the images holds where there is such an array.

    Returns:
        The mistake, as it is where there are not two arrays, or their names are those of splits, of which two
        would leave the others out.
    """
    if len(shapes) < 2 or any(OF_SPLIT.search(name.lower()) for name in shapes):
        return error
    pair = next((pair for pair in USUAL if {*pair} <= {*shapes}), None)
    images, labels = pair or ("", "")
    if pair is None or (keys and keys[0] in shapes):
        size = {name: math.prod(shape) for name, shape in shapes.items()}
        images = keys[0] if keys and keys[0] in shapes else max(size, key=lambda name: size[name])
        others = [name for name in shapes if name != images]
        # Of labels, one-hot or not, there are as many as images: the fewest numbers of those.
        fit = [name for name in others if max(shapes[name], default=0) in shapes[images]]
        labels = min(fit or others, key=lambda name: size[name])
    said = dump([images, labels]).strip()
    return error.or_set(f"{words}say what they are called: ", "data.keys", said)


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


def _as_plain(key: str, role: str) -> str:
    """Say how an array of objects becomes one of numbers, or of the names of classes."""
    if role == "images":
        return f"np.asarray({key}.tolist(), np.uint8 or np.float32)"
    return f"np.asarray({key}.tolist())"


def _named(path: str, file: np.lib.npyio.NpzFile, keys: tuple[str, str]) -> Pair:
    """Return the two arrays of these names."""
    for key in keys:
        if key not in file.files:
            got = f"{path}: got arrays {', '.join(file.files) or 'of no name'}, expected "
            error = UserError(got + " and ".join(keys))
            raise suggest_keys(error, _shapes(Path(path).expanduser()), keys=keys)
    images, labels = (_array(path, file, key, role) for key, role in zip(keys, WHOLE, strict=True))
    return images, labels


def _array(path: str, file: np.lib.npyio.NpzFile, key: str, role: str) -> np.ndarray:
    try:
        return file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UserError(
            f"{path}: got Python objects in {key!r}, expected numbers{' or names' * (role == 'labels')}; "
            f"save an array of one shape and type: {_as_plain(key, role)}"
        ) from None


def _arrays(path: str, file: np.lib.npyio.NpzFile, splits: list[str]) -> Pair | dict[str, Pair]:
    def pair(before: str) -> Pair:
        images, labels = (_array(path, file, f"{before}{role}", role) for role in WHOLE)
        return images, labels

    return {split: pair(f"{split}_") for split in splits} if splits else pair("")
