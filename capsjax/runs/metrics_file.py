"""The metrics of a run: one JSON object a line, flushed, and read back."""

import contextlib
import json
import math
import os
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, SupportsFloat

from capsjax import files
from capsjax.checks import LARGEST_INT

LARGEST = 256 * files.MEGABYTE  # a million lines
LONGEST = 1 << 16  # bytes of a line
EXPECTED = "the metrics that a run writes, lines of JSON"
SPLITS = ("train", "validation", "test")


class MetricsWriter:
    """Append lines to a run's `metrics.jsonl`; nothing that stands there is touched.

    Args:
        path: the file; it is made where it is missing. A last line that was cut short, by a machine
            that went down, is ended, so that the next one stands by itself.
    """

    def __init__(self, path: Path):
        cut_short = os.path.lexists(path) and _cut_short(path)
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
        self._file.flush()  # whoever follows a run, or resumes it after a crash, finds every line

    def has(self, split: str, step: int) -> bool:
        """Return whether a line of a split and a step is there, from this run or before it stopped.

        Args:
            split: what was measured: train, validation or test.
            step: optimiser steps done by then.
        """
        lines = read_metrics(self._path)
        return any((line["split"], line["step"]) == (split, step) for line in lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def is_finite(value: Any) -> bool:
    """Return whether a plain value is a finite number that a float can hold."""
    try:
        return type(value) in (int, float) and math.isfinite(float(value))
    except OverflowError:
        return False


def _cut_short(path: Path) -> bool:
    with files.open_plain(path, LARGEST, EXPECTED) as file:
        size = file.seek(0, os.SEEK_END)
        return size > 0 and (file.seek(size - 1), file.read(1))[1] != b"\n"


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Return the lines of a file, without those that are longer than any of ours."""
    # By pieces of bounded length: a file without a line's end would be read into memory whole.
    while text := file.readline(LONGEST):
        whole = text.endswith(b"\n") or len(text) < LONGEST
        while not (text.endswith(b"\n") or len(text) < LONGEST):
            text = file.readline(LONGEST)
        if whole:
            yield text


def _is_ours(line: Any, splits: Container[Any]) -> bool:
    """Return whether a run may have written a line: a split, a step and numbers."""
    if not isinstance(line, dict) or line.get("split") not in splits:
        return False
    if "loss" not in line and line["split"] in SPLITS:
        return False
    step, values = line.get("step"), [line[name] for name in line.keys() - {"split", "step"}]
    return (type(step) is int and 0 <= step <= LARGEST_INT) and all(
        value is None or is_finite(value) or (type(value) is float) for value in values
    )


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


def read_metrics(path: Path, splits: Container[str] = SPLITS) -> list[dict[str, Any]]:
    """Read a run's metrics in the order of their steps, one line for each split and step.

    Where a resumed run measured a step again, the later line counts. A line that was cut short, or is
    only written in part so far, is left out. A number that is null was not finite, and is NaN.

    Args:
        path: the run's `metrics.jsonl`, or another file of such lines.
        splits: what may have been measured; other lines are left out.

    Returns:
        The lines; empty if there is no file yet.

    Raises:
        UserError: If it is not a plain file, or larger than a run's.
    """
    if not os.path.lexists(path):
        return []
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    with files.open_plain(path, LARGEST, EXPECTED) as file:
        for text in _lines(file):
            with contextlib.suppress(ValueError, RecursionError):  # of text that is not UTF-8 too
                line = json.loads(text)
                if _is_ours(line, splits):
                    lines[line["split"], line["step"]] = numbers(line)
    return sorted(lines.values(), key=lambda line: line["step"])


def last_line(lines: Sequence[dict[str, Any]], split: str) -> dict[str, Any] | None:
    """Return a run's last line of a split.

    Args:
        lines: the run's metrics, as `read_metrics` gives them.
        split: train, validation or test.

    Returns:
        The line; None if the split has none.
    """
    return next((line for line in reversed(lines) if line["split"] == split), None)
