"""A mapping that does not change: parts of a configuration by name, in order."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")


class Named(Mapping[str, T]):
    """Hold values by name, in order; equal only where the order is, and hashable where the values are.

    Args:
        values: what to hold.

    Example:
        >>> list(Named({"b": 1, "a": 2}))
        ['b', 'a']
        >>> Named({"b": 1, "a": 2}) == Named({"a": 2, "b": 1})
        False
    """

    def __init__(self, values: Mapping[str, T]):
        self._values = dict(values)

    def __getitem__(self, name: str) -> T:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        # A mapping's own equality leaves the order out, which layers and arms have.
        return list(self.items()) == list(other.items())

    def __repr__(self) -> str:
        return repr(self._values)
