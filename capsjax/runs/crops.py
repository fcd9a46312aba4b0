"""Test by several parts of each image, whose beliefs are averaged."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from capsjax.checks import UserError
from capsjax.data import CropTo
from capsjax.data.augment.base import prepared_shape
from capsjax.metrics.classification import shares
from capsjax.runs.config import Config
from capsjax.training.loop import Measured

FARTHEST = 3  # pixels from the middle, in steps of one along both diagonals
CROPS = 1 + 4 * FARTHEST


def offsets() -> list[tuple[int, int]]:
    """Return where the parts are, pixels down and to the right of the middle, which comes first."""
    signs = (-1, 1)
    far = [(y * n, x * n) for n in range(1, FARTHEST + 1) for y in signs for x in signs]
    return [(0, 0), *far]


def check_crops(config: Config, image_shape: tuple[int, int, int], crops: int) -> None:
    """Check that a run can be tested by so many parts of each image.

    Args:
        config: what was run.
        image_shape: height, width and channels of the data's images.
        crops: how many parts.

    Raises:
        UserError: If it is neither one nor 13, or the run does not cut out parts with as much room around.
    """
    if crops not in (1, CROPS):
        raise UserError(
            f"crops: got {crops}, expected 1, the middle alone, or {CROPS}", argument="crops"
        )
    if crops == 1:
        return
    rooms = [
        each.room(prepared_shape(config.augment[:place], image_shape))
        for place, each in enumerate(config.augment)
        if isinstance(each, CropTo)
    ]
    if len(rooms) != 1 or rooms[0] < FARTHEST:
        came = {
            0: "without crop_to in augment, which cuts a part out of each image",
            1: f"with {rooms[0] if rooms else 0} pixels around its part",
        }.get(len(rooms), f"with {len(rooms)} crop_to in augment")
        raise UserError(
            f"crops: got {crops} for a run {came}, expected one with a single crop_to and at least "
            f"{FARTHEST} pixels around; set crops to 1",
            argument="crops",
        )


def by_crops(
    measure: Callable[[int, tuple[int, int]], Measured], labels: Int[np.ndarray, "n"]
) -> dict[str, float]:
    """Measure a split by 13 parts of each image.

    p_j = sum over parts of l_j / sum_k l_k, and the longest is the prediction

    Args:
        measure: from the number of a part and its offset to what the split is measured to be there.
        labels: class numbers, [n].

    Returns:
        `error`, and the number of `examples`.

    Reference:
        Hinton, Sabour and Frosst 2018, section 4, whose released code averages these 13.
    """
    total: Float[np.ndarray, "n j"] | float = 0.0
    for part, offset in enumerate(offsets()):
        lengths = measure(part, offset).lengths
        assert lengths is not None  # which every step of evaluation keeps
        total = total + shares(lengths)  # [n, j]
    wrong = np.argmax(total, axis=1) != labels  # [n]
    return {"error": float(wrong.mean()), "examples": float(len(labels))}
