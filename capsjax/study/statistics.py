"""Statistics over a few paired seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from capsjax.checks import UserError


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
        low: lower end of its 95 % interval; NaN for a single seed.
        high: upper end.
    """

    mean: float
    low: float
    high: float


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and sample standard deviation.

    Args:
        values: one number for each seed.

    Returns:
        Mean, standard deviation and the values.

    Raises:
        UserError: If there is none.
    """
    if not values:
        raise UserError("summarise: got no values, expected at least one")
    array = np.asarray(values, np.float64)
    # ddof=1: the seeds are a sample, of which the mean is an estimate too.
    sd = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return Summary(float(array.mean()), sd, tuple(array.tolist()))


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """Return the mean of values - reference, seed by seed, with its 95 % interval.

    The interval is Student's, with one degree of freedom less than there are seeds. If all differences
    are equal it has no width, which says little when seeds are few.

    Args:
        values: one number for each seed.
        reference: the same for what is compared with, in the same order.

    Returns:
        Mean and interval of the differences; without an interval for a single seed.

    Raises:
        UserError: If the lengths differ, or there is no seed.

    Example:
        >>> paired_difference([3.0, 4.0, 5.0], [2.0, 2.0, 2.0]).mean
        2.0
    """
    if len(values) != len(reference) or not values:
        raise UserError(
            f"paired_difference: got {len(values)} and {len(reference)} values, expected one of each "
            "for every seed"
        )
    # Seed by seed: what two runs of one seed share, such as an easy order, cancels.
    differences = np.asarray(values, np.float64) - np.asarray(reference, np.float64)
    mean, count = float(differences.mean()), len(differences)
    if count == 1:
        return Difference(mean, float("nan"), float("nan"))
    # Two-sided: 2.5 % beyond either end.
    half = float(stats.t.ppf(0.975, count - 1) * differences.std(ddof=1) / np.sqrt(count))
    return Difference(mean, mean - half, mean + half)
