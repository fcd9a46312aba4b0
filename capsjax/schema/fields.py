"""What a schema admits, in types and in words.

A schema is a frozen dataclass. Its fields are numbers, strings, literals, tuples, further dataclasses,
and unions of dataclasses (an abstract `Variant` is one too) that a field `kind: Literal[...]` tells apart.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from capsjax.schema.variant import Variant


def types_in(annotation: Any) -> tuple[Any, ...]:
    """Flatten `A | B | None`, `Annotated` and abstract variants into the types that they admit."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return types_in(args[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(member for arg in args for member in types_in(arg))
    # Asked for each time: a subclass counts from the moment that its module is imported.
    if inspect.isabstract(annotation) and issubclass(annotation, Variant):
        return annotation.variants()
    return (annotation,)


@functools.cache  # evaluating annotations is most of what reading a configuration takes
def fields_of(cls: type) -> Mapping[str, Any]:
    """Name the fields of a dataclass and their annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    # Fields that `__init__` does not take follow from the others, so no file may set them.
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def dataclasses_in(annotation: Any) -> list[type]:
    """List the dataclasses that an annotation admits."""
    return [member for member in types_in(annotation) if dataclasses.is_dataclass(member)]


def kinds_of(annotation: Any) -> dict[str, type]:
    """Map each kind that an annotation admits to its dataclass."""
    literals = {cls: types_in(fields_of(cls).get("kind"))[0] for cls in dataclasses_in(annotation)}
    return {kind: cls for cls, literal in literals.items() for kind in typing.get_args(literal)}


def dataclass_for(annotation: Any, value: object) -> type | None:
    """Choose the dataclass that a mapping stands for: the only one, or the one of its kind.

    Args:
        annotation: what is accepted in the mapping's place.
        value: the plain value that stands there.

    Returns:
        The dataclass; None if the value is not a mapping, or its kind is missing or unknown.
    """
    if not isinstance(value, Mapping):
        return None
    if len(only := dataclasses_in(annotation)) == 1:
        return only[0]
    return kinds_of(annotation).get(str(value.get("kind", assumed_kind(annotation))))


def assumed_kind(annotation: Any) -> str | None:
    """Return the kind of a mapping that names none, if an abstract class says which that is."""
    parts = (annotation, *typing.get_args(annotation))
    return next(filter(None, (getattr(part, "assumed_kind", None) for part in parts)), None)


def default_of(cls: type, name: str) -> Any:
    """Return a field's default; `dataclasses.MISSING` if it has none, or there is no such field."""
    field = next((field for field in dataclasses.fields(cls) if field.name == name), None)
    made = dataclasses.MISSING if field is None else field.default_factory
    if made is not dataclasses.MISSING:
        return made()
    return dataclasses.MISSING if field is None else field.default


def is_named(annotation: Any) -> bool:
    """Return whether an annotation is a mapping from names of the user's own, `Mapping[str, X]`."""
    return typing.get_origin(annotation) is Mapping


def item_type(annotation: Any, index: Any) -> Any:
    """Return the annotation of an item of a tuple, or of a mapping from names.

    Args:
        annotation: one that accepts a tuple or such a mapping, perhaps among other types.
        index: the item's place, from 0, or its name.

    Returns:
        The annotation; `object`, which accepts anything, if there is no such item.
    """
    named = [member for member in types_in(annotation) if is_named(member)]
    if named:
        return typing.get_args(named[0])[1]
    tuples = (member for member in types_in(annotation) if typing.get_origin(member) is tuple)
    args = typing.get_args(next(tuples, None))
    # tuple[int, ...] has one annotation for every item; tuple[int, str] one for each.
    return args[0] if args[1:] == (...,) else dict(enumerate(args)).get(index, object)


def walk_dataclasses(
    annotation: Any, path: tuple = (), above: tuple = ()
) -> Iterator[tuple[tuple, type]]:
    """Go through all dataclasses that can stand within an annotation.

    Args:
        annotation: where to begin.
        path: the keys that lead to it.
        above: the dataclasses on the way to it; one within itself is not gone through again.

    Yields:
        The path to each dataclass, with `*` for the index or the name of an item, and the dataclass.
    """
    for member in types_in(annotation):
        if typing.get_origin(member) is tuple:
            for arg in typing.get_args(member):
                yield from walk_dataclasses(arg, (*path, "*"), above)
        elif is_named(member):
            yield from walk_dataclasses(item_type(member, ""), (*path, "*"), above)
        elif dataclasses.is_dataclass(member) and member not in above:
            yield path, member
            for name, inner in fields_of(member).items():
                yield from walk_dataclasses(inner, (*path, name), (*above, member))


_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string, in quotes where it looks like another type",
    types.NoneType: "null",
}


def beside_kinds(annotation: Any) -> str:
    """Say in words what an annotation admits beside dataclasses and null: `"a number or "`, or nothing."""
    plain = [m for m in types_in(annotation) if not dataclasses.is_dataclass(m)]
    return "".join(f"{in_words(member)} or " for member in plain if member is not types.NoneType)


def in_words(annotation: Any) -> str:
    """Say in words what an annotation accepts."""
    names, parts = kinds_of(annotation), []
    for member in types_in(annotation):
        origin, args = typing.get_origin(member), typing.get_args(member)
        if origin is typing.Literal:
            parts.append("one of " + ", ".join(map(str, args)))
        elif origin is tuple:
            items = ("..." if arg is Ellipsis else in_words(arg) for arg in args)
            parts.append(f"a list [{', '.join(items)}]")
        elif is_named(member):
            inner = item_type(member, "")
            each = "" if inner is Any else f" from names, each to {in_words(inner)}"
            parts.append(f"a mapping{each}")
        elif dataclasses.is_dataclass(member):
            keys = ", ".join(names or fields_of(member))
            parts.append(f"a mapping with {'kind one of' if names else 'keys'} {keys}")
        else:
            parts.append(_WORDS.get(member, str(member)))
    return " or ".join(dict.fromkeys(parts))  # dataclasses told apart by kind say the same
