"""New directories for runs and comparisons: nothing that is there is ever written over."""

import contextlib
import datetime
from collections.abc import Callable
from pathlib import Path

from capsjax.checks import UserError
from capsjax.runs import advice, directory
from capsjax.runs.config import Config


def check_place(out: Path | None, create_in: Callable[[Path | None], Path]) -> None:
    """Check that a directory can be made, by making it; it and all that was made for it is removed.

    Args:
        out: where, as `create` has it.
        create_in: makes it.

    Raises:
        UserError: If it exists already, or cannot be made.
    """
    place = (Path("runs/run") if out is None else out).absolute()
    there = {parent for parent in place.parents if parent.exists()}
    folder = create_in(out)
    with contextlib.suppress(OSError):  # another run began in one of them
        for made in (folder, *folder.parents):
            if made in there:
                break
            made.rmdir()


def create(
    out: Path | None, name: str, *, stopped: Callable[[Path], Config | None] | None = None
) -> Path:
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
        got = f"out: got {str(folder)!r}, which exists, expected a new directory; "
        config = stopped(folder) if stopped is not None else None
        if config is None:
            raise UserError(f"{got}choose another, or leave it out", argument="out") from error
        call, command = advice.how_to_resume(folder, config)
        what = "comparison" if directory.is_comparison(folder) else "run"
        got += f"to resume the {what} that stopped there: "
        raise UserError(got + call, on_command_line=got + command, argument="out") from error
    except OSError as error:
        raise UserError(
            f"out: got {str(folder)!r}, which cannot be made ({error.strerror}), expected a place to "
            "write",
            argument="out",
        ) from error
