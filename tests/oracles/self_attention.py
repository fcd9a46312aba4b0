"""Efficient-CapsNet's self-attention (2021, section 3.2) in loops: every vote against every other."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import allowed, coupled, length
from tests.oracles.routing import Result, Trace


def squash(s):
    """(1 - exp(-|s|)) s / |s| of one vector."""
    norm = length(s)
    return (1 - math.exp(-norm)) * s / norm if norm else np.zeros(len(s))


def attention(dense):
    """b_ij = sum_k V_ij . V_kj / sqrt(e)."""
    batch, children, parents, size = dense.shape
    logits = np.zeros((batch, children, parents))
    for b, i, j, k in np.ndindex(batch, children, parents, children):
        if allowed(k, j):
            logits[b, i, j] += sum(dense[b, i, j] * dense[b, k, j]) / math.sqrt(size)
    return logits


def readout(dense, c, prior):
    batch, children, parents, size = dense.shape
    pose = np.zeros((batch, parents, size))
    for b, j in np.ndindex(batch, parents):
        s = sum(
            (c[b, i, j] + allowed(i, j) * prior[i, j]) * dense[b, i, j] for i in range(children)
        )
        pose[b, j] = squash(s)
    return pose


def _result(logits, c, pose):
    return Result(pose, c, logits, np.array([[length(v) for v in one] for one in pose]))


def routing(u, W, a, params):
    dense = oracle.votes(u, W)
    logits = attention(dense)
    c = coupled(logits)
    return _result(logits, c, readout(dense, c, params["prior"]))


def trace(u, W, a, params):
    dense, found = oracle.votes(u, W), []
    for logits in (np.zeros(dense.shape[:3]), attention(dense)):
        c = coupled(logits)
        pose = readout(dense, c, params["prior"])
        agreed = (c * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1]
        found.append((c, np.array([entropy(one) for one in c]), agreed))
    return Trace(*(np.stack(lines) for lines in zip(*found, strict=True)))


def frozen(u, W, a, params, *, last):
    """The function whose gradient the mode with `last` live updates is."""
    if last:
        return routing
    held = routing(u, W, a, params)

    def live(u, W, a, params):
        pose = readout(oracle.votes(u, W), held.coupling, params["prior"])
        return _result(held.logits, held.coupling, pose)

    return live
