"""Heinsen's routing of vectors (2022) in loops, as its released code computes it."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.inverted_attention import layer_norm
from tests.oracles.losses import entropy
from tests.oracles.numerics import allowed, coupled
from tests.oracles.routing import Result, Trace


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def readout(votes, u, R, p):
    """Poses of one example: D-step and M-step."""
    children, parents, size = votes.shape
    pose = np.zeros((parents, size))
    for i in range(children):
        f = sigmoid(u[i] @ p["score"][i] / math.sqrt(children) + p["score_bias"][i])
        for j in range(parents):
            if allowed(i, j):
                used, ignored = f * R[i, j], f - f * R[i, j]
                phi = p["use"][i, j] * used - p["ignore"][i, j] * ignored
                pose[j] += phi * votes[i, j]
    return np.array([layer_norm(one, np.ones(size), np.zeros(size)) for one in pose])


def respond(u, pose, p):
    """Logits of one example: E-step without its softmax."""
    logits = np.zeros((len(u), len(pose)))
    for j, v in enumerate(pose):
        predicted = (v @ p["predict"]) * p["predict_scale"][j] + p["predict_bias"][j]
        for i, one in enumerate(u):
            score = (one @ predicted) * p["similar"][i, j] + p["similar_bias"][i, j]
            logits[i, j] = -math.log1p(math.exp(-score))
    return logits


def steps(dense, u, p, logits, updates):
    """Every (logits, R, pose) from given logits on."""
    found = []
    for t in range(updates + 1):
        R = coupled(logits)
        pose = np.stack([readout(*three, p) for three in zip(dense, u, R, strict=True)])
        found.append((logits, R, pose))
        if t < updates:
            logits = np.stack([respond(*pair, p) for pair in zip(u, pose, strict=True)])
    return found


def _result(logits, R, pose):
    return Result(pose, R, logits, oracle.lengths(pose))


def routing(u, W, a, p, *, num_iters):
    dense = oracle.votes(u, W)
    return _result(*steps(dense, u, p, np.zeros(dense.shape[:3]), num_iters - 1)[-1])


def trace(u, W, a, p, *, num_iters):
    dense = oracle.votes(u, W)
    found = steps(dense, u, p, np.zeros(dense.shape[:3]), num_iters - 1)
    agreed = [
        (R * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1] for _, R, pose in found
    ]
    entropies = [[entropy(one) for one in R] for _, R, _ in found]
    return Trace(np.stack([R for _, R, _ in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, p, *, last, num_iters):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    found = steps(dense, u, p, np.zeros(dense.shape[:3]), num_iters - 1)
    logits, R, _ = found[num_iters - 1 - last]

    def live(u, W, a, p):
        dense = oracle.votes(u, W)
        if last:
            return _result(*steps(dense, u, p, logits, last)[-1])
        pose = np.stack([readout(*three, p) for three in zip(dense, u, R, strict=True)])
        return _result(logits, R, pose)

    return live
