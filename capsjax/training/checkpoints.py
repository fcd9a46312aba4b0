"""Checkpoints of a run, named by their step, written whole or not at all, and checked when read."""

import errno
import inspect
import itertools
import os
import re
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from capsjax.checks import UserError
from capsjax.training.checksums import find_damage, write_sums
from capsjax.training.state import TrainState

WHOLE = re.compile(r"0|[1-9][0-9]*")
# What is being written or removed, and was left by a process that was killed.
PARTIAL = re.compile(r"[0-9]+\.(part|removed|orbax-checkpoint-tmp).*")
OVERHEAD = 1 << 16  # bytes of a checkpoint beside the arrays, more or less


class DamagedError(UserError):
    """Tell of a checkpoint that is not as it was written, or holds parameters that are not finite."""


def save(folder: Path, state: TrainState, keep: int | None = None) -> Path:
    """Write a state as `folder/<step>`, with checksums, whole or not at all.

    One that is there already is left as it is.

    Args:
        folder: the run's folder of checkpoints; it is made where it is missing.
        state: what to write, not replicated.
        keep: how many of the newest to keep, this one included; None keeps all.

    Returns:
        The checkpoint's own folder.

    Raises:
        OSError: If it cannot be written.
    """
    path = (folder / str(int(state.step))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if PARTIAL.fullmatch(left.name) and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
    if not path.is_dir():
        try:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "not a checkpoint: move it away", str(path))
            _check_room(folder, state)
            # Under another name until the checksums are in it: what has a step's name is whole.
            with _uninterrupted():
                part = path.with_name(f"{path.name}.part")
                ocp.save(str(part), _tree(state))
                write_sums(part)
                part.rename(path)
        except ValueError as error:  # the form in which orbax passes on the system's errors
            code = re.search(r"os_error_code='(\d+)'", str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error
    if keep is not None:
        for step in steps(folder)[:-keep]:
            # At once for whoever reads it: a checkpoint of which some files are gone looks damaged.
            gone = (folder / str(step)).rename(folder / f"{step}.removed")
            shutil.rmtree(gone, ignore_errors=True)
    return path


def steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints that stand, ascending; what else is there does not count."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if WHOLE.fullmatch(path.name) and path.is_dir())
    return sorted(int(path.name) for path in found)


def warn(message: str) -> None:
    """Say something to a caller in Python who gave nothing to say it with."""
    # The line that is shown is the caller's own, however deep in this package this is called.
    own = (__name__.partition(".")[0], "jaxtyping")  # which wraps functions where types are checked
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in own:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def restore(
    folder: Path,
    target: TrainState,
    step: int | None = None,
    *,
    say: Callable[[str], None] = warn,
    finite: bool = True,
) -> TrainState:
    """Read a state back, to the bit.

    Where the newest is damaged, or holds parameters that are not finite, the one before is read.
    Another process may write and remove checkpoints meanwhile.

    Args:
        folder: the run's folder of checkpoints.
        target: a state of the same structure, shapes and types, on the devices to restore to.
        step: which one; None for the newest.
        say: called with a line about each that was passed over, and why.
        finite: whether one whose parameters are not finite is passed over too.

    Returns:
        The state, on the target's devices.

    Raises:
        DamagedError: If every checkpoint is damaged, or the one that was asked for.
        UserError: If there is no such checkpoint, or it does not fit the target.
    """
    damaged: dict[int, DamagedError] = {}
    while left := [
        found for found in steps(folder) if step in (None, found) and found not in damaged
    ]:
        path = (folder / str(left[-1])).absolute()
        try:
            state = _read(path, target, finite)
        except DamagedError as error:
            if path.is_dir():  # else it gave way to a newer one while it was read
                damaged[left[-1]] = error
            continue
        for error in damaged.values():
            say(f"{error}; using the checkpoint of step {left[-1]}, the newest that is whole")
        return state
    if damaged:
        ending = "no other checkpoint is whole: train again" if step is None else "use another step"
        raise DamagedError(f"{damaged[max(damaged)]}; {ending}")
    listed = ", ".join(map(str, steps(folder)))
    got = f"{folder}: got no checkpoint{'' if step is None else f' of step {step}'}, expected "
    raise UserError(got + (f"one of: {listed}" if listed else "one; train the run first"))


def set_aside(folder: Path, after: int) -> None:
    """Rename every checkpoint of a later step to `<step>.damaged`; a run that resumes writes them again.

    Args:
        folder: the run's folder of checkpoints.
        after: the step that is resumed from; it and those before it stay.
    """
    for step in steps(folder):
        if step > after:
            names = (f"{step}.damaged{number or ''}" for number in itertools.count())
            path = next(folder / name for name in names if not os.path.lexists(folder / name))
            (folder / str(step)).rename(path)


def _read(path: Path, target: TrainState, finite: bool) -> TrainState:
    """Read one checkpoint."""
    damage = find_damage(path)
    if damage is not None:
        raise DamagedError(damage)
    try:
        _check_fits(path, target)
        loaded: Any = ocp.load(str(path), _tree(target))
    except (UserError, PermissionError):
        raise
    except (
        ValueError,
        KeyError,
        OSError,
        AttributeError,
        TypeError,
    ) as error:  # of orbax's parsers
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedError(
            f"{path}: got a checkpoint that cannot be read ({first[:200]}), expected one as capsjax "
            "writes it"
        ) from error
    state = TrainState(**loaded)
    names = [name for name, value in state.variables.items() if not np.isfinite(value).all()]
    if names and finite:
        raise DamagedError(
            f"{path}: got parameters that are not finite ({', '.join(names)}), expected finite ones"
        )
    return state


def _tree(state: TrainState) -> Any:
    """Name the parts of a state as they are named on disk; there is no word of what it does not have."""
    parts = state._asdict()
    return (
        parts if state.statistics else {name: parts[name] for name in parts if name != "statistics"}
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until a checkpoint stands; signals reach the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held and callable(before):
        before(*held[0])


def _check_fits(path: Path, target: TrainState) -> None:
    """Compare names, shapes and types of a checkpoint's arrays with those of a state."""
    stored, wanted = _arrays(ocp.metadata(str(path)).metadata), _arrays(_tree(target))
    if not stored:
        raise ValueError("no description of its arrays")
    _check_width(path, stored, wanted)
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            raise UserError(
                f"{path}: got {stored.get(name, 'nothing')} for {name}, expected "
                f"{wanted.get(name, 'nothing')}; the run's config.yaml or its data have changed since"
            )


def _check_width(path: Path, stored: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse arrays of twice or half the bits, which come from another setting of JAX's."""
    names = [name for name in sorted(stored) if stored[name] != wanted.get(name, stored[name])]
    same = [_narrow(stored[name]) == _narrow(wanted[name]) for name in names]
    if not names or not all(same) or stored.keys() != wanted.keys():
        return
    double = "64[" in stored[names[0]]
    now = f"jax_enable_x64 {'off' if double else 'on'}"
    need = f'jax.config.update("jax_enable_x64", {double}) or JAX_ENABLE_X64={int(double)}'
    raise UserError(
        f"{path}: got {stored[names[0]]} for {names[0]}, expected {wanted[names[0]]}, with {now}: it was "
        f"written under the other setting; set {need} before anything is computed"
    )


def _narrow(array: str) -> str:
    return array.replace("64[", "32[")


def _arrays(tree: Any) -> dict[str, str]:
    """Describe each array of a tree, by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }


def _check_room(folder: Path, state: TrainState) -> None:
    """Ask the system for as much room as a checkpoint needs, and give it back.

    Orbax writes with several threads, which answer a full disk late, and in pages of traceback.
    """
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + OVERHEAD
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
