"""New directories for runs and comparisons: nothing that is there is ever written over."""

import datetime
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from capsjax.checks import UserError
from capsjax.runs import advice, directory
from capsjax.runs.config import Config

Stopped = Callable[[Path], Config | None]


def check_place(out: Path | None, *, stopped: Stopped | None = None) -> None:
    """Check that the directory of a run can be made, before anything that takes time; it is not made.

    Args:
        out: where, as `create` has it.
        stopped: as `create` has it.

    Raises:
        UserError: If it exists already, or cannot be made.
    """
    folder = Path("runs/run") if out is None else out
    try:
        if out is not None and (out.exists() or out.is_symlink()):
            raise _taken(out, stopped)
        there = next(parent for parent in folder.absolute().parents if parent.exists())
        os.rmdir(tempfile.mkdtemp(dir=there))  # only by writing is it known what can be written
    except OSError as error:
        raise _unmade(folder, error) from error


def create(out: Path | None, name: str, *, stopped: Stopped | None = None) -> Path:
    """Make a new directory for a run.

    Args:
        out: where; None for `runs/<name>-<UTC time>` below the working directory.
        name: what the run is called.
        stopped: finds the configuration of what stopped in a directory and can be resumed; it returns None
            if nothing can.

    Returns:
        The directory, which is empty, as an absolute path.

    Raises:
        UserError: If it exists already, or cannot be made.
    """
    now = datetime.datetime.now(datetime.UTC)
    stem = Path("runs") / f"{name}-{now:%Y%m%dT%H%M%SZ}"
    folder, count = stem if out is None else out, 1
    try:
        while True:
            try:
                folder.mkdir(parents=True)
                return folder.absolute()
            except FileExistsError:
                if out is not None or not folder.is_dir():
                    raise
                # Another run began in the same second, maybe between a check and the making.
                count += 1
                folder = stem.with_name(f"{stem.name}-{count}")
    except FileExistsError as error:
        raise _taken(folder, stopped) from error
    except OSError as error:
        raise _unmade(folder, error) from error


def _taken(folder: Path, stopped: Stopped | None) -> UserError:
    got = f"out: got {str(folder)!r}, which exists, expected a new directory; "
    config = stopped(folder) if stopped is not None else None
    if config is None:
        return UserError(f"{got}choose another, or leave it out", argument="out")
    call, command = advice.how_to_resume(folder, config)
    what = "comparison" if directory.is_comparison(folder) else "run"
    got += f"to resume the {what} that stopped there: "
    return UserError(got + call, on_command_line=got + command, argument="out")


def _unmade(folder: Path, error: OSError) -> UserError:
    got = f"out: got {str(folder)!r}, which cannot be made ({error.strerror})"
    return UserError(f"{got}, expected a place to write", argument="out")
