"""What each layer of a run does: a table, and pictures of activations and of where couplings go."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from capsjax.layers import CapsuleShape, Passed, Step
from capsjax.metrics import layer_activity
from capsjax.reports.figures import new_figure
from capsjax.reports.themes import LIGHT, Theme, drawn_with
from capsjax.study.seen import LAYER
from capsjax.tables import Table
from capsjax.types import Capsules

STRIP = 64  # capsules without positions that are drawn, each as a square
CELL = 0.8  # inches, of an image
CAPTION = (
    "Test images, and below them what each layer makes of them, position by position: of features "
    "the mean of |x| over channels, of capsules the activation of the most active type; capsules "
    "without positions stand in a row. Rows that say coupling show where the children's couplings "
    "go. Of a layer on a grid that is how much each position gets, of the last which share each "
    "position of the children gives the predicted class. Each row from 0, dark, to the value beside it."
)

Rows = list[tuple[str, np.ndarray]]


def layers_table(passed: Mapping[str, Passed], steps: tuple[Step, ...], count: int) -> Table:
    """Make the table of how active each layer is.

    Args:
        passed: what each layer gave, by name.
        steps: the layers with their shapes.
        count: of how many images.

    Returns:
        The table: a row for each layer that makes something.
    """
    rows = []
    for step in steps:
        if len(step.layer.takes) == 1:  # a branch begins: nothing is made
            continue
        value, routed = passed[step.name]
        activation: Any = value.activation if isinstance(value, Capsules) else value
        found = layer_activity(activation, None if routed is None else routed.coupling)
        entropy = None if found.entropy is None else float(found.entropy)
        rows.append(
            (
                step.name,
                str(step.shape),
                f"{float(found.mean):.3f}",
                f"{100 * float(found.active):.0f}",
                f"{100 * float(found.dead):.0f}",
                *(("—", "—") if entropy is None else (f"{entropy:.2f}", f"{np.exp(entropy):.1f}")),
            )
        )
    headings = (LAYER, "gives", "mean", "active, %", "dead, %", "entropy, nats", "as parents")
    return Table(f"Layers, {count} test images", headings, tuple(rows))


def maps(passed: Mapping[str, Passed], steps: tuple[Step, ...], predicted: np.ndarray) -> Rows:
    """Read what each layer gave as pictures.

    Args:
        passed: what each layer gave, by name.
        steps: the layers with their shapes.
        predicted: the class of each image, [n].

    Returns:
        Titles, and numbers from 0 on, [n, rows, columns].
    """
    found: Rows = []
    for step in steps:
        if len(step.layer.takes) == 1:
            continue
        value, routed = passed[step.name]
        if routed is not None and getattr(step.layer, "share", None) != "position":
            coupling = np.asarray(routed.coupling)
            shown = _coupled(coupling, step, predicted, last=step is steps[-1])
            if shown is not None:
                found.append((f"{step.name}\ncoupling", shown))
        shown = _active(value, step)
        if shown is not None:
            found.append((step.name, shown))
    return found


def _active(value: Any, step: Step) -> np.ndarray | None:
    """Return activations, [n, h, w]; None of what has too many to be drawn in a row."""
    if not isinstance(value, Capsules):
        return np.abs(np.asarray(value)).mean(-1) if value.shape[1:3] != (1, 1) else None
    activation = np.asarray(value.activation)  # [n, h w types]
    if step.shape.grid == (1, 1):
        return activation[:, None] if activation.shape[1] <= STRIP else None
    return activation.reshape(len(activation), *step.shape.grid, -1).max(-1)


def _coupled(
    coupling: np.ndarray, step: Step, predicted: np.ndarray, *, last: bool
) -> np.ndarray | None:
    """Return where couplings go, [n, h, w]; None where neither children nor parents have positions."""
    if coupling.ndim == 5:  # [n, y, x, i, j]
        return coupling.sum((-2, -1))
    n, given = len(coupling), step.given
    if step.shape.grid != (1, 1):  # of types to a grid, [n, a, y x j]
        return coupling.sum(1).reshape(n, *step.shape.grid, -1).sum(-1)
    if not last or not isinstance(given, CapsuleShape) or given.grid == (1, 1):
        return None
    share = coupling[np.arange(n), :, predicted]  # [n, h w a]
    return share.reshape(n, *given.grid, -1).mean(-1)


def layers_figure(images: np.ndarray, rows: Rows, theme: Theme = LIGHT) -> Figure:
    """Draw images, and below them a row of pictures for each layer.

    Args:
        images: pixels from 0 to 1, or black is the least and white the largest, [n, h, w, c].
        rows: titles, and what is drawn, [n, h, w].
        theme: of the page that it goes on.

    Returns:
        The figure.
    """
    count, high = len(images), 1 + len(rows)
    with drawn_with(theme):
        figure, axes = new_figure(high, count, (CELL * count + 1.4, CELL * high + 0.2))
        black, white = min(0.0, float(images.min())), max(1.0, float(images.max()))
        light = np.clip((images - black) / (white - black), 0, 1)
        pictures = light if images.shape[-1] == 3 else light[..., 0]
        for number, (title, shown) in enumerate([("image", pictures), *rows]):
            most = float(shown.max()) or 1.0
            for place, ax in enumerate(axes[number]):
                options = {"cmap": "gray", "vmax": 1} if number == 0 else {"vmax": most}
                ax.imshow(shown[place], vmin=0, interpolation="nearest", **options)
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
            name = title if number == 0 else f"{title}\n{most:.2g}"
            axes[number, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure
