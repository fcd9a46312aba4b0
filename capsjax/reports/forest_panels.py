"""What arms retain of the gain of routing, arm by arm and data set by data set: a forest plot."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from capsjax.reports.comparison import Comparison
from capsjax.reports.evidence import Evidence
from capsjax.reports.figures import Panel
from capsjax.reports.themes import Theme, marker_of
from capsjax.study.statistics import Pooled, RetainedGain, random_effects

MOST = 24  # rows that stay legible


class Row(NamedTuple):
    """Hold a line of a forest plot.

    Attributes:
        label: what stands beside it.
        key: of its colour.
        value: what is retained; NaN where that is undefined.
        low: lower end of its interval.
        high: its upper end.
        sets: of a mean over data sets, how many it is over; 0 of the row of one.
    """

    label: str
    key: str
    value: float
    low: float
    high: float
    sets: int = 0


def forest_panels(comparison: Comparison, found: Sequence[Evidence]) -> list[Panel]:
    """Return the retained gain of every arm and cell, with its mean over data sets.

    Args:
        comparison: its numbers.
        found: what the seeds tell.

    Returns:
        A panel; none where what is retained is undefined of every arm, or there is too much to draw.
    """
    colours = comparison.colours()
    names = dict.fromkeys(
        comparison.arms[one.name].arm for one in found if one.retained is not None
    )
    rows: list[Row] = []
    of_all = 0  # data sets that there are, with a gain or without
    for arm in names:
        of = [
            one
            for one in found
            if comparison.arms[one.name].arm == arm and one.retained is not None
        ]
        for one in of:
            assert one.retained is not None
            label = f"{arm}, {one.group.label}" if one.group.cell else arm
            rows.append(Row(label, colours[one.name], *one.retained[:3]))
        pooled = mean_over_data(comparison, of)
        if pooled is not None:
            sets, of_all = len(_gaining(of)), max(of_all, len(of))
            label = f"{arm}, mean of {sets} sets"
            rows.append(Row(label, colours[of[0].name], *pooled[:3], sets=sets))
    defined = any(not math.isnan(row.value) for row in rows)
    return [_panel(rows, of_all)] if defined and len(rows) <= MOST else []


def mean_over_data(comparison: Comparison, found: Sequence[Evidence]) -> Pooled | None:
    """Return the mean of what an arm retains, by random effects, over the data sets where routing gains.

    Args:
        comparison: its numbers.
        found: what the seeds tell of the arm, a cell each.

    Returns:
        The mean; None unless each cell has data of its own, and in two of them it is defined.
    """
    data = [repr(comparison.arms[one.name].data) for one in found]
    kept = _gaining(found)
    if len(set(data)) < len(data) or len(kept) < 2:
        return None
    return random_effects([one.value for one in kept], [one.standard_error for one in kept])


def _gaining(found: Sequence[Evidence]) -> list[RetainedGain]:
    """Return what is retained where that is defined, since routing gains, and has an interval."""
    kept = [one.retained for one in found if one.retained is not None]
    return [one for one in kept if not one.why and one.standard_error > 0]


def _describe_means(rows: Sequence[Row], of_all: int) -> str:
    """Say what hollow marks are, where there are some: means over the sets that have a gain to retain."""
    sets = {row.sets for row in rows if row.sets}
    if not sets:
        return ""
    few = min(sets)
    if few == of_all:
        where = f"the {few} data sets, on all of which routing gains"
    elif len(sets) == 1:
        where = f"the {few} of {of_all} data sets where routing gains"
    else:
        where = f"those of {of_all} data sets where routing gains"
    return f" Hollow: the mean over {where}, by random effects."


def _panel(rows: Sequence[Row], of_all: int) -> Panel:
    def draw(ax: Axes, theme: Theme) -> None:
        there = [x for row in rows for x in (row.low, row.high) if not math.isnan(x)]
        low, high = max(-1.0, min([0.0, *there])), min(2.0, max([1.0, *there]))
        places = -np.arange(len(rows), dtype=float)
        for place, row in zip(places, rows, strict=True):
            if math.isnan(row.value):
                ax.text(low, place, "undefined", fontsize=8, va="center", color=theme.ink)
                continue
            colour = theme.of(row.key)
            ax.plot([row.low, row.high], [place, place], color=colour, linewidth=1.8)
            marker = "D" if row.sets else marker_of(row.key)
            fill = theme.page if row.sets else colour
            ax.plot(row.value, place, marker, color=colour, markerfacecolor=fill, markersize=7)
        for bound in (0, 1):
            ax.axvline(bound, color=theme.ink, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.set_xlim(low - 0.05, high + 0.05)  # what lies beyond is cut: the interval runs on
        ax.set_ylim(-len(rows) + 0.4, 0.6)
        ax.set_yticks(
            places, [row.label if len(row.label) < 34 else f"{row.label[:32]}…" for row in rows]
        )
        ax.tick_params(axis="y", labelsize=8)
        ax.set_xlabel("0: as uniform coupling\n1: as the reference")
        ax.set_title("part of routing's gain that is retained", fontsize=10)

    told = [
        f"{row.label} "
        + (
            "undefined"
            if math.isnan(row.value)
            else f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})"
        )
        for row in rows
    ]
    caption = (
        "What an arm retains of the gain of routing, (uniform - arm) / (uniform - reference) of test errors, "
        f"with Fieller's 95 % interval over seeds.{_describe_means(rows, of_all)}"
    )
    return Panel("retained_gain", caption, f"Retained gain: {'; '.join(told)}.", draw)
