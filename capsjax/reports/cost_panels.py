"""What a step costs: its time and temporary memory beside the reference's, data set by data set."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from capsjax.bench.timing import ratio
from capsjax.reports.comparison import Comparison
from capsjax.reports.figures import Panel, legend_below
from capsjax.reports.grid_panels import are_numbers
from capsjax.reports.panels import set_names
from capsjax.reports.themes import Theme, marker_of
from capsjax.study.design import Cell, Group, format_cell

ITERATIONS = "num_iters"  # the end of an axis of a grid that is r
TIME, MEMORY = "time of a step (median, quartiles)", "temporary memory"
HATCH = "////"


class _Share(NamedTuple):
    """Hold what a step costs beside another: time with its quartiles, and temporary memory."""

    time: float
    low: float
    high: float
    memory: float


def cost_panels(comparison: Comparison) -> list[Panel]:
    """Return what a step of each arm costs, a panel for each data set, against r where a grid varies it.

    Costs on different data are never divided by each other: each panel has a reference of its own, where r
    varies that of the least r. What other axes of a grid vary beside r has a panel each.

    Args:
        comparison: its numbers.

    Returns:
        The panels; none of a data set whose reference has no cost.
    """
    of_data: dict[str, list[Group]] = {}
    for group in comparison.groups:
        if group.reference in comparison.costs:
            of_data.setdefault(repr(comparison.arms[group.reference].data), []).append(group)
    panels = []
    for groups in of_data.values():
        axis = _iterations_axis(groups)
        if axis is None:
            panels.append(_bars(comparison, groups, several=len(of_data) > 1))
            continue
        others: dict[Cell, list[Group]] = {}
        for group in groups:
            others.setdefault(_without(group.cell, axis), []).append(group)
        panels += [_lines(comparison, axis, other, of) for other, of in others.items()]
    return panels


def _iterations_axis(groups: Sequence[Group]) -> str | None:
    """Return the axis of r that varies over groups and has numbers, or None."""
    cells = [dict(group.cell) for group in groups]
    for axis in cells[0]:
        values = {cell[axis] for cell in cells}
        if axis.split(".")[-1] == ITERATIONS and len(values) > 1 and are_numbers([*values]):
            return axis
    return None


def _without(cell: Cell, axis: str) -> Cell:
    return tuple((name, value) for name, value in cell if name != axis)


def _shares(comparison: Comparison, names: Sequence[str], reference: str) -> dict[str, _Share]:
    """Return what arms cost beside a reference, of those that were timed on the same data."""
    costs, data = comparison.costs, comparison.arms[reference].data
    basic = costs[reference]
    return {
        name: _Share(*ratio(costs[name], basic), costs[name].temp_bytes / basic.temp_bytes)
        for name in names
        if name in costs and comparison.arms[name].data == data
    }


def _name(where: str) -> str:
    """Name the files of a panel by the data, or the cell, that it is of."""
    return re.sub(r"[^A-Za-z0-9.=_]+", "-", f"cost_{where}") if where else "cost"


def _caption(comparison: Comparison, looks: tuple[str, str], against: str, unit: str) -> str:
    turns = "modes" if comparison.short else "arms"
    return (
        f"Time of a training step ({looks[0]}) and its temporary memory ({looks[1]}){against}, as shares "
        f"of {unit}. Times are medians of a pass in which the {turns} took turns; whiskers are the "
        "lower and upper quartile, round by round."
    )


def _bars(comparison: Comparison, groups: Sequence[Group], *, several: bool) -> Panel:
    """Draw the arms of one data set beside each other."""
    reference, alone = groups[0].reference, len(groups) == 1
    every = {name for group in groups for name in group.names}
    shares = _shares(comparison, [name for name in comparison.modes if name in every], reference)
    keys = comparison.colours()
    # In a cell of its own an arm needs no more than its name there.
    called = {name: comparison.arms[name].arm if alone else name for name in shares}
    where = (format_cell(groups[0].cell) if alone else "") or (reference if several else "")
    unit = called[reference]

    def draw(ax: Axes, theme: Theme) -> None:
        places, colours = np.arange(len(shares)), [theme.of(keys[name]) for name in shares]
        time, low, high, memory = np.asarray([*shares.values()]).T
        spread = np.asarray([time - low, high - time])
        ax.bar(places - 0.2, time, 0.38, yerr=spread, color=colours, ecolor=theme.ink)
        ax.bar(places + 0.2, memory, 0.38, color=colours, hatch=HATCH, edgecolor=theme.page)
        set_names(ax, [called[name] for name in shares])
        ax.set_ylim(0, 1.1 * max(*time, *high, *memory))
        handles = [
            Patch(facecolor=theme.muted, label=TIME),
            Patch(facecolor=theme.muted, hatch=HATCH, label=MEMORY),
        ]
        legend_below(ax, handles)
        below = f"\n{where}" if where else ""
        ax.set_title(f"cost of a step, {unit} = 1{below}", fontsize=10)

    told = "; ".join(
        f"{called[n]} {one.time:.2f} and {one.memory:.2f}" for n, one in shares.items()
    )
    before = f"{where}: " if where else ""
    caption = _caption(comparison, ("plain", "hatched"), "", f"{unit}'s")
    alt = f"{before}Time and memory of a step as shares of {unit}'s: {told}."
    return Panel(_name(where), before + caption, alt, draw)


def _lines(comparison: Comparison, axis: str, other: Cell, groups: Sequence[Group]) -> Panel:
    """Draw the arms of one data set against r."""
    places = [(float(dict(group.cell)[axis]), group) for group in groups]
    at = dict(sorted(places, key=lambda place: place[0]))
    first, keys = min(at), comparison.colours()
    reference = at[first].reference
    every = list(dict.fromkeys(name for group in at.values() for name in group.names))
    shares = _shares(comparison, every, reference)
    unit = f"{comparison.arms[reference].arm} at r = {first:g}"
    where = format_cell(other)
    courses: dict[str, tuple[str, list[tuple[float, _Share]]]] = {}
    for r, group in at.items():
        for name in group.names:
            if name in shares:
                _, course = courses.setdefault(comparison.arms[name].arm, (keys[name], []))
                course.append((r, shares[name]))

    def draw(ax: Axes, theme: Theme) -> None:
        handles, top = [], 0.0
        for arm, (key, course) in courses.items():
            x = [r for r, _ in course]
            time, low, high, memory = np.asarray([share for _, share in course]).T
            top = max(top, *high, *memory)
            look = {"color": theme.of(key), "marker": marker_of(key), "markersize": 5}
            ax.errorbar(x, time, yerr=[time - low, high - time], capsize=3, **look)
            ax.plot(x, memory, linestyle="--", markerfacecolor=theme.page, **look)
            handles.append(Line2D([], [], label=arm, **look))
        for label, style, fill in ((TIME, "-", theme.muted), (MEMORY, "--", theme.page)):
            grey = {"color": theme.muted, "marker": "o", "markerfacecolor": fill}
            handles.append(Line2D([], [], linestyle=style, label=label, **grey))
        ax.set_xticks([*at], [f"{r:g}" for r in at])
        ax.set_xlabel("iterations r")
        ax.set_ylim(0, 1.1 * top)
        below = f"\n{where}" if where else ""
        ax.set_title(f"cost of a step, 1 = {unit}{below}", fontsize=10)
        legend_below(ax, handles)

    told = "; ".join(
        f"{arm} "
        + ", ".join(f"{one.time:.2f} and {one.memory:.2f} at r = {r:g}" for r, one in course)
        for arm, (_, course) in courses.items()
    )
    before = f"{where}: " if where else ""
    looks = ("solid, filled", "dashed, hollow")
    caption = _caption(comparison, looks, " against r", f"those of {unit}")
    alt = f"{before}Time and memory of a step as shares of those of {unit}: {told}."
    return Panel(_name(where), before + caption, alt, draw)
