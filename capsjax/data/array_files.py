"""Arrays from files: .npz and .npy of NumPy, .mat of MATLAB; nothing in them is ever run."""

import importlib
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capsjax import files
from capsjax.checks import UserError
from capsjax.data.mat import is_version_4, missing_bytes
from capsjax.data.npz import USUAL, read_npz, suggest_keys

ARRAYS = (".npz", ".npy", ".mat")  # suffixes
LARGEST = 1 << 36
HDF5 = b"\x89HDF\r\n\x1a\n"
MAT = "a file of MATLAB, with arrays of images and labels"
Shapes = Mapping[str, Sequence[int]]
# From the shapes of a file's arrays to the names of those that are read.
Choice = Callable[[Shapes], Sequence[str]]


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
        images, labels = _read_mat(place, lambda shapes: _chosen(place, shapes, keys))
        return images, labels
    return read_npz(path, keys)


def images_of(path: Path, keys: tuple[str, str] | None) -> np.ndarray:
    """Read images alone from a file, by its suffix.

    Args:
        path: a file .npz, .npy or .mat, with or without labels beside them.
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
        return _read_mat(path, lambda shapes: [_alone(path, shapes, keys)])[0]
    expected = "arrays that np.savez wrote"
    with files.open_plain(path, LARGEST, expected) as stream:
        try:
            held = np.load(stream, allow_pickle=False)
            return held[_alone(path, held.files, keys)]
        except UserError:
            raise
        except (OSError, EOFError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise _broken(path, error, expected) from error


def _alone(path: Path, names: Collection[str], keys: tuple[str, str] | None) -> str:
    """Return what the array of images is called in a file that needs no labels."""
    usual = [keys[0]] if keys else [images for images, _ in USUAL]
    named = [name for name in usual if name in names]
    if not named and len(names) != 1:
        got = f"{path}: got arrays {', '.join(names) or 'of no name'}, expected"
        raise UserError(f"{got} images, or a single array")
    return (named or [*names])[0]


def _read_npy(path: Path) -> np.ndarray:
    expected = "an array that np.save wrote"
    with files.open_plain(path, LARGEST, expected) as stream:
        try:
            return np.lib.format.read_array(stream, allow_pickle=False)
        except (OSError, EOFError, ValueError) as error:
            raise _broken(path, error, expected) from error


def _read_mat(path: Path, choose: Choice) -> list[np.ndarray]:
    """Read some arrays of MATLAB, and no others: of version 7.3, which is HDF5, or before."""
    with files.open_plain(path, LARGEST, MAT) as stream:
        head = stream.read(520)
    if HDF5 in (head[:8], head[512:520]):
        return _read_hdf5(path, choose)
    if is_version_4(head):
        raise UserError(
            f"{path}: got a file of MATLAB, version 4, expected one of version 5 or later, with arrays of "
            "images and labels; in MATLAB, load(FILE) and save(FILE, '-v7')"
        )
    if not head.startswith(b"MATLAB"):
        got = "a web page, not data" if files.is_web_page(head) else "a file of another kind"
        raise UserError(f"{path}: got {got}, expected {MAT}")
    import scipy.io

    try:
        names = choose({name: shape for name, shape, _ in scipy.io.whosmat(path)})
        found = scipy.io.loadmat(path, variable_names=tuple(names))
        return [np.asarray(found[name]) for name in names]
    except Exception as error:  # scipy's readers raise whatever they meet, or pass over what is cut
        if missing := missing_bytes(path):
            there = path.stat().st_size
            raise UserError(
                f"{path}: got a truncated file, {there} bytes of {there + missing} or more, expected {MAT}; "
                "copy it again"
            ) from error
        if isinstance(error, UserError):
            raise
        raise _broken(path, error, MAT) from error


def _read_hdf5(path: Path, choose: Choice) -> list[np.ndarray]:
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
            return [np.asarray(file[name]).T for name in choose(shapes)]
    except UserError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise _broken(path, error, MAT) from error


def _chosen(path: Path, shapes: Shapes, keys: tuple[str, str] | None) -> tuple[str, str]:
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
