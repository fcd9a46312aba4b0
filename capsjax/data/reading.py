"""Many pictures to one array: what they are, the size they become, and the cache that keeps them."""

import hashlib
import json
import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from PIL import __version__ as pillow

from capsjax import files
from capsjax.checks import UserError
from capsjax.data import cache
from capsjax.data.download import Report
from capsjax.data.picture import LARGEST_FILE, Fit, Header, Target, read_header, read_picture

FORM = 1  # of what is kept; another number wherever the same pictures give other pixels
LONGEST = 64  # pixels of the longer side, where no size is given: a network of capsules has few

T = TypeVar("T")
S = TypeVar("S")


class Wanted(NamedTuple):
    """Hold what pictures are to become.

    Attributes:
        size: height and width; None for the rule of `target_of`.
        channels: 1, 3 or 4; None for the rule.
        fit: how a picture of other proportions fits.
        keep: whether what was read is kept in the user's cache.
    """

    size: tuple[int, int] | None
    channels: int | None
    fit: Fit
    keep: bool


class Pictures(NamedTuple):
    """Hold pictures that were read.

    Attributes:
        pixels: of those that can be read, uint8, uint16 or float32 [m, h, w, c].
        places: which those are, ascending, [m].
        problems: why another one cannot be read, by its place.
        notes: what was found, in lines.
    """

    pixels: np.ndarray
    places: np.ndarray
    problems: dict[int, str]
    notes: tuple[str, ...]


class _Looked(NamedTuple):
    """Hold a file's SHA-256, and what it says of its picture or why it is none."""

    digest: str
    header: Header | str


def read_pictures(paths: Sequence[Path], wanted: Wanted, report: Report | None = None) -> Pictures:
    """Read pictures, each once: the same bytes are found in the cache, whatever their files are called.

    Args:
        paths: the files.
        wanted: what they are to become.
        report: receives (what, files done, files in all).

    Returns:
        Those that can be read, and why the others cannot.

    Raises:
        UserError: If none can be read, or a file changes meanwhile.
    """
    with warnings.catch_warnings():
        # Of too many pixels, or of what Pillow thinks of a file that it reads all the same.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        looked = list(_counted("looking at pictures", _each(_look, paths), len(paths), report))
        problems = {n: of.header for n, of in enumerate(looked) if isinstance(of.header, str)}
        headers = {n: of.header for n, of in enumerate(looked) if isinstance(of.header, Header)}
        if not headers:
            return Pictures(np.zeros((0, 1, 1, 1), np.uint8), np.arange(0), problems, ())
        target = target_of(list(headers.values()), wanted)
        places = np.array(list(headers))
        key = _key([looked[n].digest for n in places], target)
        held = cache.load(key) if wanted.keep else None
        unsaved = None
        if held is None:
            held = _read([(paths[n], looked[n].digest) for n in places], target, report)
            unsaved = cache.save(key, *held) if wanted.keep else None
    pixels, broken = held
    problems |= {int(places[int(n)]): why for n, why in broken.items()}
    kept = np.array([n for n in range(len(places)) if str(n) not in broken], int)
    notes = _notes([headers[n] for n in places[kept]], target, pixels)
    if unsaved is not None:
        notes = (*notes, f"not kept for the next time: {unsaved}")
    return Pictures(pixels, places[kept], dict(sorted(problems.items())), notes)


def target_of(headers: Sequence[Header], wanted: Wanted) -> Target:
    """Choose what pictures become, where it is not said.

    Height and width are the medians of all pictures, both divided by one number where the longer is above
    64. Channels are 3 where any is stored in colour, else 1. Pixels are bytes, 16 bits where any has so
    many, or floats where any has 32.

    Args:
        headers: what the pictures are, at least one.
        wanted: what is said.

    Returns:
        What they become.
    """
    height, width = wanted.size or _median_size(headers)
    channels = wanted.channels or max(header.channels for header in headers)
    bits = max(header.bits for header in headers)
    return Target(
        height, width, channels, {8: "uint8", 16: "uint16", 32: "float32"}[bits], wanted.fit
    )


def _median_size(headers: Sequence[Header]) -> tuple[int, int]:
    height = statistics.median([header.height for header in headers])
    width = statistics.median([header.width for header in headers])
    factor = min(1.0, LONGEST / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def _look(path: Path) -> _Looked:
    try:
        content = files.read_bytes(path, LARGEST_FILE, "a picture")
    except UserError as error:
        return _Looked("", str(error).removeprefix(f"{path}: got ").partition(", expected")[0])
    try:
        found: Header | str = read_header(content)
    except UserError as error:
        found = str(error)
    return _Looked(hashlib.sha256(content).hexdigest(), found)


def _key(digests: Sequence[str], target: Target) -> str:
    """Name what is made of these contents, in this order, by this version of the reader."""
    made = json.dumps([FORM, pillow, target, digests])
    return hashlib.sha256(made.encode()).hexdigest()


def _read(
    given: Sequence[tuple[Path, str]], target: Target, report: Report | None
) -> tuple[np.ndarray, dict[str, str]]:
    """Read pixels, and why some cannot be read, by their place as a string, as JSON has it."""

    def read(one: tuple[Path, str]) -> np.ndarray | str:
        path, digest = one
        content = files.read_bytes(path, LARGEST_FILE, "a picture")
        if hashlib.sha256(content).hexdigest() != digest:
            raise UserError(
                f"{path}: got other bytes than a moment ago, expected files that stay as they are while "
                "they are read; start again once they do"
            )
        try:
            return read_picture(content, target)
        except UserError as error:
            return str(error)

    shape = (len(given), target.height, target.width, target.channels)
    try:
        pixels = np.empty(shape, target.type)
    except (MemoryError, ValueError) as error:
        raise UserError(
            f"data.size: got {len(given)} pictures of {target.height} x {target.width} x "
            f"{target.channels}, expected as many as the memory holds; set data.size to less",
            argument="data.size",
        ) from error
    broken, count = {}, 0
    found = _counted("reading pictures", _each(read, given), len(given), report)
    for place, one in enumerate(found):
        if isinstance(one, str):
            broken[str(place)] = one
        else:
            pixels[count] = one
            count += 1
    return pixels[:count], broken


def _each(function: Callable[[S], T], given: Iterable[S]) -> Iterator[T]:
    """Call a function for each, on as many threads as there are cores; Pillow lets go of the interpreter."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, given)


def _counted(label: str, each: Iterable[T], total: int, report: Report | None) -> Iterator[T]:
    if report is not None:
        report(label, 0, total)
    for done, one in enumerate(each, start=1):
        yield one
        if report is not None and (done % 64 == 0 or done == total):
            report(label, done, total)


def _notes(headers: Sequence[Header], target: Target, pixels: np.ndarray) -> tuple[str, ...]:
    """Say what was found: sizes, channels, bits, and what was done about them."""
    if not headers:
        return ()
    sizes = Counter((header.height, header.width) for header in headers)
    heights, widths = zip(*sizes, strict=True)
    if len(sizes) == 1:
        size = f"all {heights[0]} x {widths[0]}"
    else:
        size = f"{min(heights)} to {max(heights)} high, {min(widths)} to {max(widths)} wide"
    counts = {
        "grey": sum(header.channels == 1 for header in headers),
        "colour": sum(header.channels == 3 for header in headers),
        "of 16 bits": sum(header.bits == 16 for header in headers),
        "of 32 bits": sum(header.bits == 32 for header in headers),
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    odd = {
        "with transparency, laid on black": sum(header.transparent for header in headers)
        * (target.channels != 4),
        "turned as EXIF says": sum(header.turned for header in headers),
        "of several frames, of which the first is read": sum(header.frames for header in headers),
        "in colour of 16 bits, of which the upper 8 are read": sum(h.shortened for h in headers),
    }
    became = f"{target.height} x {target.width} x {target.channels}"
    lines = [f"pictures: {size}; {said}; read as {became} {target.type}"]
    if any((header.height, header.width) != (target.height, target.width) for header in headers):
        lines[0] += f" ({target.fit})"
    lines += [f"pictures: {count} {what}" for what, count in odd.items() if count]
    if target.channels == 3 and (pixels[..., :1] == pixels).all():
        lines.append(
            "pictures: stored in colour, and all grey: data.channels 1 is a third of the work"
        )
    return tuple(lines)
