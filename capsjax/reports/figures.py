"""Figures: how panels become pictures, on light and on dark pages, and files of every form.

A figure is made of panels, each of which is also a file of its own. A colour stands for a mode, and for
nothing else; line styles and markers tell the rest apart.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from capsjax.reports.themes import LIGHT, Theme, drawn_with
from capsjax.tables import plain

# Paul Tol's "bright" colours, which stay apart for colour-blind readers.
COLOURS = ("#4477AA", "#EE6677", "#228833", "#CCBB44", "#66CCEE", "#AA3377", "#BBBBBB")
LONG, MOST = 12, 14  # letters above an image: of two names beside each other, of one by itself
LINE = 64  # letters of a line of a legend
PANEL = (4.7, 3.6)  # inches: words stay legible on a telephone, and in a column of a paper


class Panel(NamedTuple):
    """Hold one picture of a report.

    Attributes:
        name: of its files.
        caption: what it shows and how it is read.
        alt: what it shows, for those who do not see it.
        draw: draws it, on axes that it is given.
    """

    name: str
    caption: str
    alt: str
    draw: Callable[[Axes, Theme], None]


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Make a figure that needs no display, and its axes.

    Args:
        rows: the number of rows of axes.
        columns: the number of columns.
        size: width and height of the whole figure, in inches.

    Returns:
        The figure, and its axes [rows, columns].
    """
    # Not pyplot, which would choose a backend for a display and keep every figure alive.
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        _plain_axes(ax)
    return figure, axes


def legend_below(ax: Axes, handles: Sequence[Any] | None = None) -> None:
    """Explain the lines of a panel below its axes, where no curve runs; nothing where there are none.

    Args:
        ax: the axes, alone in their figure or in their part of one.
        handles: what is explained; None for all that has a label.
    """
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    if handles:
        lengths = [len(str(handle.get_label())) for handle in handles]
        few = [n for n in (3, 2) if sum(8 + max(x) for x in _columns(lengths, n)) <= LINE]
        options = {"frameon": False, "fontsize": 8.5, "ncols": next(iter(few), 1)}
        # Outside: the layout makes room for it, below whatever stands below the axes.
        ax.figure.legend(handles=handles, loc="outside lower center", **options)


def _columns(lengths: Sequence[int], count: int) -> list[np.ndarray]:
    return [column for column in np.array_split(lengths, count) if column.size]


def panel_figure(panel: Panel, theme: Theme = LIGHT) -> Figure:
    """Draw one panel as a figure of its own.

    Args:
        panel: what to draw.
        theme: of the page that it goes on.

    Returns:
        The figure.
    """
    with drawn_with(theme):
        figure, axes = new_figure(1, 1, PANEL)
        panel.draw(axes[0, 0], theme)
    return figure


def together(panels: Sequence[Panel], columns: int = 3, theme: Theme = LIGHT) -> Figure:
    """Draw panels as one figure, row by row.

    Args:
        panels: what to draw.
        columns: the number of panels in a row.
        theme: of the page that it goes on.

    Returns:
        The figure; places that are left in the last row stay empty.
    """
    rows = -(-len(panels) // columns)
    with drawn_with(theme):
        figure = Figure(figsize=(4.7 * columns, 3.9 * rows), layout="constrained")
        # Each in a part of its own, whose legend is its own.
        parts = figure.subfigures(rows, columns, squeeze=False)
        for part, panel in zip(parts.flat, panels, strict=False):
            panel.draw(_plain_axes(part.subplots()), theme)
    return figure


def _plain_axes(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(visible=True, alpha=0.25, linewidth=0.6)
    return ax


def reconstruction_figure(
    images: np.ndarray,
    reconstructions: np.ndarray,
    labels: Sequence[str],
    predicted: Sequence[str],
    theme: Theme = LIGHT,
) -> Figure:
    """Draw images above what the decoder made of the capsules of the classes predicted, six in a row.

    Args:
        images: pixels, [n, h, w, c]; from 0 to 1, or black is the least and white the largest of them.
        reconstructions: the same for what was drawn, k of each image below each other, [n, k, h, w, c].
        labels: what their classes are called, [n].
        predicted: what the classes are called that they were taken for, [n].
        theme: of the page that it goes on.

    Returns:
        The figure; above each image its label and the prediction, in bold where they differ.
    """
    count = len(images)
    black, white = min(0.0, float(images.min())), max(1.0, float(images.max()))
    columns = min(6, count)
    rows = -(-count // columns)
    with drawn_with(theme):
        high = 1 + reconstructions.shape[1]
        figure, axes = new_figure(high * rows, columns, (1.1 * columns, 1.25 * high * rows))
        for ax in axes.flat:
            ax.set_axis_off()
        for place in range(count):
            row, column = divmod(place, columns)
            for below, picture in enumerate((images[place], *reconstructions[place])):
                shown = np.clip((picture - black) / (white - black), 0, 1)
                shown = shown[..., 0] if picture.shape[-1] != 3 else shown
                # Light is light: a photograph is not shown as its negative.
                axes[high * row + below, column].imshow(shown, cmap="gray", vmin=0, vmax=1)
            right = labels[place] == predicted[place]
            axes[high * row, column].set_title(
                _short(labels[place], predicted[place]),
                fontsize=10 if len(labels[place] + predicted[place]) <= LONG else 7,
                parse_math=False,  # names are not formulas, whatever signs of money they hold
                color=theme.ink if right else theme.wrong,
                fontweight="normal" if right else "bold",
            )
    return figure


def _short(label: str, predicted: str) -> str:
    """Write a label and a prediction above an image, on two lines where one has no room for both."""
    label, predicted = (
        name if len(name) <= MOST else f"{name[: MOST - 1]}…" for name in (label, predicted)
    )
    return f"{label} → {predicted}" if len(label + predicted) <= LONG else f"{label}\n→ {predicted}"


def drawn_name(name: str, number: int) -> str:
    """Return the name of a class where the font of figures has all its letters, else its number.

    Args:
        name: what the data call it.
        number: its number.
    """
    font = get_font(findfont(FontProperties()))
    name = plain(name)
    return name if all(font.get_char_index(ord(letter)) for letter in name) else str(number)


def lay_out(figure: Figure, like: Figure | None = None) -> None:
    """Arrange what is in a figure, once: each of its files would measure every word of it again.

    Args:
        figure: what is going to be written.
        like: the same in other colours, already arranged; None to measure.
    """
    if figure.get_layout_engine() is None:
        return
    if like is None:
        with drawn_with(LIGHT):
            figure.draw_without_rendering()
    else:
        for ours, theirs in zip(figure.axes, like.axes, strict=True):
            ours.set_position(theirs.get_position(original=True))
        for ours, theirs in zip(figure.texts, like.texts, strict=True):
            ours.set_position(theirs.get_position())
    figure.set_layout_engine(None)


def save(figure: Figure, path: Path, *others: Path) -> Path:
    """Write a figure; the same figure gives the same bytes each time.

    Args:
        figure: what to write.
        path: the file, whose suffix (.svg, .pdf or .png) says in which form.
        others: further files, in other forms.

    Returns:
        The first file.
    """
    # matplotlib writes the date or its own version into every form, under another name in each.
    empty = {".svg": ("Date", "Creator"), ".pdf": ("CreationDate",), ".png": ("Software",)}
    lay_out(figure)
    with drawn_with(LIGHT):
        # Tight: what the layout found no room for, such as ticks beside a wide legend, is not cut off.
        box = figure.get_tightbbox().padded(0.1)
        for one in (path, *others):
            nothing = dict.fromkeys(empty.get(one.suffix, ()))
            options = {"dpi": 130, "metadata": nothing, "bbox_inches": box}
            figure.savefig(one, facecolor=figure.get_facecolor(), **options)
    return path
