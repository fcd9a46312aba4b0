"""Variational Bayes routing (2020), diagonal, in loops; the digamma function by its asymptotic series."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def digamma(x):
    """psi(x) for x > 0: by recurrence to where the series is exact to rounding."""
    value = 0.0
    while x < 15:
        value -= 1 / x
        x += 1
    s = 1 / (x * x)
    terms = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)
    return value + math.log(x) - 0.5 / x - sum(c * s ** (k + 1) for k, c in enumerate(terms))


def posterior(votes, R, a, p):
    """Everything that is believed of the parents of one example, one by one."""
    children, parents, size = votes.shape
    r = R * a[:, None]
    found = []
    for j in range(parents):
        mass = sum(r[:, j])
        mean = sum(r[i, j] * votes[i, j] for i in range(children)) / mass
        squares = sum(r[i, j] * (votes[i, j] - mean) ** 2 for i in range(children))
        scale = 1 + squares + mass / (1 + mass) * mean**2
        freedom = size + 1 + mass
        log_precision = size * math.log(2) - sum(math.log(one) for one in scale)
        log_precision += sum(digamma((freedom - h) / 2) for h in range(size))
        found.append(
            {
                "mean": mass * mean / (1 + mass),
                "scale": scale,
                "mass": mass,
                "freedom": freedom,
                "log_precision": log_precision,
            }
        )
    whole = digamma(sum(1 + one["mass"] for one in found))
    for j, one in enumerate(found):
        one["log_weight"] = digamma(1 + one["mass"]) - whole
        H = 0.5 * (size * math.log(2 * math.pi * math.e) - one["log_precision"])
        logit = p["beta_a"][j] - (math.exp(one["log_weight"]) * H + p["beta_u"][j])
        one["activation"] = 1 / (1 + math.exp(-logit))
    return found


def respond(votes, found):
    """Expected log density and weight of each vote of one example, [i, j]."""
    size = votes.shape[2]
    logits = np.zeros(votes.shape[:2])
    for j, q in enumerate(found):
        for i, vote in enumerate(votes[:, j]):
            far = sum((vote - q["mean"]) ** 2 / q["scale"])
            expected = size / (1 + q["mass"]) + q["freedom"] * far
            density = 0.5 * (q["log_precision"] - size * math.log(2 * math.pi) - expected)
            logits[i, j] = q["log_weight"] + density
    return logits


def read(dense, R, a, p):
    ends = [posterior(*three, p) for three in zip(dense, R, a, strict=True)]
    pose = np.array([[one["mean"] for one in found] for found in ends])
    return ends, pose, np.array([[one["activation"] for one in found] for found in ends])


def steps(dense, a, p, logits, updates):
    """Every (logits, R, pose, activation) from given logits on."""
    found = []
    for t in range(updates + 1):
        R = coupled(logits)
        ends, pose, activation = read(dense, R, a, p)
        found.append((logits, R, pose, activation))
        if t < updates:
            logits = np.stack([respond(*pair) for pair in zip(dense, ends, strict=True)])
    return found


def _result(logits, R, pose, activation):
    return Result(pose, R, logits, activation)


def routing(u, W, a, p, *, num_iters):
    dense = oracle.votes(u, W)
    return _result(*steps(dense, a, p, np.zeros(dense.shape[:3]), num_iters - 1)[-1])


def trace(u, W, a, p, *, num_iters):
    dense = oracle.votes(u, W)
    found = steps(dense, a, p, np.zeros(dense.shape[:3]), num_iters - 1)
    agreed = [
        (R * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1] for _, R, pose, _ in found
    ]
    entropies = [[entropy(one) for one in step[1]] for step in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, p, *, last, num_iters):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    found = steps(dense, a, p, np.zeros(dense.shape[:3]), num_iters - 1)
    logits, R, _, _ = found[num_iters - 1 - last]

    def live(u, W, a, p):
        dense = oracle.votes(u, W)
        if last:
            return _result(*steps(dense, a, p, logits, last)[-1])
        return _result(logits, R, *read(dense, R, a, p)[1:])

    return live
