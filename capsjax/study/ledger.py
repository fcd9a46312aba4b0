"""What became of every run of a comparison: pending, running, done or failed, read off its directory."""

import contextlib
import dataclasses
import datetime
import os
import platform
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from capsjax.checks import UserError
from capsjax.memory import room
from capsjax.runs import directory, lock
from capsjax.runs.config import Config
from capsjax.runs.folder import Folder
from capsjax.study.design import Design, Planned

RUNS = "runs"
FAILURE = "failure.json"  # in the directory of a run: why it failed
State = Literal["pending", "running", "done", "failed"]


class Trial(NamedTuple):
    """Hold a run that a comparison consists of: an arm with a seed.

    Attributes:
        arm: what is trained.
        seed: with which seed.
        path: the run's directory.
    """

    arm: Planned
    seed: int
    path: Path

    @property
    def config(self) -> Config:
        """The configuration of the run."""
        return dataclasses.replace(self.arm.config, seed=self.seed)

    def __str__(self) -> str:
        return f"{self.arm.name}, seed {self.seed}"


class Entry(NamedTuple):
    """Hold what became of a run.

    Attributes:
        trial: the run.
        state: "pending", with what was trained of it before it stopped; "running", "done" or "failed".
        step: of its newest checkpoint; None if there is none.
        error: its test error, from 0 to 1; None unless it is done.
        why: why it failed, in a line; empty unless it did.
        tested: the line of its test; None unless it is done.
    """

    trial: Trial
    state: State
    step: int | None
    error: float | None
    why: str
    tested: Mapping[str, Any] | None = None

    @property
    def loss(self) -> float | None:
        """The loss of the classes in its test, without that of reconstruction; None unless it is done."""
        # A loss writes it under its own kind; it moves where no image changes sides.
        return (self.tested or {}).get(self.trial.config.loss.kind)


def trials_of(folder: Path, config: Config, designed: Design) -> list[Trial]:
    """Return the runs of a comparison in the order of training: seed by seed, every arm.

    Args:
        folder: the comparison's directory.
        config: its configuration, which says how many seeds there are.
        designed: its arms.

    Returns:
        The runs, whether or not anything of them is there.
    """
    seeds = range(config.seed, config.seed + config.compare.seeds)
    return [
        Trial(arm, seed, folder / RUNS / arm.folder(seed))
        for seed in seeds
        for arm in designed.arms.values()
    ]


def read_entry(trial: Trial) -> Entry:
    """Read off its directory what became of a run."""
    found = Folder(trial.path)
    line, step = found.tested, found.step
    if line is not None:
        return Entry(trial, "done", step, line["error"], "", line)
    if is_running(trial.path):
        return Entry(trial, "running", step, None, "")
    why = failure(trial.path)
    return Entry(trial, "pending" if why is None else "failed", step, None, why or "")


def read_ledger(folder: Path, config: Config, designed: Design) -> list[Entry]:
    """Read what became of every run of a comparison, in the order of training.

    Args:
        folder: the comparison's directory.
        config: its configuration.
        designed: its arms.

    Returns:
        An entry for each run.
    """
    return [read_entry(trial) for trial in trials_of(folder, config, designed)]


def outcome(trial: Trial) -> str:
    """Say in a line what became of a run that was carried out."""
    entry = read_entry(trial)
    error = f"test error {100 * entry.error:.2f} %" if entry.error is not None else ""
    return f"{trial}: {error or f'{entry.state}: {entry.why}'.rstrip(': ')}"


def is_running(path: Path) -> bool:
    """Return whether a process trains in a directory, as far as its lock says; nothing is locked for that."""
    try:
        holder = (path / lock.NAME).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    found = re.fullmatch(r"process (\d+) on (.*)", holder)
    # Of a process on another machine all that is known is the file.
    if found is None or found[2] != platform.node():
        return True
    with contextlib.suppress(OSError):
        os.kill(int(found[1]), 0)  # sends nothing, but fails if there is no such process
        return True
    return False


def failure(path: Path) -> str | None:
    """Return why a run failed, in a line; None if it did not."""
    with contextlib.suppress(OSError, UserError):
        found = directory.read_json(path / FAILURE)
        if isinstance(found, dict):
            lines = str(found.get("why", "")).strip().splitlines()
            return lines[0] if lines else "for a reason that was not written down"
    return None


def record_failure(path: Path, error: Exception | str) -> str:
    """Write into the directory of a run that it failed, and why.

    Args:
        path: the directory; it is made if it is missing.
        error: what was raised, or why in words.

    Returns:
        Why, in words.
    """
    why = (error if isinstance(error, str) else describe_error(error)).removeprefix(
        f"{path.name}: "
    )
    lines = [] if isinstance(error, str | UserError) else traceback.format_exception(error)
    path.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    directory.write_json(path / FAILURE, {"why": why, "at": now, "traceback": "".join(lines)})
    return why


def forget_failure(path: Path) -> None:
    """Remove what was written of a failure, where a run is tried again."""
    (path / FAILURE).unlink(missing_ok=True)


def describe_error(error: Exception) -> str:
    """Say in words what was raised."""
    if isinstance(error, UserError):
        return error.on_command_line
    exhausted = room.exhausted(error) if isinstance(error, RuntimeError) else None
    return exhausted or f"{type(error).__name__}: {error}"
