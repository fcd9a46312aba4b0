"""Draw the figures of this experiment from its results.

    python experiments/gradient_modes/figures.py

Writes docs/images/results/gradient_modes-light.svg and -dark.svg, the ten-seed comparison of the README, and
law.svg, stop beside full against the entropy of the coupling on every set of the study.
"""

import argparse
import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from capsjax.reports.comparison import read_comparison
from capsjax.reports.comparison_panels import comparison_panels, comparison_runs
from capsjax.reports.evidence import gather
from capsjax.reports.figures import Panel, legend_below, save, together
from capsjax.reports.themes import DARK, LIGHT, Theme

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
finding = importlib.import_module("finding")
IMAGES = HERE.parents[1] / "docs" / "images" / "results"
SHOWN = ("test_error", "norm_ratio", "cost")
MARKERS = "osD^vPX*<>hp"
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


def law(points: Sequence[Any], theme: Theme) -> Figure:
    """Draw 1 − cosine of stop and full gradient against how far the coupling is from uniform.

    Args:
        points: as `finding.law_points` returns them.
        theme: of the page.

    Returns:
        The figure: a line for each run of moments, hollow before the first step.
    """
    # A grid of iterations has its set's mark.
    sets = list(dict.fromkeys(point.name.removesuffix(finding.GRID) for point in points))
    marks = dict(zip(sets, MARKERS, strict=False))
    grids = any(point.name.endswith(finding.GRID) for point in points)

    def panel(of: str, ax: Axes, theme: Theme) -> None:
        for name, arm in dict.fromkeys((p.name, p.arm) for p in points):
            found = [p for p in points if (p.name, p.arm) == (name, arm)]
            x, y = [p.departure for p in found], [getattr(p, of) for p in found]
            colour = theme.of(finding.STOP if finding.STOP in arm else finding.FULL)
            mark = marks[name.removesuffix(finding.GRID)]
            look = {"color": colour, "marker": mark, "markersize": 5, "linewidth": 0.8}
            ax.plot(x, y, **look, alpha=0.8, linestyle="--" if name.endswith(finding.GRID) else "-")
            ax.plot(x[:1], y[:1], **look, markerfacecolor=theme.page)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("entropy of uniform coupling minus the coupling's, nats")
        ax.set_title(f"1 − cosine of stop and full, {ABOUT[of]}", fontsize=10)
        handles = [
            Line2D([], [], color=theme.of(arm), label=f"while {arm} trains")
            for arm in (finding.FULL, finding.STOP)
        ]
        if grids:
            handles.append(Line2D([], [], color=theme.muted, linestyle="--", label="r = 2 and 5"))
        for name in sets:
            mark = {"color": theme.muted, "marker": marks[name], "linestyle": ""}
            handles.append(Line2D([], [], **mark, label=finding.NAMES[name]))
        legend_below(ax, handles)

    panels = [Panel(of, "", "", functools.partial(panel, of)) for of in finding.GAPS]
    return together(panels, 2, theme)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    files = draw(HERE / "results", IMAGES)
    points = finding.law_points(planned)
    files.append(save(law(points, LIGHT), IMAGES / "law.svg"))
    print(*files, sep="\n")
