"""Whether an arm is as good as the reference, to within a margin that was stated before."""

import math
from typing import NamedTuple

from scipy import special

from capsjax.checks import UserError
from capsjax.study.statistics.paired import Values, paired_difference


class Equivalence(NamedTuple):
    """Hold what two one-sided tests found.

    Attributes:
        mean: the mean of the paired differences.
        low: lower end of the interval that decides, of confidence 1 - 2 level: 90 % for a level of 5 %.
        high: its upper end.
        margin: how large a difference counts as none.
        p: the larger of the two one-sided p-values; NaN for a single seed.
        shown: whether the arms are equivalent: the interval lies between -margin and margin.
    """

    mean: float
    low: float
    high: float
    margin: float
    p: float
    shown: bool


def equivalence_test(
    values: Values, reference: Values, *, margin: float, level: float = 0.05
) -> Equivalence:
    """Test by two one-sided tests (TOST) whether a difference is smaller than a margin.

    t_low = (mean + margin) / se, t_high = (margin - mean) / se; equivalent if both exceed Student's quantile

    That a difference is not seen does not show that there is none; this can. The margin has to be stated
    before the runs: chosen afterwards it can show anything.

    Args:
        values: one number for each seed.
        reference: the same for what is compared with, in the same order.
        margin: how large a difference counts as none, above 0.
        level: the probability of calling arms equivalent that differ by the margin.

    Returns:
        Whether they are, with the interval and p-value that say so.

    Raises:
        UserError: If the margin is not above 0, the lengths differ, or there is no seed.

    Reference:
        Schuirmann 1987, A comparison of the two one-sided tests procedure.
    """
    if not margin > 0:
        raise UserError(f"equivalence_test: got margin {margin}, expected a number above 0")
    found = paired_difference(values, reference, confidence=1 - 2 * level)
    count, error = len(values), found.standard_error
    if count == 1:
        return Equivalence(found.mean, math.nan, math.nan, margin, math.nan, shown=False)
    nearer = margin - abs(found.mean)  # the larger p-value is that of the end which is nearer
    far = math.copysign(math.inf, nearer) if error == 0 else nearer / error
    p = float(special.stdtr(count - 1, -far))
    return Equivalence(found.mean, found.low, found.high, margin, p, shown=p < level)
