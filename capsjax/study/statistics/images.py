"""An interval that holds for other seeds and for other test images."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from capsjax.checks import UserError
from capsjax.study.statistics.paired import student_quantile


class TwoWayDifference(NamedTuple):
    """Compare two arms over seeds and test images.

    Attributes:
        mean: the mean difference.
        low: lower end of its interval over seeds and images; NaN for a single seed or image.
        high: its upper end.
        standard_error: of the mean.
        seeds: the variance between seeds, beyond that of their images.
        images: the variance between images that all seeds share.
        rest: what is left: a seed's own chance with an image.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    seeds: float
    images: float
    rest: float


def two_way_difference(
    values: Shaped[np.ndarray, "..."],
    reference: Shaped[np.ndarray, "..."],
    *,
    confidence: float = 0.95,
) -> TwoWayDifference:
    """Return the mean of values - reference with an interval over seeds as well as test images.

    All runs are tested with the same images, which are a sample too: Student's interval over seeds takes them
    as given. Here d_si = mu + seed_s + image_i + rest_si, and with the mean squares of the two-way layout

    se^2 = (MS_seeds + max(0, MS_images - MS_rest)) / (s i)

    with degrees of freedom by Satterthwaite's formula for the two summands. It is Student's interval over
    seeds where images add nothing. Of few seeds it may be narrower than that, though its standard error never
    is smaller: what images add is known from many of them, so that there are more degrees of freedom and a
    smaller quantile. In simulations it holds the mean in 92 to 95 % of cases from three seeds on, and with
    two in 88 to 94 %.

    Args:
        values: a number of each image with each seed, such as whether it was wrong, [s, i].
        reference: the same for what is compared with.
        confidence: how often such an interval holds the mean over all seeds and images.

    Returns:
        Mean, interval and components of variance; no component is below 0.

    Raises:
        UserError: If the shapes differ, or are not of seeds and images.

    Reference:
        Hillis 2007, A comparison of denominator degrees of freedom methods for multiple observer ROC
        analysis, Statistics in Medicine 26, with its readers for our seeds and its cases for our images.
    """
    if values.shape != reference.shape or values.ndim != 2 or not values.size:
        raise UserError(
            f"two_way_difference: got arrays {list(values.shape)} and {list(reference.shape)}, expected two "
            "of the same shape, [seeds, images]"
        )
    d = np.asarray(values, np.float64) - np.asarray(reference, np.float64)  # [s, i]
    s, i = d.shape
    mean = float(d.mean())
    if min(s, i) == 1:
        return TwoWayDifference(mean, *(math.nan,) * 6)
    of_seed, of_image = d.mean(1), d.mean(0)  # over images, [s]; over seeds, [i]
    rest = d - of_seed[:, None] - of_image + mean
    ms_seeds = i * float(np.sum((of_seed - mean) ** 2)) / (s - 1)
    ms_images = s * float(np.sum((of_image - mean) ** 2)) / (i - 1)
    ms_rest = float(np.sum(rest**2)) / ((s - 1) * (i - 1))
    shared = max(0.0, ms_images - ms_rest)  # images' own share: the rest's is in both
    error = math.sqrt((ms_seeds + shared) / (s * i))
    spread = ms_seeds**2 / (s - 1) + shared**2 / (i - 1)
    freedom = (ms_seeds + shared) ** 2 / spread if spread > 0 else s - 1
    half = student_quantile(confidence, freedom) * error
    return TwoWayDifference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        standard_error=error,
        seeds=max(0.0, ms_seeds - ms_rest) / i,
        images=shared / s,
        rest=ms_rest,
    )
