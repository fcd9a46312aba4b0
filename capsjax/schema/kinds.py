"""What a change of a kind sets back to the defaults of the new one, without a word of it in the change."""

from collections.abc import Iterable, Mapping
from typing import Any


def set_back(
    said: Any, before: Any, after: Any, given: Iterable[str]
) -> dict[str, tuple[Any, Any]]:
    """Find the fields that a file sets and another kind has too, with another value, which nobody set.

    Args:
        said: the tree of a configuration as its file has it.
        before: the same, complete, as `text.to_tree` makes it.
        after: the tree of the same with overrides.
        given: the dotted keys of the overrides.

    Returns:
        By dotted key the value before and that after.

    Example:
        >>> before = {"routing": {"kind": "dynamic", "gradient": {"kind": "full"}}}
        >>> after = {"routing": {"kind": "em", "gradient": {"kind": "stop"}}}
        >>> set_back({"routing": {"gradient": "full"}}, before, after, ["routing"])
        {'routing.gradient': ({'kind': 'full'}, {'kind': 'stop'})}
    """
    found: dict[str, tuple[Any, Any]] = {}
    _walk(before, after, "", tuple(given), found)
    return {key: values for key, values in found.items() if _names(said, key.split("."))}


def _names(tree: Any, path: list[str]) -> bool:
    """Tell whether a tree has a value at a path."""
    for name in path:
        if not isinstance(tree, Mapping) or name not in tree:
            return False
        tree = tree[name]
    return True


def _walk(
    before: Any,
    after: Any,
    prefix: str,
    given: tuple[str, ...],
    found: dict[str, tuple[Any, Any]],
) -> None:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return
    other = before.get("kind") != after.get("kind")
    for name in before.keys() & after.keys() - {"kind"}:
        key, old, new = f"{prefix}{name}", before[name], after[name]
        if old == new:
            continue
        if other and not any(one == key or one.startswith(f"{key}.") for one in given):
            found[key] = old, new
        else:
            _walk(old, new, f"{key}.", given, found)
