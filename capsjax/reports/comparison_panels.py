"""The panels of a comparison: curves, test errors, cost, and the stop gradient beside the full one."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from capsjax.reports.comparison import Comparison
from capsjax.reports.figures import Panel, together
from capsjax.reports.looks import Look
from capsjax.reports.panels import course_panels, tests_panel
from capsjax.study import arms as of_arms
from capsjax.study.arms import Arm, Lines

GROUP_MARKERS = "osD^vPX*<>hp"


def comparison_figure(comparison: Comparison, folder: Path) -> Figure:
    """Draw a comparison: error on the way, test errors by seed, alignment, and cost.

    Args:
        comparison: its numbers.
        folder: its directory, for the runs' curves.
    """
    return together(comparison_panels(comparison, folder))


def comparison_runs(comparison: Comparison, folder: Path) -> dict[tuple[str, int], Lines]:
    """Read the metrics of every run of a comparison, by mode and seed; none where a run is gone."""
    return {
        (mode, seed): of_arms.read_run(folder / "runs" / f"{mode}-seed{seed}")
        for mode in comparison.modes
        for seed in comparison.seeds
    }


def comparison_arms(comparison: Comparison, folder: Path) -> list[Arm]:
    """Return the arms of a comparison, mode by mode; runs that are gone are left out."""
    read = comparison_runs(comparison, folder)
    return [
        Arm(mode, mode, tuple(lines for (of, _), lines in read.items() if of == mode and lines))
        for mode in comparison.modes
    ]


def comparison_panels(comparison: Comparison, folder: Path) -> list[Panel]:
    """Return the panels of a comparison, without those that there are no numbers for."""
    arms = comparison_arms(comparison, folder)
    bound = of_arms.num_classes(folder)
    panels = [
        *course_panels(arms, bound, names=("error",)),
        tests_panel({a.name: (a.mode, comparison.errors[a.mode]) for a in arms}, paired=True),
    ]
    if set(comparison.modes) <= set(comparison.costs):
        panels.append(_cost_panel(comparison))
    if comparison.alignment:
        panels += [
            _alignment_panel(comparison, "cosine", "cosine of stop and full gradient"),
            _alignment_panel(comparison, "norm_ratio", "length of stop over full gradient"),
        ]
    return panels + course_panels(arms, bound, names=("entropy",))


def _cost_panel(comparison: Comparison) -> Panel:
    full = comparison.costs["full"]
    ratios = [
        np.asarray(comparison.costs[mode].seconds) / np.asarray(full.seconds)
        for mode in comparison.modes
    ]
    memory = [comparison.costs[mode].temp_bytes / full.temp_bytes for mode in comparison.modes]
    middle = np.asarray([np.median(r) for r in ratios])
    quartiles = np.asarray([np.percentile(r, [25, 75]) for r in ratios]).T

    def draw(ax: Axes, look: Look) -> None:
        places, colours = np.arange(len(middle)), [look.of(mode) for mode in comparison.modes]
        spread = np.abs(quartiles - middle)
        ax.bar(places - 0.2, middle, 0.38, yerr=spread, color=colours, ecolor=look.ink)
        ax.bar(places + 0.2, memory, 0.38, color=colours, hatch="////", edgecolor=look.page)
        ax.set_xticks(places, comparison.modes)
        ax.set_ylim(0, 1.4 * max(*middle, *quartiles[1], *memory))
        handles = [
            Patch(facecolor=look.muted, label="time of a step (median, quartiles)"),
            Patch(facecolor=look.muted, hatch="////", label="temporary memory"),
        ]
        ax.legend(handles=handles, frameon=False, fontsize=8.5, loc="upper left")
        ax.set_title("cost of a step, full = 1", fontsize=10)

    told = [
        f"{mode} {time:.2f} and {share:.2f}"
        for mode, time, share in zip(comparison.modes, middle, memory, strict=True)
    ]
    caption = (
        "Time of a training step (plain) and its temporary memory (hatched), as shares of full's. "
        "Times are medians of a pass in which the modes took turns; whiskers are quartiles."
    )
    alt = f"Time and memory of a step as shares of full's: {'; '.join(told)}."
    return Panel("cost", caption, alt, draw)


def _alignment_panel(comparison: Comparison, name: str, title: str) -> Panel:
    groups = list(dict.fromkeys(record["group"] for record in comparison.alignment))
    modes = [m for m in ("full", "stop") if any(r["mode"] == m for r in comparison.alignment)]

    def line(group: str, mode: str) -> tuple[list[int], list[float]]:
        chosen = [r for r in comparison.alignment if r["group"] == group and r["mode"] == mode]
        epochs = sorted({record["epoch"] for record in chosen})
        means = [float(np.mean([r[name] for r in chosen if r["epoch"] == e])) for e in epochs]
        return epochs, means

    def draw(ax: Axes, look: Look) -> None:
        for marker, group in zip(GROUP_MARKERS, groups, strict=False):
            for mode in modes:
                ax.plot(
                    *line(group, mode), color=look.of(mode), marker=marker, markersize=5,
                    markerfacecolor=look.page if mode == "stop" else look.of(mode),
                    linewidth=2.2 if group == "all" else 1.0,
                )  # fmt: skip
        ax.axhline(1, color=look.ink, linewidth=0.7)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(title, fontsize=10)
        told = [
            Line2D([], [], color=look.of(mode), linewidth=2, label=f"along {mode} runs")
            for mode in modes
        ]
        told += [
            Line2D([], [], color=look.muted, marker=marker, linestyle="", label=group)
            for marker, group in zip(GROUP_MARKERS, groups, strict=False)
        ]
        # Below the axes: curves may run anywhere.
        ax.legend(
            handles=told, frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2),
            ncols=3,
        )  # fmt: skip

    what = (
        "Cosine between the gradient with the coupling held constant and the full one, at the same "
        "parameters: 1 is the same direction."
        if name == "cosine"
        else "Length of the gradient with the coupling held constant, as a share of the full one's."
    )
    caption = f"{what} Colour: whose training it was measured along; mark: the group of parameters."
    told = []
    for mode in modes:
        epochs, means = line(groups[0], mode)
        told.append(f"{means[0]:.3f} at epoch {epochs[0]}, {means[-1]:.3f} at epoch {epochs[-1]}")
    alt = f"{title}, {groups[0]} parameters: " + "; ".join(
        f"along {mode} runs {text}" for mode, text in zip(modes, told, strict=True)
    )
    return Panel(name, caption, f"{alt}.", draw)
