"""The figure of this experiment, drawn from its measurements."""

from pathlib import Path

import numpy as np

from capsjax.reports.figures import COLOURS, new_figure

PANELS = {
    "lengths": ("mean length of a layer's capsules", "linear"),
    "varying": ("share that differs between images", "linear"),
    "by_poses": ("gradient by what comes in", "log"),
}
LEAST = 1e-12  # what vanishes is drawn there


def draw(found, folder: Path) -> None:
    """Write depth.png."""
    numbers = np.arange(1, found["layers"] + 1)
    figure, axes = new_figure(1, len(PANELS), (15, 4.6))
    for axis, (name, (title, scale)) in zip(np.ravel(axes), PANELS.items(), strict=True):
        for number, (stack, measured) in enumerate(found["stacks"].items()):
            residual = stack.endswith("residual")
            values = np.asarray([np.nan if x is None else x for x in measured[name]])
            axis.plot(
                numbers,
                np.maximum(values, LEAST) if scale == "log" else values,
                color=COLOURS[number % 3],
                linestyle="-" if residual else "--",
                label=stack,
            )
        axis.set(title=title, xlabel="layer", yscale=scale, xticks=numbers[::3])
    np.ravel(axes)[0].legend(fontsize=8)
    figure.savefig(folder / "depth.png")
