"""What the runs of a comparison said of the test: losses, and which images were wrong, seed by seed."""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from capsjax.checks import UserError
from capsjax.runs import predictions
from capsjax.runs.predictions import Predictions
from capsjax.study.design import Design
from capsjax.study.ledger import Entry


def outcomes(designed: Design, entries: Sequence[Entry]) -> dict[str, Any]:
    """Collect, for `comparison.json`, what else than its error each run said of the test.

    Args:
        designed: the arms.
        entries: every run, as the ledger has them.

    Returns:
        `test_loss`, the loss of the classes by arm, without reconstruction, one for each seed; and
        `test_wrong`, by arm the number of `images` and, for each seed, which of them were `wrong`, as `pack`
        writes it. A run that failed has NaN and None.
    """
    losses: dict[str, Any] = {}
    wrong: dict[str, Any] = {}
    for name in designed.arms:
        runs = [entry for entry in entries if entry.trial.arm.name == name]
        losses[name] = [math.nan if run.loss is None else run.loss for run in runs]
        found = [wrong_images(run) for run in runs]
        sizes = {len(each) for each in found if each is not None}
        if len(sizes) == 1:  # nothing of runs from before predictions were kept
            packed = [None if each is None else pack(each) for each in found]
            wrong[name] = {"images": sizes.pop(), "wrong": packed}
    return {"test_loss": losses, "test_wrong": wrong}


def wrong_images(entry: Entry) -> Bool[np.ndarray, "n"] | None:
    """Read which test images a run got wrong, in their order.

    Args:
        entry: the run.

    Returns:
        True for each that was wrong, [n]; None if the run is not done, or keeps no predictions.
    """
    if entry.tested is None:
        return None
    found = own_test(entry.trial.path, int(entry.tested["step"]))
    return None if found is None else ~found.classification.right


def own_test(run: Path, step: int) -> Predictions | None:
    """Read what a run predicted in its own test, on its own data.

    Args:
        run: its directory.
        step: after how many steps of training it was tested.

    Returns:
        The predictions; None if it keeps none, or they cannot be read.
    """
    for path in sorted((run / predictions.FOLDER).glob(f"test-step{step}*.npz")):
        try:
            found = predictions.load(path)
        except UserError:
            continue
        if not found.data and found.step == step:
            return found
    return None


def pack(wrong: Bool[np.ndarray, "n"]) -> str:
    """Write a bit for each image, as `numpy.packbits` orders them, in base 64.

    Example:
        >>> pack(np.array([True, False, False]))
        'gA=='
    """
    return base64.b64encode(np.packbits(wrong).tobytes()).decode("ascii")


def unpack(text: str, images: int) -> Bool[np.ndarray, "n"]:
    """Read what `pack` wrote.

    Args:
        text: a bit for each image, in base 64.
        images: how many there are.

    Returns:
        True for each that was wrong, [n].

    Raises:
        ValueError: If it was not written of so many images.
    """
    try:
        held = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if len(held) != (images + 7) // 8:
        raise ValueError(f"{8 * len(held)} bits of {images} images")
    return np.unpackbits(held, count=images).astype(bool)


def wrong_by_seed(found: Mapping[str, Any]) -> list[Bool[np.ndarray, "n"] | None]:
    """Read an arm's part of `test_wrong`: an array for each seed, None of a run that failed."""
    images = found["images"]
    return [None if text is None else unpack(text, images) for text in found["wrong"]]
