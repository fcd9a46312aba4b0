"""Tables of all that was seen along the runs of a comparison, as CSV beside `comparison.json`."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from capsjax.checks import UserError
from capsjax.study.ledger import Entry
from capsjax.study.observation import read_observations

LAYER = "layer"  # the column of a layer's name
GRADIENTS, EXAMPLES, COUPLINGS = "gradients.csv", "examples.csv", "couplings.csv"
# Of each table what its lines are called in a run's file, and what its records are of.
TABLES = {
    GRADIENTS: ("alignment", ("group",)),
    EXAMPLES: ("examples", ("example",)),
    COUPLINGS: ("couplings", (LAYER, "iteration")),
}
WORDS = ("mode", "group", LAYER)
LARGEST = 64 << 20

Records = Sequence[Mapping[str, Any]]


def write_seen(folder: Path, entries: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """Write what was seen along all runs, a file for each table that is not empty.

    Args:
        folder: the comparison's directory.
        entries: its runs.

    Returns:
        The tables, by the names of their files.
    """
    runs = [read_observations(entry.trial, dict(TABLES.values())) for entry in entries]
    found = {table: [r for run in runs for r in run[kind]] for table, (kind, _) in TABLES.items()}
    for table, records in found.items():
        columns = list(dict.fromkeys(name for record in records for name in record))
        if not records:
            (folder / table).unlink(missing_ok=True)
            continue
        with (folder / table).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(records)
    return found


def read_seen(folder: Path, table: str) -> Records:
    """Read a table of what was seen along the runs of a comparison.

    Args:
        folder: the comparison's directory.
        table: the name of its file.

    Returns:
        Its records, with numbers as numbers; none if there is no such file.

    Raises:
        UserError: If it is not such a table.
    """
    path = folder / table
    if not path.is_file():
        return []
    keys = ("mode", "seed", "epoch", *TABLES[table][1])
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, strict=True))
        return [{key: _value(key, text) for key, text in _whole(row, keys).items()} for row in rows]
    except (ValueError, csv.Error) as error:
        raise UserError(
            f"{path}: got a broken table ({error}), expected what a comparison writes there; "
            "delete it, and the report leaves it out"
        ) from error


def means_along(records: Records, along: str, name: str) -> tuple[list[int], list[float]]:
    """Return the mean over seeds of a number, along epochs or iterations.

    Args:
        records: what was seen along the runs of one arm.
        along: the key of the epoch, or of the iteration.
        name: the key of the number.

    Returns:
        The epochs, or iterations, ascending, and the mean at each.
    """
    places = sorted({r[along] for r in records})
    means = [np.mean([r[name] for r in records if r[along] == place]) for place in places]
    return places, [float(x) for x in means]


def _whole(row: dict[str | Any, Any], keys: tuple[str, ...]) -> dict[str, str]:
    """Check that a row has a text for every column, and all that it is of."""
    if None in row or None in row.values() or not set(keys) <= set(row):
        raise ValueError("rows of other columns")
    return row


def _value(key: str, text: str) -> Any:
    if key in WORDS:
        return text
    if key in ("seed", "epoch", "example", "iteration"):
        return int(text)
    return float(text) if text else math.nan
