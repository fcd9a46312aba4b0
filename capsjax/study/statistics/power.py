"""How many paired seeds a difference needs to be seen."""

import math

from scipy import special

from capsjax.checks import UserError
from capsjax.study.statistics.paired import student_quantile

MOST = 1_000_000  # seeds that anyone would count


def power(count: int, difference: float, sd: float, *, level: float = 0.05) -> float:
    """Return how probable it is that so many paired seeds tell a difference from 0.

    P(|T| > t), T of the noncentral Student distribution with noncentrality difference sqrt(n) / sd

    Args:
        count: n, the number of seeds, at least 2.
        difference: the true mean difference.
        sd: the standard deviation of differences between seeds.
        level: the probability of telling a difference of 0 from 0.

    Returns:
        The probability, that Student's interval does not hold 0.
    """
    if sd == 0:
        return 1.0 if difference else level
    freedom, t = count - 1, student_quantile(1 - level, count - 1)
    shift = abs(difference) * math.sqrt(count) / sd
    # Beyond some 38 a noncentral distribution cannot be told from a shifted one, nor computed.
    if shift > 30 + t:
        return 1.0
    below = special.nctdtr(freedom, shift, t) - special.nctdtr(freedom, shift, -t)
    return 1 - float(below)


def seeds_needed(difference: float, sd: float, *, wanted: float = 0.8, level: float = 0.05) -> int:
    """Return the smallest number of paired seeds that tells a difference from 0 with a wanted power.

    Args:
        difference: the mean difference that is to be seen, not 0; one that would matter, rather than one
            that was found.
        sd: the standard deviation of differences between seeds.
        wanted: the probability to see it.
        level: the probability of seeing one where there is none.

    Returns:
        The number of seeds, at least 2 and at most a million.

    Raises:
        UserError: If the difference is 0 or either is not finite: no number of seeds tells it.

    Example:
        >>> seeds_needed(1.0, 1.0)
        10
    """
    if not (math.isfinite(difference) and math.isfinite(sd)) or difference == 0:
        raise UserError(
            f"seeds_needed: got a difference of {difference} with deviation {sd}, expected finite numbers, "
            "and a difference other than 0"
        )
    few, many = 1, 2
    while many < MOST and power(many, difference, sd, level=level) < wanted:
        few, many = many, min(MOST, 2 * many)
    while many - few > 1:  # power grows with the number of seeds
        middle = (few + many) // 2
        enough = power(middle, difference, sd, level=level) >= wanted
        few, many = (few, middle) if enough else (middle, many)
    return many
