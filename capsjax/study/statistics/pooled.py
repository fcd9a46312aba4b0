"""The mean of an effect over data sets, each of which has an effect of its own."""

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize

from capsjax.checks import UserError
from capsjax.study.statistics.paired import Values, student_quantile


class Pooled(NamedTuple):
    """Hold the mean of an effect over data sets.

    Attributes:
        mean: the mean over the data sets that there could be.
        low: lower end of its interval; NaN for a single data set.
        high: its upper end.
        standard_error: of the mean.
        between: tau, the standard deviation of effects between data sets.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    between: float


def random_effects(effects: Values, standard_errors: Values, *, confidence: float = 0.95) -> Pooled:
    """Return the mean of an effect over data sets by a random-effects model, with its interval.

    y_k = mu + between_k + within_k, weights w_k = 1 / (tau^2 + se_k^2), mu = sum w y / sum w

    tau^2 is Paule and Mandel's: that at which Q = sum w (y - mu)^2 is its expectation K - 1, or 0 if Q is
    smaller already. The interval is Hartung and Knapp's, mu ± t sqrt(q / sum w) with K - 1 degrees of freedom
    and q = max(1, Q / (K - 1)), which with this tau^2 is always 1. With few data sets an interval of a normal
    distribution would hold mu far too seldom.

    Args:
        effects: y, one for each data set, in a unit that can be compared between them.
        standard_errors: of each, above 0.
        confidence: how often such an interval holds the mean.

    Returns:
        The mean with its interval, and the deviation between data sets.

    Raises:
        UserError: If the lengths differ, there is none, or a standard error is not above 0.

    Reference:
        Paule and Mandel 1982; Hartung and Knapp 2001, with q at least 1 as Röver, Knapp and Friede 2015.
    """
    y, se = np.asarray(effects, np.float64), np.asarray(standard_errors, np.float64)
    if len(y) != len(se) or not len(y) or not np.all(se > 0) or not np.isfinite([y, se]).all():
        raise UserError(
            f"random_effects: got effects {y.tolist()} with standard errors {se.tolist()}, expected a finite "
            "number of each for every data set, and errors above 0: leave out data sets without one"
        )
    count = len(y)
    if count == 1:
        return Pooled(float(y[0]), math.nan, math.nan, float(se[0]), math.nan)

    def excess(tau2: float) -> float:
        mean, w = _mean(y, se, tau2)
        return float(np.sum(w * (y - mean) ** 2)) - (count - 1)

    # Q falls with tau^2, and is below K - 1 where tau^2 alone is the spread of all effects.
    most = float(np.sum((y - y.mean()) ** 2))
    tau2 = 0.0
    if excess(0.0) > 0:
        tau2 = float(optimize.root_scalar(excess, bracket=(0.0, most), xtol=1e-12 * most).root)
    mean, w = _mean(y, se, tau2)
    error = 1 / math.sqrt(float(w.sum()))
    half = student_quantile(confidence, count - 1) * error
    return Pooled(mean, mean - half, mean + half, error, math.sqrt(tau2))


def _mean(y: np.ndarray, se: np.ndarray, tau2: float) -> tuple[float, np.ndarray]:
    w = 1 / (tau2 + se**2)  # [k]
    return float(np.sum(w * y) / np.sum(w)), w
