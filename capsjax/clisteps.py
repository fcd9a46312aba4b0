"""What several commands do first or last: read the configuration, start JAX, show tables."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from capsjax.checks import UserError, nearest
from capsjax.cliflags import check_flags, parse_overrides


def read(arguments: argparse.Namespace, rest: Sequence[str]) -> Any:
    """Read the configuration that a command names, with its flags."""
    from capsjax import config

    check_flags(
        arguments.options, rest, [field.name for field in dataclasses.fields(config.Config)]
    )
    overrides = parse_overrides(rest)
    if getattr(arguments, "seed", None) is not None:
        overrides |= parse_overrides(["--seed", arguments.seed])
    return config.load_config(arguments.config, overrides)


def no_flags(rest: Sequence[str]) -> None:
    """Refuse flags of the configuration where a command reads none.

    Raises:
        UserError: If there is one.
    """
    if rest:
        raise UserError(f"got {rest[0]!r}, expected nothing more" + nearest(rest[0], ["--help"]))


def written(folder: Path, given: Path | None) -> Path:
    """Return a directory as the user wrote it, or else as it is called from the working directory."""
    here = Path.cwd()
    return given or (folder.relative_to(here) if folder.is_relative_to(here) else folder)


def show(tables: Sequence[Any]) -> None:
    """Print tables, as wide as they are where no terminal bounds them."""
    console = Console()
    for table in tables:
        # A table that is cut to fit a pipe is of no use; on a terminal it wraps.
        width = console.width if console.is_terminal else 160
        Console(width=width).print(table.to_rich())


def prepare(progress: Any, label: str) -> None:
    """Say on a terminal what takes the first seconds; elsewhere a mistake is to be the first line."""
    if sys.stderr.isatty():
        progress.start(label, None)


def start_jax() -> None:
    """Keep compiled programs between runs, in the user's cache, unless JAX is told otherwise."""
    import jax

    if (
        jax.config.values["jax_compilation_cache_dir"] is None
        and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ
    ):
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("capsjax")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
