"""Checkpoints of a run, named by their step, written whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from capsjax.checks import UserError
from capsjax.training.state import TrainState


def save(folder: Path, state: TrainState, keep: int | None = None) -> Path:
    """Write a state as `folder/<step>`; one that is there already is left as it is.

    Args:
        folder: the run's folder of checkpoints; it is made where it is missing.
        state: what to write, not replicated.
        keep: how many of the newest to keep, this one included; None keeps all.

    Returns:
        The checkpoint's own folder.
    """
    path = (folder / str(int(state.step))).absolute()
    if not path.exists():
        ocp.save(str(path), _tree(state))
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
        UserError: where there is no such checkpoint, or it does not fit the target.
    """
    found = steps(folder)
    if not found or (step is not None and step not in found):
        listed = ", ".join(map(str, found)) or "none"
        raise UserError(
            f"{folder}: got no checkpoint{'' if step is None else f' of step {step}'}, expected one of: "
            f"{listed}; train the run first"
        )
    path = (folder / str(found[-1] if step is None else step)).absolute()
    try:
        loaded: Any = ocp.load(str(path), _tree(target))
    except (ValueError, KeyError, OSError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}: got a checkpoint that cannot be read as this run's state ({first[:200]}), expected "
            "one that the same configuration wrote; use an earlier one or train again"
        ) from error
    return TrainState(loaded["step"], loaded["params"], loaded["opt_state"])


def _tree(state: TrainState) -> Any:
    """Name the parts of a state as they are named on disk."""
    return state._asdict()
