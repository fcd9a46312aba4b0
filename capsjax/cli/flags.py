"""The words of a command line: which are a command's own, and which are flags of the configuration."""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

from capsjax.checks import UserError, nearest
from capsjax.schema.names import canonical, did_you_mean, keys_named, keys_near

# What other programs call a command's own flags.
USUAL_FLAGS = {
    **dict.fromkeys(
        ("o", "output", "output_dir", "outdir", "save_dir", "logdir", "folder"), "--out"
    ),
    **dict.fromkeys(("continue", "ckpt", "checkpoint", "resume_from", "restore"), "--resume"),
    **dict.fromkeys(("q", "silent", "no_progress", "no_progress_bar"), "--quiet"),
    **dict.fromkeys(("s", "random_seed"), "--seed"),
}


def set_overrides_aside(known: set[str], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate a command's own words from flags of the configuration, which it does not know.

    Without this, `argparse` takes a flag that it does not know to have no value, and the value after it for
    the name of the configuration.

    Args:
        known: the command's own flags, from `options_of`.
        words: the command line, without the program.

    Returns:
        The words that the command is to read, and the others: flags, each with its value if it has one.
    """
    own, overrides = [], []
    words = list(reversed(words))  # a stack, from whose end the next word is taken
    while words:
        word = words.pop()
        name, equals, _ = word.partition("=")
        if not name.startswith("--") or name in known:
            own.append(word)
            continue
        overrides.append(word)
        if not equals and words and not (words[-1].startswith("--") or words[-1] in known):
            overrides.append(words.pop())
    return own, overrides


def options_of(parser: argparse.ArgumentParser, words: Sequence[str]) -> set[str]:
    """Return the options of a parser, and of the commands that the words name.

    Args:
        parser: the parser of the program or of a command.
        words: the words that it is to read.

    Returns:
        Options as they are written, such as `--out` and `-h`.
    """
    options = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            # The first word that names a command: what stands before it is a flag's value.
            commands = [place for place, word in enumerate(words) if word in action.choices]
            if commands:
                command, rest = words[commands[0]], words[commands[0] + 1 :]
                options |= options_of(action.choices[command], rest)
    return options


class Parser(argparse.ArgumentParser):
    """Answer mistakes in two lines instead of a page of usage."""

    def error(self, message: str) -> Any:
        """Print the mistake, with the nearest command where one is misspelt, and exit with 2."""
        # argparse has no hook for this one, so its own sentence is taken apart.
        unknown = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if unknown:
            message += nearest(unknown[1], re.findall(r"\w+", unknown[2]))
        print(f"{self.prog}: {message}\n  see {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def check_flags(
    options: set[str],
    rest: Sequence[str],
    keys: Sequence[str],
    *,
    admitted: Sequence[str] | None = None,
) -> None:
    """Refuse a flag that is neither the command's own nor a field of the configuration.

    What is below a field that there is, the configuration checks.

    Args:
        options: the command's own flags.
        rest: words that the command does not know.
        keys: every dotted key of the configuration; none where the command reads no configuration.
        admitted: dotted keys that the command takes, which are all that is suggested; None for all.

    Raises:
        UserError: At the first such flag.
    """
    own = sorted(option for option in options if option.startswith("--"))
    expected = f"one of {', '.join(own)}"
    if admitted is not None:
        own_keys = [key for key in admitted if key != "data.kind"]
        likely = "data.path images.npz" if "data.path" in own_keys else next(iter(own_keys), "")
        expected += f", or a field of the data, such as --{likely}" if likely else ""
    elif keys:
        expected += ", or a field of the configuration, such as --seed 3"
    for word in rest:
        name = word.partition("=")[0]
        is_flag = re.match(r"--?[A-Za-z_]", name)
        if is_flag and name.removeprefix("--").split(".")[0] not in keys:
            hint = did_you_mean(suggestions(name, options, keys if admitted is None else admitted))
            raise UserError(f"{name}: unknown flag, expected {expected}{hint}")
    if rest and not keys:
        raise UserError(f"got {rest[0]!r}, expected nothing more")


def suggestions(name: str, options: set[str], keys: Sequence[str]) -> list[str]:
    """Find the flags that an unknown one may mean: the command's own, or of the configuration.

    Args:
        name: the flag, such as `--lr` or `-q`.
        options: the command's own flags.
        keys: every dotted key of the configuration.

    Returns:
        Flags: those of that name, else those that other programs call so, else the nearest.
    """
    # From what is surest to what is least: another spelling, a key, another program's word, a near miss.
    word, own = canonical(name), {canonical(option): option for option in options}
    if word in own:
        return [own[word]]
    if named := keys_named(keys, name):
        return [f"--{key}" for key in named]
    if (usual := USUAL_FLAGS.get(word)) in options:
        return [usual]
    outer = {key: f"--{key}" for key in keys if "." not in key}
    close = difflib.get_close_matches(word, [*own, *outer], n=1, cutoff=0.7)
    if close:
        return [({**outer, **own})[close[0]]]
    return [f"--{key}" for key in keys_near(keys, name)]


def parse_overrides(args: Sequence[str]) -> dict[str, object]:
    """Read dotted flags, `--model.routing.num_iters 5` or `--model.routing.num_iters=5`.

    Values follow the rules of `schema/text.py`, so lists, `null` and `{kind: full}` work too.

    Args:
        args: the words of the command line.

    Returns:
        Dotted key to value, in the order of the flags.

    Raises:
        UserError: If a word is not a flag, a flag has no value or stands twice, or a value is not YAML.
    """
    from capsjax.schema.errors import two_line_error
    from capsjax.schema.text import NOTHING, read_value  # which loads JAX's types

    overrides: dict[str, object] = {}
    words = list(reversed(args))
    while words:
        word = words.pop()
        key, equals, text = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not all(key.split(".")):
            raise two_line_error(f"got {word!r} on the command line", "a flag such as `--seed 3`")
        if not equals and words and not words[-1].startswith("--"):
            text = words.pop()
        value = read_value(text, f"--{key} {text}")
        if value is NOTHING:
            raise two_line_error(
                f"--{key}: no value", f"`--{key} VALUE`, such as 3, null or '\"\"'"
            )
        if key in overrides:
            raise two_line_error(f"--{key}: given twice", "every flag once")
        overrides[key] = value
    return overrides


def for_command_line(error: UserError, options: set[str], overrides: Sequence[str]) -> str:
    """Write a mistake in the words of the command line: flags for arguments, commands for calls.

    Args:
        error: what a function of the library raised.
        options: the command's own flags.
        overrides: the flags of the configuration that were given.

    Returns:
        The message; it begins with a flag if the argument was given as one.
    """
    text, argument = error.on_command_line, error.argument
    if argument is None or not text.startswith(argument):
        return text
    # The one flag that is not called as its argument is: `from` is a word of Python.
    name = "from" if argument == "start" else argument.split(".")[-1].replace("_", "-")
    own, dotted = f"--{name}", f"--{argument}"
    got = {word.partition("=")[0] for word in overrides} | options
    # A default that does not fit came from no flag, and keeps the argument's name.
    flag = next((flag for flag in (dotted, own) if flag in got), argument)
    return flag + text.removeprefix(argument)
