"""The errors about a tree that does not fit a schema.

Every mistake is a `UserError` of two lines: where and what was found, then what was expected.
"""

import difflib
import json
import re
import shlex
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from capsjax.checks import FieldError, UserError, nearest
from capsjax.schema.fields import (
    dataclass_for,
    fields_of,
    in_words,
    is_named,
    item_type,
    kinds_of,
    types_in,
    walk_dataclasses,
)
from capsjax.schema.names import canonical, did_you_mean, keys_named
from capsjax.schema.variant import Variant


def abbreviated(value: object) -> str:
    """Write a value as the file would, in one short line."""
    if isinstance(value, Variant) and hasattr(value, "kind"):
        value = value.kind
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def two_line_error(
    got: str, expected: str, *, argument: str | None = None, in_flags: str | None = None
) -> UserError:
    """Make the error of two lines.

    Args:
        got: where, and what.
        expected: what instead.
        argument: the override whose key begins the error, if any.
        in_flags: what was expected in the words of the command line, if they differ.

    Returns:
        The error, whose second line is indented.
    """

    def text(expected: str) -> str:
        return "\n".join(" ".join(line.splitlines()) for line in (got, f"  expected {expected}"))

    on_command_line = None if in_flags is None else text(in_flags)
    return UserError(text(expected), argument=argument, on_command_line=on_command_line)


class Problem(NamedTuple):
    """Hold one mistake.

    Attributes:
        path: the keys, and the indices of items, that lead to it.
        got: what was found there.
        expected: what would have been accepted.
        early: whether it is shown before those that are not: it may be their cause.
        in_flags: what was expected in the words of the command line, if they differ.
    """

    path: tuple
    got: str
    expected: str
    early: bool = False
    in_flags: str | None = None

    def overlaps(self, other: "Problem") -> bool:
        """Return whether one path is a prefix of the other, so that both may have one cause."""
        steps = zip(self.path, other.path, strict=False)  # as far as the shorter one goes
        return all(mine == theirs for mine, theirs in steps)


def unknown_kind(
    path: tuple, given: object, known: Mapping[str, type], beside: str = "", names: Iterable = ()
) -> Problem:
    """Describe a kind that is missing or unknown.

    Args:
        path: where the kind stands, or the value that is short for it.
        given: what stands there; None if the kind is missing.
        known: the dataclass of each kind that is accepted there.
        beside: what else would have been accepted, in words, as `fields.beside_kinds` says it.
        names: names of the user's own, if what has no kind stands under one of them.

    Returns:
        The mistake, with the nearest known kind, or the nearest name where a kind is missing; if a file was
        named in place of a kind, with the flags that read it.
    """
    got = "missing" if given is None else f"got {abbreviated(given)}"
    expected = f"{beside}one of " + ", ".join(known)
    if given is not None:
        expected += nearest(str(given), known)
    elif names:  # a slip in a name looks like a new thing of that name
        *above, name, _ = map(str, path)
        near = difflib.get_close_matches(name, [str(n) for n in names if n != name], n=1)
        expected += did_you_mean([".".join((*above, other)) for other in near])
    files = [kind for kind, cls in known.items() if "path" in fields_of(cls)]
    # What ends like a file's name or has a slash is likelier a file than a misspelt kind.
    if not (files and isinstance(given, str) and re.search(r"[\w)]\.\w+$|/", given)):
        return Problem(path, got, expected, early=True)
    at = ".".join(step for step in path if step != "kind")
    keys = {f"{at}.kind": files[0], f"{at}.path": given}
    python = (
        f"{expected}; of a file: {', '.join(f'{key!r}: {value!r}' for key, value in keys.items())}"
    )
    flags = f"{expected}; of a file: {' '.join(f'--{k} {shlex.quote(v)}' for k, v in keys.items())}"
    return Problem(path, got, python, early=True, in_flags=flags)


def nothing_there(path: tuple, names: Iterable) -> Problem:
    """Describe a null that takes nothing out.

    Args:
        path: where it stands, under a name of the user's own.
        names: the names beside it.

    Returns:
        The mistake, with the nearest of the names.
    """
    *above, name = map(str, path)
    near = difflib.get_close_matches(name, [str(other) for other in names], n=1)
    expected = "the name of one that is there, which null takes out"
    expected += did_you_mean([".".join((*above, other)) for other in near])
    return Problem(path, "got null", expected, early=True)


def all_keys(schema: type) -> list[str]:
    """List the dotted keys of a schema, of whatever kind, the outer ones first; items of lists have none."""
    spots = ((at, cls) for at, cls in walk_dataclasses(schema) if "*" not in at)
    # A dictionary, not a set: keys that several kinds share stand once, and in the order of the fields.
    found = dict.fromkeys(".".join((*at, name)) for at, cls in spots for name in fields_of(cls))
    return sorted(found, key=lambda key: key.count("."))


def _elsewhere(schema: type, path: tuple) -> str:
    """Suggest the kinds that have that very key, else keys of that name at other levels."""
    beside = [cls for at, cls in walk_dataclasses(schema) if _is_at(path[:-1], at)]
    owners = [cls for cls in beside if path[-1] in fields_of(cls)]
    if owners:  # then the kind is the mistake, not the level
        having = [kind for cls in owners for kind in kinds_of(cls)]
        return f"; {path[-1]} belongs to kind {' or '.join(dict.fromkeys(having))}"
    named, last = keys_named(all_keys(schema), ".".join(map(str, path))), canonical(str(path[-1]))
    here = [name for cls in beside for name in fields_of(cls)]
    near = difflib.get_close_matches(last, here, n=1, cutoff=0.8)
    if near and not any(f".{key}".endswith(f".{last}") for key in named):
        return did_you_mean(near)  # a slip beside it is likelier than another program's word
    return did_you_mean(named)


def _is_at(path: tuple, pattern: tuple) -> bool:
    """Return whether a path is one that `walk_dataclasses` gives, where `*` stands for any item."""
    return len(path) == len(pattern) and all(
        wanted in ("*", step) for step, wanted in zip(path, pattern, strict=True)
    )


class _Spot(NamedTuple):
    """Hold a place in a tree: its path, annotation and value, and the dataclass that it is a field of."""

    path: tuple
    annotation: Any
    value: Any
    owner: Any


def _follow(loc: tuple, spot: _Spot) -> _Spot | None:
    """Find the place at pydantic's location, which also names variants.

    A plain union reports on each of its members: None for those that the tree did not choose.
    """
    path, annotation, value, _ = spot
    cls = dataclass_for(annotation, value)
    admitted = [member for member in types_in(annotation) if member is not types.NoneType]
    # pydantic puts the member's name, or its tag, between the field and what is below it; before that stands
    # the union of several kinds where something else is accepted too.
    if loc and cls is not None and len(admitted) > 1:
        loc = loc[1:] if str(loc[0]).startswith("union[") else loc
        if loc[0] not in (cls.__name__, value.get("kind")):
            return None
        loc = loc[1:]
    if loc and cls is not None:
        inner, found = fields_of(cls).get(loc[0]), value.get(loc[0])
    elif loc and isinstance(loc[0], int) and isinstance(value, list):
        inner, found = item_type(annotation, loc[0]), value[loc[0]]
    elif loc and isinstance(value, Mapping) and any(map(is_named, types_in(annotation))):
        inner, found = item_type(annotation, loc[0]), value.get(loc[0])
    elif loc and cls is None and isinstance(value, Mapping) and kinds_of(annotation):
        return None  # its kind is missing or unknown: `build` says that, and it chose none of them
    else:
        return spot
    return _follow(loc[1:], _Spot((*path, loc[0]), inner, found, cls))


def translate(schema: type, tree: Any, error: Mapping[str, Any]) -> Problem | None:
    """Put one of pydantic's errors in our words.

    Args:
        schema: the outermost dataclass.
        tree: what was validated.
        error: one of pydantic's, whose location is within the tree.

    Returns:
        The mistake; None if the error is about a variant that the tree did not choose.
    """
    kind, loc = error["type"], tuple(error["loc"])
    if kind == "missing" and isinstance(loc[-1], int):
        kind, loc = "too_short", loc[:-1]  # the mistake is the list, not the item that it lacks
    spot = _follow(loc, _Spot((), schema, tree, None))
    if spot is None:
        return None
    path, annotation, value, owner = spot
    got, raised = f"got {abbreviated(value)}", error.get("ctx", {}).get("error")
    if kind == "unexpected_keyword_argument":
        names = fields_of(owner)
        hint = _elsewhere(schema, path) or nearest(path[-1], names)
        got = f"unknown key, with value {abbreviated(value)}"
        return Problem(path, got, "one of " + ", ".join(names) + hint, early=True)
    if kind == "missing":
        return Problem(path, "missing", in_words(annotation))
    # What `__post_init__` raised, which pydantic keeps; its field may be one within, such as `gradient.last`.
    if isinstance(raised, FieldError):
        return Problem(
            (*path, *raised.field.split(".")), f"got {abbreviated(raised.given)}", raised.in_config
        )
    if kind == "literal_error":
        literals = [str(arg) for member in types_in(annotation) for arg in typing.get_args(member)]
        return Problem(path, got, in_words(annotation) + nearest(str(value), literals))
    lists = [member for member in types_in(annotation) if typing.get_origin(member) is tuple]
    of_words = any(typing.get_args(member)[:1] == (str,) for member in lists)
    of_words |= bool(lists) and str(value) in kinds_of(item_type(annotation, 0))
    # One word where a list of words is wanted: show the list that was most likely meant.
    if kind.endswith("_type") and of_words and isinstance(value, str) and value:
        written = value if value.isidentifier() else json.dumps(value)
        return Problem(path, got, f"a list, such as [{written}]")
    if kind.endswith("_type") or kind in ("too_short", "too_long"):
        return Problem(path, got, in_words(annotation))
    return Problem(path, got, f"other values: {raised or error['msg']}")
