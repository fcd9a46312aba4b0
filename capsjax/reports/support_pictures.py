"""Pictures of where class capsules get their support from, and of what a decoder draws of their poses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from capsjax.reports import figures, page
from capsjax.reports.page import Picture
from capsjax.reports.support import Moved, Support, Supported
from capsjax.reports.themes import DARK, LIGHT, Theme, drawn_with

WIDTH = 4.75  # inches, of any figure of a page
MOST_READOUTS = 3  # that are drawn: the first ones and the last
MOST_CLASSES = 10
COLOURS = "PuOr_r"  # violet for less than nothing, orange for more
SCALE = "added to the length |s| of the sum of votes (no unit); below 0: taken away"
READING = (
    "Of every arm the network of the first seed, and of all the same two test images: the first that some "
    "arms get wrong and others right, where there is one, and the first that all get right. What a child "
    "adds to a class capsule is its vote, weighted by its coupling, along the sum s of all votes for that "
    "class; over all children it adds up to the length |s| of that sum, the number below each map, which "
    "squashing makes the capsule's. A square of a map is a position of the children on the image. It shows "
    "what the sum consists of, not which pixels caused it. The first readout has the coupling that routing "
    "begins with, each later one what another update made of it."
)


def support_pictures(supported: Supported, names: Sequence[str], folder: Path) -> list[Picture]:
    """Draw where support comes from: readout by readout, class by class, and what moved poses draw.

    Args:
        supported: as `gather_support` gives it.
        names: what the classes are called.
        folder: where each picture also goes as SVG, PDF and PNG.

    Returns:
        The pictures; none where nothing was found.
    """
    found = supported.found
    if not found:
        return []
    made = []
    for n, number in enumerate(supported.numbers):
        label = names[int(supported.labels[n])]
        caption = (
            f"Test image {number}, of class {label}. A row for each arm: its name and, after the arrow, the "
            "class that it takes the image for, bold where that is wrong; the image; what the children at "
            f"each position add to class {label} at the first readouts and the last; and what they add to "
            "the strongest other class at the last. Orange adds, violet takes away, all on the scale below."
        )
        told = "; ".join(_told(one, n, int(supported.labels[n]), names) for one in found)
        alt = (
            f"Test image {number}, of class {label}: length of the sum of votes, readout by readout. "
            f"{told}. At each position, from {_range(_all_maps(supported, n))}."
        )
        made.append(
            _picture(
                f"support_{n}", lambda t, n=n: _rows(supported, names, n, t), folder, caption, alt
            )
        )
    classes = min(MOST_CLASSES, found[0].maps.shape[-1])
    number, label = supported.numbers[0], int(supported.labels[0])
    caption = (
        f"Test image {number}, of class {names[label]}: what the children at each position add to every "
        f"class capsule at the last readout{'' if classes == len(names) else ', to the first ten'}. "
        "A row for each arm; below each map the length of the sum, the largest of a row in bold."
    )
    alt = (
        f"Test image {number}: length of the sum of votes for each class at the last readout. "
        + (
            "; ".join(
                f"{one.arm} "
                + ", ".join(f"{names[j]} {x:.2f}" for j, x in enumerate(_lengths(one, 0)))
                for one in found
            )
            + "."
        )
    )
    made.append(
        _picture("support_classes", lambda t: _classes(supported, names, t), folder, caption, alt)
    )
    moved = [(one.arm, one.moved) for one in found if one.moved is not None]
    if moved:
        made.append(_moved_picture(supported, names, moved, folder))
    return made


def _told(one: Support, n: int, label: int, names: Sequence[str]) -> str:
    """Say in words what a row shows."""
    lengths = ", ".join(f"{one.maps[k, n, ..., label].sum():.2f}" for k in _readouts(len(one.maps)))
    other = _strongest_other(one, n, label)
    return (
        f"{one.arm}: {lengths}; the strongest other class {names[other]}, {_lengths(one, n)[other]:.2f}; "
        f"taken for {names[int(one.predicted[n])]}"
    )


def _moved_picture(
    supported: Supported, names: Sequence[str], moved: list[tuple[str, Moved]], folder: Path
) -> Picture:
    number, label = supported.numbers[0], names[int(supported.labels[0])]
    caption = (
        f"What the decoder of each arm draws of test image {number}, of class {label}: from its pose as it "
        "is, and with one component as small and as large as it is in any of "
        f"{moved[0][1].count} test images of class {label}. It is the component that changes most of what is "
        "drawn. Its values stand above; last is the change from the smallest to the largest, orange lighter, "
        "violet darker."
    )
    told = "; ".join(
        f"{arm}, component {one.component} from {one.low:.2f} to {one.high:.2f}, own value {one.own:.2f}, "
        f"changes pixels by up to {np.abs(one.drawn[2] - one.drawn[1]).max():.2f} of 1"
        for arm, one in moved
    )
    alt = f"Reconstructions of test image {number} while a component of its pose moves: {told}."
    image = supported.images[0]
    return _picture("poses", lambda t: _moves(image, moved, t), folder, caption, alt)


def _picture(
    name: str, draw: Callable[[Theme], Figure], folder: Path, caption: str, alt: str
) -> Picture:
    drawn = []
    for theme in (LIGHT, DARK):
        with drawn_with(theme):
            drawn.append(draw(theme))
    return page.picture(drawn[0], drawn[1], folder / name, caption, alt)._replace(name=name)


def _rows(supported: Supported, names: Sequence[str], n: int, theme: Theme) -> Figure:
    found, label = supported.found, int(supported.labels[n])
    readouts = {one.arm: _readouts(len(one.maps)) for one in found}
    columns = 2 + max(map(len, readouts.values()))
    most = _most(_all_maps(supported, n))
    what = "what each position adds to a sum of votes"
    title = f"test image {supported.numbers[n]}, of class {names[label]}:\n{what}"
    figure, axes = _grid(len(found), columns, WIDTH / columns + 0.5, title)
    drawn: Any = None
    for row, one in zip(axes, found, strict=True):
        _show(row[0], supported.images[n])
        taken = int(one.predicted[n])
        _title(row[0], f"{one.arm}\n→ {names[taken]}", theme, wrong=taken != label)
        for ax, k in zip(row[1:], readouts[one.arm], strict=False):
            drawn = _map(ax, one.maps[k, n, ..., label], most, theme)
            _title(ax, f"to class {names[label]}\nreadout {k + 1} of {len(one.maps)}", theme)
        for ax in row[1 + len(readouts[one.arm]) : -1]:
            _say(ax, "no more\nreadouts", theme)
        other = _strongest_other(one, n, label)
        drawn = _map(row[-1], one.maps[-1, n, ..., other], most, theme)
        _title(
            row[-1], f"to class {names[other]}\nreadout {len(one.maps)} of {len(one.maps)}", theme
        )
    _scale(figure, axes, drawn, most, SCALE)
    return figure


def _classes(supported: Supported, names: Sequence[str], theme: Theme) -> Figure:
    found, columns = supported.found, min(MOST_CLASSES, len(names))
    label = int(supported.labels[0])
    most = _most([one.maps[-1, 0] for one in found])
    what = "what each position adds to the sum of votes for each class"
    title = f"test image {supported.numbers[0]}, of class {names[label]}:\n{what}"
    figure, axes = _grid(len(found), columns, 0.62, title)
    drawn: Any = None
    for number, (row, one) in enumerate(zip(axes, found, strict=True)):
        row[0].set_ylabel(_short(one.arm), rotation=0, ha="right", va="center", fontsize=8)
        largest = int(_lengths(one, 0)[:columns].argmax())
        for j, ax in enumerate(row):
            drawn = _map(ax, one.maps[-1, 0, ..., j], most, theme)
            ax.xaxis.label.set_fontweight("bold" if j == largest else "normal")
            if number == 0:
                name = names[j] if len(names[j]) < 4 else str(j)
                _title(ax, f"label\n{name}" if j == label else name, theme)
    _scale(figure, axes, drawn, most, SCALE)
    return figure


def _moves(image: np.ndarray, moved: Sequence[tuple[str, Moved]], theme: Theme) -> Figure:
    changes = [(one.drawn[2] - one.drawn[1]).mean(-1) for _, one in moved]
    most = _most(changes)
    title = "what a decoder draws of an image,\nand with a component of its pose moved"
    figure, axes = _grid(len(moved), 5, 1.4, title)
    drawn: Any = None
    for row, (arm, one), change in zip(axes, moved, changes, strict=True):
        _show(row[0], image)
        _title(row[0], f"{arm}\ncomponent {one.component}", theme)
        titles = (f"own\n{one.own:+.2f}", f"smallest\n{one.low:+.2f}", f"largest\n{one.high:+.2f}")
        for ax, picture, text in zip(row[1:], one.drawn, titles, strict=False):
            _show(ax, picture)
            _title(ax, text, theme)
        drawn = _map(row[-1], change, most, theme)
        row[-1].set_xlabel("")
        _title(row[-1], "change", theme)
    _scale(figure, axes, drawn, most, "change of a pixel, of which black is 0 and white 1")
    return figure


def _readouts(count: int) -> list[int]:
    few = min(count, MOST_READOUTS)
    return [*range(few - 1), count - 1]


def _lengths(one: Support, n: int) -> np.ndarray:
    """Return the length of the sum of votes for each class at the last readout, [j]."""
    return one.maps[-1, n].sum((0, 1))


def _strongest_other(one: Support, n: int, label: int) -> int:
    lengths = _lengths(one, n).copy()
    lengths[label] = -np.inf
    return int(lengths.argmax())


def _all_maps(supported: Supported, n: int) -> list[np.ndarray]:
    """Return the maps that are drawn of an image."""
    label = int(supported.labels[n])
    return [
        found
        for one in supported.found
        for found in (
            *(one.maps[k, n, ..., label] for k in _readouts(len(one.maps))),
            one.maps[-1, n, ..., _strongest_other(one, n, label)],
        )
    ]


def _most(maps: Sequence[np.ndarray]) -> float:
    return max(float(np.abs(found).max()) for found in maps) or 1.0


def _range(maps: Sequence[np.ndarray]) -> str:
    low, high = min(float(x.min()) for x in maps), max(float(x.max()) for x in maps)
    return f"{low:.2g} to {high:.2g}"


def _grid(rows: int, columns: int, high: float, title: str) -> tuple[Figure, np.ndarray]:
    """Make a figure as wide as any, whose rows are so high, in inches, with room for a scale below."""
    figure, axes = figures.new_figure(rows, columns, (WIDTH, high * rows + 1))
    figure.suptitle(title, fontsize=9)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    return figure, axes


def _title(ax: Any, text: str, theme: Theme, *, wrong: bool = False) -> None:
    shown = "\n".join(map(_short, text.split("\n")))
    weight, colour = ("bold", theme.wrong) if wrong else ("normal", theme.ink)
    ax.set_title(shown, fontsize=7.5, color=colour, fontweight=weight, parse_math=False)


def _say(ax: Any, text: str, theme: Theme) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=7.5, color=theme.muted)


def _short(name: str) -> str:
    return name if len(name) <= figures.MOST else f"{name[: figures.MOST - 1]}…"


def _map(ax: Any, values: np.ndarray, most: float, theme: Theme) -> Any:
    """Draw a map in a frame, since what adds nothing is as white as the page; below it its sum."""
    # As many dots as positions, which the page enlarges: a picture of hundreds stays small.
    drawn = ax.imshow(values, cmap=COLOURS, vmin=-most, vmax=most, interpolation="none")
    ax.patch.set(edgecolor=theme.muted, linewidth=1)
    ax.set_xlabel(f"{values.sum():.2f}", fontsize=7.5, labelpad=1.5)
    return drawn


def _show(ax: Any, picture: np.ndarray) -> None:
    shown = np.clip(picture, 0, 1)
    shown = shown if shown.shape[-1] == 3 else shown.mean(-1)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none")


def _scale(figure: Figure, axes: np.ndarray, drawn: Any, most: float, words: str) -> None:
    """Draw below all maps what their colours mean."""
    bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.7, aspect=40, pad=0.02)
    for area in bar.ax.collections:
        area.set_rasterized(True)  # an image, not 256 areas
    bar.ax.spines[:].set_visible(False)
    bar.set_ticks([-most, 0, most], labels=[f"{-most:.2g}", "0", f"+{most:.2g}"])
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(words, fontsize=8)
