"""Whether differences between paired seeds could be chance, and whether several such findings could be."""

import numpy as np
from jaxtyping import Float

from capsjax.study.statistics.paired import Values, seed_by_seed

EXACT = 40  # seeds up to which every sign is tried: two halves of a million sums each
DRAWN = 100_000  # signs that are drawn for more


def sign_flip_test(values: Values, reference: Values) -> float:
    """Return how probable a mean difference as large as that found is, if arm and reference are alike.

    If they are, every difference could as well have had the other sign. Of the 2^n choices of signs

    p = share of those with |sum_s ± d_s| >= |sum_s d_s|

    No distribution is assumed. p is never below 2^(1 - n): with five seeds not below 0.06.

    Args:
        values: one number for each seed.
        reference: the same for what is compared with, in the same order.

    Returns:
        The two-sided p-value, exact up to 40 seeds, of 100 000 signs drawn by a fixed seed for more.

    Raises:
        UserError: If the lengths differ, or there is no seed.

    Example:
        >>> sign_flip_test([3.0, 4.0, 5.0], [2.0, 2.0, 2.0])
        0.25

    Reference:
        Fisher 1935, The Design of Experiments, section 21. Drawn signs: Phipson and Smyth 2010, equation 2.
    """
    differences = seed_by_seed("sign_flip_test", values, reference)
    # A sum of rounded numbers that equals the one found may differ from it in the last digits.
    bound = abs(differences.sum()) - 1e-9 * np.abs(differences).sum()
    count = len(differences)
    if count > EXACT:
        rng = np.random.default_rng(0)
        at_least = 1 + sum(  # the signs that were found are one of the choices
            int(np.sum(np.abs(rng.choice((-1.0, 1.0), (1000, count)) @ differences) >= bound))
            for _ in range(DRAWN // 1000)
        )
        return at_least / (1 + DRAWN)
    # Every sum of all is one of the first half plus one of the second; sorted, they are counted, not formed.
    first, second = _sums(differences[: count // 2]), np.sort(_sums(differences[count // 2 :]))
    above = len(second) - np.searchsorted(second, bound - first, side="left")
    below = np.searchsorted(second, -bound - first, side="right")
    # Where all differences are 0 the two overlap, and every choice counts.
    return min(1.0, float(above.sum() + below.sum()) / 2.0**count)


def _sums(differences: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
    """Return sum_s ± d_s for each of the 2^n choices of signs, [2^n]."""
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    return sums


def holm(p_values: Values) -> tuple[float, ...]:
    """Adjust p-values so that the probability of any false finding among them stays at their level.

    p'_(k) = max over l <= k of min(1, (m - l + 1) p_(l)), for the k-th smallest of m

    Args:
        p_values: one for each comparison, such as that of each arm with the reference.

    Returns:
        The adjusted p-values, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)

    Reference:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    given = np.asarray(p_values, np.float64)
    order, count = np.argsort(given, kind="stable"), len(given)
    scaled = np.minimum(1.0, (count - np.arange(count)) * given[order])
    adjusted = np.empty(count)
    adjusted[order] = np.maximum.accumulate(scaled)
    return tuple(adjusted.tolist())
