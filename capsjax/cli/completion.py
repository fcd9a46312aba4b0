"""`capsjax completion SHELL`: what makes a shell complete commands, flags, configurations and dotted keys."""

import argparse
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from capsjax.cli.steps import no_flags

SHELLS = ("bash", "zsh", "fish")
CONFIGURED = ("train", "compare", "info", "bench step", "bench forward")
MEASURED = ("evaluate", "report", "data show")  # which take flags of the data alone, beside a run


def completion(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the script that makes a shell complete commands, flags and keys.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: anything more, which is refused.

    Returns:
        0.

    Raises:
        UserError: If there is anything more.
    """
    no_flags(arguments, rest)
    print(script(arguments.shell))
    return 0


def script(shell: str) -> str:
    """Write the script of a shell: everything that is completed stands in it, so that Tab starts no Python.

    Args:
        shell: bash, zsh or fish.

    Returns:
        The script.
    """
    import shtab

    from capsjax.cli.parser import make_parser
    from capsjax.data import published_sets
    from capsjax.runs.config import shipped_configs

    parser, words = make_parser(), " ".join(shipped_configs())
    names = tuple(published_sets())
    configs = {
        "bash": "_capsjax_configs",
        "zsh": "_capsjax_configs",
        "fish": f"(printf '%s\\n' {words}; __fish_complete_path (commandline -ct))",
    }
    preamble = {
        "bash": f'_capsjax_configs() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}',
        "zsh": "_capsjax_configs() { _alternative 'configs:configuration:("
        + words
        + ")' 'files:file:_files' }",
        "fish": "",
    }
    keys = admitted()
    for name, sub in subcommands(parser).items():
        own = set(sub._option_string_actions)  # of the command, before the keys are added
        for key, choices in keys.items():
            taken = name in CONFIGURED or (name in MEASURED and key.startswith("data."))
            if taken and f"--{key}" not in own:
                sub.add_argument(f"--{key}", choices=choices or None, help="configuration")
        for action in sub._actions:
            if action.dest == "config":
                action.complete = configs
            elif action.dest in ("folder", "folders", "out", "resume", "start", "data.folder"):
                action.complete = shtab.DIRECTORY
            elif action.dest == "set" and name != "data show":
                action.choices = names
            elif action.dest in ("data.path", "set"):
                action.complete = shtab.FILE
    return shtab.complete(parser, shell=shell, preamble=preamble[shell])


def subcommands(parser: argparse.ArgumentParser, prefix: str = "") -> dict[str, Any]:
    """List the parsers of commands, and of commands within commands.

    Args:
        parser: one that may have commands.
        prefix: the words that lead to it, each with a space after it.

    Returns:
        Each command's parser by its words, such as `bench step`.
    """
    found = {}
    # argparse has no public way from a parser to its commands.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                found[f"{prefix}{name}"] = sub
                found |= subcommands(sub, f"{prefix}{name} ")
    return found


def admitted() -> Mapping[str, tuple[str, ...]]:
    """Return every dotted key of a configuration, with the words that it accepts if they are few."""
    from capsjax.runs.config import Config
    from capsjax.schema.errors import all_keys
    from capsjax.schema.fields import fields_of, kinds_of, types_in, walk_dataclasses

    words: dict[str, dict[str, None]] = {key: {} for key in all_keys(Config)}
    for at, cls in walk_dataclasses(Config):
        for name, annotation in fields_of(cls).items():
            key = ".".join((*at, name))
            if key not in words:  # within an item of a list, which no flag reaches
                continue
            words[key] |= dict.fromkeys(kinds_of(annotation))
            for member in types_in(annotation):
                if typing.get_origin(member) is typing.Literal:
                    words[key] |= dict.fromkeys(map(str, typing.get_args(member)))
                elif member is bool:
                    words[key] |= dict.fromkeys(("true", "false"))
    return {key: tuple(found) for key, found in words.items()}
