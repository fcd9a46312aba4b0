"""A comparison's numbers, and the tables of them."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from capsjax.bench.timing import Cost, ratio
from capsjax.routing import DynamicRouting
from capsjax.runs import directory
from capsjax.study.statistics import Difference, paired_difference, summarise
from capsjax.tables import Table
from capsjax.training.writers import numbers


class Comparison(NamedTuple):
    """Hold what `comparison.json` says.

    Attributes:
        modes: names of the modes, in the order of the configuration.
        seeds: the seeds, the same for every mode.
        iterations: r of the routing.
        errors: test errors by mode, from 0 to 1, in the order of seeds.
        costs: cost of a step by mode.
        alignment: one record for each group of parameters, epoch, seed and mode.
    """

    modes: list[str]
    seeds: list[int]
    iterations: int
    errors: dict[str, list[float]]
    costs: dict[str, Cost]
    alignment: list[dict[str, Any]]


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison from its directory.

    Raises:
        UserError: where the directory holds no finished comparison.
    """
    raw = directory.read_comparison(folder)
    costs = {
        mode: Cost(tuple(cost["seconds"]), cost["temp_bytes"]) for mode, cost in raw["cost"].items()
    }
    return Comparison(
        modes=raw["modes"],
        seeds=raw["seeds"],
        iterations=raw["iterations"],
        errors=raw["test_error"],
        costs=costs,
        alignment=[numbers(record) for record in raw["alignment"]],
    )


def results_table(comparison: Comparison, routing: str = DynamicRouting.kind) -> Table:
    """Tell of each mode its test error, the paired difference to full, and the cost of a step.

    Args:
        comparison: its numbers.
        routing: the kind of its routing, which the title names where it is not by agreement.
    """
    rows = []
    full = comparison.errors["full"]
    for mode in comparison.modes:
        errors, cost = comparison.errors[mode], comparison.costs[mode]
        found, difference = summarise(errors), paired_difference(errors, full)
        middle, low, high = ratio(cost, comparison.costs["full"])
        rows.append(
            (
                mode,
                percent(found.mean) + (f" ± {percent(found.sd)}" if len(errors) > 1 else ""),
                "—" if mode == "full" else signed(difference.mean),
                "—" if mode == "full" else told_interval(difference, len(errors)),
                f"{1000 * float(np.median(cost.seconds)):.2f}",
                "1" if mode == "full" else f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{cost.temp_bytes / 1e6:.2f}",
            )
        )
    headings = (
        "mode",
        "test error, %",
        "minus full, points",
        "95 % interval",
        "ms a step",
        "of full's time",
        "temporary MB",
    )
    count = len(comparison.seeds)
    named = "" if routing == DynamicRouting.kind else f", routing {routing}"
    title = (
        f"Gradient modes{named}, r = {comparison.iterations}, {count} seed{'s' if count != 1 else ''}: "
        "mean ± standard deviation"
    )
    return Table(title, headings, tuple(rows))


def alignment_table(comparison: Comparison) -> Table:
    """Tell how the stop gradient points beside the full one, by group, along the full run's training."""
    records = [record for record in comparison.alignment if record["mode"] == "full"]
    epochs = sorted({record["epoch"] for record in records})
    rows = []
    for group in dict.fromkeys(record["group"] for record in records):
        cells = []
        for epoch in epochs:
            chosen = [r for r in records if r["group"] == group and r["epoch"] == epoch]
            cosine = np.mean([record["cosine"] for record in chosen])
            norm_ratio = np.mean([record["norm_ratio"] for record in chosen])
            cells.append(f"{cosine:.4f}, {norm_ratio:.3f}")
        rows.append((group, *cells))
    headings = ("parameters", *(f"epoch {epoch}" for epoch in epochs))
    title = "Stop gradient against full: cosine, ratio of lengths (means over seeds)"
    return Table(title, headings, tuple(rows))


def percent(share: float) -> str:
    """Write a share from 0 to 1 in percent, without the sign."""
    return f"{100 * share:.2f}"


def signed(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}"


def told_interval(difference: Difference, count: int) -> str:
    """Write the interval of a paired difference; in words where every seed has the same one."""
    if count > 1 and math.isclose(difference.low, difference.high, rel_tol=0, abs_tol=1e-12):
        same = "equal" if abs(difference.mean) < 1e-12 else signed(difference.mean)
        return f"{same} in {'both' if count == 2 else f'all {count}'} seeds"
    return interval(difference.low, difference.high)


def interval(low: float, high: float) -> str:
    """Write an interval of differences in percentage points; a dash for one without bounds."""
    return "—" if math.isnan(low) else f"{100 * low:+.2f} to {100 * high:+.2f}"
