"""Files that someone else may have written: what is not a plain file, too large or not text is named.

A size is bounded before anything is read: a device has no end, and a named pipe waits for one who writes.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from capsjax.checks import UserError

KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
MEGABYTE = 1 << 20
PAGES = (b"<!doctype html", b"<html")


def is_web_page(content: bytes) -> bool:
    """Return whether bytes begin as a web page, which a server may have sent in the place of a file."""
    return content[:256].lstrip().lower().startswith(PAGES)


def open_plain(path: Path, limit: int, expected: str) -> BinaryIO:
    """Open a plain file for reading bytes.

    Args:
        path: the file, or a link to it.
        limit: the most bytes that it may have.
        expected: what it should be, for the message.

    Returns:
        The open file.

    Raises:
        UserError: If there is none, it is not a plain file, it cannot be read or it is larger.
    """
    try:
        # Opening a pipe would wait for its other end.
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise _mistake(path, _reason(error), expected) from error
    found = os.fstat(opened)  # of what was opened, which the path may no longer lead to
    got = next((name for is_kind, name in KINDS if is_kind(found.st_mode)), None)
    if found.st_size > limit:
        got = got or f"{found.st_size} bytes"
        expected = f"{expected}, of at most {limit} bytes"
    if got is not None:
        os.close(opened)
        raise _mistake(path, got, expected)
    return os.fdopen(opened, "rb")


def read_bytes(path: Path, limit: int, expected: str) -> bytes:
    """Read a plain file, whole.

    Args:
        path: the file, or a link to it.
        limit: the most bytes that it may have.
        expected: what it should be, for the message.

    Returns:
        Its bytes.

    Raises:
        UserError: If there is none, it is not a plain file, it cannot be read or it is larger.
    """
    with open_plain(path, limit, expected) as file:
        try:
            content = file.read(limit + 1)  # one more than allowed, to see that there is more
        except OSError as error:
            raise _mistake(path, _reason(error), expected) from error
    if len(content) > limit:  # it grew, or did not tell its size
        raise _mistake(path, f"more than {limit} bytes", expected)
    return content


def read_text(path: Path, limit: int, expected: str) -> str:
    """Read a plain file of UTF-8 text, without the byte order mark that some editors put before it.

    Args:
        path: the file, or a link to it.
        limit: the most bytes that it may have.
        expected: what it should be, for the message.

    Returns:
        Its text.

    Raises:
        UserError: If it cannot be read as by `read_bytes`, or is not UTF-8.
    """
    try:
        text = read_bytes(path, limit, expected).decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"bytes that are not UTF-8 text, from byte {error.start} on"
        raise _mistake(path, got, expected) from error
    return text.removeprefix("\ufeff")  # which parsers take for a letter


def read_json(path: Path, limit: int, expected: str) -> Any:
    """Read plain values from a plain file of JSON.

    Args:
        path: the file, or a link to it.
        limit: the most bytes that it may have.
        expected: what it should be, for the message.

    Returns:
        Mappings, lists, strings, numbers, booleans and None.

    Raises:
        UserError: If it cannot be read as by `read_text`, or is not JSON.
    """
    text = read_text(path, limit, expected)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise _mistake(path, "brackets nested too deeply", expected) from error
    except ValueError as error:
        raise _mistake(path, f"a broken file ({str(error)[:200]})", expected) from error


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a directory"
    return f"a file that cannot be read ({getattr(error, 'strerror', None) or error})"


def _mistake(path: Path, got: str, expected: str) -> UserError:
    return UserError(f"{path}: got {got}, expected {expected}")
