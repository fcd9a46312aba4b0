"""The panels of a comparison: test errors, curves, cost, and the stop gradient beside the full one."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from capsjax.metrics.several import LABEL_ERROR
from capsjax.reports.comparison import Comparison
from capsjax.reports.cost_panels import cost_panels
from capsjax.reports.evidence import Evidence
from capsjax.reports.figures import Panel, legend_below
from capsjax.reports.forest_panels import forest_panels
from capsjax.reports.gradient_panels import coupling_panels, law_panel, optimiser_panels
from capsjax.reports.grid_panels import MOST_CELLS, grid_panels, in_cell, there
from capsjax.reports.panels import course_panels, tests_panel
from capsjax.reports.themes import Theme
from capsjax.runs.folder import Folder
from capsjax.study.arms import Arm, Lines, Runs
from capsjax.study.design import run_folder
from capsjax.study.seen import (
    COUPLINGS,
    EXAMPLES,
    GRADIENTS,
    Records,
    means_along,
    read_seen,
)

GROUP_MARKERS = "osD^vPX*<>hp"


def comparison_runs(comparison: Comparison, folder: Path) -> dict[tuple[str, int], Lines]:
    """Read the metrics of every run of a comparison.

    Args:
        comparison: its numbers, with the names of arms and the seeds.
        folder: its directory.

    Returns:
        The lines of each run by arm and seed; none if a run is gone.
    """
    return {
        (name, seed): Folder(folder / "runs" / run_folder(name, seed)).metrics
        for name in comparison.modes
        for seed in comparison.seeds
    }


def comparison_arms(comparison: Comparison, runs: Runs) -> list[Arm]:
    """Gather the arms of a comparison, to be drawn.

    Args:
        comparison: its numbers.
        runs: the metrics of its runs, as `comparison_runs` reads them.

    Returns:
        The arms in their order; runs that are gone or failed early are left out.
    """
    colours = comparison.colours()
    return [
        Arm(
            name,
            colours[name],
            tuple(lines for (of, _), lines in runs.items() if of == name and lines),
        )
        for name in comparison.modes
    ]


def comparison_panels(
    comparison: Comparison, folder: Path, runs: Runs, found: Sequence[Evidence]
) -> list[Panel]:
    """Make the panels of a comparison: test errors, curves, retained gain, cost, gradients, couplings.

    Args:
        comparison: its numbers.
        folder: its directory, for what was seen along the runs.
        runs: the metrics of its runs, as `comparison_runs` reads them.
        found: what its seeds tell, as `evidence.gather` gives it.

    Returns:
        The panels, without those that there are no numbers for.
    """
    arms = {arm.name: arm for arm in comparison_arms(comparison, runs)}
    bound = Folder(folder).num_classes
    # Cell by cell, as long as a page can be read: a large grid has its panels against the axes alone.
    groups = comparison.groups if len(comparison.groups) <= MOST_CELLS else ()
    panels = grid_panels(comparison)
    for group in groups:
        tested = {
            comparison.arms[name].arm: (arms[name].mode, there(comparison.errors[name]))
            for name in group.names
        }
        whole = [len(there(comparison.errors[n])) == len(comparison.seeds) for n in group.names]
        panels.append(in_cell(tests_panel(tested, paired=all(whole)), group))
    for group in groups:
        within = [arms[name]._replace(name=comparison.arms[name].arm) for name in group.names]
        curves = course_panels(within, bound, names=("error", LABEL_ERROR))
        panels += [in_cell(panel, group) for panel in curves]
    panels += forest_panels(comparison, found)
    panels += cost_panels(comparison)
    for group in groups:
        records = [r for r in comparison.alignment if r["mode"] in group.names]
        if records:
            for name, title in (
                ("cosine", "cosine of stop and full gradient"),
                ("norm_ratio", "length of stop over full gradient"),
            ):
                panels.append(in_cell(_alignment_panel(comparison, records, name, title), group))
    panels += optimiser_panels(comparison, read_seen(folder, GRADIENTS))
    panels += law_panel(comparison, read_seen(folder, EXAMPLES))
    if len(comparison.groups) == 1:
        panels += course_panels(list(arms.values()), bound, names=("entropy",))
    return panels + coupling_panels(comparison, read_seen(folder, COUPLINGS))


def _alignment_panel(comparison: Comparison, records: Records, name: str, title: str) -> Panel:
    """Draw how stop and full gradient agree, along the runs of the arms that have the one or the other."""
    groups = list(dict.fromkeys(record["group"] for record in records))
    kinds = {r["mode"]: comparison.arms[r["mode"]].mode for r in records}
    # Full runs first: theirs is the training that the stop gradient is judged along.
    modes = [arm for kind in ("full", "stop") for arm, found in kinds.items() if found == kind]

    def line(group: str, mode: str) -> tuple[list[int], list[float]]:
        chosen = [r for r in records if r["group"] == group and r["mode"] == mode]
        return means_along(chosen, "epoch", name)

    def draw(ax: Axes, theme: Theme) -> None:
        for marker, group in zip(GROUP_MARKERS, groups, strict=False):
            for mode in modes:
                ax.plot(
                    *line(group, mode), color=theme.of(kinds[mode]), marker=marker, markersize=5,
                    markerfacecolor=theme.page if kinds[mode] == "stop" else theme.of(kinds[mode]),
                    linewidth=2.2 if group == "all" else 1.0,
                )  # fmt: skip
        ax.axhline(1, color=theme.ink, linewidth=0.7)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(title, fontsize=10)
        handles = [
            Line2D(
                [],
                [],
                color=theme.of(kinds[mode]),
                linewidth=2,
                label=f"along {comparison.arms[mode].arm} runs",
            )
            for mode in modes
        ]
        handles += [
            Line2D([], [], color=theme.muted, marker=marker, linestyle="", label=group)
            for marker, group in zip(GROUP_MARKERS, groups, strict=False)
        ]
        legend_below(ax, handles)

    what = (
        "Cosine between the gradient with the coupling held constant and the full one, at the same "
        "parameters: 1 is the same direction."
        if name == "cosine"
        else "Length of the gradient with the coupling held constant, as a share of the full one's."
    )
    caption = f"{what} Colour: whose training it was measured along; mark: the group of parameters."
    descriptions = []
    for mode in modes:
        epochs, means = line(groups[0], mode)
        descriptions.append(
            f"{means[0]:.3f} at epoch {epochs[0]}, {means[-1]:.3f} at epoch {epochs[-1]}"
        )
    alt = f"{title}, {groups[0]} parameters: " + "; ".join(
        f"along {comparison.arms[mode].arm} runs {text}"
        for mode, text in zip(modes, descriptions, strict=True)
    )
    return Panel(name, caption, f"{alt}.", draw)
