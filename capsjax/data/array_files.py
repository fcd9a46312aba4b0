"""Arrays from files: .npz and .npy of NumPy, .mat of MATLAB; nothing in them is ever run."""

import importlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capsjax import files
from capsjax.checks import UserError
from capsjax.data.mat import is_version_4, missing_bytes
from capsjax.data.npz import USUAL, Pair, read_npz, suggest_keys

ARRAYS = (".npz", ".npy", ".mat")  # suffixes
LARGEST = 1 << 36
HDF5 = b"\x89HDF\r\n\x1a\n"
MAT = "a file of MATLAB, with arrays of images and labels"


def read_arrays(path: str, keys: tuple[str, str] | None, labels_path: str | None) -> Any:
    """Read images and labels from a file, by its suffix.

    Args:
        path: a file .npz, .npy or .mat.
        keys: what the arrays of images and of labels are called in it; None for what they usually are.
        labels_path: a file .npy of labels, for one of images.

    Returns:
        What `Arrays.build` takes.

    Raises:
        UserError: If there is no such file, it is broken, or it holds other arrays.
    """
    place = Path(path).expanduser()
    suffix = place.suffix.lower()
    if suffix == ".npy":
        if labels_path is None:
            raise UserError(
                f"data.labels_path: got none, expected a file of labels (.npy) beside {path}, which holds a "
                "single array",
                argument="data.labels_path",
            )
        if keys is not None:
            raise UserError(
                f"data.keys: got {list(keys)} beside {path}, which holds a single array, expected none: set "
                "data.keys to null",
                argument="data.keys",
            )
        return _read_npy(place), _read_npy(Path(labels_path).expanduser())
    if labels_path is not None:
        raise UserError(
            f"data.labels_path: got {labels_path!r} beside {path}, which holds labels itself, expected it "
            "beside a single array (.npy) alone: set data.labels_path to null; what the arrays in the file "
            "are called, data.keys says",
            argument="data.labels_path",
        )
    if suffix == ".mat":
        return _read_mat(place, keys)
    return read_npz(path, keys)


def images_of(path: Path, keys: tuple[str, str] | None) -> np.ndarray:
    """Read images alone from a file, by its suffix.

    Args:
        path: a file .npz, .npy or .mat, the latter with labels beside them.
        keys: what the arrays of images and of labels are called in it; None for what they usually are.

    Returns:
        The array.

    Raises:
        UserError: If it is broken, or does not say which array is that of images.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_npy(path)
    if suffix == ".mat":
        return _read_mat(path, keys)[0]
    expected = "arrays that np.savez wrote"
    with files.open_plain(path, LARGEST, expected) as stream:
        try:
            held = np.load(stream, allow_pickle=False)
            usual = [keys[0]] if keys else [images for images, _ in USUAL]
            named = [name for name in usual if name in held.files] or held.files
            if len({*named}) != 1 and named == held.files:
                raise UserError(
                    f"{path}: got arrays {', '.join(held.files) or 'of no name'}, expected images, or a "
                    "single array"
                )
            return held[named[0]]
        except UserError:
            raise
        except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise _broken(path, error, expected) from error


def _read_npy(path: Path) -> np.ndarray:
    expected = "an array that np.save wrote"
    with files.open_plain(path, LARGEST, expected) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise _broken(path, error, expected) from error


def _read_mat(path: Path, keys: tuple[str, str] | None) -> Pair:
    """Read two arrays of MATLAB, and no others: of version 7.3, which is HDF5, or before."""
    with files.open_plain(path, LARGEST, MAT) as stream:
        head = stream.read(520)
    if HDF5 in (head[:8], head[512:520]):
        return _read_hdf5(path, keys)
    if is_version_4(head):
        raise UserError(
            f"{path}: got a file of MATLAB, version 4, expected one of version 5 or later, with arrays of "
            "images and labels; save them in MATLAB with save(FILE, 'images', 'labels', '-v7')"
        )
    if not head.startswith(b"MATLAB"):
        got = "a web page, not data" if files.is_web_page(head) else "a file of another kind"
        raise UserError(f"{path}: got {got}, expected {MAT}")
    import scipy.io

    try:
        shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
        images, labels = _chosen(path, shapes, keys)
        found = scipy.io.loadmat(path, variable_names=(images, labels))
        return np.asarray(found[images]), np.asarray(found[labels])
    except Exception as error:  # scipy's readers raise whatever they meet, or pass over what is cut
        if missing := missing_bytes(path):
            there = path.stat().st_size
            raise UserError(
                f"{path}: got a truncated file, {there} bytes of {there + missing} or more, expected {MAT}; "
                "copy it again"
            ) from error
        raise error if isinstance(error, UserError) else _broken(path, error, MAT) from error


def _read_hdf5(path: Path, keys: tuple[str, str] | None) -> Pair:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise UserError(
            f"{path}: got a file of MATLAB 7.3, which h5py reads, expected that to be installed: pip install "
            "'capsjax[hdf5]'; or save it in MATLAB with -v7"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            # MATLAB counts the first axis fastest, HDF5 the last: axes come reversed.
            shapes = {name: file[name].shape[::-1] for name in file if hasattr(file[name], "shape")}
            images, labels = _chosen(path, shapes, keys)
            return np.asarray(file[images]).T, np.asarray(file[labels]).T
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise _broken(path, error, MAT) from error


def _chosen(
    path: Path, shapes: Mapping[str, Sequence[int]], keys: tuple[str, str] | None
) -> tuple[str, str]:
    """Return what the arrays of images and labels are called among those of a file."""
    chosen = keys or next((pair for pair in USUAL if set(pair) <= set(shapes)), None)
    if chosen is None or not set(chosen) <= set(shapes):
        arrays = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
        wanted = " and ".join(chosen) if chosen else "images and labels, or X and y"
        error = UserError(f"{path}: got arrays {arrays or 'of no name'}, expected {wanted}")
        raise suggest_keys(error, shapes, keys=keys or ())
    return chosen


def _broken(path: Path, error: Exception, expected: str) -> UserError:
    with path.open("rb") as stream:
        if files.is_web_page(stream.read(256)):
            return UserError(f"{path}: got a web page, not data, expected {expected}")
    # What NumPy says of a file of objects advises to read them, and so to run what is in it.
    said = (
        "Python objects, which could run code"
        if "pickle" in str(error)
        else f"a broken file ({error})"
    )
    return UserError(f"{path}: got {said}, expected {expected}")
