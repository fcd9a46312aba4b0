import gzip
import os
import struct

import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.data import KnownFile, parse_idx, read_idx
from capsjax.data.idx import decompress

IMAGES = np.arange(24).reshape(2, 4, 3)


@pytest.mark.parametrize("array", [IMAGES, np.array([3, 1, 2]), np.zeros((0, 4, 3))])
@pytest.mark.parametrize("compressed", [False, True])
def test_reads_plain_and_compressed(tmp_path, to_idx, array, compressed):
    content = to_idx(array)
    path = tmp_path / "no-name-tells"
    path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert found.shape == array.shape
    assert (found == array).all()


@pytest.mark.parametrize(
    ("code", "letter", "dtype"),
    [
        (0x08, "B", np.uint8),
        (0x09, "b", np.int8),
        (0x0B, "h", np.int16),
        (0x0C, "i", np.int32),
        (0x0D, "f", np.float32),
        (0x0E, "d", np.float64),
    ],
)
def test_reads_every_type(code, letter, dtype):
    values = [1, 2, 100, 5, 0, 7]
    content = struct.pack(f">4B2I6{letter}", 0, 0, code, 2, 2, 3, *values)
    found = parse_idx(content, "x")
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.tolist() == [[1, 2, 100], [5, 0, 7]]


def whole():
    return bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 4, 3) + bytes(range(24))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\0\0", "is truncated: found 2 bytes, expected a header of 4"),
        (whole()[:9], "is truncated: found 9 bytes, expected a header of 16"),
        (whole()[:-1], r"is truncated: found 39 bytes, expected 40 for .* \[2, 4, 3\]"),
        (whole() + b"\0", "has trailing bytes: found 41 bytes, expected 40"),
        (b"\0\1" + whole()[2:], "starts with the bytes 00 01 08 03, expected the magic number"),
        (b"\0\0\7\3" + whole()[4:], "starts with the bytes 00 00 07 03"),
        (b"<html>", "starts with the bytes 3c 68 74 6d"),
        (b"P", "starts with the bytes 50"),
        (gzip.compress(whole(), mtime=0)[:-9], "is truncated, its gzip data end early"),
        (
            gzip.compress(whole(), mtime=0)[:20] + b"abcdefghijklmnopqrst",
            "is corrupt, not valid gzip",
        ),
        (gzip.compress(whole(), mtime=0)[:-8] + bytes(8), "is corrupt, not valid gzip"),
        (gzip.compress(whole(), mtime=0) + b"more", "is corrupt, not valid gzip"),
        (gzip.compress(whole()[:-1], mtime=0), "is truncated: found 39 bytes, expected 40"),
        (gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    path = tmp_path / "broken-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"broken-idx3-ubyte: {message}"):
        read_idx(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(UserError, match="nothing-here: got no such file, expected an IDX"):
        read_idx(tmp_path / "nothing-here")
    with pytest.raises(UserError, match="got a directory, expected an IDX file"):
        read_idx(tmp_path)


def test_a_bomb_is_stopped_at_the_size_that_is_known(monkeypatch):
    """A megabyte of zeros in a thousand bytes, of which no more than asked for is ever held."""
    bomb = gzip.compress(bytes(1 << 20))
    held = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile, "read", lambda file, size=-1: held.append(size) or read(file, size)
    )
    with pytest.raises(UserError, match="bomb: holds more than 1000 bytes"):
        decompress(bomb, "bomb", 1000)
    assert held == [1001]
    assert decompress(bomb, "bomb", 1 << 20) == bytes(1 << 20)


@pytest.mark.parametrize("kind", ["a named pipe", "a device"])
def test_what_has_no_end_is_not_waited_for(tmp_path, kind):
    path, known = tmp_path / "file", KnownFile("file", 10, "0" * 64)
    os.mkfifo(path) if kind == "a named pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"got {kind}, expected an IDX file"):
        read_idx(path)
    with pytest.raises(UserError, match=f"got {kind}, expected 10 bytes decompressed"):
        known.read(path)


def test_a_known_file_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(UserError, match="got 17179869184 bytes, expected 10 bytes decompressed"):
        KnownFile("file", 10, "0" * 64).read(path)
