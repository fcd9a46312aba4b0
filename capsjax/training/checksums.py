"""Checksums of the files of a folder, beside them: written once, and compared when it is read."""

import hashlib
import os
import re
from pathlib import Path

SUMS = "SHA256SUMS"
LARGEST = 1 << 20  # bytes of a file of checksums; a checkpoint's has some three thousand
HEAD = re.compile(r"# SHA-256 of (\d+) files")
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_sums(folder: Path) -> None:
    """Write the checksum of every file below a folder into its `SHA256SUMS`.

    In the form that `sha256sum --check` reads; the first line, a comment there, counts the others, so
    that a file which was cut short between two lines is seen.
    """
    # Sorted, so that the same files give the same sums, in whatever order the system lists them.
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lines = [f"{_sum_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    text = f"# SHA-256 of {len(lines)} files\n" + "".join(lines)
    (folder / SUMS).write_text(text, encoding="utf-8")


def find_damage(folder: Path) -> str | None:
    """Say what below a folder is not as it was written: which file, what was found and expected.

    Args:
        folder: what `write_sums` was called with, wherever it is now.

    Returns:
        The first damage, in words; None if there is none, or where there are no checksums, as in
        what earlier versions wrote when the machine went down.

    Raises:
        PermissionError: If a file may not be read.
    """
    path = folder / SUMS
    if not os.path.lexists(path):
        return None
    try:
        sums = _read_sums(path)
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        return f"{path}: got {error}, expected the checksums that were written there"
    for name, digest in sums.items():
        found = _find_sum(folder / name)
        if found != digest:
            got = "no such file" if found is None else f"a file whose SHA-256 is {found[:12]}..."
            return f"{folder / name}: got {got}, expected {digest[:12]}..., as it was written"
    return None


def _read_sums(path: Path) -> dict[str, str]:
    """Read checksums by name of file; a ValueError says what is wrong with them."""
    if not path.is_file():  # a directory; a pipe would wait for ever
        raise ValueError("what is not a file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"more than {LARGEST} bytes")
    try:
        first, *rest = content.decode("utf-8").splitlines() or [""]
    except UnicodeDecodeError:
        raise ValueError("what is not text") from None
    head = HEAD.fullmatch(first)
    lines = rest if head else [first, *rest]  # earlier versions wrote no first line
    found = [LINE.fullmatch(line) for line in lines]
    sums = {match[2]: match[1] for match in found if match}
    if not sums:
        raise ValueError("no checksum")
    if None in found or (head and int(head[1]) != len(lines)):
        raise ValueError("a file that was cut short or changed")
    return sums


def _find_sum(path: Path) -> str | None:
    """Return a file's checksum; None if it is not a file that can be read."""
    try:
        return _sum_of(path) if path.is_file() else None
    except PermissionError:
        raise
    except (OSError, ValueError):  # a broken disk, or a name that no file can have
        return None


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
