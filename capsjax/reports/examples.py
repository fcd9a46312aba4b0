"""A grid of what is in a dataset: images of each class, in a row."""

import numpy as np
from matplotlib.figure import Figure

from capsjax.checks import UserError, nearest
from capsjax.data import Dataset, Split
from capsjax.reports.figures import drawn_name, new_figure
from capsjax.reports.themes import LIGHT, drawn_with
from capsjax.tables import plain
from capsjax.training.feed import EvalFeed

COLUMNS, ROWS = 10, 20  # images of a class, and classes that are drawn
SIDE, GAP = 32, 2  # dots that an image has at least, and between images
CELL = 0.55  # inches, of an image
LAID_OVER = "over each image of a row's class lies one of another class, which is not named"


def examples_figure(dataset: Dataset, split: str = "train") -> Figure:
    """Draw ten images of each class of a split, spread evenly over those that there are.

    Args:
        dataset: what is drawn; of more than 20 classes the first.
        split: train, validation or test.

    Returns:
        The figure, a row for each class, its name before it. Channels of images that are neither grey nor
        in colour are drawn beside each other; of overlapping images each has one of another class over it,
        which is said below them.

    Raises:
        UserError: If there is no such split.
    """
    splits = dataset.splits()
    if split not in splits:
        expected = f"one of {', '.join(splits)}{nearest(split, list(splits))}"
        raise UserError(f"split: got {split!r}, expected {expected}", argument="split")
    labels = splits[split].labels
    names = _names(dataset)
    classes = len(names)
    chosen = [_spread(np.flatnonzero(labels == row)) for row in range(classes)]
    images, highest = _images(dataset, splits[split], np.concatenate(chosen))
    lowest = 0.0 if dataset.bounded else float(images.min())
    highest = highest if dataset.bounded else float(images.max())
    # Small images in larger dots, so that the gaps are no wider than they are elsewhere.
    zoom = max(1, round(SIDE / max(images.shape[1:3])))
    height, width = (zoom * side for side in _tile(images[0]).shape[:2])
    # White between images: black would be taken for a part of those that are dark at their edges.
    shape = classes * (height + GAP) - GAP, COLUMNS * (width + GAP) - GAP, 3
    canvas = np.ones(shape, np.float32)
    remaining = iter(images)
    for row, places in enumerate(chosen):
        for column in range(len(places)):
            top, left = row * (height + GAP), column * (width + GAP)
            tile = _tile(next(remaining)).astype(np.float32).repeat(zoom, 0).repeat(zoom, 1)
            shown = (tile - lowest) / (highest - lowest)
            canvas[top : top + height, left : left + width] = np.clip(shown, 0, 1)
    with drawn_with(LIGHT):
        wide = CELL * COLUMNS
        figure, axes = new_figure(1, 1, (wide + 1.2, wide * shape[0] / shape[1] + 0.4))
        ax = axes[0, 0]
        ax.imshow(canvas, interpolation="nearest")
        ax.set_xticks([])
        middles = np.arange(classes) * (height + GAP) + height / 2
        drawn = [drawn_name(name, number) for number, name in enumerate(names)]
        ax.set_yticks(middles, drawn, parse_math=False)
        if dataset.overlap is not None:
            ax.set_xlabel(LAID_OVER)
        ax.tick_params(length=0)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    return figure


def notes_on(dataset: Dataset) -> list[str]:
    """Say what the labels of a figure's rows do not: names whose letters its font lacks, and second classes.

    Args:
        dataset: what is drawn.

    Returns:
        A line for each such name, and one if the images show two classes.
    """
    drawn = [(drawn_name(name, number), plain(name)) for number, name in enumerate(_names(dataset))]
    lines = [
        f"{short} stands for {name}, which the font lacks" for short, name in drawn if short != name
    ]
    return lines + [LAID_OVER] * (dataset.overlap is not None)


def _names(dataset: Dataset) -> list[str]:
    """Return the names of the classes that are drawn, or their numbers."""
    return [str(name) for name in dataset.class_names or range(dataset.num_classes)][:ROWS]


def _spread(places: np.ndarray) -> np.ndarray:
    """Return ten of these places, spread evenly, or all of fewer."""
    few = min(COLUMNS, len(places))
    return places[np.linspace(0, len(places) - 1, few).round().astype(int)]


def _images(dataset: Dataset, split: Split, places: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the images at some places, laid over each other if those of the set are, and what white is."""
    part = Split(split.images[places], split.labels[places])
    if dataset.overlap is None:
        return part.images, 1 / dataset.scale
    feed = EvalFeed(part, dataset.scale, batch_size=len(part), overlap=dataset.overlap)
    return np.asarray(next(iter(feed)).images), 1.0


def _tile(image: np.ndarray) -> np.ndarray:
    """Return an image [h, w, c] as one in colour [h, w', 3]; several channels lie beside each other."""
    channels = image.shape[-1]
    if channels == 3:
        return image
    beside = np.concatenate([image[..., c] for c in range(channels)], axis=1)
    return np.repeat(beside[..., None], 3, axis=-1)
