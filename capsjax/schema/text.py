"""Configurations as text: YAML to plain values, and dataclasses to YAML.

Plain values are mappings, lists, strings, numbers, booleans and null: a tree. `tree` builds
dataclasses from it.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import yaml

from capsjax.schema.errors import abbreviated, two_line_error

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

    def represent_scalar(self, tag, value, style=None):
        # In a plain or single-quoted string, readers take these for a break of the line, and fold it.
        breaks = isinstance(value, str) and set("\x85\u2028\u2029") & set(value)
        return super().represent_scalar(tag, value, '"' if breaks else style)


NOTHING = object()  # what a text without a value holds


def _load(text: str, place: str) -> object:
    """Read one YAML document, `NOTHING` if the text has none; `place` begins the errors."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return NOTHING if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        got = f"{place}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    except (yaml.YAMLError, ValueError, LookupError, TypeError, RecursionError) as error:
        # A control character, `!!bool maybe`, thousands of digits or of nested brackets.
        got = f"{place}: {error}"
    raise two_line_error(got, "plain YAML: `key: value` lines, nested by spaces")


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
        UserError: If the text is not YAML, holds a key twice, or is not a mapping.
    """
    tree = _load(text, source)
    if not isinstance(tree, dict):
        got = "nothing is in it" if tree is NOTHING else f"got {abbreviated(tree)}"
        raise two_line_error(f"{source}: {got}", "a mapping: `key: value` lines")
    return tree


def read_value(text: str, place: str) -> object:
    """Read one value, by the rules of `read_yaml`: a number, a string, a list, `{kind: full}`, `null`.

    Args:
        text: the YAML text.
        place: what error messages begin with.

    Returns:
        The plain value; `NOTHING` if the text holds none.

    Raises:
        UserError: If the text is not YAML.
    """
    return _load(text, place)


def to_tree(config: Any) -> Any:
    """Write a configuration as plain values: fields in order, the kind first, tuples as lists."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        names = [field.name for field in dataclasses.fields(config) if field.init]
        names.sort(key=lambda name: name != "kind")
        return {name: to_tree(getattr(config, name)) for name in names}
    if isinstance(config, Mapping):
        return {key: to_tree(value) for key, value in config.items()}
    return [to_tree(item) for item in config] if isinstance(config, list | tuple) else config


def dump(config: Any) -> str:
    """Write a configuration as YAML, such that `tree.build` gives an equal one."""
    style = {"sort_keys": False, "default_flow_style": False, "allow_unicode": True, "width": 100}
    return yaml.dump(to_tree(config), Dumper=_Dumper, **style)
