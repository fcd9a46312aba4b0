"""What several commands do first or last: read the configuration, start JAX, show tables."""

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from capsjax.checks import UserError, nearest
from capsjax.cli.flags import check_flags, parse_overrides


def read(arguments: argparse.Namespace, rest: Sequence[str]) -> Any:
    """Read the configuration that a command names, with its flags.

    Args:
        arguments: what the command line says; `config` is a file, the name of one that ships, or data,
            which are then those of the starting configuration for them.
        rest: flags of the configuration.

    Returns:
        The `Config`.

    Raises:
        UserError: If the file or a flag does not fit.
    """
    from capsjax.runs import config

    given = read_overrides(arguments, rest)
    name, data = _start_of(arguments.config)
    overrides = data | given
    # `--seed` is a flag of the command, so that its help shows it, and a field of the configuration.
    if getattr(arguments, "seed", None) is not None:
        overrides |= parse_overrides(["--seed", arguments.seed])
    found = config.load_config(name, overrides)
    if overrides and not getattr(arguments, "quiet", False):
        _tell_what_is_set_back(name, found, overrides)
    return found


def _start_of(given: str) -> tuple[str, dict[str, object]]:
    """Find the configuration that a command starts with, and its data where these are named instead.

    Args:
        given: a file, the name of a configuration that ships, or data.

    Returns:
        The configuration's name, and the overrides that say where the data are, if they are named.

    Raises:
        UserError: If it is no data that can be read.
    """
    # What is not there is no configuration either, and is named as one.
    if names_configuration(given) or not Path(given).exists():
        return given, {}
    from capsjax.data.places import source_at

    source = source_at(given)
    return source.starts_with, {"data.kind": source.kind, "data.path": given}


def names_configuration(given: str) -> bool:
    """Return whether one word names a configuration: one that ships, a run, or a file that is no data.

    Args:
        given: the word.
    """
    from capsjax.data.places import may_be_data
    from capsjax.runs.config import shipped_configs

    path = Path(given)
    # What ships, and a run, are what they are called.
    if given in shipped_configs() or (path / "config.yaml").exists():
        return True
    return path.exists() and not may_be_data(path)  # whatever its file is called


def data_at(given: str) -> dict[str, object]:
    """Find the data that one word names: a kind of data, or a path.

    Args:
        given: the word.

    Returns:
        The overrides that say so: `data.kind`, and `data.path` of a path; none where it is neither the name
        of a kind nor like a path, and so a kind misspelt.

    Raises:
        UserError: If it is a path without data that can be read.
    """
    from capsjax.data import Source
    from capsjax.data.places import source_at
    from capsjax.schema.fields import kinds_of

    path = Path(given)
    # A folder may be called as a data set is: then it is the set, for every command.
    if given in kinds_of(Source):
        return {"data.kind": given}
    if path.exists() or path.suffix or path.name != given:
        return {"data.kind": source_at(given).kind, "data.path": given}
    return {}


def _overrides(rest: Sequence[str]) -> dict[str, object]:
    """Read flags of the configuration; `--data PATH` is short for the kind of data there, and their path."""
    found = parse_overrides(rest)
    given = found.get("data")
    named = data_at(given) if isinstance(given, str) else {}
    if "data.path" in named:
        return named | {key: value for key, value in found.items() if key != "data"}
    if isinstance(given, str) and not named:
        raise _no_data(given)
    return found


def _no_data(given: str) -> UserError:
    """Say of a word that is neither a path nor a kind of data which there are."""
    from capsjax.data import Source
    from capsjax.data.places import EXPECTED
    from capsjax.schema.fields import kinds_of

    kinds = sorted(kinds_of(Source))
    return UserError(
        f"data: got {given!r}, no such file or folder, expected {EXPECTED}; or one of {', '.join(kinds)}"
        + nearest(given, kinds),
        argument="data",
    )


def _tell_what_is_set_back(name: str, found: Any, overrides: Mapping[str, object]) -> None:
    """Say which fields have the defaults of a new kind where the file had something else."""
    from capsjax.runs import config
    from capsjax.schema.kinds import set_back
    from capsjax.schema.text import read_yaml, to_tree

    try:
        before = config.load_config(name)
    except UserError:  # a file that the flags complete
        return
    said = read_yaml(config.find_config(name).read_text(encoding="utf-8"), name)
    for key, (old, new) in set_back(said, to_tree(before), to_tree(found), overrides).items():
        was, now = (
            value.get("kind", json.dumps(value)) if isinstance(value, dict) else value
            for value in (old, new)
        )
        try:
            config.load_config(name, {**overrides, key: old})
        except UserError:  # the new kind means something else by that name
            kept = ""
        else:
            kept = f"; to keep that: --{key} {shlex.quote(json.dumps(old))}"
        print(
            f"{key}: {now}, the default of the new kind, where {name} says {was}{kept}",
            file=sys.stderr,
        )


def read_overrides(
    arguments: argparse.Namespace, rest: Sequence[str], *, of: type | None = None
) -> dict[str, object]:
    """Read the flags of a configuration.

    Args:
        arguments: what the command line says.
        rest: flags of the configuration.
        of: the class of its data, where they may be about these alone, for what is suggested; `Source`
            where it may be any.

    Returns:
        Dotted key to value; empty if there are no flags.

    Raises:
        UserError: If a flag is not a field of the configuration.
    """
    from capsjax.runs import config
    from capsjax.schema.errors import all_keys

    admitted = None if of is None else [f"data.{key}" for key in all_keys(of)]
    check_flags(arguments.options, rest, all_keys(config.Config), admitted=admitted)
    return _overrides(rest)


def read_data(arguments: argparse.Namespace, rest: Sequence[str], folder: Path) -> Any:
    """Load the data that flags name for a run, in place of those of its configuration.

    Args:
        arguments: what the command line says.
        rest: flags, such as `--data FOLDER` or `--data.path x.npz`.
        folder: the run's directory.

    Returns:
        The dataset; None if there are no flags.

    Raises:
        UserError: If a flag is about anything but data, or the data cannot be had.
    """
    from capsjax.data import Source

    overrides = read_overrides(arguments, rest, of=Source)
    if not overrides:
        return None
    for key in overrides:
        if key.split(".")[0] != "data":
            got = (
                f"{key}: got it beside a run, expected flags of its data alone, such as --data.path"
            )
            raise UserError(
                f"{got}: the run's own configuration says everything else", argument=key
            )
    from capsjax.progress import Silent
    from capsjax.runs import directory
    from capsjax.runs.folder import Folder
    from capsjax.runs.sources import check_image_shape, load_data, shaped_data

    config = directory.read_config(folder, overrides)
    shape = Folder(folder).image_shape
    dataset = load_data(config, shaped_data(config, None, shape), Silent())
    check_image_shape(dataset, config.data, shape)
    place = getattr(config.data, "path", None)
    return dataclasses.replace(dataset, name=Path(place).stem) if place else dataset


def no_flags(arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    """Refuse flags of the configuration, for a command that reads none.

    Args:
        arguments: what the command line says.
        rest: words that the command does not know.

    Raises:
        UserError: If there is one.
    """
    check_flags(arguments.options, rest, ())


@contextlib.contextmanager
def progress(arguments: argparse.Namespace, label: str) -> Iterator[Any]:
    """Open what shows progress on standard error; with `--quiet` warnings alone.

    Args:
        arguments: what the command line says.
        label: what takes the first seconds, shown on a terminal; elsewhere a mistake is to be the first line.

    Yields:
        A `Reporter`.
    """
    from capsjax.progress import Silent, reporter

    if getattr(arguments, "quiet", False):
        with warnings.catch_warnings():
            # What a caller in Python is warned of, such as a damaged checkpoint, is not progress.
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = _tell
            yield Silent()
        return
    with reporter() as chosen:
        if sys.stderr.isatty():
            chosen.start(label, None)
        yield chosen


def _tell(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning without the place in the code that Python adds."""
    del category, filename, lineno, line
    print(message, file=file or sys.stderr)


def written(folder: Path, given: Path | None) -> Path:
    """Write a directory as the user can use it again.

    Args:
        folder: the directory, absolute.
        given: what the user wrote for it, if anything.

    Returns:
        What the user wrote; else the path from the working directory if that leads down, else `folder`.
    """
    here = Path.cwd()
    return given or (folder.relative_to(here) if folder.is_relative_to(here) else folder)


def show(tables: Sequence[Any]) -> None:
    """Print tables, as wide as they are where no terminal bounds them."""
    # Not at the top: `--help`, which shows no table, would take 62 ms instead of 44.
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for table in tables:
        # A table that is cut to fit a pipe is of no use.
        width = console.width if console.is_terminal else 160
        for part in table.within(width):
            Console(width=width).print(part.to_rich())
            if part.note:
                Console(width=min(width, 100)).print(Text(part.note))


def errors_in_words(tested: Mapping[str, Any]) -> str:
    """Write the error of a test, and that of single labels where images show several and it was measured."""
    from capsjax.metrics.several import LABEL_ERROR

    told = f"error {100 * tested['error']:.2f} %"
    if LABEL_ERROR in tested:  # else every image shows one class, or the metric is not asked for
        told += f" of images, label error {100 * tested[LABEL_ERROR]:.2f} %,"
    return told


def start_jax() -> None:
    """Keep compiled programs between runs, in the user's cache, unless JAX is told otherwise."""
    import jax  # not at the top: mistakes and help do not wait for its start

    if (
        jax.config.values["jax_compilation_cache_dir"] is None
        and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ
    ):
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("capsjax")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # JAX keeps what took a second to compile; a small network's steps take less, and there are several.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    # What imports made stays to the end: looking through it for garbage took 4 % of the start of training.
    gc.freeze()
