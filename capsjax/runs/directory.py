"""The files of a run's directory: its configuration and plain values, written whole, and read back."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from capsjax import files
from capsjax.checks import LARGEST_INT, UserError, printable
from capsjax.data.dataset import LEFT_OUT
from capsjax.runs.config import LARGEST_CONFIG, Config
from capsjax.runs.metrics_file import last_line, read_metrics, strict
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build

LARGEST_JSON = 16 * files.MEGABYTE


def is_comparison(folder: Path) -> bool:
    """Return whether a directory is a comparison's, finished or not."""
    return (folder / "runs").is_dir() or (folder / "comparison.json").exists()


def tested_step(folder: Path) -> int | None:
    """Return the step after which a run was last tested; None if it was not."""
    line = last_line(read_metrics(folder / "metrics.jsonl"), "test")
    return line["step"] if line else None


def comparison_of(folder: Path) -> Path | None:
    """Return the comparison that a run belongs to; None for a run by itself."""
    run = folder.absolute()
    whole = run.parent.parent
    # Runs of no comparison lie in a folder of that name too.
    named = run.parent.name == "runs" and re.fullmatch(r".+-seed\d+", run.name)
    files_there = (whole / "config.yaml").exists() and (whole / "environment.json").exists()
    return whole if named and files_there else None


def write_config(folder: Path, config: Config) -> None:
    """Write the fully resolved configuration: running it again is the same run.

    Args:
        folder: the run's directory.
        config: what is run.
    """
    # Under another name until it is whole: a run that is resumed meanwhile reads the old one.
    part = folder / "config.yaml.part"
    part.write_text(dump(config), encoding="utf-8")
    part.replace(folder / "config.yaml")


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all.

    Args:
        path: the file.
        values: what to write; a number that is not finite becomes null.
    """
    part = path.with_name(path.name + ".part")
    text = json.dumps(strict(values), indent=2, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def write_left_out(folder: Path, lines: Sequence[str]) -> None:
    """Write which files of the data could not be read, where there are such.

    Args:
        folder: the directory of a run or of a comparison.
        lines: each of the files, and why.
    """
    if lines:
        text = "\n".join(printable(line).replace("\n", "\\n") for line in lines)
        (folder / LEFT_OUT).write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path, overrides: Mapping[str, object] | None = None) -> Config:
    """Read the configuration of a run.

    Args:
        folder: the run's directory.
        overrides: changes to it, as `load_config` takes them.

    Returns:
        The configuration.

    Raises:
        UserError: If the directory is not a run's.
    """
    path = folder / "config.yaml"
    if not os.path.lexists(path):
        if (folder / "report.html").exists():
            raise UserError(
                f"{folder}: got the page of several runs, which is {folder / 'report.html'}, expected a "
                "run's directory; a page is written anew from the directories of its runs"
            )
        raise UserError(
            f"{folder}: got {'a directory without config.yaml' if folder.is_dir() else 'no directory'}, "
            "expected a run's directory, such as runs/digits-20260131T120000Z"
        )
    text = files.read_text(path, LARGEST_CONFIG, "the configuration that a run writes, YAML")
    tree = read_yaml(text, str(path))
    # A default that has changed since: what was written without the key meant the old one.
    data = tree.get("data") if isinstance(tree, dict) else None
    if isinstance(data, dict) and data.get("kind") == "arrays":
        data.setdefault("stratified", False)  # what was written before there was a choice
    return build(Config, tree, source=str(path), overrides=overrides)


def read_json(path: Path) -> Any:
    """Read plain values.

    Raises:
        UserError: If there is no such file, it is not a plain one or too large, or it is not JSON.
    """
    return files.read_json(path, LARGEST_JSON, "the JSON that a run writes; train the run again")


def is_count(value: Any, low: int = 1) -> bool:
    """Return whether a plain value is a count, as a run writes it.

    Args:
        value: read from a file.
        low: the least that it may be.

    Returns:
        Whether it is an integer from `low` to the most that a run can count to; True and False are not.
    """
    return type(value) is int and low <= value <= LARGEST_INT


def brief(value: Any) -> str:
    """Write a plain value that is not as it should be, cut to some sixty characters."""
    text = repr(value)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}..."
