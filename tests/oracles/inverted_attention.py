"""Inverted dot-product attention (2020, procedure 1) in loops."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled, length
from tests.oracles.routing import Result, Trace


def layer_norm(s, gain, offset):
    """Mean 0 and variance 1 of one vector, the variance with 1e-5, then gain and offset."""
    size = len(s)
    mean = sum(s) / size
    variance = sum((x - mean) ** 2 for x in s) / size
    return np.array(
        [gain[h] * (s[h] - mean) / math.sqrt(variance + 1e-5) + offset[h] for h in range(size)]
    )


def readout(dense, c, params):
    s = oracle.combine(dense, c)
    pose = np.zeros(s.shape)
    for b, j in np.ndindex(s.shape[:2]):
        pose[b, j] = layer_norm(s[b, j], params["gain"], params["offset"])
    return pose


def steps(dense, params, logits, updates):
    """Every (logits, c, pose) from given logits on."""
    found = []
    for t in range(updates + 1):
        c = coupled(logits)
        pose = readout(dense, c, params)
        found.append((logits, c, pose))
        if t < updates:
            logits = oracle.agreement(dense, pose) / math.sqrt(dense.shape[3])
    return found


def _result(logits, c, pose):
    lengths = np.array([[length(v) for v in one] for one in pose])
    return Result(pose, c, logits, lengths)


def routing(u, W, a, params, *, num_iters):
    dense = oracle.votes(u, W)
    return _result(*steps(dense, params, np.zeros(dense.shape[:3]), num_iters - 1)[-1])


def trace(u, W, a, params, *, num_iters):
    dense = oracle.votes(u, W)
    found = steps(dense, params, np.zeros(dense.shape[:3]), num_iters - 1)
    agreed = [
        (c * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1] for _, c, pose in found
    ]
    entropies = [[entropy(one) for one in c] for _, c, _ in found]
    return Trace(np.stack([c for _, c, _ in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, params, *, last, num_iters):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    logits, c, _ = steps(dense, params, np.zeros(dense.shape[:3]), num_iters - 1)[
        num_iters - 1 - last
    ]

    def live(u, W, a, params):
        dense = oracle.votes(u, W)
        if last:
            return _result(*steps(dense, params, logits, last)[-1])
        return _result(logits, c, readout(dense, c, params))

    return live
