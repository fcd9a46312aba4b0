"""The figures of the benchmarks, from what the scripts wrote."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from machine import bandwidth, matrix_rate
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, StrMethodFormatter

from capsjax.reports.figures import COLOURS, new_figure
from capsjax.reports.themes import MODE_COLOURS

NAMES = {
    "batch": "examples in a batch",
    "children": "child capsules",
    "parents": "parent capsules",
    "num_iters": "routing iterations",
}
STYLES = {
    "capsjax, stop": (MODE_COLOURS["stop"], "o", "-"),
    "capsjax, full": (MODE_COLOURS["full"], "s", "-"),
    "capsjax, full, dense": (MODE_COLOURS["full"], "D", ":"),
    "PyTorch, detached": (MODE_COLOURS["stop"], "^", "--"),
    "PyTorch, full": (MODE_COLOURS["full"], "v", "--"),
}


def draw_all(results: Path, images: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Draw every figure that the results are there for."""
    if (results / "growth.json").exists():
        growth = json.loads((results / "growth.json").read_text(encoding="utf-8"))
        draw_growth(growth, images / "growth.png")
        draw_steps(growth, images / "steps.png")
    if (results / "stages.json").exists():
        stages = json.loads((results / "stages.json").read_text(encoding="utf-8"))
        draw_stages(stages, images / "stages.png")
        if runs:
            draw_roofline(stages, list(runs.values()), images / "roofline.png")


def _curves(ax: Axes, points: list[dict[str, Any]], field: str, scale: float) -> None:
    """Draw each contender's median over a size, with the range of its rounds."""
    for name, (colour, marker, line) in STYLES.items():
        some = [point for point in points if name in point["results"]]
        if not some:
            continue
        rounds = [np.atleast_1d(point["results"][name][field]) * scale for point in some]
        values = [point["value"] for point in some]
        medians = [np.median(r) for r in rounds]
        ax.plot(values, medians, line, color=colour, marker=marker, markersize=5, label=name)
        low, high = [r.min() for r in rounds], [r.max() for r in rounds]
        ax.fill_between(values, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = sorted({point["value"] for point in points})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    # The logarithmic axis's own ticks would stand between those of the sizes.
    ax.minorticks_off()


def draw_growth(growth: dict[str, Any], path: Path) -> None:
    """Draw routing's time and memory against each size."""
    sizes = [size for size in NAMES if any(p["size"] == size for p in growth["points"])]
    figure, axes = new_figure(2, len(sizes), (4 * len(sizes), 7))
    for column, size in zip(axes.T, sizes, strict=True):
        points = [p for p in growth["points"] if p["work"] == "routing" and p["size"] == size]
        _curves(column[0], points, "seconds", 1e3)
        _curves(column[1], points, "peak_rss_bytes", 1e-6)
        column[1].set_xlabel(NAMES[size])
    axes[0, 0].set_ylabel("milliseconds, value and gradient")
    axes[1, 0].set_ylabel("peak resident memory of the process, MB")
    base = ", ".join(f"{name} {value}" for name, value in growth["base"].items())
    figure.suptitle(f"Routing alone; one size changes, the others stay at {base}", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=110)


def draw_steps(growth: dict[str, Any], path: Path) -> None:
    """Draw a training step's time for each image, and memory, against the batch."""
    points = [p for p in growth["points"] if p["work"] == "step"]
    each = [
        {
            "value": p["value"],
            "results": {
                name: {**found, "each": [s / p["value"] for s in found["seconds"]]}
                for name, found in p["results"].items()
            },
        }
        for p in points
    ]
    figure, axes = new_figure(1, 2, (10, 4.2))
    _curves(axes[0, 0], each, "each", 1e3)
    _curves(axes[0, 1], each, "peak_rss_bytes", 1e-6)
    axes[0, 0].set_ylabel("milliseconds of a step for each image")
    axes[0, 1].set_ylabel("peak resident memory, MB")
    for ax in axes.flat:
        ax.set_xlabel(NAMES["batch"])
    axes[0, 0].legend(frameon=False, fontsize=9)
    figure.suptitle("Training step of the 2017 network with decoder, three iterations", fontsize=11)
    figure.savefig(path, dpi=110)


def _parts(stages: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in stages.items() if not name.startswith("step")}


def draw_stages(stages: dict[str, Any], path: Path) -> None:
    """Draw where the time of a step goes: each part, compiled alone, beside whole steps."""
    figure, axes = new_figure(1, 1, (9, 3.8))
    ax, order = axes[0, 0], list(stages)[::-1]
    for place, name in enumerate(order):
        seconds = 1e3 * np.asarray(stages[name]["seconds"])
        middle = float(np.median(seconds))
        whole = name.startswith("step")
        ax.barh(place, middle, color=COLOURS[1] if whole else COLOURS[0], height=0.65)
        ax.plot([seconds.min(), seconds.max()], [place, place], color="black", linewidth=1)
        ax.text(seconds.max() + 8, place, f"{middle:.0f}", va="center", fontsize=9)
    ax.set_yticks(range(len(order)), order)
    ax.set_xlabel("milliseconds, batch 128: median, and the range of the rounds")
    ax.grid(visible=False, axis="y")
    figure.savefig(path, dpi=110)


def draw_roofline(stages: dict[str, Any], runs: list[dict[str, Any]], path: Path) -> None:
    """Draw every part's rate against its operations for each byte, under the machine's two ceilings."""
    rate = float(np.median([matrix_rate(run) for run in runs]))
    copied = float(np.median([bandwidth(run) for run in runs]))
    figure, axes = new_figure(1, 1, (9, 5.2))
    ax = axes[0, 0]
    intensity = np.geomspace(0.1, 3000, 200)
    ax.plot(intensity, np.minimum(rate, copied * intensity) / 1e9, color="black", linewidth=1.5)
    ax.text(13, rate / 1e9 * 1.08, f"matrix product {rate / 1e9:.0f} GFLOP/s", fontsize=9)
    ax.text(
        0.12, copied * 0.12 / 1e9 * 1.7, f"copy {copied / 1e9:.0f} GB/s", rotation=38, fontsize=9
    )
    for place, (name, found) in enumerate(_parts(stages).items()):
        speed = found["operations"] / float(np.median(found["seconds"])) / 1e9
        x, colour = found["operations"] / found["bytes"], COLOURS[place % len(COLOURS)]
        ax.scatter([x], [speed], color=colour, s=55, zorder=3, label=name)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("operations of the direct form for each byte given and returned")
    ax.set_ylabel("GFLOP/s of the direct form")
    ax.legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path, dpi=110)
