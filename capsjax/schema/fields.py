"""What a schema admits, in types and in words.

A schema is a frozen dataclass. Its fields are numbers, strings, literals, tuples, further dataclasses,
and unions of dataclasses (an abstract `Variant` is one too) that a field `kind: Literal[...]` tells apart.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from capsjax.schema.variant import Variant


def members(annotation: Any) -> tuple[Any, ...]:
    """Flatten `A | B | None`, `Annotated` and abstract variants into the types that they admit."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return members(args[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(member for arg in args for member in members(arg))
    # Asked for each time: a subclass counts from the moment that its module is imported.
    if inspect.isabstract(annotation) and issubclass(annotation, Variant):
        return annotation.variants()
    return (annotation,)


def fields(cls: type) -> Mapping[str, Any]:
    """Name the fields of a dataclass and their annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    # Fields that `__init__` does not take follow from the others, so no file may set them.
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def variants(annotation: Any) -> list[type]:
    """List the dataclasses that an annotation admits."""
    return [member for member in members(annotation) if dataclasses.is_dataclass(member)]


def kinds(annotation: Any) -> dict[str, type]:
    """Map each kind that an annotation admits to its dataclass."""
    literals = {cls: members(fields(cls).get("kind"))[0] for cls in variants(annotation)}
    return {kind: cls for cls, literal in literals.items() for kind in typing.get_args(literal)}


def choose(annotation: Any, value: object) -> type | None:
    """Choose the dataclass that a mapping stands for: the only one, or the one of its kind.

    Args:
        annotation: what is accepted in the mapping's place.
        value: the plain value that stands there.

    Returns:
        The dataclass; None if the value is not a mapping, or its kind is missing or unknown.
    """
    if not isinstance(value, Mapping):
        return None
    if len(only := variants(annotation)) == 1:
        return only[0]
    return kinds(annotation).get(str(value.get("kind", assumed_kind(annotation))))


def assumed_kind(annotation: Any) -> str | None:
    """Return the kind of a mapping that names none, if an abstract class says which that is."""
    parts = (annotation, *typing.get_args(annotation))
    return next(filter(None, (getattr(part, "assumed_kind", None) for part in parts)), None)


def is_named(annotation: Any) -> bool:
    """Return whether an annotation is a mapping from names of the user's own, `Mapping[str, X]`."""
    return typing.get_origin(annotation) is Mapping


def item(annotation: Any, index: Any) -> Any:
    """Return the annotation of an item of a tuple, or of a mapping from names.

    Args:
        annotation: one that accepts a tuple or such a mapping, perhaps among other types.
        index: the item's place, from 0, or its name.

    Returns:
        The annotation; `object`, which accepts anything, if there is no such item.
    """
    named = [member for member in members(annotation) if is_named(member)]
    if named:
        return typing.get_args(named[0])[1]
    tuples = (member for member in members(annotation) if typing.get_origin(member) is tuple)
    args = typing.get_args(next(tuples, None))
    # tuple[int, ...] has one annotation for every item; tuple[int, str] one for each.
    return args[0] if args[1:] == (...,) else dict(enumerate(args)).get(index, object)


def reach(annotation: Any, path: tuple = (), above: tuple = ()) -> Iterator[tuple[tuple, type]]:
    """Go through all dataclasses that can stand within an annotation.

    Args:
        annotation: where to begin.
        path: the keys that lead to it.
        above: the dataclasses on the way to it; one within itself is not gone through again.

    Yields:
        The path to each dataclass, with `*` for the index or the name of an item, and the dataclass.
    """
    for member in members(annotation):
        if typing.get_origin(member) is tuple:
            for arg in typing.get_args(member):
                yield from reach(arg, (*path, "*"), above)
        elif is_named(member):
            yield from reach(item(member, ""), (*path, "*"), above)
        elif dataclasses.is_dataclass(member) and member not in above:
            yield path, member
            for name, inner in fields(member).items():
                yield from reach(inner, (*path, name), (*above, member))


_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string, in quotes where it looks like another type",
    types.NoneType: "null",
}


def beside_kinds(annotation: Any) -> str:
    """Say in words what an annotation admits beside dataclasses and null: `"a number or "`, or nothing."""
    plain = [m for m in members(annotation) if not dataclasses.is_dataclass(m)]
    return "".join(f"{words(member)} or " for member in plain if member is not types.NoneType)


def words(annotation: Any) -> str:
    """Say in words what an annotation accepts."""
    names, parts = kinds(annotation), []
    for member in members(annotation):
        origin, args = typing.get_origin(member), typing.get_args(member)
        if origin is typing.Literal:
            parts.append("one of " + ", ".join(map(str, args)))
        elif origin is tuple:
            items = ("..." if arg is Ellipsis else words(arg) for arg in args)
            parts.append(f"a list [{', '.join(items)}]")
        elif is_named(member):
            inner = item(member, "")
            each = "" if inner is Any else f" from names, each to {words(inner)}"
            parts.append(f"a mapping{each}")
        elif dataclasses.is_dataclass(member):
            keys = ", ".join(names or fields(member))
            parts.append(f"a mapping with {'kind one of' if names else 'keys'} {keys}")
        else:
            parts.append(_WORDS.get(member, str(member)))
    return " or ".join(dict.fromkeys(parts))  # dataclasses told apart by kind say the same
