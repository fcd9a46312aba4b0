"""Draw the figures of this experiment from its results.

    python experiments/gradient_modes/figures.py

Writes into docs/images/results, each for light and for dark pages: stop_or_full, what holding the coupling
constant costs and keeps on every set of the study; law, stop beside full against the entropy of the coupling
on every set; and gradient_modes, the ten-seed pilot.
"""

import argparse
import importlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from capsjax.reports.comparison import read_comparison
from capsjax.reports.comparison_panels import comparison_panels, comparison_runs
from capsjax.reports.evidence import gather
from capsjax.reports.figures import new_figure, save, together
from capsjax.reports.themes import DARK, LIGHT, Theme, drawn_with, marker_of
from capsjax.study.statistics import Difference, retained_gain

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
finding = importlib.import_module("finding")
IMAGES = HERE.parents[1] / "docs" / "images" / "results"
SHOWN = ("test_error", "norm_ratio", "cost")
ABOUT = {
    "gap": "all examples together",
    "example_gap": "single examples",
}


def draw(results: Path, images: Path) -> list[Path]:
    """Draw the test errors, the length of the stop gradient, and the cost of a step, beside each other.

    Args:
        results: the comparison's directory.
        images: where the figures go; it is made if it is missing.

    Returns:
        The files.
    """
    found = read_comparison(results)
    drawn = comparison_panels(found, results, comparison_runs(found, results), gather(found))
    panels = {panel.name: panel for panel in drawn}
    images.mkdir(parents=True, exist_ok=True)
    return [
        save(
            together([panels[name] for name in SHOWN], 3, theme),
            images / f"gradient_modes-{theme.name}.svg",
        )
        for theme in (LIGHT, DARK)
    ]


def answer(sets: Mapping[str, Any], theme: Theme) -> Figure:
    """Draw what holding the coupling constant costs on every set, and what it keeps of what routing gains.

    Args:
        sets: what was measured, by name, as `finding.read_all` returns it.
        theme: of the page.

    Returns:
        The figure: a line for each set with its 95 % interval, and the mean over sets.
    """
    names = [name for name in sets if name != finding.APART]
    places = {name: -place for place, name in enumerate(names)}
    mean, _ = finding.pooled(sets)

    def cost(ax: Axes, theme: Theme) -> None:
        for name in names:
            _interval(ax, finding.relative(sets[name]), places[name], finding.STOP, theme)
        _interval(ax, mean, -len(names), finding.STOP, theme, hollow=True)
        ax.axvline(0, color=theme.ink, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.set_yticks(
            [*places.values(), -len(names)],
            [f"{finding.NAMES[n]} ({len(sets[n].seeds)})" for n in names]
            + ["mean over sets (random effects)"],
        )
        ax.tick_params(axis="y", labelsize=8.5)
        ax.set_title("stop minus full, % of full's test error", fontsize=10)

    def kept(ax: Axes, theme: Theme) -> None:
        arms = (finding.STOP, 0.16), (finding.TRUNCATED, -0.16)
        for name in names:
            errors = sets[name].errors
            found = {
                arm: retained_gain(errors[finding.UNIFORM], errors[arm], errors[finding.FULL])
                for arm, _ in arms
                if arm in errors
            }
            if why := found[finding.STOP].why:
                words = "routing loses" if "loses" in why else "no gain shown"
                style = {"fontsize": 8, "va": "center", "color": theme.muted}
                ax.text(0.03, places[name], words, **style)
                continue
            for arm, aside in arms:
                if (one := found.get(arm)) is None:
                    continue
                interval = Difference(one.value, one.low, one.high, math.nan)
                _interval(ax, interval, places[name] + aside, arm, theme)
        for bound in (0, 1):
            ax.axvline(bound, color=theme.ink, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.set_xlim(-0.6, 1.7)  # what lies beyond is cut
        ax.set_yticks([*places.values(), -len(names)], [""] * (len(names) + 1))
        ax.set_title("part of routing's gain that is kept", fontsize=10)
        ax.set_xlabel("0: as uniform coupling   1: as the full gradient")
        labels = {finding.STOP: "coupling held constant", finding.TRUNCATED: "last update alone"}
        handles = [
            Line2D([], [], color=theme.of(a), marker=marker_of(a), label=labels[a]) for a in labels
        ]
        ax.legend(handles=handles, loc="lower left", fontsize=8, frameon=False)

    with drawn_with(theme):
        figure, axes = new_figure(1, 2, (9.4, 4.4))
        for ax, draw in zip(axes[0], (cost, kept), strict=True):
            draw(ax, theme)
            ax.set_ylim(-len(names) - 0.6, 0.6)
    return figure


def _interval(
    ax: Axes, found: Any, place: float, arm: str, theme: Theme, *, hollow: bool = False
) -> None:
    """Draw a value and its interval as a horizontal line."""
    colour = theme.of(arm)
    ax.plot([found.low, found.high], [place, place], color=colour, linewidth=1.8)
    fill = theme.page if hollow else colour
    mark = "D" if hollow else marker_of(arm)
    ax.plot(found.mean, place, mark, color=colour, markerfacecolor=fill, markersize=6.5)


def law(points: Sequence[Any], theme: Theme) -> Figure:
    """Draw 1 − cosine of stop and full gradient against how far the coupling is from uniform.

    Args:
        points: as `gradients.law_points` returns them.
        theme: of the page.

    Returns:
        The figure: a panel for each set, all others muted behind it; hollow before the first step.
    """
    grid = finding.gradients.GRID
    # A grid of iterations is drawn with its set.
    sets = list(dict.fromkeys(point.name.removesuffix(grid) for point in points))

    def panel(ax: Axes, name: str, of: str) -> None:
        every = [p.departure for p in points], [getattr(p, of) for p in points]
        ax.plot(*every, ".", color=theme.muted, markersize=2, alpha=0.5)
        own = dict.fromkeys((p.name, p.arm) for p in points if p.name.removesuffix(grid) == name)
        for key in own:
            found = [p for p in points if (p.name, p.arm) == key]
            x, y = [p.departure for p in found], [getattr(p, of) for p in found]
            arm = finding.STOP if finding.STOP in key[1] else finding.FULL
            look = {"color": theme.of(arm), "marker": marker_of(arm), "markersize": 4.5}
            ax.plot(x, y, **look, linewidth=1, linestyle="--" if grid in key[0] else "-")
            ax.plot(x[:1], y[:1], **look, linestyle="", markerfacecolor=theme.page)
        ax.set_xscale("log")
        ax.set_yscale("log")

    columns = 3
    rows = -(-len(sets) // columns)
    with drawn_with(theme):
        figure, axes = new_figure(2 * rows, columns, (9.4, 1.75 * 2 * rows + 0.8))
        for half, of in zip((axes[:rows], axes[rows:]), finding.gradients.GAPS, strict=True):
            for ax in half.flat[len(sets) :]:
                ax.set_visible(False)
            for ax, name in zip(half.flat, sets, strict=False):
                panel(ax, name, of)
                ax.sharex(axes[0, 0])
                ax.sharey(half[0, 0])
                ax.set_title(f"{finding.NAMES[name]}\n{ABOUT[of]}", fontsize=8.5)
                ax.tick_params(labelsize=7.5, which="both")
                ax.minorticks_off()
                ax.label_outer()
        figure.supxlabel("nats that the coupling's entropy is below uniform coupling's", fontsize=9)
        figure.supylabel("1 − cosine of the stop and the full gradient", fontsize=9)
        handles = [
            Line2D([], [], color=theme.of(a), marker=marker_of(a), label=f"while {a} trains")
            for a in (finding.FULL, finding.STOP)
        ]
        if any(point.name.endswith(grid) for point in points):
            handles.append(Line2D([], [], color=theme.ink, linestyle="--", label="r = 2 and 5"))
        look = {"color": theme.muted, "marker": ".", "linestyle": ""}
        handles.append(Line2D([], [], **look, label="other sets"))
        figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    return figure


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    files = draw(HERE / "results", IMAGES)
    points = finding.gradients.law_points(finding.RESULTS, planned)
    sets = finding.read_all(planned)
    for theme in (LIGHT, DARK):
        files.append(save(answer(sets, theme), IMAGES / f"stop_or_full-{theme.name}.svg"))
        files.append(save(law(points, theme), IMAGES / f"law-{theme.name}.svg"))
    print(*files, sep="\n")
