"""The figures of this experiment, drawn from its measurements."""

from pathlib import Path

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator

from capsjax.reports.figures import COLOURS, new_figure

MARKERS = "osD^vP"
STYLES = {"cg": "-", "neumann": "--"}


def numbers(values):
    """Return an array in which None is NaN."""
    return np.asarray([np.nan if value is None else value for value in values], float)


def rows(group, name):
    """Collect one number of each row of a group, of the examples whose updates reached the fixed point.

    Args:
        group: what was measured of it.
        name: of the number.

    Returns:
        Numbers, [rows, b].
    """
    gradients = group["gradients"]
    kept = np.asarray(gradients["arrived"], bool)
    return np.stack([numbers(row[name])[kept] for row in gradients["rows"]])


def middle(values, percent=50):
    """Return a percentile of the finite values of each row.

    Args:
        values: numbers, [rows, b].
        percent: which percentile; 50 is the median.

    Returns:
        One number for each row; NaN if fewer than half of its values are finite.
    """
    found = [
        np.percentile(row[np.isfinite(row)], percent) if np.isfinite(row).mean() >= 0.5 else np.nan
        for row in values
    ]
    return np.asarray(found)


def draw(found, folder: Path) -> None:
    """Write gradients.png and forward.png."""
    groups = found["groups"]
    looks = {
        name: {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
        for name, colour, marker in zip(groups, COLOURS, MARKERS, strict=False)
    }
    r = [row["r"] for row in next(iter(groups.values()))["gradients"]["rows"]]
    figure, axes = new_figure(2, 3, (15, 8.6))
    for name, group in groups.items():
        look = looks[name]
        residual = rows(group, "residual")
        axes[0, 0].plot(r, middle(residual), label=name, **look)
        axes[0, 1].plot(r, middle(rows(group, "implicit_to_full")), label=name, **look)
        axes[0, 2].plot(r, middle(rows(group, "implicit_to_end")), **look)
        axes[0, 2].plot(
            r, middle(rows(group, "full_to_end")), **look | {"marker": ""}, linestyle="--"
        )
        axes[1, 0].plot(
            residual.ravel(), rows(group, "implicit_to_end").ravel(), look["marker"], color=look["color"],
            markersize=3, alpha=0.5, linestyle="none",
        )  # fmt: skip
        unsolved = [np.mean(row["unsolved"]) for row in group["gradients"]["rows"]]
        axes[1, 1].plot(r, 100 * np.asarray(unsolved), **look)
        for solver, style in STYLES.items():
            steps = numbers(group["solver_steps"][solver])
            tried = np.unique(steps[np.isfinite(steps)])
            share = [100 * np.mean(steps <= n) for n in tried]
            axes[1, 2].step(tried, share, where="post", color=look["color"], linestyle=style)
    titles = [
        ["forward residual (median)", "implicit to unrolled gradient, same r (median)",
         "to the fixed point's gradient (median)\nsolid: implicit, dashed: unrolled"],
        ["implicit gradient's error against the residual,\neach example, each r",
         "examples without a gradient (NaN), %,\nconjugate gradients as by default",
         "examples solved at the fixed point, %\nsolid: conjugate gradients, dashed: Neumann"],
    ]  # fmt: skip
    for line, labels in zip(axes, titles, strict=True):
        for ax, label in zip(line, labels, strict=True):
            ax.set_title(label, fontsize=10)
            ax.set_xscale("log")
            ax.set_xlabel("iterations r")
    for ax in (*axes[0], axes[1, 0]):
        ax.set_yscale("log")
    for ax in axes[0, 1:]:
        ax.set_ylabel("relative distance")
    for ax in axes[0]:
        ax.set_ylim(1e-11, 30)
    axes[1, 0].set(
        xlabel="forward residual", ylabel="relative distance", xlim=(1e-11, 2), ylim=(1e-11, 1e3)
    )
    axes[1, 1].set_ylim(bottom=0)
    axes[1, 2].set(xlabel="steps of the solver", ylim=(0, 102))
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.savefig(folder / "gradients.png", dpi=90)

    figure, grid = new_figure(1, 4, (17, 4.4))
    axes = grid[0]
    for number, (name, group) in enumerate(groups.items()):
        look, seen = looks[name], group["forward"]
        needed = [numbers(seen["iterations_to_1e-6"][d]) for d in ("0.0", "0.5", "0.9")]
        places = np.arange(3) + 0.12 * (number - (len(groups) - 1) / 2)
        axes[0].plot(places, middle(needed), label=name, **look | {"linewidth": 0})
        for routing, style in (("dynamic", "-"), ("fixed_point", "--")):
            line = seen["largest_logit"][routing]
            updates = [int(n) for n in line]
            axes[1].plot(updates, list(line.values()), color=look["color"], linestyle=style)
    axes[0].set_xticks(range(3), ["0", "0.5", "0.9"])
    axes[0].set(yscale="log", xlabel="damping")
    axes[0].set_title("iterations until the residual is 1e-6 (median)", fontsize=10)
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high * 12)
    axes[1].set(xscale="log", yscale="log", xlabel="updates")
    axes[1].set_title(
        "largest logit (median)\nsolid: by agreement, dashed: fixed point", fontsize=10
    )
    chosen = "random, scale 1" if "random, scale 1" in groups else next(iter(groups))
    objectives = groups[chosen]["forward"]["objectives"]
    for (key, values), colour, style in zip(
        objectives.items(), [COLOURS[0], COLOURS[1]] * 2, ["-", "-", "--", "--"], strict=True
    ):
        routing, what = key.rsplit("_", 1)
        who = {"dynamic": "by agreement", "fixed_point": "fixed point"}[routing]
        formula = {"attraction": "sum of phi", "F": "F, with entropy"}[what]
        axes[2].plot(values, color=colour, linestyle=style, label=f"{formula}, {who}")
    axes[2].set(xlabel="updates")
    axes[2].set_title(f"both objectives, {chosen} (median)", fontsize=10)
    axes[2].legend(frameon=False, fontsize=8)
    modes = list(dict.fromkeys(line["mode"] for line in found["costs"]))
    for mode, colour, marker in zip(modes, COLOURS, MARKERS, strict=False):
        lines = [line for line in found["costs"] if line["mode"] == mode]
        memory = [line["temp_bytes"] / 1e6 for line in lines]
        axes[3].plot([line["r"] for line in lines], memory, color=colour, marker=marker, label=mode)
    axes[3].set(xscale="log", yscale="log", xlabel="iterations r")
    for axis, ticks in (
        (axes[3].xaxis, [10, 30, 100]),
        (axes[3].yaxis, [10, 20, 50, 100, 200, 400]),
    ):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    axes[3].set_title("temporary memory of value and gradient, MB", fontsize=10)
    axes[3].legend(frameon=False, fontsize=8)
    figure.savefig(folder / "forward.png", dpi=90)
