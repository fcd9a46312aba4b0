"""How to resume a run or a comparison, or to train it anew: the call in Python, and the command."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from capsjax.checks import UserError
from capsjax.data import Arrays
from capsjax.runs import directory
from capsjax.runs.config import Config


def has_arrays(config: Config) -> bool:
    """Return whether a run's data are arrays that only Python has; arrays of a file are not."""
    origin = config.data.origin()
    return isinstance(origin, Arrays) and origin.path is None


def how_to_resume(
    folder: Path, config: Config, overrides: Mapping[str, object] | None = None
) -> tuple[str, str]:
    """Say how to resume a run, or a comparison.

    A run that is part of a comparison and was never tested is resumed with the whole of it: by itself it
    would lack what the comparison measures on the way.

    Args:
        folder: its directory.
        config: what was run.
        overrides: dotted keys of the configuration that are to change, with their values.

    Returns:
        The call in Python, and the command: that call again, if only Python has the run's arrays.
    """
    whole = directory.comparison_of(folder)
    if whole is not None and not overrides and directory.tested_step(folder) is None:
        folder = whole
    name, word = "capsjax.resume", "compare" if (folder / "runs").is_dir() else "train"
    changes = f", overrides={json.dumps(overrides)}" if overrides else ""
    if has_arrays(config):
        call = f"{name}({str(folder)!r}, data{changes}), with the data it began with"
        return call, f"in Python, {call}"
    # A folder that begins like a flag is one only behind an equals sign.
    flag = "--resume=" if str(folder).startswith("-") else "--resume "
    command = f"capsjax {word} {flag}{shlex.quote(str(folder))}{_flags(overrides or {})}"
    return f"{name}({str(folder)!r}{changes})", command


def how_to_train_anew(
    folder: Path, config: Config, changes: Mapping[str, object]
) -> tuple[str, str]:
    """Say how to train a run's configuration again, in another directory.

    Args:
        folder: its directory.
        config: what was run.
        changes: dotted keys of the configuration that are to change, with their values.

    Returns:
        The call in Python, and the command: that call again, if only Python has the run's arrays.
    """
    try:
        start = directory.read_json(folder / "environment.json").get("start", {}).get("folder")
    except (UserError, AttributeError):
        start = None
    source = str(folder / "config.yaml")
    overrides = f", {json.dumps(changes)}" if changes else ""
    data = ", data" if has_arrays(config) else ""
    begin = f", start={start!r}" if start else ""
    call = f"capsjax.train(capsjax.load_config({source!r}{overrides}){data}{begin})"
    if data:
        return call, f"in Python, {call}"
    begin = f" --from {shlex.quote(start)}" if start else ""
    return call, f"capsjax train {shlex.quote(source)}{_flags(changes)}{begin}"


def _flags(overrides: Mapping[str, object]) -> str:
    return "".join(
        f" --{key} {shlex.quote(f'{value:g}' if isinstance(value, float) else str(value))}"
        for key, value in overrides.items()
    )
