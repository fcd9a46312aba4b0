"""What a mutation is."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """Hold one mistake: what to call it, the file, the text, what to put there, and the tests to run."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
