"""Squash, length and softmax over parents, number by number in float64."""

import contextlib
import math

import numpy as np


def length(s):
    """|s| of one vector."""
    return math.hypot(*s)


def squash(s):
    """Equation 1 for one vector: |s|^2 / (1 + |s|^2) s / |s|."""
    norm = length(s)
    if norm == 0:
        return np.zeros(len(s))
    return np.array([norm**2 / (1 + norm**2) * component / norm for component in s])


def squash_jacobian(s):
    """d squash_a / d s_b of one vector, from v_a = f(|s|) s_a with f(n) = n / (1 + n^2).

    dv_a/ds_b = f(n) [a = b] + f'(n) s_a s_b / n, with f'(n) = (1 - n^2) / (1 + n^2)^2.
    """
    size, norm = len(s), length(s)
    jacobian = np.zeros((size, size))
    if norm == 0:
        return jacobian
    for a in range(size):
        for b in range(size):
            slope = (1 - norm**2) / (1 + norm**2) ** 2
            jacobian[a, b] = slope * s[a] * (s[b] / norm)
            if a == b:
                jacobian[a, b] += norm / (1 + norm**2)
    return jacobian


_given = {"pairs": None, "couplings": None}


@contextlib.contextmanager
def _within(name, given):
    before, _given[name] = _given[name], given
    try:
        yield
    finally:
        _given[name] = before


def pairs(given):
    """Within it, child i may vote for parent j where given[i][j]; for every parent where it is None."""
    return _within("pairs", given)


def allowed(i, j):
    """Whether child i may vote for parent j."""
    return _given["pairs"] is None or bool(_given["pairs"][i][j])


def softmax_over_parents(logits, leaky=False):
    """Equation 3 for [i, j]: c_ij = exp(b_ij) / sum_k exp(b_ik); leaky adds exp(0) to the sum."""
    coupling = np.zeros(logits.shape)
    for i in range(logits.shape[0]):
        parents = [j for j in range(logits.shape[1]) if allowed(i, j)]
        own = [logits[i, j] for j in parents]
        top = max(max(own), 0.0 if leaky else -math.inf)
        total = sum(math.exp(b - top) for b in own) + (math.exp(-top) if leaky else 0.0)
        for j in parents:
            coupling[i, j] = math.exp(logits[i, j] - top) / total
    return coupling


def couplings(given):
    """Within it, `coupled` is given(logits, leaky): where examples share children, as positions do."""
    return _within("couplings", given)


def coupled(logits, leaky=False):
    """Equation 3 for [b, i, j]: of each example by itself, where nothing else is said."""
    if _given["couplings"] is not None:
        return _given["couplings"](logits, leaky)
    return np.stack([softmax_over_parents(one, leaky) for one in logits])
