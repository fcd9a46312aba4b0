"""What was seen along runs: gradients before and after the optimiser, and couplings by iteration."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from scipy import stats

from capsjax.reports.comparison import Comparison
from capsjax.reports.figures import Panel, legend_below
from capsjax.reports.themes import Theme, marker_of
from capsjax.study.seen import LAYER, Records, means_along

# What is drawn of an optimiser, in the order of the way from a gradient to a step.
STAGES = {
    "": "gradient",
    "response_": "scaled by the optimiser",
    "update_": "update, with momentum",
}
LINES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")


def _arms_of(comparison: Comparison, records: Records) -> list[str]:
    """Return the arms that records are of, in the order of the comparison."""
    there = {r["mode"] for r in records}
    return [name for name in comparison.modes if name in there]


def optimiser_panels(comparison: Comparison, gradients: Records) -> list[Panel]:
    """Return how stop and full gradient agree before and after the optimiser, all parameters together.

    Args:
        comparison: its numbers.
        gradients: the records of `gradients.csv`.

    Returns:
        A panel of cosines and one of lengths; none where nothing was measured after the optimiser.
    """
    known = [r for r in gradients if r["group"] == "all" and "update_cosine" in r]
    known = [r for r in known if r["mode"] in comparison.arms]
    if not known:
        return []
    titles = {"cosine": "cosine of stop and full", "norm_ratio": "length of stop over full"}
    return [_stages(comparison, known, name, title) for name, title in titles.items()]


def _stages(comparison: Comparison, known: Records, name: str, title: str) -> Panel:
    keys = comparison.colours()
    arms = _arms_of(comparison, known)

    def line(arm: str, stage: str) -> tuple[list[int], list[float]]:
        return means_along([r for r in known if r["mode"] == arm], "epoch", stage + name)

    def draw(ax: Axes, theme: Theme) -> None:
        for arm in arms:
            for stage, style in zip(STAGES, LINES, strict=True):
                ax.plot(
                    *line(arm, stage), color=theme.of(keys[arm]), linestyle=style, markersize=4.5,
                    marker=marker_of(keys[arm]),
                )  # fmt: skip
        ax.axhline(1, color=theme.ink, linewidth=0.7)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_title(f"{title}, through the optimiser", fontsize=10)
        handles = [
            Line2D([], [], color=theme.of(keys[n]), marker=marker_of(keys[n]), label=f"along {n}")
            for n in arms
        ] + [
            Line2D([], [], color=theme.muted, linestyle=style, label=label)
            for label, style in zip(STAGES.values(), LINES, strict=True)
        ]
        legend_below(ax, handles)

    told = [
        f"along {arm}, {label}: {line(arm, stage)[1][-1]:.3f} at the end"
        for arm in arms
        for stage, label in STAGES.items()
    ]
    caption = (
        f"{title[0].upper()}{title[1:]} gradient, all parameters, along training: of the gradients "
        "themselves; of what the optimiser makes of either in the same state, without momentum; and of its "
        "whole update, in which the momentum that both share hides a part of what sets them apart."
    )
    return Panel(f"optimiser_{name}", caption, f"{title}: {'; '.join(told)}.", draw)


def coupling_panels(comparison: Comparison, couplings: Records) -> list[Panel]:
    """Return how far couplings are from the first and from random ones, iteration by iteration, at the end.

    Args:
        comparison: its numbers.
        couplings: the records of `couplings.csv`.

    Returns:
        A panel of the last layer; none where there are no records.
    """
    known = [r for r in couplings if r["mode"] in comparison.arms]
    if not known:
        return []
    layer = known[-1][LAYER]
    last = {
        n: max((r["epoch"] for r in known if r["mode"] == n), default=0) for n in comparison.modes
    }
    known = [r for r in known if r[LAYER] == layer and r["epoch"] == last[r["mode"]]]
    keys = comparison.colours()
    of = {
        arm: (keys[arm], [r for r in known if r["mode"] == arm])
        for arm in _arms_of(comparison, known)
    }
    return [distance_panel("couplings", layer, of)]


def distance_panel(name: str, layer: str, of: Mapping[str, tuple[str, Records]]) -> Panel:
    """Return how far the couplings of a layer are from the first and from random ones at each iteration.

    Args:
        name: of the files.
        layer: its name.
        of: by the name of an arm or a mode the key of its colour, and its records of that layer.
    """
    kinds = {"from_uniform": ("from the first", "-"), "from_random": ("from random", ":")}

    def line(arm: str, kind: str) -> tuple[list[int], list[float]]:
        return means_along(of[arm][1], "iteration", kind)

    def draw(ax: Axes, theme: Theme) -> None:
        for arm, (key, _) in of.items():
            for kind, (label, style) in kinds.items():
                ax.plot(
                    *line(arm, kind), color=theme.of(key), linestyle=style, markersize=4.5,
                    marker=marker_of(key), label=f"{arm}, {label}",
                )  # fmt: skip
        ax.set_xlabel("iteration")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
        ax.set_title(f"distance of couplings, layer {layer}", fontsize=10)
        legend_below(ax)

    told = [f"{arm} ends {line(arm, 'from_uniform')[1][-1]:.3f} from the first" for arm in of]
    caption = (
        "How far the couplings of a trained network are at each iteration from the first, which are uniform "
        "where routing begins with logits of 0 (total variation: 0 alike, 1 apart), and from couplings as "
        "decided as these whose parents are dealt out at random."
    )
    alt = f"Distance of couplings of layer {layer} from the first by iteration: {'; '.join(told)}."
    return Panel(name, caption, alt, draw)


def law_panel(comparison: Comparison, examples: Records) -> list[Panel]:
    """Return the share of the gradient that flows through the couplings against their entropy.

    Args:
        comparison: its numbers.
        examples: the records of `examples.csv`.

    Returns:
        A panel, a dot for each single example; none where there are too few.
    """
    known = [r for r in examples if r["mode"] in comparison.arms and np.isfinite(r["entropy"])]
    if len(known) < 8:
        return []
    keys = comparison.colours()
    arms = _arms_of(comparison, known)
    rank: Any = stats.spearmanr(_column(known, "entropy"), _column(known, "share"))
    together = float(rank.statistic)

    def draw(ax: Axes, theme: Theme) -> None:
        for arm in arms:
            of = [r for r in known if r["mode"] == arm]
            ax.plot(
                _column(of, "entropy"), _column(of, "share"), marker_of(keys[arm]), color=theme.of(keys[arm]),
                markersize=3, alpha=0.5, label=f"along {arm}",
            )  # fmt: skip
        ax.axhline(0, color=theme.ink, linewidth=0.7)
        ax.set_xlabel("entropy of the couplings, nats")
        ax.set_title("share of the gradient through the couplings", fontsize=10)
        legend_below(ax)

    caption = (
        "Of single training examples, along training: the share of the full gradient that flows through the "
        f"couplings (projected on it), against their entropy. Rank correlation {together:+.2f} over "
        f"{len(known)} measurements, which are not independent of each other."
    )
    alt = f"Share through the couplings against their entropy: rank correlation {together:+.2f}."
    return [Panel("law", caption, alt, draw)]


def _column(records: Records, name: str) -> np.ndarray:
    return np.asarray([record[name] for record in records], float)
