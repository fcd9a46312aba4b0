"""Files of MATLAB: what they are, and arrays that are known beforehand; nothing in them is ever run."""

import io
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsjax.checks import UserError

LARGEST = 1 << 32  # bytes of an array
HEAD = b"MATLAB 5.0 MAT-file"
SIZES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "single": 4, "double": 8}


def is_version_4(head: bytes) -> bool:
    """Return whether a file begins as one of version 4: without a heading, with the first array's own.

    Args:
        head: its first bytes, 20 and the name of an array at least.
    """
    if len(head) < 22:
        return False
    for order in "<>":
        # The type is four decimal digits: byte order, nothing, numbers, form; then rows, columns, whether
        # there is an imaginary part, and how long the name is, with the zero that ends it.
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", head[:20])
        known = kind in {
            1000 * m + 10 * p + t for m in range(5) for p in range(6) for t in range(3)
        }
        name = head[20 : 19 + length] if 1 < length <= 64 else b""
        named = name.isascii() and name.replace(b"_", b"a").isalnum()
        if known and named and rows >= 0 and columns >= 0 and imaginary in (0, 1):
            return True
    return False


def missing_bytes(path: Path) -> int:
    """Return how many bytes at least a file of version 5 lacks: scipy reads what is there in silence.

    Args:
        path: the file.

    Returns:
        The number, 0 where it is whole or does not say.
    """
    size, place = path.stat().st_size, 128
    with path.open("rb") as stream:
        order = {b"IM": "<", b"MI": ">"}.get(stream.read(128)[126:])
        while order is not None and place + 8 <= size:
            stream.seek(place)
            _, length = struct.unpack(f"{order}2I", stream.read(8))
            place += 8 + length
    return max(0, place - size) if order is not None else 0


def read_mat(
    content: bytes, source: str, expected: Mapping[str, tuple[tuple[str, ...], int]]
) -> dict[str, Any]:
    """Read arrays of known names, classes and numbers of axes; what the file says of them is looked at first.

    Args:
        content: bytes of a file of version 5, as MATLAB wrote until version 7.3.
        source: where it is from, for the message.
        expected: the classes that each array may have, in MATLAB's words, such as uint8, double or struct,
            and how many axes it has.

    Returns:
        The arrays, by name.

    Raises:
        UserError: If it is of another kind or version, broken, or an array is missing, of another class or
            number of axes, or larger than any that is published.
    """
    import scipy.io  # here, since most runs read no such file

    wanted = f"expected a file of MATLAB, version 5, with {', '.join(expected)}"
    if not content.startswith(HEAD):
        raise UserError(f"{source}: starts with the bytes {content[:8].hex(' ')}, {wanted}")
    try:
        # Names, shapes and classes alone; a class such as an object or a function is not read.
        found = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(io.BytesIO(content))}
        for name, (kinds, ndim) in expected.items():
            shape, kind = found.get(name, ((), "nothing"))
            if kind not in kinds or len(shape) != ndim:
                got = f"{name} {list(shape)} of class {kind}"
                raise UserError(
                    f"{source}: got {got}, expected {' or '.join(kinds)} of {ndim} axes"
                )
            if math.prod(shape) * SIZES.get(kind, 1) > LARGEST:
                raise UserError(
                    f"{source}: got {name} {list(shape)}, expected at most {LARGEST} bytes"
                )
        held = scipy.io.loadmat(io.BytesIO(content), variable_names=tuple(expected))
    except UserError:
        raise
    except Exception as error:  # scipy's readers raise whatever they meet
        raise UserError(f"{source}: got a broken file ({error}), {wanted}") from error
    for name in expected:
        if tuple(held[name].shape) != tuple(found[name][0]):
            raise UserError(f"{source}: got {name} {list(held[name].shape)}, {wanted}")
    return {name: held[name] for name in expected}
