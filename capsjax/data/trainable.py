"""What data a run may begin with: nothing that would train without an error, and to no purpose."""

from collections.abc import Mapping

import numpy as np

from capsjax.checks import UserError
from capsjax.data.classes import RENUMBER, RENUMBER_SPLITS, empty_classes, listed
from capsjax.data.dataset import Dataset


def check_classes(dataset: Dataset, data: object = None, *, stated: bool = True) -> None:
    """Check that every class has an example to learn from, as far as nobody says otherwise.

    Args:
        dataset: what is to be trained on.
        data: the user's own arrays that it was made of, or None.
        stated: whether someone said how many classes there are; then some may have no example.

    Raises:
        UserError: If a number below the largest label has no example and the number of classes is not
            stated, or a label of validation or test has none in train.
    """
    labels = np.concatenate([split.labels for split in dataset.splits().values()])
    empty, missing = empty_classes(labels, dataset.num_classes)
    if missing and not stated:
        found = dataset.num_classes - missing
        came = (
            f"labels: got {found} classes, from {labels.min()} to {labels.max()}, and no example of "
            f"{listed(empty, missing)}; expected one of every number from 0 to the largest; "
        )
        renumber = RENUMBER_SPLITS if isinstance(data, Mapping) else RENUMBER
        advice = f"number the classes from 0: {renumber}; or " if found > 1 else ""
        count = dataset.num_classes
        raise UserError(
            f"{came}{advice}say how many there are, with or without examples: Arrays(num_classes={count})",
            on_command_line=f"{came}{advice}say how many there are: --data.num_classes {count}",
        )
    trained = np.unique(dataset.train.labels)
    for name, split in dataset.splits().items():
        unseen = np.setdiff1d(split.labels, trained)
        if unseen.size:
            raise UserError(
                f"{name} labels: got class {listed(unseen, unseen.size)}, of which train has no example, "
                "expected classes that are trained; add examples of them to train, or leave them out of "
                f"{name}: keep = np.isin(labels, train_labels); images[keep], labels[keep]"
            )


def describe(dataset: Dataset) -> str:
    """Say in a line what there is to learn from: classes, images, and classes without an example."""
    empty, missing = empty_classes(dataset.train.labels, dataset.num_classes)
    sizes = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits().items())
    none = f", none of class {listed(empty, missing)}" if missing else ""
    found = dataset.num_classes - missing
    of = f" of {dataset.num_classes}" if missing else ""
    return f"{dataset.name}: {found}{of} classes{none}; images {list(dataset.image_shape)}: {sizes}"
