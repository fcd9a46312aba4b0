"""What each layer of a run does: a table, and pictures of activations and of where couplings go."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from capsjax.layers import CapsuleShape, Passed, Step
from capsjax.metrics import DeadCapsules, layer_activity
from capsjax.numerics import safe_norm
from capsjax.reports.figures import new_figure
from capsjax.reports.themes import LIGHT, Theme, drawn_with
from capsjax.study.seen import LAYER
from capsjax.tables import Table
from capsjax.types import Capsules

STRIP = 64  # capsules without positions that are drawn, each as a bar
CELL = 0.8  # inches, of an image
CAPTION = (
    "Test images, and below them what each layer makes of them, position by position: of features "
    "the mean of |x| over channels, of capsules the activation of the most active type; capsules "
    "without positions are bars, of classes in their order. Rows that say coupling show where the "
    "children's couplings go. Of a layer on a grid that is how much each position gets, of the last "
    "which share each position of the children gives the predicted class. Even couplings favour the "
    "border of a grid, whose children fewer windows see. Each row from 0, dark, to the "
    "value beside it; so are the heights of bars."
)
NOTE = (
    "Mean: of the activations of its capsules, which are the lengths of their poses unless its routing says "
    "otherwise, and say nothing where it makes all poses equally long; of features, of |x|. A capsule is "
    "active in an image if its activation is at least "
    f"{DeadCapsules.threshold:g}, a feature if it is not 0: active is the share that are, averaged over the "
    "images; dead is the share of capsules, or of channels, that none of these images activates. Entropy: "
    "of the couplings of a child over its parents, averaged; 0 is one parent for each child, log J is all J "
    "alike. As parents: exp(entropy), among how many parents that divides a child evenly."
)
ADDED = (
    " A layer with residual: true passes on its children's poses plus what it routed: its row is of the "
    'lengths of these sums, the row "routed" of what it routed alone. That part may be so short that all of '
    "it counts as dead: the layer then changes little of what passes through it."
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
        sums = _lengths_of_sums(passed[step.name], step)
        coupling = None if routed is None else routed.coupling
        activation = value.activation if isinstance(value, Capsules) else value
        if sums is None:
            rows.append(_row(step.name, str(step.shape), activation, coupling))
        else:
            rows.append(_row(step.name, str(step.shape), sums, None))
            rows.append(_row(f"{step.name}, routed", "", activation, coupling))
    headings = (LAYER, "gives", "mean", "active, %", "dead, %", "entropy, nats", "as parents")
    note = NOTE + (ADDED if any(row[0].endswith(", routed") for row in rows) else "")
    return Table(f"Layers, {count} test images", headings, tuple(rows), note)


def _row(name: str, gives: str, activation: Any, coupling: Any) -> tuple[str, ...]:
    found = layer_activity(activation, coupling)
    entropy = None if found.entropy is None else float(found.entropy)
    return (
        name,
        gives,
        f"{float(found.mean):.3f}",
        f"{100 * float(found.active):.0f}",
        f"{100 * float(found.dead):.0f}",
        *(("—", "—") if entropy is None else (f"{entropy:.2f}", f"{np.exp(entropy):.1f}")),
    )


def _lengths_of_sums(passed: Passed, step: Step) -> Any:
    """Return the lengths of children's poses plus routed ones, [n, i], of a residual layer; None of others.

    The activations that such a layer gives are those of what was routed alone. Where they are not lengths,
    as those of EM routing, they say how present a capsule is, and nothing stands in for them.
    """
    value, routed = passed.value, passed.routed
    residual = getattr(step.layer, "residual", False)
    if routed is None or not residual or not isinstance(value, Capsules):
        return None
    lengths, given = safe_norm(jnp.asarray(routed.pose)), np.asarray(value.activation)
    alike = np.allclose(given, np.asarray(lengths).reshape(given.shape), atol=1e-3)
    return safe_norm(jnp.asarray(value.pose)) if alike else None


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
        routed = passed[step.name].routed
        if routed is not None and getattr(step.layer, "share", None) != "position":
            coupling = np.asarray(routed.coupling)
            shown = _coupled(coupling, step, predicted, last=step is steps[-1])
            if shown is not None:
                found.append((f"{step.name}\ncoupling", shown))
        shown = _active(passed[step.name], step)
        if shown is not None:
            found.append((step.name, shown))
    return found


def _active(passed: Passed, step: Step) -> np.ndarray | None:
    """Return activations, [n, h, w]; None of what has too many to be drawn in a row."""
    value: Any = passed.value
    if not isinstance(value, Capsules):
        return np.abs(np.asarray(value)).mean(-1) if value.shape[1:3] != (1, 1) else None
    sums = _lengths_of_sums(passed, step)
    activation = np.asarray(value.activation if sums is None else sums)  # [n, h w types]
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
        rows: titles, and what is drawn, [n, h, w]; of h = 1 as bars.
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
                if number and shown.shape[1] == 1:  # a strip of squares would be a sliver
                    _bars(ax, shown[place, 0], most, theme)
                else:
                    ax.imshow(shown[place], vmin=0, interpolation="nearest", **options)
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
            name = title if number == 0 else f"{title}\n{most:.2g}"
            axes[number, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def _bars(ax: Any, activation: np.ndarray, most: float, theme: Theme) -> None:
    """Draw a bar for each capsule, that of the most active one apart."""
    places = np.arange(len(activation))
    colours = [theme.ink if n == activation.argmax() else theme.muted for n in places]
    ax.bar(places, activation, width=0.8, color=colours)
    ax.set(xlim=(-0.8, len(places) - 0.2), ylim=(0, most))
    ax.set_box_aspect(1)  # as an image above it
    ax.axhline(0, color=theme.muted, linewidth=0.8)
