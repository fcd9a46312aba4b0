"""What data a run may begin with: nothing that would train without an error, and to no purpose."""

from collections.abc import Mapping, Sequence

import numpy as np

from capsjax.checks import FieldError, UserError
from capsjax.data.augment import Augmentation
from capsjax.data.classes import RENUMBER, RENUMBER_SPLITS, SHOWN, empty_classes, listed
from capsjax.data.dataset import Dataset
from capsjax.data.pixels import DARK, white_of

MOST_NAMED = 12  # classes whose names and numbers fit into a line
MOST_CHANNELS = 4  # grey, colour, with transparency


def check_classes(dataset: Dataset, data: object = None, *, stated: bool = True) -> None:
    """Check that every class has an example to learn from, unless their number was given.

    Args:
        dataset: what is to be trained on.
        data: the user's own arrays that it was made of, or None.
        stated: whether the number of classes was given; then some may have no example.

    Raises:
        UserError: If a number below the largest label has no example and the number of classes is not
            stated, or a label of validation or test has none in train.
    """
    labels = np.concatenate([split.labels for split in dataset.splits().values()])
    empty, missing = empty_classes(labels, dataset.num_classes)
    if missing and not stated:
        found = dataset.num_classes - missing
        got = (
            f"labels: got {found} classes, from {labels.min()} to {labels.max()}, and no example of "
            f"{listed(empty, missing)}; expected one of every number from 0 to the largest; "
        )
        renumber = RENUMBER_SPLITS if isinstance(data, Mapping) else RENUMBER
        advice = f"number the classes from 0: {renumber}; or " if found > 1 else ""
        count = dataset.num_classes
        raise UserError(
            f"{got}{advice}say how many there are, with or without examples: Arrays(num_classes={count})",
            on_command_line=f"{got}{advice}say how many there are: --data.num_classes {count}",
        )
    trained = np.unique(dataset.train.labels)
    for name, split in dataset.splits().items():
        unseen = np.setdiff1d(split.labels, trained)  # an error that no training could lower
        if unseen.size and dataset.class_names:
            names = [dataset.class_names[number] for number in unseen]
            raise UserError(
                f"{name}: got class {listed(np.array(names), len(names))}, of which train has no example, "
                f"expected classes that are trained; add examples of it to train, or take it out of {name}"
            )
        if unseen.size:
            raise UserError(
                f"{name} labels: got class {listed(unseen, unseen.size)}, of which train has no example, "
                "expected classes that are trained; add examples of them to train, or leave them out of "
                f"{name}: keep = np.isin(labels, train_labels); images[keep], labels[keep]"
            )


def check_pixels(dataset: Dataset) -> None:
    """Check that the pixels of one's own images use the scale that they are read in.

    Raises:
        UserError: If all are the same, or the largest is below a tenth of white.
    """
    ends = [
        float(end)
        for split in dataset.splits().values()
        for end in (split.images.min(), split.images.max())
    ]
    low, high, type_ = min(ends), max(ends), dataset.train.images.dtype
    if low == high:
        raise UserError(
            f"images: got {type_} whose pixels are all {low:g}, expected images that differ"
        )
    # By the brightest pixel of all: a few dark images among others are nothing unusual.
    if high * dataset.scale < DARK:
        raise UserError(
            f"images: got {type_} from {low:g} to {high:g}, expected some above {DARK / dataset.scale:g}, as "
            f"{1 / dataset.scale:g} is white: with less there is next to nothing to learn from; divide "
            f"them by the value that is white: images / {white_of(high)}"
        )


def check_geometry(dataset: Dataset, max_shift: int, augment: Sequence[Augmentation] = ()) -> None:
    """Check that images have their channels last, and that augmentations leave something of them.

    Args:
        dataset: what is to be trained on.
        max_shift: pixels by which a training image may move in each direction.
        augment: how training images are changed beside that.

    Raises:
        UserError: If height, width and channels look like channels, height and width, or an image may be
            shifted by all its height or width, or nothing of it is left by another augmentation.
    """
    height, width, channels = dataset.image_shape
    if channels_first(dataset.image_shape):
        raise UserError(
            f"images: got {list(dataset.image_shape)} for each, which reads as height {height}, width "
            f"{width} and {channels} channels, expected [n, h, w, c]; if the channels come "
            "first, say data.axes nchw, or: np.moveaxis(images, 1, -1); if the images are that flat, lay "
            "them on their side: np.swapaxes(images, 1, 2)"
        )
    side, name = min((height, "height"), (width, "width"))
    if max_shift >= side:
        raise UserError(
            f"max_shift: got {max_shift} for images of {name} {side}, expected at most {side - 1}: a shift "
            "by all of it leaves nothing",
            argument="max_shift",
        )
    shape = dataset.image_shape
    for number, augmentation in enumerate(augment):
        if augmentation.prepares and dataset.overlap is not None:
            raise UserError(
                f"augment.{number}.kind: got {augmentation.kind} for images that are laid over each other, "
                "expected what keeps their size, and pixels from 0 to 1; leave it out",
                argument="augment",
            )
        try:
            augmentation.check(shape)
            shape = augmentation.shape(shape)
        except FieldError as error:
            raise UserError(
                f"augment.{number}.{error.field}: got {error.given}, expected {error.expected}",
                argument="augment",
            ) from None


def channels_first(image_shape: tuple[int, int, int]) -> bool:
    """Return whether (h, w, c) looks like (c, h, w): hardly any rows, and many channels."""
    height, width, channels = image_shape
    return height <= MOST_CHANNELS < min(width, channels)


def describe(dataset: Dataset) -> str:
    """Say in a line what there is to learn from: classes, images, and classes without an example."""
    labels = np.concatenate([split.labels for split in dataset.splits().values()])
    empty, missing = empty_classes(labels, dataset.num_classes)
    untrained = np.setdiff1d(labels, dataset.train.labels)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits().items())
    none = f", none of class {listed(empty, missing)}" if missing else ""
    if untrained.size:
        words = np.array(dataset.class_names)[untrained] if dataset.class_names else untrained
        none += f", and none of {listed(words, untrained.size)} in train"
    found = dataset.num_classes - missing
    of = f" of {dataset.num_classes}" if missing else ""
    count = sum(len(split) for split in dataset.splits().values())
    images = f"{count} images {list(dataset.image_shape)}, of which {sizes}"
    if dataset.overlap is not None:
        images += "; each is laid over one of another class"
    return f"{dataset.name}: {found}{of} classes{none}{_counts(dataset)}; {images}"


def _counts(dataset: Dataset) -> str:
    """Say how many images each class has, of the first few: " (cat 30, dog 12)", where they have names."""
    if not dataset.class_names:
        return ""
    labels = np.concatenate([split.labels for split in dataset.splits().values()])
    counts = np.bincount(labels, minlength=dataset.num_classes)
    said = [f"{name} {n}" for name, n in zip(dataset.class_names, counts.tolist(), strict=True)]
    more = ""
    if len(said) > MOST_NAMED:
        more = f" and {len(said) - SHOWN} more, of {counts.min()} to {counts.max()}"
        said = said[:SHOWN]
    return f" ({', '.join(said)}{more})"
