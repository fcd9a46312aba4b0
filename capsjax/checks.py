"""Checks at the edges, and the errors that they raise.

Every error says what was given, what was expected and how to fix it. `UserError` is what a user can fix:
the command line prints it in one or two lines and exits with 2; from Python it is a `ValueError`. Its message
speaks of Python, of arguments and calls; what the command line calls otherwise, it carries beside that.
"""

import dataclasses
import difflib
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any

LARGEST_INT = 2**31 - 1  # what loops on a device can count to
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters that draw nothing
LARGEST_FLOAT = 3.4e38  # what float32 can hold
KNOWN = (
    " that is known when the function is traced: a Python number from outside it, or a static argument of "
    "jax.jit (static_argnames)"
)
DERIVATIVE = (
    "; for a derivative with respect to it, call with Python numbers x + h and x - h and take (f(x + h) - "
    "f(x - h)) / (2 h), or let a routing of your own take it as an array (docs/extending.md, Differentiate "
    "with respect to a number)"
)


class UserError(ValueError):
    """Tell the user of a mistake that they can fix.

    Args:
        message: what was given, what was expected, and how to fix it, in the words of Python.
        on_command_line: the same with commands instead of calls, where it differs.
        argument: the argument, or the dotted key of an override, whose name begins the message; the command
            line writes its own flag there.
    """

    def __init__(
        self, message: str, *, on_command_line: str | None = None, argument: str | None = None
    ):
        super().__init__(message)
        self.on_command_line = message if on_command_line is None else on_command_line
        self.argument = argument

    def within(self, place: str) -> "UserError":
        """Return the same mistake with the place that it was made in, such as a file, before it."""
        return UserError(f"{place}: {self}", on_command_line=f"{place}: {self.on_command_line}")

    def or_set(self, words: str, key: str, value: str) -> "UserError":
        """Return the same mistake with a field of the configuration after it that remedies it.

        Args:
            words: what leads over to the field.
            key: its dotted key.
            value: what it is to be, as YAML.
        """
        return UserError(
            f"{self}{words}{key} {value}",
            on_command_line=f"{self.on_command_line}{words}--{key} {shlex.quote(value)}",
            argument=self.argument,
        )


class FieldError(UserError):
    """Tell which field of which configuration object holds a value that it cannot hold.

    Args:
        owner: the class that has the field.
        field: the field's name.
        given: the value that it holds.
        expected: what would have been accepted, in words.
        in_config: the same in the words of a configuration file, if they differ.
    """

    def __init__(
        self, owner: str, field: str, given: object, expected: str, in_config: str | None = None
    ):
        if is_traced(given):
            expected += KNOWN + (DERIVATIVE if "float" in str(getattr(given, "dtype", "")) else "")
        self.field = field
        self.given = given
        self.expected = expected
        self.in_config = expected if in_config is None else in_config
        argument = f"{owner}.{field}"
        super().__init__(
            f"{argument}: got {written(given)}, expected {expected}",
            on_command_line=f"{argument}: got {written(given)}, expected {self.in_config}",
            argument=argument,
        )


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known name: by its letters, or as a part of the word or a longer name with it.

    Capital letters count as small ones, and dashes as underscores.

    Args:
        word: the name that was given.
        known: the names that would have been accepted.

    Returns:
        The end of a message, such as `"; did you mean 'x'?"`; empty if none is near.

    Example:
        >>> nearest("SelfRouting", ["self_attention", "self"])
        "; did you mean 'self'?"
    """
    parts = {name: _parts(name) for name in known}
    given = _parts(word)
    letters = {"_".join(own): name for name, own in reversed(parts.items())}  # the first of equals
    # A slip of letters first; words in common before names that are merely alike in letters.
    for cutoff, names in ((0.8, letters), (0.0, _within(given, letters)), (0.5, letters)):
        close = difflib.get_close_matches("_".join(given), list(names), n=1, cutoff=cutoff)
        if close:
            return f"; did you mean {letters[close[0]]!r}?"
    return ""


def _parts(name: str) -> tuple[str, ...]:
    """Part a name into its words in small letters: at dashes, underscores and, as of a class, at capitals."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return tuple(apart.replace("-", "_").lower().split("_"))


def _within(given: tuple[str, ...], letters: Iterable[str]) -> list[str]:
    """Return the names that are whole words of the given one, or have it as such; beginnings first."""
    text = f"_{'_'.join(given)}_"
    found = [name for name in letters if f"_{name}_" in text or text in f"_{name}_"]
    first = [n for n in found if text.startswith(f"_{n}_") or f"_{n}_".startswith(text)]
    return first or found


def is_traced(value: Any) -> bool:
    """Return whether a value, or one in a tuple, is a tracer: an array while JAX transforms."""
    if isinstance(value, tuple):
        return any(map(is_traced, value))
    # Whoever has a tracer has imported JAX; the command line's first answers do without it.
    core = sys.modules.get("jax.core")
    return core is not None and isinstance(value, core.Tracer)


def written(value: Any) -> str:
    """Write a value for an error; a tracer by its type and shape."""
    if not is_traced(value):
        return repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(written, value))})"
    return f"a traced {value.dtype}{list(value.shape)}"  # its own representation fills lines


def printable(text: str) -> str:
    """Escape what would move a cursor, colour a terminal or turn the direction of writing round.

    Args:
        text: what is to be shown, with names that others chose; its breaks of lines and tabs stay.

    Returns:
        The text, with every other control or format character escaped as in a Python string.
    """
    if text.isprintable():  # nearly always
        return text
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) in UNSEEN and char not in "\n\t" else char
        for char in text
    )


def plain(value: Any) -> Any:
    """Return a number of NumPy's or JAX's as Python's own; anything else as it is.

    A tracer stays one: under `jax.grad` it has a number, which would be a constant to the gradient.
    """
    # By what it has, not by its type: NumPy and JAX need not be imported for it.
    is_number = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if is_number and not is_traced(value) else value


def _plain_field(owner: object, field: str) -> Any:
    """Return `owner.field`, having made a number there Python's own, as equality and files need it."""
    given = plain(getattr(owner, field))
    object.__setattr__(owner, field, given)  # the value is frozen, and not yet in anyone's hands
    return given


def check_known(owner: Any) -> None:
    """Check that no field of a frozen value, or of those in it, is a tracer, whatever else checks them.

    Raises:
        FieldError: If one is.
    """
    for field in dataclasses.fields(owner):
        given = getattr(owner, field.name)
        if is_traced(given):
            raise FieldError(type(owner).__name__, field.name, given, "a value")
        if dataclasses.is_dataclass(given) and not isinstance(given, type):
            check_known(given)


def check_int(owner: object, field: str, *, low: int, high: int | None = None) -> None:
    """Check that `owner.field` is an integer from `low` to `high` (both included), or to 2^31 - 1.

    NumPy's and JAX's integers become Python's.

    Args:
        owner: the frozen value.
        field: the name of its field.
        low: the least value that is accepted.
        high: the largest; None for 2^31 - 1.

    Raises:
        FieldError: If it is not.
    """
    given = _plain_field(owner, field)
    is_int = isinstance(given, int) and not isinstance(given, bool)  # True is an int in Python
    most = LARGEST_INT if high is None else high
    if is_int and low <= given <= most:
        return
    bounded = high is not None or (is_int and given > most)
    expected = f"an integer from {low} to {most}" if bounded else f"an integer of at least {low}"
    raise FieldError(type(owner).__name__, field, given, expected)


def check_float(
    owner: object,
    field: str,
    *,
    low: float,
    high: float = LARGEST_FLOAT,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Check that `owner.field` is a finite number from `low` to `high`, without the ends that are open.

    NumPy's and JAX's numbers become Python's.

    Args:
        owner: the frozen value.
        field: the name of its field.
        low: the lower end.
        high: the upper end.
        open_low: whether `low` itself is refused.
        open_high: whether `high` itself is refused.

    Raises:
        FieldError: If it is not.
    """
    given = _plain_field(owner, field)
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    # Comparisons with NaN are false, so it is refused without a test of its own.
    above = is_number and (given > low or (given == low and not open_low))
    if above and (given < high or (given == high and not open_high)):
        return
    bound = f"greater than {low:g}" if open_low else f"of at least {low:g}"
    most = f" and {'below' if open_high else 'at most'} {high:g}"
    bounded = high != LARGEST_FLOAT or (is_number and given > high)
    expected = f"a number {bound}" + (most if bounded else "")
    raise FieldError(type(owner).__name__, field, given, expected)


def check_bool(owner: object, field: str) -> None:
    """Check that `owner.field` is True or False.

    Args:
        owner: the frozen value.
        field: the name of its field.

    Raises:
        FieldError: If it is not.
    """
    given = _plain_field(owner, field)
    if not isinstance(given, bool):
        raise FieldError(type(owner).__name__, field, given, "True or False")


def check_type(owner: object, field: str, kind: type | tuple[type, ...], expected: str) -> None:
    """Check that `owner.field` is an instance of a class, or of one of several.

    Args:
        owner: the frozen value.
        field: the name of its field.
        kind: the class or classes.
        expected: the same in words, for the message.

    Raises:
        FieldError: If it is not.
    """
    given = getattr(owner, field)
    if not isinstance(given, kind):
        raise FieldError(type(owner).__name__, field, given, expected)


def check_choice(owner: object, field: str, choices: Iterable[str]) -> None:
    """Check that `owner.field` is one of `choices`.

    Args:
        owner: the frozen value.
        field: the name of its field.
        choices: what is accepted.

    Raises:
        FieldError: If it is not; the nearest choice is named.
    """
    given = getattr(owner, field)
    choices = tuple(choices)
    if given not in choices:
        expected = "one of " + ", ".join(choices) + nearest(str(given), choices)
        raise FieldError(type(owner).__name__, field, given, expected)
