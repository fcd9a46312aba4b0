"""Pictures of where class capsules get their support from, and of what a decoder draws of their poses."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from capsjax.reports import figures, page
from capsjax.reports.page import Picture
from capsjax.reports.support import MOVES, Support, Supported
from capsjax.reports.themes import DARK, LIGHT, Theme, drawn_with

SIDE = 0.95  # inches of an image: five in a row are as wide as any figure
MOST_READOUTS = 3  # that are drawn: the first ones and the last
MOST_CLASSES = 10
READING = (
    "Of every arm the network of the first seed, and of all the same two test images: the first that some "
    "arms get wrong and others right, where there is one, and the first that all get right. What a child "
    "adds to a class capsule is its vote, weighted by its coupling, along the sum of all votes for that "
    "class; over all children it adds up to the length of that sum. It shows what the sum consists of, not "
    "which pixels caused it."
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
        told = "; ".join(f"{one.arm} takes it for {names[int(one.predicted[n])]}" for one in found)
        caption = (
            f"Test image {number}, of class {label}. A row for each arm: the image, what the children at "
            f"each position add to class {label} at the first readouts and the last, and in the end to the "
            "strongest other class. Orange adds, violet takes away, on one scale."
        )
        alt = f"What children add to class {label} over test image {number}, by readout; {told}."
        made.append(
            _picture(
                f"support_{n}", lambda t, n=n: _rows(supported, names, n, t), folder, caption, alt
            )
        )
    classes = min(MOST_CLASSES, found[0].maps.shape[-1])
    caption = (
        f"Test image {supported.numbers[0]}: what the children at each position add to every class capsule "
        f"at the last readout, class by class{'' if classes == len(names) else ', of the first ten'}."
    )
    strongest = "; ".join(
        f"in {one.arm} {names[int(one.maps[-1, 0].sum((0, 1)).argmax())]}" for one in found
    )
    alt = f"What children add to each class over test image {supported.numbers[0]}; the most: {strongest}."
    made.append(
        _picture("support_classes", lambda t: _classes(supported, names, t), folder, caption, alt)
    )
    decoded = [one for one in found if one.drawn is not None]
    if decoded:
        caption = (
            f"What the decoder of each arm draws of test image {supported.numbers[0]} while the largest "
            f"component of its label's pose moves by {MOVES[0]:g} to {MOVES[-1]:+g}, from left to right."
        )
        alt = f"Reconstructions by {', '.join(one.arm for one in decoded)} while a component of a pose moves."
        made.append(_picture("poses", lambda t: _moves(decoded, t), folder, caption, alt))
    return made


def _picture(
    name: str, draw: Callable[[Theme], Figure], folder: Path, caption: str, alt: str
) -> Picture:
    drawn = []
    for theme in (LIGHT, DARK):
        with drawn_with(theme):
            drawn.append(draw(theme))
    for suffix in ("svg", "pdf", "png"):
        figures.save(drawn[0], folder / f"{name}.{suffix}")
    return page.picture(drawn[0], drawn[1], caption, alt)._replace(name=name)


def _rows(supported: Supported, names: Sequence[str], n: int, theme: Theme) -> Figure:
    found, label = supported.found, int(supported.labels[n])
    readouts = {one.arm: _readouts(len(one.maps)) for one in found}
    columns = 2 + max(map(len, readouts.values()))
    most = max(float(np.abs(one.maps[:, n]).max()) for one in found) or 1.0
    figure, axes = _grid(len(found), columns, SIDE)
    for row, one in zip(axes, found, strict=True):
        _show(row[0], supported.images[n])
        taken = int(one.predicted[n])
        _title(row[0], f"{one.arm}\n→ {names[taken]}", theme.ink if taken == label else theme.wrong)
        for ax, k in zip(row[1:], readouts[one.arm], strict=False):
            _map(ax, one.maps[k, n, ..., label], most)
            _title(ax, f"{names[label]}\nreadout {k + 1}", theme.ink)
        lengths = one.maps[-1, n].sum((0, 1))  # [j]
        lengths[label] = -np.inf
        other = int(lengths.argmax())
        _map(row[-1], one.maps[-1, n, ..., other], most)
        _title(row[-1], f"{names[other]}\nthe last", theme.ink)
    return figure


def _readouts(count: int) -> list[int]:
    few = min(count, MOST_READOUTS)
    return [*range(few - 1), count - 1]


def _classes(supported: Supported, names: Sequence[str], theme: Theme) -> Figure:
    found, columns = supported.found, min(MOST_CLASSES, len(names))
    most = max(float(np.abs(one.maps[-1, 0]).max()) for one in found) or 1.0
    figure, axes = _grid(len(found), columns, SIDE / 2)
    for row, one in zip(axes, found, strict=True):
        for j, ax in enumerate(row):
            _map(ax, one.maps[-1, 0, ..., j], most)
            name = names[j] if len(names[j]) < 4 else str(j)
            _title(ax, f"{one.arm}\n{name}" if j == columns // 2 else name, theme.ink)
    return figure


def _moves(decoded: Sequence[Support], theme: Theme) -> Figure:
    figure, axes = _grid(len(decoded), len(MOVES), SIDE)
    for row, one in zip(axes, decoded, strict=True):
        assert one.drawn is not None
        for ax, drawn, move in zip(row, one.drawn, MOVES, strict=True):
            _show(ax, drawn)
            _title(ax, f"{move:+g}" if move else f"{one.arm}\ncomponent {one.component}", theme.ink)
    return figure


def _grid(rows: int, columns: int, side: float) -> tuple[Figure, np.ndarray]:
    figure, axes = figures.new_figure(rows, columns, (side * columns, (side + 0.4) * rows))
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def _title(ax: Any, text: str, colour: str) -> None:
    short = "\n".join(
        line if len(line) <= figures.MOST else f"{line[:12]}…" for line in text.split("\n")
    )
    ax.set_title(short, fontsize=8, color=colour, parse_math=False)


def _map(ax: Any, values: np.ndarray, most: float) -> None:
    # As many dots as positions, which the page enlarges: a picture of hundreds stays small.
    ax.imshow(values, cmap="PuOr_r", vmin=-most, vmax=most, interpolation="none")


def _show(ax: Any, picture: np.ndarray) -> None:
    shown = np.clip(picture, 0, 1)
    shown = shown if shown.shape[-1] == 3 else shown.mean(-1)
    ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="none")
