"""The panels of a comparison over a grid: its cells side by side, and errors against an axis."""

import math
import re
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from capsjax.reports.comparison import Comparison
from capsjax.reports.figures import Panel, legend_below
from capsjax.reports.panels import set_names
from capsjax.reports.themes import Theme, marker_of
from capsjax.study.design import Cell, Group, format_cell

MOST_CELLS = 12  # that are drawn one by one


def in_cell(panel: Panel, group: Group) -> Panel:
    """Make a panel that of a cell of the grid: its name, caption and title say which.

    Args:
        panel: the panel.
        group: the arms of the cell.

    Returns:
        The panel; the same if there is no grid.
    """
    if not group.cell:
        return panel

    def draw(ax: Axes, theme: Theme) -> None:
        panel.draw(ax, theme)
        ax.set_title(f"{ax.get_title()}\n{group.label}", fontsize=10)

    name = f"{panel.name}_{re.sub(r'[^A-Za-z0-9.=_]+', '-', group.label)}"
    return Panel(name, f"{group.label}: {panel.caption}", f"{group.label}: {panel.alt}", draw)


def there(errors: Sequence[float]) -> list[float]:
    """Leave out the errors of runs that failed."""
    return [error for error in errors if not math.isnan(error)]


def grid_panels(comparison: Comparison) -> list[Panel]:
    """Return test errors against one axis of the grid, a panel for each cell of the other axes.

    The axis is one whose values are numbers; among several, or if none has numbers, the last.

    Args:
        comparison: its numbers.

    Returns:
        The panels; none if there is no grid, or one with a single value.
    """
    cells = [dict(group.cell) for group in comparison.groups]
    values = {axis: list(dict.fromkeys(cell[axis] for cell in cells)) for axis in cells[0]}
    several = [axis for axis, found in values.items() if len(found) > 1]
    if not several:
        return []
    axis = max(several, key=lambda axis: (are_numbers(values[axis]), several.index(axis)))
    others = dict.fromkeys(
        tuple((a, v) for a, v in group.cell if a != axis) for group in comparison.groups
    )
    return [_axis_panel(comparison, axis, values[axis], other) for other in others]


def are_numbers(values: Sequence[str]) -> bool:
    """Return whether values of an axis, as they are written, are finite numbers."""
    try:
        return all(math.isfinite(float(value)) for value in values)
    except ValueError:
        return False


def _axis_panel(comparison: Comparison, axis: str, values: Sequence[str], other: Cell) -> Panel:
    groups = [
        group
        for group in comparison.groups
        if {*group.cell} - {(axis, dict(group.cell)[axis])} == {*other}
    ]
    numeric, keys = are_numbers(values), comparison.colours()
    arms = list(
        dict.fromkeys(comparison.arms[name].arm for group in groups for name in group.names)
    )

    def course(arm: str) -> tuple[list[float], list[list[float]], str]:
        """Return where an arm stands on the axis, its errors in percent there, and its colour's key."""
        places, errors, key = [], [], "full"
        for group in groups:
            name = next(n for n in group.names if comparison.arms[n].arm == arm)
            key, value = keys[name], dict(group.cell)[axis]
            found = [100 * error for error in there(comparison.errors[name])]
            if found:
                places.append(float(value) if numeric else float(values.index(value)))
                errors.append(found)
        return places, errors, key

    def draw(ax: Axes, theme: Theme) -> None:
        drawn = [(arm, *course(arm)) for arm in arms]
        for arm, places, errors, key in drawn:
            means = [float(np.mean(found)) for found in errors]
            bounds = [
                [mean - min(found) for mean, found in zip(means, errors, strict=True)],
                [max(found) - mean for mean, found in zip(means, errors, strict=True)],
            ]
            ax.errorbar(
                places, means, yerr=bounds, color=theme.of(key), marker=marker_of(key), markersize=5,
                linewidth=1.6 if numeric else 0, elinewidth=1.2, capsize=3, label=arm,
            )  # fmt: skip
        if numeric:
            numbers = [float(value) for value in values]
            # Over such a range the small values would lie on each other.
            if min(numbers) > 0 and max(numbers) / min(numbers) >= 20:
                ax.set_xscale("log")
            ax.set_xticks(numbers, values)
            ax.minorticks_off()
        else:
            set_names(ax, values)
            ax.set_xlim(-0.6, len(values) - 0.4)
        top = max((e for _, _, errors, _ in drawn for found in errors for e in found), default=1.0)
        ax.set_ylim(0, 1.1 * top or 1.0)
        ax.set_xlabel(axis)
        where = f"\n{format_cell(other)}" if other else ""
        ax.set_title(f"test error against {axis}, %{where}", fontsize=10)
        legend_below(ax)

    descriptions = [
        f"{arm} "
        + ", ".join(
            f"{np.mean(found):.2f} at {values[int(place)] if not numeric else f'{place:g}'}"
            for place, found in zip(places, errors, strict=True)
        )
        for arm, places, errors, _ in ((arm, *course(arm)) for arm in arms)
    ]
    where = f"{format_cell(other)}: " if other else ""
    caption = (
        f"{where}Test error after the last step, in percent, against {axis}: the mean over seeds, and "
        "bars from the smallest to the largest."
    )
    name = "_".join(["grid", axis, *(f"{a}={v}" for a, v in other)])
    alt = f"{where}mean test error in percent against {axis}: {'; '.join(descriptions)}."
    return Panel(re.sub(r"[^A-Za-z0-9.=_]+", "-", name), caption, alt, draw)
