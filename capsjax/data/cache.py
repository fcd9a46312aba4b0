"""Arrays that were read before, under a name that says of what: in the user's cache, and never half there."""

import contextlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LARGEST = 8 << 30  # bytes of all that is kept; what was not asked for longest goes first


def folder() -> Path:
    """Return where arrays are kept; all of it may be deleted at any time."""
    import pooch  # for the cache's place alone, which nobody else here needs

    return Path(pooch.os_cache("capsjax")) / "pictures"


def load(key: str) -> tuple[np.ndarray, Any] | None:
    """Load what was saved under a key.

    Args:
        key: the key, in hexadecimal.

    Returns:
        The array, and the plain values beside it; None if there is nothing, or it is damaged.
    """
    path = folder() / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:  # each member has a checksum
            found = file["array"], json.loads(str(file["beside"][()]))
        path.touch()  # it was asked for now
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return found


def save(key: str, array: np.ndarray, beside: Any) -> str | None:
    """Save an array and plain values under a key, all at once.

    Args:
        key: the key, in hexadecimal, which says of what they were made.
        array: numbers.
        beside: what JSON holds.

    Returns:
        Why it could not be saved; None if it was.
    """
    place, temporary = folder(), None
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, suffix=".part", delete=False) as stream:
            temporary = Path(stream.name)
            np.savez(stream, array=array, beside=np.array(json.dumps(beside)))
        os.replace(temporary, place / f"{key}.npz")  # at once: nobody reads half of it
        _tidy(place, place / f"{key}.npz")
    except OSError as error:
        return f"{place}: {error.strerror or error}"
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return None


def _tidy(place: Path, newest: Path) -> None:
    """Delete what was not asked for longest, where there is more than `LARGEST`."""
    sizes: Mapping[Path, os.stat_result] = {path: path.stat() for path in place.glob("*.npz")}
    room = LARGEST
    for path in sorted(sizes, key=lambda path: (path != newest, -sizes[path].st_mtime_ns)):
        room -= sizes[path].st_size
        if room < 0 and path != newest:
            with contextlib.suppress(OSError):
                path.unlink()
