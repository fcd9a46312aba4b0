"""The metrics of a run: one JSON object a line, flushed, and read back."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat


class MetricsWriter:
    """Append lines to a run's `metrics.jsonl`; nothing that stands there is touched.

    Args:
        path: the file; it is made where it is missing. A last line that was cut short, by a machine
            that went down, is ended, so that the next one stands by itself.
    """

    def __init__(self, path: Path):
        cut_short = path.exists() and path.stat().st_size > 0 and path.read_bytes()[-1:] != b"\n"
        self._path = path
        self._file = path.open("a", encoding="utf-8")
        if cut_short:
            self._file.write("\n")

    def write(self, split: str, step: int, values: Mapping[str, SupportsFloat]) -> None:
        """Append one line and flush it.

        Args:
            split: what was measured: train, validation or test.
            step: optimiser steps done by then.
            values: the numbers; one that is not finite is written as null, since JSON has none for it.
        """
        line = {"split": split, "step": step} | {
            name: float(value) for name, value in values.items()
        }
        self._file.write(json.dumps(strict(line), allow_nan=False) + "\n")
        self._file.flush()

    def has(self, split: str, step: int) -> bool:
        """Tell whether a split's line of a step stands there, from this run or before it stopped."""
        lines = read_metrics(self._path)
        return any((line["split"], line["step"]) == (split, step) for line in lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def strict(values: Any) -> Any:
    """Return plain values as JSON can hold them: numbers that are not finite become None."""
    if isinstance(values, dict):
        return {name: strict(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [strict(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def numbers(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping that `strict` made with its numbers that were not finite, all of them as NaN."""
    return {name: math.nan if value is None else value for name, value in line.items()}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read a run's metrics in the order of their steps, one line for each split and step.

    Where a resumed run measured a step again, the later line counts. A line that was cut short, or is
    only written in part as yet, is left out. A number that is null was not finite, and is NaN.

    Args:
        path: the run's `metrics.jsonl`.

    Returns:
        The lines; empty where there is no file yet.
    """
    if not path.exists():
        return []
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            lines[line["split"], line["step"]] = numbers(line)
    return sorted(lines.values(), key=lambda line: line["step"])
