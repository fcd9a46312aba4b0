"""How values with arrays show themselves: one line anywhere, a small table in a notebook."""

import dataclasses
import html
from collections.abc import Mapping
from typing import Any

MOST = 20  # values of a tuple that are written one by one


def one_line(value: Any) -> str:
    """Write a value of named fields in one line, with the type and shape of each array, no numbers.

    Args:
        value: a named tuple or a dataclass.

    Returns:
        Such as `RoutingResult(pose=float32[32, 10, 16], ...)`.

    Example:
        >>> import jax.numpy as jnp
        >>> from capsjax import DenseVotes
        >>> DenseVotes(jnp.zeros([2, 6, 3, 4]))
        DenseVotes(array=float32[2, 6, 3, 4])
    """
    inner = ", ".join(f"{name}={brief(field)}" for name, field in _fields(value).items())
    return f"{type(value).__name__}({inner})"


def as_table(value: Any) -> str:
    """Write a value of named fields as a table in HTML, one row a field: what notebooks call for."""
    return rows_as_table(
        type(value).__name__, {name: brief(field) for name, field in _fields(value).items()}
    )


def rows_as_table(title: str, rows: Mapping[str, str]) -> str:
    """Write names and what they stand for as a table in HTML, with a title.

    Args:
        title: the table's caption.
        rows: the text of each name, in order.

    Returns:
        HTML in which everything given is escaped.
    """
    lines = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(text)}</td></tr>'
        for name, text in rows.items()
    )
    caption = f'<caption style="text-align: left">{html.escape(title)}</caption>'
    return f"<table>{caption}{lines}</table>"


def brief(value: Any) -> str:
    """Describe a field in a few words: an array by type and shape, arrays under names by their number."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping) and not value:
        return "{}"
    if isinstance(value, Mapping) and any(hasattr(inner, "_fields") for inner in value.values()):
        return f"{{{', '.join(f'{name}: {brief(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, Mapping):
        sizes = [getattr(inner, "size", 0) for inner in value.values()]
        return f"{len(sizes)} arrays of {sum(sizes):,} numbers"
    # A named tuple is a tuple too, but shows its names.
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        more = f", and {len(value) - MOST:,} more" if len(value) > MOST else ""
        return f"({', '.join(map(brief, value[:MOST]))}{more})"
    return one_line(value) if hasattr(value, "_fields") else repr(value)


def changed(value: Any) -> str:
    """Write a configuration as the call that makes it, without the fields that have their default.

    Example:
        >>> from capsjax import DynamicRouting, FullGradient
        >>> changed(DynamicRouting(num_iters=5, gradient=FullGradient()))
        'DynamicRouting(num_iters=5, gradient=FullGradient())'
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    inner = ", ".join(f"{name}={changed(given)}" for name, given in changed_fields(value).items())
    return f"{type(value).__name__}({inner})"


def changed_fields(value: Any) -> dict[str, Any]:
    """Return what the fields of a dataclass hold, by their names, without those that have their default."""
    return {
        field.name: given
        for field in dataclasses.fields(value)
        if (given := getattr(value, field.name)) != field.default  # as one would write it
    }


def _fields(value: Any) -> dict[str, Any]:
    named = getattr(value, "_fields", None)
    # A field that is left out of the representation is shown all the same if it is set, such as masks.
    names = named or [
        field.name
        for field in dataclasses.fields(value)
        if field.repr or getattr(value, field.name, None) is not None
    ]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}
