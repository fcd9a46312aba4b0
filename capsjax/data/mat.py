"""Reader of files of MATLAB whose arrays are known beforehand; nothing in them is ever run."""

import io
import math
from collections.abc import Mapping
from typing import Any

from capsjax.checks import UserError

LARGEST = 1 << 32  # bytes of an array
HEAD = b"MATLAB 5.0 MAT-file"
SIZES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "single": 4, "double": 8}


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
