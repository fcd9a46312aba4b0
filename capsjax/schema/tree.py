"""From a tree of plain values and dotted flags to frozen dataclasses.

    text --read_yaml--> tree --merge(flags)--> tree --build(schema)--> config --dump--> text

A tree is what YAML holds: mappings, lists, strings, numbers, booleans and null; `text.py` reads and
writes it. What a schema may hold, `schema/fields.py` says. Where a union of dataclasses stands, a string is
short for the mapping that holds only the kind: `gradient: full` means `gradient: {kind: full}`.
"""

import copy
import functools
import json
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from capsjax.checks import KNOWN, is_traced, plain, written
from capsjax.schema.errors import (
    Problem,
    abbreviated,
    nothing_there,
    translate,
    two_line_error,
    unknown_kind,
)
from capsjax.schema.fields import (
    assumed_kind,
    beside_kinds,
    dataclass_for,
    default_of,
    fields_of,
    is_named,
    item_type,
    kinds_of,
    types_in,
)
from capsjax.schema.text import to_tree
from capsjax.schema.variant import Variant

T = TypeVar("T")
Tree = Mapping[str, Any]


def merge(tree: Tree, overrides: Tree, schema: Any = object) -> dict[str, Any]:
    """Set dotted keys in a tree.

    A flag changes what it names, and nothing else, with one exception: if it changes a `kind`, the keys
    beside it belonged to the old variant and are dropped, unless flags set them. A string is short for a kind
    here too: `--gradient full` over a mapping that has a kind is `--gradient.kind full`, and
    `--gradient.remat true` over `gradient: full` keeps that kind. Where `null` stands, a mapping begins.
    A mapping as a value names each of its keys: `{training: {epochs: 3}}` is `training.epochs: 3`. One that
    reaches into what is left out changes the default that stands there, where the schema says of what kind.

    Args:
        tree: the tree; it stays as it is.
        overrides: dotted key to value, such as `cli/flags.py` reads.
        schema: the outermost dataclass; `object` where nothing is known of defaults.

    Returns:
        A new tree.

    Raises:
        UserError: If a key leads through a value that is neither a mapping nor a string.
    """
    merged = copy.deepcopy(dict(tree))  # the caller's tree stays as it is
    _set_all(merged, overrides, schema)
    return merged


def _set_all(node: dict[str, Any], values: Tree, annotation: Any) -> None:
    """Set dotted keys, in place: the outer before the inner, and a kind before the keys beside it."""
    for key in sorted(values, key=lambda key: (key.count("."), key.split(".")[-1] != "kind")):
        # A copy: a later key may be set within it.
        _set(node, key, copy.deepcopy(values[key]), annotation)


def _set(node: dict[str, Any], key: str, value: object, annotation: Any) -> None:
    """Set one dotted key in `node`, in place, by the rules of `merge`."""
    steps, done = key.split("."), 0
    while True:
        # A key that stands here with its dots, as an arm of a comparison has them, is one step.
        whole = (len(steps) - n for n in range(len(steps) - done - 1))
        stop = next((end for end in whole if ".".join(steps[done:end]) in node), done + 1)
        name, done = ".".join(steps[done:stop]), stop
        if done == len(steps):
            break
        old, annotation = _at(node, name, annotation)
        inner: Any = {} if old is None else {"kind": old} if isinstance(old, str) else old
        if not isinstance(inner, dict):
            path = ".".join(steps[:done])
            got = f"{key}: {path} is {abbreviated(old)}"
            raise two_line_error(got, f"{path} to be a mapping", argument=key)
        node[name] = inner
        node = inner
    old, within = _at(node, name, annotation) if isinstance(value, dict) else (node.get(name), None)
    if isinstance(value, str) and isinstance(old, dict) and "kind" in old:
        node, name = old, "kind"
    if name == "kind" and node.get(name, value) != value:
        node.clear()  # its keys are another variant's
    if isinstance(value, dict):
        inner = {"kind": old} if isinstance(old, str) else old if isinstance(old, dict) else {}
        _set_all(inner, value, within)
        value = inner
    node[name] = value


def _at(node: Tree, name: str, annotation: Any) -> tuple[Any, Any]:
    """Return what stands at a name, or else its default if that has a kind; and what may stand there."""
    cls = dataclass_for(annotation, node)
    if cls is None:
        return node.get(name), item_type(annotation, name)
    within = fields_of(cls).get(name, object)
    default = default_of(cls, name) if name not in node else None
    return (_short(default) if isinstance(default, Variant) else node.get(name)), within


def _assume(annotation: Any, value: Any) -> Any:
    """Write out the kinds that a tree leaves to be assumed."""
    cls = dataclass_for(annotation, value)
    if cls is not None:
        inner, assumed = fields_of(cls), assumed_kind(annotation)
        if "kind" not in value and assumed is not None:
            value = {"kind": assumed, **value}
        return {n: _assume(inner.get(n), v) for n, v in value.items()}
    if isinstance(value, Mapping) and any(map(is_named, types_in(annotation))):
        return {n: _assume(item_type(annotation, n), v) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_assume(item_type(annotation, n), v) for n, v in enumerate(value)]
    return value


def _short(default: Any) -> Any:
    """Write a default as a file would: its kind, and what differs from that kind's own defaults."""
    own = [name for name in fields_of(type(default)) if name != "kind"]
    cls, given = type(default), {name: getattr(default, name) for name in own}
    differing = {name: x for name, x in given.items() if x != default_of(cls, name)}
    return {"kind": default.kind, **to_tree(differing)}


def _taken_out(annotation: Any, before: Any, after: Any) -> Any:
    """Take out of mappings with names of the user's own what flags made null: a layer, an arm."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return after
    cls = dataclass_for(annotation, after)
    if cls is not None:
        inner = fields_of(cls)
        return {n: _taken_out(inner.get(n), before.get(n), v) for n, v in after.items()}
    if not any(map(is_named, types_in(annotation))):
        return after
    kept = {n: v for n, v in after.items() if v is not None or before.get(n) is None}
    return {n: _taken_out(item_type(annotation, n), before.get(n), v) for n, v in kept.items()}


def _expand(
    annotation: Any, value: Any, path: tuple, problems: list[Problem], names: Iterable = ()
) -> Any:
    """Write out the short form of kinds in a tree, and note the kinds that are missing or unknown."""
    known, cls = kinds_of(annotation), dataclass_for(annotation, value)
    # Where a plain string is accepted too, a string is that string, not a kind.
    if known and isinstance(value, str) and str not in types_in(annotation):
        if value in known:
            return {"kind": value}
        problems.append(unknown_kind(path, value, known, beside_kinds(annotation)))
    elif cls is not None:
        inner = fields_of(cls)
        value = cls.completed(value) if issubclass(cls, Variant) else value
        return {n: _expand(inner.get(n), v, (*path, n), problems) for n, v in value.items()}
    elif isinstance(value, Mapping) and any(map(is_named, types_in(annotation))):
        named = item_type(annotation, "")
        nothing = [n for n, v in value.items() if v is None and kinds_of(named)]
        problems += [nothing_there((*path, n), [o for o in value if o != n]) for n in nothing]
        return {n: _expand(named, v, (*path, n), problems, value) for n, v in value.items()}
    elif known and isinstance(value, Mapping):
        problems.append(unknown_kind((*path, "kind"), value.get("kind"), known, names=names))
    elif isinstance(value, list | tuple):
        items = enumerate(value)
        return [_expand(item_type(annotation, n), v, (*path, n), problems) for n, v in items]
    return value


def _flag_at_fault(problem: Problem, flags: Tree) -> str | None:
    """Name the flag that brought a problem: the nearest above it, one within it, or one beside it."""
    path, paths = problem.path, {flag: tuple(flag.split(".")) for flag in flags}
    found = [flag for flag, at in paths.items() if path[: len(at)] == at]
    found.sort(key=len, reverse=True)  # the longest key is the nearest above the problem
    found += [flag for flag, at in paths.items() if path and at[: len(path)] == path]
    if problem.got == "missing":  # a flag brought the kind that needs it, or keys without a kind
        beside = [(flag, at[-1]) for flag, at in paths.items() if at[:-1] == path[:-1]]
        found += [flag for flag, name in beside if "kind" in (name, path[-1])]
    return next(iter(found), None)


def _where(problem: Problem, source: str, flag: str | None, flags: Tree) -> str:
    """Name the override that brought a problem, else the source, and the key where it is another."""
    key, place = ".".join(map(str, problem.path)), flag or source
    # A string in a mapping's place is short for its kind.
    short = f"{flag}.kind" if isinstance(flags.get(flag or ""), str) else flag
    return place if key in ("", flag, short) else f"{place}: {key}"


def _adapter(schema: type) -> Any:
    """Make the strict validator of a schema, wrapped in a tuple of one, or take it from the cache."""
    return _cached_adapter(schema, Variant.variants())


@functools.lru_cache(maxsize=16)
def _cached_adapter(schema: type, known: tuple[type, ...]) -> Any:
    """Make the validator of a schema; a variant defined later changes `known`, and so makes another.

    pydantic takes no configuration for a dataclass that is not its own; given for the tuple, it reaches
    every dataclass inside.
    """
    import pydantic

    wrapped: Any = types.GenericAlias(tuple, (schema,))
    return pydantic.TypeAdapter(wrapped, config={"strict": True, "extra": "forbid"})


def _plain_flags(overrides: Mapping[Any, object]) -> dict[str, Any]:
    """Return overrides from Python as they would come from flags.

    Dataclasses of a schema become mappings, NumPy's and JAX's numbers become Python's.
    """
    flags = {}
    for key, value in overrides.items():
        if not isinstance(key, str) or not all(key.split(".")):
            raise two_line_error(
                f"got {key!r} as the key of an override", "a dotted name such as 'seed'"
            )
        try:
            flags[key] = json.loads(json.dumps(to_tree(value), default=_number))
        except (TypeError, ValueError, RecursionError) as error:
            values = "a number, a string, a boolean, None, a list or mapping of these"
            values += ", or a part of a configuration" + (KNOWN if is_traced(value) else "")
            raise two_line_error(f"{key}: got {_written(value)}", values, argument=key) from error
    return flags


def _written(value: object) -> str:
    """Write a value; what Python does not write, such as thousands of digits, by its type."""
    try:
        return written(value)
    except ValueError:
        return f"a {type(value).__name__} too long to be written"


def _number(value: Any) -> Any:
    if (number := plain(value)) is value:
        raise TypeError(type(value))
    return number


def build(schema: type[T], tree: Tree, *, source: str, overrides: Tree | None = None) -> T:
    """Build the dataclasses of a schema from a tree, in one strict validation.

    Args:
        schema: the outermost dataclass.
        tree: the values, from `text.read_yaml`, with or without the flags.
        source: the tree's file; errors name it.
        overrides: the flags, which are merged in; errors in what they set name the flag.

    Returns:
        An instance of `schema`; every dataclass within has checked itself in `__post_init__`.

    Raises:
        UserError: If a key is unknown or missing, or a value has the wrong type, kind or range. The
            first mistake is shown, the others are counted.
    """
    import pydantic

    flags, problems = _plain_flags(overrides or {}), list[Problem]()
    # Assumed kinds first: a flag that sets another kind leaves nothing of the one that was assumed.
    assumed = _assume(schema, tree)
    merged = _taken_out(schema, assumed, _assume(schema, merge(assumed, flags, schema)))
    tree = _expand(schema, merged, (), problems)
    try:
        # As JSON: strict validation of Python's values would refuse a list for a tuple.
        (config,) = _adapter(schema).validate_json(json.dumps([tree]))
        if not problems:  # a mapping that names no kind may be that of one all the same
            return config
    except pydantic.ValidationError as failure:
        for error in failure.errors(include_url=False):
            within = {**error, "loc": error["loc"][1:]}  # the first step is into the wrapper
            problem = translate(schema, tree, within)
            # One mistake, one message.
            if problem is not None and not any(map(problem.overlaps, problems)):
                problems.append(problem)
    first = min(problems, key=lambda problem: not problem.early)  # min keeps the order among equals
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    flag = _flag_at_fault(first, flags)
    got = f"{_where(first, source, flag, flags)}: {first.got}{more}"
    raise two_line_error(got, first.expected, argument=flag, in_flags=first.in_flags)
