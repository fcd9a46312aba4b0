"""A comparison's numbers, and the tables of them."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from capsjax.bench.timing import Cost, ratio
from capsjax.checks import UserError
from capsjax.reports.themes import LIGHT
from capsjax.routing import DynamicRouting
from capsjax.runs.config import Config
from capsjax.runs.folder import Folder
from capsjax.runs.metrics_file import numbers
from capsjax.schema.text import to_tree
from capsjax.study.arms import iterations, mode_of, routing_kind
from capsjax.study.comparison_file import read_comparison_file
from capsjax.study.design import Group, design
from capsjax.study.ledger import read_ledger
from capsjax.study.outcomes import outcomes, wrong_by_seed
from capsjax.study.seen import means_along
from capsjax.study.statistics import (
    Difference,
    Equivalence,
    TwoWayDifference,
    paired_difference,
    summarise,
)
from capsjax.tables import Table


class ArmDescription(NamedTuple):
    """Hold what a report says of an arm beside its numbers.

    Attributes:
        arm: what it is called in every cell of a grid.
        mode: how its coupling is differentiated.
        routing: the kind of its routing.
        data: what it learns from; errors on different data do not compare.
        changes: what it changes of the comparison's configuration.
        loss: what it minimises of the classes; losses of different kinds do not compare.
    """

    arm: str
    mode: str
    routing: str
    data: Any
    changes: Mapping[str, Any]
    loss: Any = None


NONE: Mapping[str, Any] = {}
SAME = 1e-9  # of shares: rounding apart, no difference


class Comparison(NamedTuple):
    """Hold what `comparison.json` says, and the configuration beside it.

    Attributes:
        modes: names of the arms, in the order of the configuration.
        seeds: the seeds, the same for every arm.
        iterations: r of the routing, as `arms.iterations` says it.
        errors: test errors by arm, from 0 to 1, in the order of seeds; NaN of a run that failed.
        costs: cost of a step by arm; an arm whose runs all failed has none.
        alignment: one record for each group of parameters, epoch, seed and arm.
        groups: arms that are compared with each other, one group for each cell of the grid.
        arms: what else is said of each arm.
        beginnings: of each arm that begins otherwise than all others, groups of `parameters` of its own, and
            whether it sees the same `batches`.
        short: whether its arms are gradient modes alone.
        losses: losses of the classes in the test, the same way as errors; NaN also where nothing tells them.
        wrong: which test images were wrong, by arm, in the order of seeds, [n] each; None of a run that
            failed. An arm whose runs kept no predictions is not there.
        margin: how large a difference of errors counts as none, a share; None if none was stated.
    """

    modes: list[str]
    seeds: list[int]
    iterations: str
    errors: dict[str, list[float]]
    costs: dict[str, Cost]
    alignment: list[dict[str, Any]]
    groups: tuple[Group, ...]
    arms: dict[str, ArmDescription]
    beginnings: dict[str, Any]
    short: bool = True
    losses: Mapping[str, Sequence[float]] = NONE
    wrong: Mapping[str, Sequence[np.ndarray | None]] = NONE
    margin: float | None = None

    def comparable(self, name: str, group: Group) -> bool:
        """Return whether an arm can be compared with the reference of a group.

        Args:
            name: of the arm.
            group: whose reference.

        Returns:
            Whether both learn from the same data.
        """
        return self.arms[name].data == self.arms[group.reference].data

    def colours(self) -> dict[str, str]:
        """Name the colour of each arm: its mode, or one in turn if several arms have one mode."""
        modes = {arm.arm: arm.mode for arm in self.arms.values()}
        alone = [arm for arm, mode in modes.items() if [*modes.values()].count(mode) == 1]
        keys = {arm: mode for arm, mode in modes.items() if arm in alone or arm == mode}
        # "#0", "#1" and so on stand for colours in turn; those that a mode has already are passed over.
        free = (
            f"#{place}" for place in itertools.count() if LIGHT.name_of(place) not in keys.values()
        )
        keys |= {arm: next(free) for arm in modes if arm not in keys}
        return {name: keys[self.arms[name].arm] for name in self.modes}


def read_comparison(folder: Path) -> Comparison:
    """Read a comparison from its directory.

    Raises:
        UserError: If the directory holds no finished comparison.
    """
    raw = read_comparison_file(folder)
    config = Folder(folder).config
    designed = design(config)
    costs = {
        mode: Cost(tuple(cost["seconds"]), cost["temp_bytes"]) for mode, cost in raw["cost"].items()
    }
    # The names in the file have to be those of the configuration, which says what each arm is.
    if set(raw["modes"]) - set(designed.arms):
        raise UserError(
            f"{folder / 'comparison.json'}: modes: got {raw['modes']}, expected the arms of config.yaml "
            f"beside it, {list(designed.arms)}; run the comparison again"
        )
    # One from before they were written down has them in its runs, if those are there.
    asked = "test_wrong" not in raw
    tested = outcomes(designed, read_ledger(folder, config, designed)) if asked else raw
    return Comparison(
        modes=raw["modes"],
        seeds=raw["seeds"],
        iterations=iterations(config),
        errors={name: _errors(values) for name, values in raw["test_error"].items()},
        losses={name: _errors(values) for name, values in tested["test_loss"].items()},
        wrong={name: wrong_by_seed(found) for name, found in tested["test_wrong"].items()},
        costs=costs,
        alignment=[numbers(record) for record in raw["alignment"]],
        groups=designed.groups,
        arms={
            name: ArmDescription(
                arm.arm,
                mode_of(arm.config),
                routing_kind(arm.config),
                arm.config.data,
                arm.changes,
                _of_classes(arm.config),
            )
            for name, arm in designed.arms.items()
        },
        beginnings=raw.get("beginning", {}),
        short=not config.compare.arms and not config.compare.grid,
        margin=None if config.compare.margin is None else config.compare.margin / 100,
    )


def _of_classes(config: Config) -> dict[str, Any]:
    """Return what a loss says of the classes: weights of training and of reconstruction are not measured."""
    other = ("class_weights", "reconstruction_weight")
    return {key: value for key, value in to_tree(config.loss).items() if key not in other}


def _errors(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def paired(*series: Sequence[float]) -> tuple[list[float], ...]:
    """Leave out the seeds of which one of several arms has no number, since a run failed.

    Args:
        series: of each arm its test errors, or losses, in the order of seeds; NaN of a run that failed.

    Returns:
        Each of them, of the seeds that all have.
    """
    kept = [row for row in zip(*series, strict=True) if not any(map(math.isnan, row))]
    return tuple([row[n] for row in kept] for n in range(len(series)))


def results_table(comparison: Comparison, routing: str = DynamicRouting.kind) -> Table:
    """Make the table of each arm's test error, paired difference to the reference, and cost of a step.

    Args:
        comparison: its numbers.
        routing: the kind of its routing, which the title names if it is not by agreement.

    Returns:
        The table: a row for each arm and cell of the grid.
    """
    # With one reference for all cells the headings name it, else they cannot.
    references = list(dict.fromkeys(comparison.arms[g.reference].arm for g in comparison.groups))
    reference = references[0] if len(references) == 1 else "reference"
    axes = list(dict.fromkeys(axis for group in comparison.groups for axis, _ in group.cell))
    rows = [
        (
            comparison.arms[name].arm,
            *(dict(group.cell).get(axis, "") for axis in axes),
            *cells,
        )
        for group in comparison.groups
        for name, cells in _rows(comparison, group)
    ]
    headings = (
        "mode" if comparison.short else "arm",
        *axes,
        f"minus {reference}, points",
        "95 % interval",
        "test error, %",
        "ms a step",
        f"of {reference}'s time (quartiles)",
        "temporary MB",
    )
    count = len(comparison.seeds)
    named = "" if routing == DynamicRouting.kind else f", routing {routing}"
    what = f"Gradient modes{named}, r = {comparison.iterations}" if comparison.short else "Arms"
    title = f"{what}, {count} seed{'s' if count != 1 else ''}: mean ± standard deviation"
    return Table(title, headings, tuple(rows))


def _rows(comparison: Comparison, group: Group) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Go through the arms of a group, each with what the table says of it."""
    base, basic = comparison.errors[group.reference], comparison.costs.get(group.reference)
    for name in group.names:
        values, cost = comparison.errors[name], comparison.costs.get(name)
        ours, theirs = paired(values, base)
        # Only with seeds that both arms have: a difference is paired or it is not shown.
        compared = name != group.reference and comparison.comparable(name, group) and ours
        difference = paired_difference(ours, theirs) if compared else None
        yield (
            name,
            (
                # First what the comparison is for: a narrow page shows the first columns alone.
                "—" if difference is None else signed(difference.mean),
                "—" if difference is None else format_interval(difference, len(ours)),
                _format_errors(values),
                "—" if cost is None else f"{1000 * float(np.median(cost.seconds)):.2f}",
                _format_ratio(cost, basic if comparison.comparable(name, group) else None),
                "—" if cost is None else f"{cost.temp_bytes / 1e6:.2f}",
            ),
        )


def _format_errors(errors: Sequence[float]) -> str:
    """Write mean and deviation of the runs that did not fail, and their number if some did."""
    there = [error for error in errors if not math.isnan(error)]
    if not there:
        return "—"
    found = summarise(there)
    spread = f" ± {percent(found.sd)}" if len(there) > 1 else ""
    some = f" ({len(there)} of {len(errors)})" if len(there) < len(errors) else ""
    return percent(found.mean) + spread + some


def _format_ratio(cost: Cost | None, reference: Cost | None) -> str:
    if cost is None or reference is None:
        return "—"
    if cost is reference:
        return "1"  # exactly, without quartiles
    middle, low, high = ratio(cost, reference)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def alignment_table(comparison: Comparison) -> Table:
    """Make the table of how the stop gradient points beside the full one, along the full run's training."""
    # Along the full run: what the stop gradient would be where full training goes.
    along = [r for r in comparison.alignment if comparison.arms[r["mode"]].mode == "full"]
    arms = list(dict.fromkeys(record["mode"] for record in along))
    epochs = sorted({record["epoch"] for record in along})
    rows = []
    for arm, group in dict.fromkeys((record["mode"], record["group"]) for record in along):
        chosen = [r for r in along if (r["mode"], r["group"]) == (arm, group)]
        there, cosines = means_along(chosen, "epoch", "cosine")
        norm_ratios = means_along(chosen, "epoch", "norm_ratio")[1]
        told = {
            epoch: f"{cosine:.4f}, {norm_ratio:.3f}"
            for epoch, cosine, norm_ratio in zip(there, cosines, norm_ratios, strict=True)
        }
        cells = (told.get(epoch, "—") for epoch in epochs)
        rows.append((group if len(arms) == 1 else f"{arm}: {group}", *cells))
    headings = ("parameters", *(f"epoch {epoch}" for epoch in epochs))
    title = "Stop gradient against full: cosine, ratio of lengths (means over seeds)"
    note = (
        "At the same parameters, along the training of the full runs: the cosine between the gradient with "
        "the coupling held constant and the full one, where 1 is the same direction, and the length of the "
        "first as a share of the second's, where 1 is as long. A row for each group of parameters; all is "
        "all together."
    )
    return Table(title, headings, tuple(rows), note)


def arms_table(comparison: Comparison) -> Table:
    """Make the table of what each arm changes, and where it begins otherwise than the others."""
    rows = []
    for name in comparison.modes:
        changes = ", ".join(
            f"{key}: {format_value(value)}" for key, value in comparison.arms[name].changes.items()
        )
        found = comparison.beginnings.get(name, {"parameters": [], "batches": True})
        own = ", ".join(found["parameters"]) or "none"
        rows.append((name, changes or "nothing", own, "same" if found["batches"] else "others"))
    headings = ("arm", "changes", "parameters of its own", "batches")
    return Table("What each arm changes, and how it begins", headings, tuple(rows))


def format_value(value: Any) -> str:
    """Write a value of a configuration in one line, as YAML reads it."""
    return value if isinstance(value, str) else json.dumps(to_tree(value)).replace('"', "")


def percent(share: float) -> str:
    """Write a share from 0 to 1 in percent, without the sign."""
    return f"{100 * share:.2f}"


def signed(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.2f}"


def format_interval(difference: Difference, count: int) -> str:
    """Write the interval of a paired difference; in words if every seed has the same one.

    Args:
        difference: of shares.
        count: the number of seeds.

    Returns:
        Such as "-0.10 to +0.32", in percentage points.
    """
    if not has_width(difference):
        same = "equal" if abs(difference.mean) < SAME else signed(difference.mean)
        return f"{same} {in_all(count)}"
    return interval(difference.low, difference.high)


def has_width(difference: Difference | TwoWayDifference | Equivalence) -> bool:
    """Return whether an interval is more than a point, which equal differences make it."""
    return not difference.high - difference.low < SAME  # NaN: of a single seed


def in_all(count: int) -> str:
    """Say of how many seeds, two or more, something is true: "in both seeds", "in all 3 seeds"."""
    return f"in {'both' if count == 2 else f'all {count}'} seeds"


def interval(low: float, high: float) -> str:
    """Write an interval of differences in percentage points.

    Args:
        low: its lower end, a difference of shares; NaN if there is none.
        high: its upper end.

    Returns:
        Such as "-0.10 to +0.32"; a dash for an interval without bounds.
    """
    # NaN: of a single seed.
    return "—" if math.isnan(low) else f"{100 * low:+.2f} to {100 * high:+.2f}"
