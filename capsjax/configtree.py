"""From YAML and dotted flags to frozen dataclasses, and back.

    text --read_yaml--> tree --merge(flags)--> tree --build(schema)--> config --dump--> text

A tree is what YAML holds: mappings, lists, strings, numbers, booleans and null. The schema is a frozen
dataclass. Its fields are numbers, strings, literals, tuples, further dataclasses, and unions of
dataclasses that a field `kind: Literal[...]` tells apart. Where such a union stands, a string is short
for the mapping that holds only the kind: `gradient: full` means `gradient: {kind: full}`.

Every mistake is a `UserError` of two lines: where and what came, then what was expected.
"""

import copy
import dataclasses
import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml

from capsjax.checks import FieldError, UserError, nearest
from capsjax.types import Variant

T = TypeVar("T")
Tree = Mapping[str, Any]

_TAG = "tag:yaml.org,2002:"
_INT = r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)"
_FLOAT = rf"(?:{_INT}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
# The core schema of YAML 1.2, decimal, with `1_000` as in Python: type, form, first characters. PyYAML's own
# table is YAML 1.1, where `1e-3` is a string, `no` is False and `2024-01-01` is a date.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", rf"{_FLOAT}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
)


def _resolvers(table: Mapping[str, list]) -> dict[str, list]:
    """Append the core schema to a table of resolvers, which is by first character."""
    resolvers = {first: list(rules) for first, rules in table.items()}
    for name, form, firsts in _SCALARS:
        for first in firsts:
            resolvers.setdefault(first, []).append((_TAG + name, re.compile(rf"(?:{form})\Z")))
    return resolvers


class _Loader(yaml.SafeLoader):
    """Read plain values only: no further types, no aliases, no repeated keys, no keys but names."""

    yaml_implicit_resolvers = _resolvers({})

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not read", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name = key.tag == _TAG + "str"
            if not name or key.value in lines:
                twice = name and f"the key {key.value!r} is also on line {lines[key.value]}"
                problem = twice or "a key must be a name"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


for _name in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.add_constructor(_TAG + _name, yaml.SafeLoader.construct_undefined)


class _Dumper(yaml.SafeDumper):
    """Write lists of plain values inline, and quote strings that YAML 1.1 or 1.2 reads otherwise."""

    yaml_implicit_resolvers = _resolvers(yaml.SafeDumper.yaml_implicit_resolvers)

    def represent_sequence(self, tag, sequence, flow_style=None):
        inline = not any(isinstance(item, dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=inline)


_EMPTY = object()


def _load(text: str, place: str) -> object:
    """Read one YAML document, `_EMPTY` where there is none; `place` begins the errors."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return _EMPTY if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        came = f"{place}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        # A control character, `!!bool maybe`, thousands of digits or of nested brackets.
        came = f"{place}: {error}"
    raise _mistake(came, "plain YAML: `key: value` lines, nested by spaces")


def read_yaml(text: str, source: str) -> dict[str, Any]:
    """Read a mapping from YAML.

    Scalars are those of YAML 1.2: `1e-3` is a number; only `true` and `false` are booleans, so `no` and
    `on` are strings; there are no dates. Underscores may group digits: `300_000`.

    Args:
        text: the YAML text.
        source: where it comes from; error messages begin with it.

    Returns:
        The tree.

    Raises:
        UserError: where the text is no YAML, holds a key twice, or holds no mapping.
    """
    tree = _load(text, source)
    if not isinstance(tree, dict):
        came = "nothing is in it" if tree is _EMPTY else f"got {_show(tree)}"
        raise _mistake(f"{source}: {came}", "a mapping: `key: value` lines")
    return tree


def parse_overrides(args: Sequence[str]) -> dict[str, object]:
    """Read dotted flags, `--model.routing.num_iters 5` or `--model.routing.num_iters=5`.

    Values follow the rules of `read_yaml`, so lists, `null` and `{kind: full}` work too.

    Args:
        args: the words of the command line.

    Returns:
        Dotted key to value, in the order of the flags.

    Raises:
        UserError: where a word is no flag, a flag has no value or stands twice, or a value is no YAML.
    """
    overrides: dict[str, object] = {}
    words = list(reversed(args))
    while words:
        word = words.pop()
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not all(key.split(".")):
            raise _mistake(f"got {word!r} on the command line", "a flag such as `--seed 3`")
        if not equals and words and not words[-1].startswith("--"):
            text = words.pop()
        value = _load(text, f"--{key} {text}")
        if value is _EMPTY:
            raise _mistake(f"--{key}: no value", f"`--{key} VALUE`, such as 3, null or '\"\"'")
        if key in overrides:
            raise _mistake(f"--{key}: given twice", "every flag once")
        overrides[key] = value
    return overrides


def merge(tree: Tree, overrides: Tree) -> dict[str, Any]:
    """Set dotted keys in a tree.

    A flag changes what it names, and nothing else, but for one thing: where it changes a `kind`, the keys
    beside it belonged to the old variant and go, unless flags set them. A string is short for a kind
    here too: `--gradient full` over a mapping that has a kind is `--gradient.kind full`, and
    `--gradient.remat true` over `gradient: full` keeps that kind. Where `null` stands, a mapping begins.

    Args:
        tree: the tree; it stays as it is.
        overrides: dotted key to value, from `parse_overrides`.

    Returns:
        A new tree.

    Raises:
        UserError: where a key leads through a value that is neither a mapping nor a string.
    """
    merged = copy.deepcopy(dict(tree))
    # The outer before the inner, and a kind before the keys beside it.
    for key in sorted(overrides, key=lambda key: (key.count("."), key.split(".")[-1] != "kind")):
        _set(merged, key, copy.deepcopy(overrides[key]))
    return merged


def _set(node: dict[str, Any], key: str, value: object) -> None:
    """Set one dotted key in `node`, in place, by the rules of `merge`."""
    *parents, name = key.split(".")
    for depth, parent in enumerate(parents, start=1):
        old = node.get(parent)
        inner: Any = {} if old is None else {"kind": old} if isinstance(old, str) else old
        if not isinstance(inner, dict):
            path = ".".join(parents[:depth])
            raise _mistake(f"--{key}: {path} is {_show(old)}", f"{path} to be a mapping")
        node[parent] = inner
        node = inner
    old = node.get(name)
    if isinstance(value, str) and isinstance(old, dict) and "kind" in old:
        node, name = old, "kind"
    if name == "kind" and node.get(name, value) != value:
        node.clear()
    node[name] = value


def _members(annotation: Any) -> tuple[Any, ...]:
    """Flatten `A | B | None`, `Annotated` and abstract variants into the types that they admit."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _members(args[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(member for arg in args for member in _members(arg))
    if inspect.isabstract(annotation) and issubclass(annotation, Variant):
        return annotation.variants()
    return (annotation,)


def _fields(cls: type) -> dict[str, Any]:
    """Name the fields of a dataclass and their annotations."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _variants(annotation: Any) -> list[type]:
    """List the dataclasses that an annotation admits."""
    return [member for member in _members(annotation) if dataclasses.is_dataclass(member)]


def _kinds(annotation: Any) -> dict[str, type]:
    """Map each kind that an annotation admits to its dataclass."""
    literals = {cls: _members(_fields(cls).get("kind"))[0] for cls in _variants(annotation)}
    return {kind: cls for cls, literal in literals.items() for kind in typing.get_args(literal)}


def _variant(annotation: Any, value: object) -> type | None:
    """Choose the dataclass that a mapping stands for: the only one, or the one of its kind."""
    variants = _variants(annotation)
    if not variants or not isinstance(value, Mapping):
        return None
    kind = str(value.get("kind"))
    return variants[0] if len(variants) == 1 else _kinds(annotation).get(kind)


def _item(annotation: Any, index: int) -> Any:
    """Give the annotation of an item of a tuple; `object` where there is none."""
    tuples = (member for member in _members(annotation) if typing.get_origin(member) is tuple)
    args = typing.get_args(next(tuples, None))
    return args[0] if args[1:] == (...,) else dict(enumerate(args)).get(index, object)


_WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string, in quotes where it looks like another type",
    types.NoneType: "null",
}


def _words(annotation: Any) -> str:
    """Say in words what an annotation admits."""
    kinds, parts = _kinds(annotation), []
    for member in _members(annotation):
        origin, args = typing.get_origin(member), typing.get_args(member)
        if origin is typing.Literal:
            parts.append("one of " + ", ".join(map(str, args)))
        elif origin is tuple:
            items = ("..." if arg is Ellipsis else _words(arg) for arg in args)
            parts.append(f"a list [{', '.join(items)}]")
        elif dataclasses.is_dataclass(member):
            keys = ", ".join(kinds or _fields(member))
            parts.append(f"a mapping with {'kind one of' if kinds else 'keys'} {keys}")
        else:
            parts.append(_WORDS.get(member, str(member)))
    return " or ".join(dict.fromkeys(parts))


class _Problem(typing.NamedTuple):
    """Hold one mistake: the path to it, what came, what was expected; `early` ones are shown first."""

    path: tuple
    came: str
    expected: str
    early: bool = False


def _show(value: object) -> str:
    """Write a value as the file would, in one short line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _mistake(came: str, expected: str) -> UserError:
    """Make the error of two lines."""
    lines = came, f"  expected {expected}"
    return UserError("\n".join(" ".join(line.splitlines()) for line in lines))


def _expand(annotation: Any, value: Any, path: tuple, problems: list[_Problem]) -> Any:
    """Write out the short form of kinds in a tree, and note the kinds that are missing or unknown."""
    kinds, cls = _kinds(annotation), _variant(annotation, value)
    short = isinstance(value, str) and str not in _members(annotation)
    if short and value in kinds:
        return {"kind": value}
    mapping = isinstance(value, Mapping)
    if kinds and cls is None and (short or mapping):
        at, kind = ((*path, "kind"), value.get("kind")) if mapping else (path, value)
        came = "missing" if kind is None else f"got {_show(kind)}"
        expected = "one of " + ", ".join(kinds) + nearest(str(kind), kinds)
        problems.append(_Problem(at, came, expected, early=True))
    if cls is not None:
        fields = _fields(cls)
        return {n: _expand(fields.get(n), v, (*path, n), problems) for n, v in value.items()}
    if isinstance(value, list | tuple):
        items = enumerate(value)
        return [_expand(_item(annotation, n), v, (*path, n), problems) for n, v in items]
    return value


def _follow(annotation: Any, value: Any, loc: tuple, path: tuple = ()) -> tuple | None:
    """Find the path, annotation and value at pydantic's location, which also names variants.

    A plain union reports on each of its variants: None for those that the tree did not choose.
    """
    cls = _variant(annotation, value)
    if loc and cls is not None and len(_variants(annotation)) > 1:
        if loc[0] not in (cls.__name__, value["kind"]):
            return None
        loc = loc[1:]
    if loc and cls is not None:
        inner, found = _fields(cls).get(loc[0]), value.get(loc[0])
    elif loc and isinstance(loc[0], int) and isinstance(value, list):
        inner, found = _item(annotation, loc[0]), value[loc[0]]
    else:
        return path, annotation, value
    return _follow(inner, found, loc[1:], (*path, loc[0]))


def _translate(schema: type, tree: Any, error: Tree) -> _Problem | None:
    """Put one of pydantic's errors in our words; None where it is about a variant not chosen."""
    kind, loc = error["type"], tuple(error["loc"])[1:]  # the first step is into the wrapper
    if kind == "missing" and isinstance(loc[-1], int):
        kind, loc = "too_short", loc[:-1]  # the mistake is the list, not the item that it lacks
    if (spot := _follow(schema, tree, loc)) is None:
        return None
    path, annotation, value = spot
    came, raised = f"got {_show(value)}", error.get("ctx", {}).get("error")
    if kind == "unexpected_keyword_argument":
        _, owner, mapping = _follow(schema, tree, loc[:-1]) or spot
        names = _fields(_variant(owner, mapping) or schema)
        expected = "one of " + ", ".join(names) + nearest(loc[-1], names)
        return _Problem(path, f"unknown key, with value {_show(value)}", expected, early=True)
    if kind == "missing":
        return _Problem(path, "missing", _words(annotation))
    if isinstance(raised, FieldError):
        return _Problem((*path, raised.field), f"got {_show(raised.given)}", raised.expected)
    if kind == "literal_error":
        literals = [str(arg) for member in _members(annotation) for arg in typing.get_args(member)]
        return _Problem(path, came, _words(annotation) + nearest(str(value), literals))
    if kind.endswith("_type") or kind in ("too_short", "too_long"):
        return _Problem(path, came, _words(annotation))
    return _Problem(path, came, f"other values: {raised or error['msg']}")


def _where(problem: _Problem, source: str, flags: Tree) -> str:
    """Name the flag that brought a problem, else the source, and the dotted key."""
    path, paths = problem.path, {flag: tuple(flag.split(".")) for flag in flags}
    culprits = sorted((flag for flag, at in paths.items() if path[: len(at)] == at), key=len)[-1:]
    culprits += [flag for flag, at in paths.items() if at[: len(path)] == path != ()]
    if problem.came == "missing":  # a flag brought the kind that needs it, or keys without a kind
        beside = [(flag, at[-1]) for flag, at in paths.items() if at[:-1] == path[:-1]]
        culprits += [flag for flag, name in beside if "kind" in (name, path[-1])]
    key = ".".join(map(str, path))
    place = f"--{culprits[0]}" if culprits else source
    return place if key in ("", *culprits[:1]) else f"{place}: {key}"


@functools.cache
def _adapter(schema: type) -> Any:
    """Make the strict validator of a schema, wrapped in a tuple of one.

    pydantic takes no configuration for a dataclass that is not its own; given for the tuple, it reaches
    every dataclass inside.
    """
    import pydantic

    wrapped: Any = types.GenericAlias(tuple, (schema,))
    return pydantic.TypeAdapter(wrapped, config={"strict": True, "extra": "forbid"})


def build(schema: type[T], tree: Tree, *, source: str, overrides: Tree | None = None) -> T:
    """Build the dataclasses of a schema from a tree, in one strict validation.

    Args:
        schema: the outermost dataclass.
        tree: the values, from `read_yaml`, with or without the flags.
        source: the tree's file; errors name it.
        overrides: the flags, which are merged in; errors in what they set name the flag.

    Returns:
        An instance of `schema`; every dataclass within has checked itself in `__post_init__`.

    Raises:
        UserError: where a key is unknown or missing, or a value has the wrong type, kind or range. The
            first mistake is shown, the others are counted.
    """
    import pydantic

    flags, problems = overrides or {}, list[_Problem]()
    plain = _expand(schema, merge(tree, flags), (), problems)
    try:
        (config,) = _adapter(schema).validate_json(json.dumps([plain]))
        return config
    except pydantic.ValidationError as failure:
        reported = (_translate(schema, plain, error) for error in failure.errors(include_url=False))
        for problem in filter(None, reported):
            # One mistake, one message: nothing where one path leads to or through another.
            beside = [zip(problem.path, other.path, strict=False) for other in problems]
            if not any(all(mine == theirs for mine, theirs in steps) for steps in beside):
                problems.append(problem)
    first = min(problems, key=lambda problem: not problem.early)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise _mistake(f"{_where(first, source, flags)}: {first.came}{more}", first.expected)


def to_tree(config: Any) -> Any:
    """Write a configuration as plain values: fields in order, kinds included, tuples as lists."""
    if dataclasses.is_dataclass(config):
        return {name: to_tree(getattr(config, name)) for name in _fields(type(config))}
    return [to_tree(item) for item in config] if isinstance(config, list | tuple) else config


def dump(config: Any) -> str:
    """Write a configuration as YAML, such that `build` of it gives an equal one."""
    style = {"sort_keys": False, "default_flow_style": False, "allow_unicode": True, "width": 100}
    return yaml.dump(to_tree(config), Dumper=_Dumper, **style)


def json_schema(schema: type) -> dict[str, Any]:
    """Describe a schema in JSON Schema, for editors; the short form of kinds is in it."""
    document = _adapter(schema).json_schema()
    for name, definition in document["$defs"].items():
        kind = definition.get("properties", {}).get("kind", {})
        short = {key: kind[key] for key in ("const", "enum") if key in kind}
        if short:
            document["$defs"][name] = {"anyOf": [definition, short]}
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {**dialect, **document["prefixItems"][0], "$defs": document["$defs"]}
