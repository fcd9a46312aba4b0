"""Checks at the edges, and the errors that they raise.

Every error says what came, what was expected and how to mend it. `UserError` is what a user can mend:
the command line prints it in one or two lines and exits with 2; from Python it is a `ValueError`.
"""

import difflib
import math
from collections.abc import Iterable


class UserError(ValueError):
    """Tell the user of a mistake that they can mend."""


class FieldError(UserError):
    """Tell which field of which configuration object holds a value that it cannot hold.

    Args:
        owner: the class that has the field.
        field: the field's name.
        given: the value that came.
        expected: what would have been accepted, in words.
    """

    def __init__(self, owner: str, field: str, given: object, expected: str):
        super().__init__(f"{owner}.{field}: got {given!r}, expected {expected}")
        self.field = field
        self.given = given
        self.expected = expected


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name: `"; did you mean 'x'?"`, or nothing when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_int(owner: object, field: str, *, low: int, high: int | None = None) -> None:
    """Check that `owner.field` is an integer from `low` to `high` (both included).

    Raises:
        FieldError: where it is not.
    """
    given = getattr(owner, field)
    expected = (
        f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    )
    if isinstance(given, bool) or not isinstance(given, int):
        raise FieldError(type(owner).__name__, field, given, expected)
    if given < low or (high is not None and given > high):
        raise FieldError(type(owner).__name__, field, given, expected)


def check_float(
    owner: object,
    field: str,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Check that `owner.field` is a finite number from `low` to `high`, without the ends that are open.

    Raises:
        FieldError: where it is not.
    """
    given = getattr(owner, field)
    bound = f"greater than {low:g}" if open_low else f"of at least {low:g}"
    most = f" and {'below' if open_high else 'at most'} {high:g}"
    expected = f"a number {bound}" + ("" if math.isinf(high) else most)
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise FieldError(type(owner).__name__, field, given, expected)
    outside = given > high or given < low
    if outside or (open_low and given == low) or (open_high and given == high):
        raise FieldError(type(owner).__name__, field, given, expected)


def check_bool(owner: object, field: str) -> None:
    """Check that `owner.field` is True or False.

    Raises:
        FieldError: where it is not.
    """
    given = getattr(owner, field)
    if not isinstance(given, bool):
        raise FieldError(type(owner).__name__, field, given, "True or False")


def check_type(owner: object, field: str, kind: type | tuple[type, ...], expected: str) -> None:
    """Check that `owner.field` is an instance of a class, or of one of several.

    Raises:
        FieldError: where it is not; `expected` says in words what would have been accepted.
    """
    given = getattr(owner, field)
    if not isinstance(given, kind):
        raise FieldError(type(owner).__name__, field, given, expected)


def check_choice(owner: object, field: str, choices: Iterable[str]) -> None:
    """Check that `owner.field` is one of `choices`.

    Raises:
        FieldError: where it is not; the nearest choice is named.
    """
    given = getattr(owner, field)
    choices = tuple(choices)
    if given not in choices:
        expected = "one of " + ", ".join(choices) + nearest(str(given), choices)
        raise FieldError(type(owner).__name__, field, given, expected)
