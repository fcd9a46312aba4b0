"""Checkpoints of a run, named by their step, written whole or not at all, and checked when read."""

import errno
import hashlib
import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from capsjax.checks import UserError
from capsjax.training.state import TrainState

# In the form that `sha256sum --check` reads.
SUMS = "SHA256SUMS"
OVERHEAD = 1 << 16  # bytes of a checkpoint beside the arrays, more or less


def save(folder: Path, state: TrainState, keep: int | None = None) -> Path:
    """Write a state as `folder/<step>`; one that is there already is left as it is.

    Args:
        folder: the run's folder of checkpoints; it is made where it is missing.
        state: what to write, not replicated.
        keep: how many of the newest to keep, this one included; None keeps all.

    Returns:
        The checkpoint's own folder.

    Raises:
        OSError: where it cannot be written.
    """
    path = (folder / str(int(state.step))).absolute()
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("*tmp*"):
            shutil.rmtree(left)
        try:
            _check_room(folder, state)
            with _uninterrupted():
                ocp.save(str(path), _tree(state))
                _write_sums(path)
        except ValueError as error:  # the form in which orbax passes on the system's errors
            code = re.search(r"os_error_code='(\d+)'", str(error))
            number = int(code[1]) if code else errno.EIO
            raise OSError(number, os.strerror(number), str(path)) from error
    if keep is not None:
        for step in steps(folder)[:-keep]:
            shutil.rmtree(folder / str(step))
    return path


def steps(folder: Path) -> list[int]:
    """List the steps of the checkpoints that are whole, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def restore(folder: Path, target: TrainState, step: int | None = None) -> TrainState:
    """Read a state back, to the bit.

    Args:
        folder: the run's folder of checkpoints.
        target: a state of the same structure, shapes and types, on the devices to restore to.
        step: which one; None for the newest.

    Raises:
        UserError: where there is no such checkpoint, it is not as it was written, or it does not fit
            the target.
    """
    found = steps(folder)
    if not found or (step is not None and step not in found):
        listed = ", ".join(map(str, found)) or "none"
        raise UserError(
            f"{folder}: got no checkpoint{'' if step is None else f' of step {step}'}, expected one of: "
            f"{listed}; train the run first"
        )
    path = (folder / str(found[-1] if step is None else step)).absolute()
    _check_sums(path)
    try:
        _check_fits(path, target)
        loaded: Any = ocp.load(str(path), _tree(target))
    except (ValueError, KeyError, OSError) as error:
        if isinstance(error, UserError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: got a checkpoint that cannot be read ({first[:200]}), expected one as capsjax "
            "writes it; use an earlier one or train again"
        ) from error
    return TrainState(loaded["step"], loaded["params"], loaded["opt_state"])


def _tree(state: TrainState) -> Any:
    """Name the parts of a state as they are named on disk."""
    return state._asdict()


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
    for name in sorted(stored.keys() | wanted.keys()):
        if stored.get(name) != wanted.get(name):
            raise UserError(
                f"{path}: got {stored.get(name, 'nothing')} for {name}, expected "
                f"{wanted.get(name, 'nothing')}; the run's config.yaml or its data have changed since"
            )


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


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_sums(path: Path) -> None:
    """Write the checksum of every file of a checkpoint beside them."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{_sum_of(file)}  {file.relative_to(path).as_posix()}\n" for file in files]
    part = path / f"{SUMS}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(path / SUMS)


def _check_sums(path: Path) -> None:
    """Compare every file of a checkpoint with its checksum, where there are checksums."""
    if not (path / SUMS).exists():  # the machine went down between the checkpoint and its sums
        return
    for line in (path / SUMS).read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        file = path / name
        found = _sum_of(file) if file.is_file() else None
        if found != digest:
            came = "no such file" if found is None else f"a file whose SHA-256 is {found[:12]}..."
            raise UserError(
                f"{file}: got {came}, expected {digest[:12]}..., as it was written; the checkpoint is "
                f"broken: delete {path} to go on from an earlier one, or train again"
            )
