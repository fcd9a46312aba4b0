"""Which part of what routing gains an arm retains."""

import math
from typing import NamedTuple

import numpy as np

from capsjax.study.statistics.paired import (
    Difference,
    Values,
    paired_difference,
    seed_by_seed,
    student_quantile,
)


class RetainedGain(NamedTuple):
    """Hold the part of the gain of routing that an arm retains: 0 as uniform coupling, 1 as full.

    Attributes:
        value: rho; NaN where it is undefined, see `why`.
        low: lower end of Fieller's interval.
        high: its upper end.
        gain: what routing gains, uniform - full.
        standard_error: of rho, by the delta method.
        why: why rho is undefined, in words; empty where it is defined.
    """

    value: float
    low: float
    high: float
    gain: Difference
    standard_error: float = math.nan
    why: str = ""


def retained_gain(
    uniform: Values,
    arm: Values,
    full: Values,
    *,
    confidence: float = 0.95,
) -> RetainedGain:
    """Return which part of the gain of routing an arm retains, with Fieller's interval.

    rho = mean(uniform - arm) / mean(uniform - full)

    With a_s = uniform_s - arm_s and b_s = uniform_s - full_s the interval is every rho at which the mean
    of a_s - rho b_s is within t standard errors of 0. It has both bounds only where the gain is told from 0.
    Where it is not, or routing loses, there is nothing to retain a part of: rho is undefined, and that is
    the finding.

    Args:
        uniform: errors or losses of uniform coupling, one for each seed.
        arm: those of the arm, in the same order.
        full: those of the full gradient.
        confidence: how often such an interval holds rho.

    Returns:
        rho with its interval, or why there is none.

    Raises:
        UserError: If the lengths differ, or there is no seed.

    Example:
        >>> retained_gain([4.0, 6.0, 5.0], [3.0, 4.0, 4.0], [2.0, 3.0, 2.0]).value
        0.5

    Reference:
        Fieller 1954, Some problems in interval estimation.
    """
    a = seed_by_seed("retained_gain", uniform, arm)  # [n]
    b = seed_by_seed("retained_gain", uniform, full)  # [n]
    gain = paired_difference(uniform, full, confidence=confidence)
    n = len(a)
    if n == 1:
        return _undefined(gain, "one seed does not tell whether routing gains anything")
    if gain.high < 0:
        return _undefined(gain, "routing loses instead of gaining")
    t = student_quantile(confidence, n - 1)
    variance = np.cov(np.stack([a, b])) / n  # of the two means, [2, 2]
    v_aa, v_ab, v_bb = float(variance[0, 0]), float(variance[0, 1]), float(variance[1, 1])
    # (a - rho b)^2 <= t^2 (v_aa - 2 rho v_ab + rho^2 v_bb) is A rho^2 - 2 B rho + C <= 0.
    mean_a, mean_b = float(a.mean()), float(b.mean())
    A, B, C = mean_b**2 - t**2 * v_bb, mean_a * mean_b - t**2 * v_ab, mean_a**2 - t**2 * v_aa
    if not A > 0:  # the interval of the gain holds 0, so that rho may be anything
        return _undefined(gain, f"{n} seeds do not tell what routing gains from nothing")
    half = math.sqrt(max(0.0, B**2 - A * C))
    rho = mean_a / mean_b
    error = math.sqrt(max(0.0, v_aa - 2 * rho * v_ab + rho**2 * v_bb)) / mean_b
    return RetainedGain(rho, (B - half) / A, (B + half) / A, gain, error)


def _undefined(gain: Difference, why: str) -> RetainedGain:
    return RetainedGain(math.nan, math.nan, math.nan, gain, why=why)
