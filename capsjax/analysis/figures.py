"""Figures of runs and comparisons, drawn from what their directories hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from capsjax.analysis.tables import Comparison
from capsjax.training.writers import read_metrics

# Paul Tol's "bright" colours, which stay apart for colour-blind readers.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Make a figure that needs no display, and its axes [rows, columns]."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(visible=True, alpha=0.25, linewidth=0.6)
    return figure, axes


def comparison_figure(comparison: Comparison, folder: Path) -> Figure:
    """Draw a comparison: error on the way, test errors by seed, alignment, and cost.

    Args:
        comparison: its numbers.
        folder: its directory, for the runs' curves.
    """
    figure, axes = new_figure(2, 3, (14, 7.5))
    _curves(axes[0, 0], comparison, folder)
    _tests(axes[0, 1], comparison)
    _costs(axes[0, 2], comparison)
    _alignment(axes[1, 0], comparison, "cosine", "cosine of stop and full gradient")
    _alignment(axes[1, 1], comparison, "norm_ratio", "length of stop over full gradient")
    _entropy(axes[1, 2], comparison, folder)
    return figure


def _lines(path: Path, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    lines = [line for line in read_metrics(path / "metrics.jsonl") if line["split"] == split]
    steps = np.asarray([line["step"] for line in lines])
    return steps, np.asarray([line[name] for line in lines])


def _over_seeds(
    ax: Axes, comparison: Comparison, folder: Path, name: str, factor: float, title: str
) -> None:
    """Draw a number of every mode on the way: its mean over seeds, and the range as a band.

    In validation; in training where nothing validates.
    """
    first = folder / "runs" / f"{comparison.modes[0]}-seed{comparison.seeds[0]}"
    split = "validation" if _lines(first, "validation", name)[0].size else "train"
    for colour, mode in zip(COLOURS, comparison.modes, strict=False):
        runs = [
            _lines(folder / "runs" / f"{mode}-seed{seed}", split, name) for seed in comparison.seeds
        ]
        steps, values = runs[0][0], factor * np.stack([run[1] for run in runs])
        ax.plot(steps, values.mean(0), color=colour, label=mode, linewidth=1.6)
        ax.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
    where = {"validation": "validation", "train": "training"}[split]
    ax.set_title(f"{title} ({where}; mean and range)", fontsize=10)
    ax.set_xlabel("step")


def _curves(ax: Axes, comparison: Comparison, folder: Path) -> None:
    _over_seeds(ax, comparison, folder, "error", 100.0, "error, %")
    _error_axis(ax)
    ax.legend(frameon=False, fontsize=9)


def _error_axis(ax: Axes) -> None:
    """Show errors in percent on a logarithmic axis that is linear below 1, since some are 0."""
    ax.set_yscale("symlog", linthresh=1.0)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter("{x:g}")


def _entropy(ax: Axes, comparison: Comparison, folder: Path) -> None:
    _over_seeds(ax, comparison, folder, "entropy", 1.0, "entropy of the coupling, nats")


def _tests(ax: Axes, comparison: Comparison) -> None:
    places = np.arange(len(comparison.modes))
    for number in range(len(comparison.seeds)):
        errors = [100 * comparison.errors[mode][number] for mode in comparison.modes]
        ax.plot(places, errors, "-o", color="#999999", markersize=4, linewidth=0.8)
    means = [100 * np.mean(comparison.errors[mode]) for mode in comparison.modes]
    ax.scatter(places, means, s=120, marker="_", c=COLOURS[: len(places)], zorder=3, linewidths=3)
    ax.set_xticks(places, comparison.modes)
    ax.set_ylim(bottom=0)
    ax.set_title("test error, % (grey: one seed; bar: mean)", fontsize=10)


def _costs(ax: Axes, comparison: Comparison) -> None:
    places = np.arange(len(comparison.modes))
    full = comparison.costs["full"]
    ratios = [
        np.asarray(comparison.costs[mode].seconds) / np.asarray(full.seconds)
        for mode in comparison.modes
    ]
    memory = [comparison.costs[mode].temp_bytes / full.temp_bytes for mode in comparison.modes]
    middle = np.asarray([np.median(r) for r in ratios])
    quartiles = np.asarray([np.percentile(r, [25, 75]) for r in ratios]).T
    ax.bar(
        places - 0.2,
        middle,
        0.38,
        yerr=np.abs(quartiles - middle),
        color=COLOURS[0],
        ecolor="#333333",
        label="time of a step (median, quartiles)",
    )
    ax.bar(places + 0.2, memory, 0.38, color=COLOURS[3], label="temporary memory")
    ax.set_xticks(places, comparison.modes)
    ax.set_ylim(0, 1.35 * max(*middle, *memory))
    ax.legend(frameon=False, fontsize=8, loc="upper left")
    ax.set_title("cost of a step, full = 1", fontsize=10)


def _alignment(ax: Axes, comparison: Comparison, name: str, title: str) -> None:
    groups = list(dict.fromkeys(record["group"] for record in comparison.alignment))
    for colour, group in zip(COLOURS, groups, strict=False):
        for mode, style in (("full", "-"), ("stop", "--")):
            chosen = [r for r in comparison.alignment if r["group"] == group and r["mode"] == mode]
            epochs = sorted({record["epoch"] for record in chosen})
            values = [np.mean([r[name] for r in chosen if r["epoch"] == e]) for e in epochs]
            label = group if style == "-" else None
            ax.plot(epochs, values, style, color=colour, marker=".", label=label, linewidth=1.3)
    ax.axhline(1, color="#333333", linewidth=0.6)
    ax.set_xlabel("epoch (solid: along full runs, dashed: along stop runs)")
    ax.set_title(title, fontsize=10)
    ax.legend(frameon=False, fontsize=8)


def run_figure(metrics: list[dict[str, Any]]) -> Figure:
    """Draw a run's curves: loss, error and entropy of the coupling, in training and validation."""
    figure, axes = new_figure(1, 3, (13, 3.8))
    names = (
        ("loss", 1.0, "loss"),
        ("error", 100.0, "error, %"),
        ("entropy", 1.0, "coupling entropy"),
    )
    for ax, (name, factor, title) in zip(axes[0], names, strict=True):
        for colour, split in zip(COLOURS, ("train", "validation"), strict=False):
            lines = [line for line in metrics if line["split"] == split]
            values = [factor * line[name] for line in lines]
            if values:
                steps = [line["step"] for line in lines]
                ax.plot(steps, values, color=colour, label=split, linewidth=1.3)
        for line in metrics:
            if line["split"] == "test":
                label = f"test {factor * line[name]:.4g}"
                ax.plot(line["step"], factor * line[name], "k*", markersize=9, label=label)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("step")
        ax.legend(frameon=False, fontsize=8)
    axes[0, 0].set_yscale("log")
    _error_axis(axes[0, 1])
    return figure


def reconstruction_figure(
    images: np.ndarray, reconstructions: np.ndarray, labels: Sequence[int], predicted: Sequence[int]
) -> Figure:
    """Draw images above what the decoder made of their longest capsules.

    Args:
        images: pixels from 0 to 1, [n, h, w, c].
        reconstructions: the same for what was drawn.
        labels: class numbers, [n].
        predicted: class numbers, [n].
    """
    figure, axes = new_figure(2, len(images), (1.1 * len(images), 2.7))
    for column in range(len(images)):
        for row, picture in enumerate((images[column], reconstructions[column])):
            ax = axes[row, column]
            shown = picture[..., 0] if picture.shape[-1] != 3 else picture
            ax.imshow(shown, cmap="gray_r", vmin=0, vmax=1)
            ax.set_axis_off()
        colour = "#333333" if labels[column] == predicted[column] else "#CC3311"
        axes[0, column].set_title(
            f"{labels[column]} → {predicted[column]}", fontsize=9, color=colour
        )
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    with matplotlib.rc_context({"savefig.dpi": 130}):
        figure.savefig(path)
    return path
