"""Reader of IDX files, the format of MNIST: a magic number, the sizes of the axes, the values.

The magic number is two zero bytes, one byte for the type and one for the number of axes. Sizes are
32-bit, and everything is big-endian.
"""

import gzip
import io
import math
import os
import zlib
from pathlib import Path

import numpy as np

from capsjax import files
from capsjax.checks import UserError

LARGEST = 1 << 32  # bytes of a file whose size nobody knows beforehand
GZIP_MAGIC = b"\x1f\x8b"
TYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}


def decompress(raw: bytes, source: str, limit: int = LARGEST) -> bytes:
    """Decompress what gzip compressed; anything else is returned as it is.

    Args:
        raw: content of a file.
        source: where it is from, for the message.
        limit: the most bytes that there may be; a few thousand bytes of gzip can hold gigabytes.

    Returns:
        The decompressed content.

    Raises:
        UserError: If the content is empty, is gzip that ends early or is corrupt, or is larger.
    """
    if not raw:
        raise UserError(f"{source}: is empty")
    if not raw.startswith(GZIP_MAGIC):
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            content = file.read(limit + 1)
    except EOFError:
        raise UserError(f"{source}: is truncated, its gzip data end early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{source}: is corrupt, not valid gzip: {error}") from None
    if len(content) > limit:
        raise UserError(f"{source}: holds more than {limit} bytes, expected at most that many")
    return content


def parse_idx(content: bytes, source: str) -> np.ndarray:
    """Read an array from the content of an IDX file.

    Args:
        content: the file, decompressed.
        source: where it is from, for the message.

    Returns:
        The array, in the machine's own byte order.

    Raises:
        UserError: If the content is empty, truncated, not an IDX file, or longer than it says.
    """
    if not content:
        raise UserError(f"{source}: is empty, expected an IDX file")
    code, ndim = (content[2], content[3]) if len(content) >= 4 else (0, 0)
    # As far as there are bytes at all: a file of one zero byte is truncated, not of another kind.
    if content[:2] != b"\0\0"[: len(content)] or (len(content) >= 4 and code not in TYPES):
        raise UserError(
            f"{source}: starts with the bytes {content[:4].hex(' ')}, expected the magic number of "
            "an IDX file: 00 00, a type from 08 to 0e, the number of axes"
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise UserError(
            f"{source}: is truncated: found {len(content)} bytes, expected a header of {header}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    dtype = np.dtype(TYPES[code]).newbyteorder(">")
    size = header + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        problem = "is truncated" if len(content) < size else "has trailing bytes"
        raise UserError(
            f"{source}: {problem}: found {len(content)} bytes, expected {size} for an array of "
            f"shape {list(shape)}"
        )
    # JAX takes the machine's own byte order alone.
    values = np.frombuffer(content, dtype, offset=header).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Read an array from an IDX file, plain or compressed by gzip.

    Args:
        path: the file; whether it is compressed is told by its content, not its name.

    Returns:
        The array.

    Raises:
        UserError: If the file cannot be read, or is empty, truncated or corrupt.
    """
    raw = files.read_bytes(Path(path), LARGEST, "an IDX file, plain or compressed by gzip")
    return parse_idx(decompress(raw, str(path)), str(path))
