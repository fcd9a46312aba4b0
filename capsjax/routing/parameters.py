"""What a routing trains: named arrays, whose shapes follow from the sizes of a layer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from capsjax.checks import UserError, nearest
from capsjax.numerics import as_numbers, described

Initialiser = Callable[[Array, tuple[int, ...]], Array]


def zeros(key: Array, shape: tuple[int, ...]) -> Array:
    """Make zeros, in float32 also where `jax_enable_x64` makes JAX's default float64.

    Args:
        key: not used: zeros are not random.
        shape: of the array.

    Returns:
        Zeros of that shape.
    """
    del key
    return jnp.zeros(shape, jnp.float32)


class Sizes(NamedTuple):
    """Hold the sizes that the shapes of a routing's parameters follow from.

    Attributes:
        i: children.
        j: parents.
        d: components of a child's pose; None if no poses are given.
        e: components of a parent's pose.
    """

    i: int
    j: int
    d: int | None
    e: int


class Parameter(NamedTuple):
    """Describe an array that a routing trains.

    Attributes:
        shape: its shape.
        axes: what its axes are, in the letters of the papers and in words, for errors.
        init: from a random key and a shape to its first value; None: as a layer begins its biases.
        optional: whether the routing can do without.
    """

    shape: tuple[int, ...]
    axes: str
    init: Initialiser | None = None
    optional: bool = False


def named(owner: str, given: Any, known: Mapping[str, Parameter]) -> dict[str, Array]:
    """Check the parameters that were given for a routing.

    Args:
        owner: the routing's name, which begins the errors.
        given: a mapping from names to arrays; an array, if there is one parameter; None for none.
        known: what the routing trains.

    Returns:
        The arrays by name; optional ones may be missing.

    Raises:
        UserError: If one is unknown, missing, or has another shape.
    """
    if given is None:
        given = {}
    elif not isinstance(given, Mapping):
        if len(known) != 1:
            names = ", ".join(known)
            expected = (
                f"a mapping with {names}" if known else "None: this routing has no parameters"
            )
            raise UserError(f"{owner}: got {described(given)} as params, expected {expected}")
        given = {next(iter(known)): given}  # an array stands for the only parameter
    # Before what is missing: a misspelt name is both, and this error says more.
    for name in given:
        if name not in known:
            expected = f"expected {', '.join(known) or 'none'}{nearest(str(name), known)}"
            raise UserError(f"{owner}: got a parameter {name!r}, {expected}")
    found = {}
    for name, one in known.items():
        value = given.get(name)
        if value is None and one.optional:
            continue
        if value is None:
            raise UserError(
                f"{owner}: got no parameter {name!r}, expected an array {list(one.shape)}: {one.axes}; "
                f"give it as params={{{name!r}: ...}}"
            )
        is_array = hasattr(value, "shape") or isinstance(value, list | tuple)
        array = as_numbers(f"{owner}: {name}", value) if is_array else None
        # Not broadcast: a bias [e] or [1] for all parents is likelier a mistake than meant.
        if array is None or array.shape != one.shape:
            what = described(value if array is None else array)
            raise UserError(
                f"{owner}: got {what} as the {name}, expected an array {list(one.shape)}: {one.axes}"
            )
        found[name] = array
    return found
