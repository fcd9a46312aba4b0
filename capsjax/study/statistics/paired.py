"""Means over seeds, and differences between two arms that were trained with the same seeds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

from capsjax.checks import UserError

Values = Sequence[float] | np.ndarray  # one number for each seed


class Summary(NamedTuple):
    """Summarise one number measured with several seeds.

    Attributes:
        mean: the mean.
        sd: the sample standard deviation; NaN for a single seed.
        values: the numbers themselves, in the order of seeds.
    """

    mean: float
    sd: float
    values: tuple[float, ...]


class Difference(NamedTuple):
    """Compare two series that were measured with the same seeds.

    Attributes:
        mean: the mean of the paired differences.
        low: lower end of its interval; NaN for a single seed.
        high: upper end.
        standard_error: of the mean; NaN for a single seed.
    """

    mean: float
    low: float
    high: float
    standard_error: float = math.nan


def summarise(values: Values) -> Summary:
    """Return mean and sample standard deviation.

    Args:
        values: one number for each seed.

    Returns:
        Mean, standard deviation and the values.

    Raises:
        UserError: If there is none.
    """
    if not len(values):
        raise UserError("summarise: got no values, expected at least one")
    array = np.asarray(values, np.float64)
    # ddof=1: the seeds are a sample, of which the mean is an estimate too.
    sd = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Summary(float(array.mean()), sd, tuple(array.tolist()))


def paired_difference(values: Values, reference: Values, *, confidence: float = 0.95) -> Difference:
    """Return the mean of values - reference, seed by seed, with its interval.

    mean ± t sd / sqrt(n), t the quantile of Student's distribution with n - 1 degrees of freedom

    If all differences are equal it has no width, which says little when seeds are few.

    Args:
        values: one number for each seed.
        reference: the same for what is compared with, in the same order.
        confidence: how often such an interval holds the mean over all seeds that there could be.

    Returns:
        Mean and interval of the differences; without an interval for a single seed.

    Raises:
        UserError: If the lengths differ, or there is no seed.

    Example:
        >>> paired_difference([3.0, 4.0, 5.0], [2.0, 2.0, 2.0]).mean
        2.0
    """
    differences = seed_by_seed("paired_difference", values, reference)
    mean, count = float(differences.mean()), len(differences)
    if count == 1:
        return Difference(mean, math.nan, math.nan)
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    half = student_quantile(confidence, count - 1) * error
    return Difference(mean, mean - half, mean + half, error)


def seed_by_seed(name: str, values: Values, reference: Values) -> Float[np.ndarray, "n"]:
    """Return values - reference: what two runs of one seed share, such as an easy order, cancels.

    Args:
        name: of the function that they were given to, for the error.
        values: one number for each seed.
        reference: the same for what is compared with, in the same order.

    Returns:
        The differences, [n].

    Raises:
        UserError: If the lengths differ, or there is no seed.
    """
    if len(values) != len(reference) or not len(values):
        raise UserError(
            f"{name}: got {len(values)} and {len(reference)} values, expected one of each for every seed"
        )
    return np.asarray(values, np.float64) - np.asarray(reference, np.float64)


def student_quantile(confidence: float, freedom: float) -> float:
    """Return how many standard errors a two-sided interval reaches to either side.

    Args:
        confidence: how often it is to hold what it is an interval of.
        freedom: degrees of freedom of Student's distribution.

    Returns:
        The quantile at (1 + confidence) / 2.
    """
    return float(special.stdtrit(freedom, (1 + confidence) / 2))
