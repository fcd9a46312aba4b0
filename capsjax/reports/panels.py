"""The panels of runs: curves of one run or of several arms over each other, and test errors."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from capsjax.metrics.several import LABEL_ERROR
from capsjax.reports.figures import Panel, legend_below, together
from capsjax.reports.themes import Theme, marker_of
from capsjax.study import arms as of_arms
from capsjax.study.arms import Arm, Course, Lines

STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
LONGEST = 28  # characters of a name below an axis
SMALL_ERROR = 5.0  # percent: where a curve falls below it, a logarithm keeps small errors apart
NAMES = {
    "error": "error, %",
    LABEL_ERROR: "label error, %",
    "loss": "loss",
    "entropy": "entropy of the coupling, nats",
}
SHARES = ("error", LABEL_ERROR)
WRONG = "Share of wrong answers"
ALL_LABELS = "Share of images of which not all labels are found (exact match)"
EACH_LABEL = "Share of labels that are not found (of two, one counts half)"


def course_panels(
    arms: Sequence[Arm],
    bound: int | None,
    names: Sequence[str] = ("error", LABEL_ERROR, "loss", "entropy"),
) -> list[Panel]:
    """Return curves over each other: each arm's mean over its runs, and their range as a band.

    In validation; in training where nothing validates. What was measured once, at the end, has no curve.

    Args:
        arms: what is drawn.
        bound: number of class capsules J, whose log bounds the entropy; None if it is not known.
        names: of the numbers.
    """
    split = of_arms.shown_split(arms)
    panels = []
    for name in names:
        courses = [of_arms.course(arm, split, name) for arm in arms]
        if any(found is not None and np.isfinite(found.mean).sum() > 1 for found in courses):
            panels.append(_course_panel(name, split, list(zip(arms, courses, strict=True)), bound))
    return panels


def _course_panel(
    name: str, split: str, drawn: list[tuple[Arm, Course | None]], bound: int | None
) -> Panel:
    factor = 100.0 if name in SHARES else 1.0
    pairs = any(LABEL_ERROR in line for arm, _ in drawn for run in arm.runs for line in run)
    several = any(len(arm.runs) > 1 for arm, _ in drawn)
    where = {"validation": "validation", "train": "training"}[split]
    styles = _styles([arm for arm, _ in drawn])

    def draw(ax: Axes, theme: Theme) -> None:
        for number, (arm, found) in enumerate(drawn):
            if found is not None:
                middle, low, high = (factor * x for x in (found.mean, found.low, found.high))
                # Some eight marks on a curve, those of each arm at other steps, so that none hides another.
                every = max(1, len(found.steps) // 8)
                ax.plot(
                    found.steps, middle, color=theme.of(arm.mode), label=arm.label, linewidth=1.6,
                    linestyle=styles[number], marker=marker_of(arm.mode, "."), markersize=4.5,
                    markevery=(number % every, every),
                    markerfacecolor=theme.of(arm.mode) if arm.label == arm.name else theme.page,
                )  # fmt: skip
                ax.fill_between(
                    found.steps, low, high, color=theme.of(arm.mode), alpha=0.18, linewidth=0
                )
        ax.set_title(f"{NAMES[name]} ({where}{'; mean and range' if several else ''})", fontsize=10)
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _scale(ax, name, bound, theme)
        legend_below(ax)

    ends = [
        f"{arm.label} ends at {factor * found.mean[-1]:.4g}"
        for arm, found in drawn
        if found is not None
    ]
    caption = {
        "error": f"{ALL_LABELS if pairs else WRONG} in {where}, in percent.",
        LABEL_ERROR: f"{EACH_LABEL} in {where}, in percent.",
        "loss": f"Loss in {where}.",
        "entropy": "How undecided routing is in the last iteration: the entropy of a child's couplings "
        "over its parents. Uniform coupling has log J, the bound that is drawn.",
    }[name]
    band = " Line: mean over seeds; band: from the smallest to the largest." if several else ""
    alt = f"Curves of {NAMES[name]} against the step, {where}: {'; '.join(ends)}."
    return Panel(name, caption + band, alt, draw)


def _styles(arms: Sequence[Arm]) -> list:
    """Give arms of one mode, which share its colour, a line style each."""
    before = [sum(a.mode == arm.mode for a in arms[:place]) for place, arm in enumerate(arms)]
    return [STYLES[count % len(STYLES)] for count in before]


def _scale(ax: Axes, name: str, bound: int | None, theme: Theme) -> None:
    """Scale an axis for what it shows."""
    if name == "loss":
        ax.set_yscale("log")
        ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
    elif name in SHARES:
        _, low, _, top = ax.dataLim.extents
        if low < SMALL_ERROR < top:  # logarithmic, but linear below 1, since some are 0
            ax.set_yscale("symlog", linthresh=1.0)
        _set_room(ax, factor=1.4 if ax.get_yscale() == "symlog" else 1.1)
        ax.yaxis.set_major_formatter("{x:g}")
    elif bound is not None:
        top = math.log(bound)
        label = f"uniform coupling, log {bound} = {top:.3f}"
        ax.axhline(top, color=theme.ink, linewidth=0.9, linestyle=(0, (2, 2)), label=label)
        low, _ = ax.get_ylim()
        ax.set_ylim(low, top + 0.06 * max(top - low, 1e-3))


def _set_room(ax: Axes, factor: float) -> None:
    """Begin an axis at 0 and end it above what is drawn, so that no mark is cut."""
    top = float(ax.dataLim.y1)
    ax.set_ylim(0, factor * top if math.isfinite(top) and top > 0 else 1.0)


def tests_panel(errors: Mapping[str, tuple[str, Sequence[float]]], *, paired: bool) -> Panel:
    """Return test errors: every run a dot, the mean of each arm a bar.

    Args:
        errors: of each arm its mode and its test errors, from 0 to 1, one for each seed.
        paired: whether the arms have the same seeds, which lines then join.
    """
    names = list(errors)
    every = [x for _, found in errors.values() for x in found if math.isfinite(x)]
    low, top = (min(every), max(every)) if every else (0.0, 0.0)
    near = 0 < top - low < low / 2  # from 0 on, what tells the arms apart would be a few pixels

    def draw(ax: Axes, theme: Theme) -> None:
        places = np.arange(len(names))
        if paired and len(names) > 1:
            for row in zip(*(found for _, found in errors.values()), strict=True):
                ax.plot(places, [100 * x for x in row], color=theme.muted, linewidth=0.7, alpha=0.7)
        for place, (mode, found) in zip(places, errors.values(), strict=True):
            given = [100 * x for x in found]
            colour, marker = theme.of(mode), marker_of(mode)
            ax.plot([place] * len(given), given, marker, color=colour, markersize=4.5, alpha=0.8)
            if len(given) > 1:
                ax.plot(place, np.mean(given), "_", color=colour, markersize=22, markeredgewidth=3)
        set_names(ax, names)
        ax.set_xlim(-0.6, len(names) - 0.4)
        _set_room(ax, factor=1.1)
        if near:
            ax.set_ylim(100 * (low - 0.1 * (top - low)), 100 * (top + 0.1 * (top - low)))
        ax.set_title("test error, %", fontsize=10)

    means = [f"{name} {100 * np.mean(found):.2f}" for name, (_, found) in errors.items() if found]
    line = " A line joins the runs of one seed." if paired and len(names) > 1 else ""
    scale = " The scale does not begin at 0." if near else ""
    caption = (
        "Test error after the last step, in percent: a mark for each run, a bar for the mean."
        f"{line}{scale}"
    )
    return Panel("test_error", caption, f"Mean test error in percent: {', '.join(means)}.", draw)


def set_names(ax: Axes, names: Sequence[str]) -> None:
    """Write names below an axis, at 0, 1 and so on; slanting if there is no room for them.

    Args:
        ax: the axes.
        names: what stands at each place; long ones are cut.
    """
    crowded = sum(map(len, names)) > 40
    shortened = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]
    slant = 30 if len(names) < 9 else 60
    ax.set_xticks(
        range(len(names)),
        shortened,
        rotation=slant if crowded else 0,
        ha="right" if crowded else "center",
    )


def run_figure(metrics: Lines, mode: str = "full") -> Figure:
    """Draw a run's curves: loss, error and entropy of the coupling, in training and validation.

    Args:
        metrics: the run's lines.
        mode: its gradient mode, which decides the colour.

    Returns:
        The figure, three panels beside each other.
    """
    return together(run_panels(metrics, mode, None))


def run_panels(metrics: Lines, mode: str, bound: int | None) -> list[Panel]:
    """Return a run's curves: loss, error and entropy, in training, validation and the test.

    Args:
        metrics: its lines.
        mode: which decides the colour.
        bound: number of class capsules J, whose log bounds the entropy; None if it is not known.
    """
    pairs = any(LABEL_ERROR in line for line in metrics)
    names = ("loss", "error", *([LABEL_ERROR] if pairs else []), "entropy")
    return [_run_panel(metrics, mode, name, bound) for name in names]


def _run_panel(metrics: Lines, mode: str, name: str, bound: int | None) -> Panel:
    factor = 100.0 if name in SHARES else 1.0
    pairs = any(LABEL_ERROR in line for line in metrics)
    found = {
        split: of_arms.values(metrics, split, name) for split in ("train", "validation", "test")
    }

    def draw(ax: Axes, theme: Theme) -> None:
        (steps, train), (marks, validation), (end, test) = found.values()
        if steps.size:
            ax.plot(
                steps, factor * train, color=theme.muted, linewidth=1.0, label="training batches"
            )
        if marks.size:
            ax.plot(
                marks, factor * validation, color=theme.of(mode), linewidth=1.8, label="validation",
                marker=marker_of(mode), markersize=4, markevery=max(1, marks.size // 10),
            )  # fmt: skip
        if end.size:
            label = f"test {factor * test[-1]:.4g}"
            ax.plot(end[-1:], factor * test[-1:], "*", color=theme.ink, markersize=10, label=label)
        ax.set_title(NAMES[name], fontsize=10)
        ax.set_xlabel("step")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _scale(ax, name, bound if name == "entropy" else None, theme)
        legend_below(ax)

    ends = [f"{split} ends at {factor * y[-1]:.4g}" for split, (_, y) in found.items() if y.size]
    caption = {
        "loss": "Loss. Grey: single logged batches of training.",
        "error": f"{ALL_LABELS if pairs else WRONG}, in percent. Grey: single logged batches of training.",
        LABEL_ERROR: f"{EACH_LABEL}, in percent. Grey: single logged batches of training.",
        "entropy": "How undecided routing is in the last iteration: the entropy of a child's couplings "
        "over its parents. Uniform coupling has log J, the bound that is drawn.",
    }[name]
    return Panel(name, caption, f"{NAMES[name]} against the step: {', '.join(ends)}.", draw)
