"""EM routing as the authors' code has it (capsule_em, em_layers.py) in loops, in that code's own names."""

import math

import numpy as np

from tests.oracles import em
from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def m_step(votes, r, before, sigma_bias, activation_bias, beta, floor):
    """Return center and variance, [j, e], and activation, [j]; `before` is the center before, [j, e]."""
    children, parents, size = votes.shape
    center, variance = np.zeros((parents, size)), np.zeros((parents, size))
    activation = np.zeros(parents)
    for j in range(parents):
        mass = sum(r[i, j] for i in range(children)) + 1e-5
        center[j] = 0.9 * sum(r[i, j] * votes[i, j] for i in range(children)) / mass
        center[j] += 0.1 * before[j]
        squares = sum(r[i, j] * (votes[i, j] - center[j]) ** 2 for i in range(children))
        variance[j] = squares / mass + floor
        probability = -sum(math.log(variance[j, h]) for h in range(size))
        won = mass * (probability - sigma_bias[j] * size * (math.log(2 * math.pi) + 1))
        logit = beta * (won - activation_bias[j] * 5000)
        activation[j] = 1 / (1 + math.exp(-logit))
    return center, variance, activation


def remembered(dense, weights):
    """The centers that weights of votes stand for, [b, j, e]."""
    return oracle.combine(dense, weights)


def steps(dense, a, params, start, updates, first, *, final_lambda, floor):
    """Every (logits, R, center, activation, weights of the centers) from (logits, weights) on."""
    logits, weights = start
    biases, found = (params["sigma_bias"], params["activation_bias"]), []
    centers = remembered(dense, weights)
    for t in range(first, first + updates + 1):
        R = coupled(logits)
        beta, ends = final_lambda * (1 - 0.95 ** (t + 1)), []
        r = R * a[:, :, None]
        for b, votes in enumerate(dense):
            ends.append(m_step(votes, r[b], centers[b], *biases, beta, floor))
        weights = 0.9 * r / (r.sum(1, keepdims=True) + 1e-5) + 0.1 * weights
        centers = np.stack([end[0] for end in ends])
        found.append((logits, R, centers, np.stack([end[2] for end in ends]), weights))
        if t < first + updates:
            logits = np.stack(
                [em.e_step(votes, *end) for votes, end in zip(dense, ends, strict=True)]
            )
    return found


def _start(dense):
    return np.zeros(dense.shape[:3]), np.zeros(dense.shape[:3])


def _result(logits, R, center, activation, _):
    return Result(center, R, logits, activation)


def routing(u, W, a, params, *, num_iters, **options):
    dense = oracle.votes(u, W)
    return _result(*steps(dense, a, params, _start(dense), num_iters - 1, 0, **options)[-1])


def trace(u, W, a, params, *, num_iters, **options):
    dense = oracle.votes(u, W)
    found = steps(dense, a, params, _start(dense), num_iters - 1, 0, **options)
    agreed = [
        (step[1] * oracle.agreement(dense, step[2])).sum((1, 2)) / dense.shape[1] for step in found
    ]
    entropies = [[entropy(one) for one in step[1]] for step in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, params, *, last, num_iters, **options):
    """The function whose gradient the mode with `last` live updates is: votes in a memory are live."""
    dense = oracle.votes(u, W)
    first = num_iters - 1 - last
    found = steps(dense, a, params, _start(dense), num_iters - 1, 0, **options)
    logits, R = found[first][:2]
    weights = found[first - 1][4] if first else np.zeros(R.shape)

    def live(u, W, a, params):
        dense = oracle.votes(u, W)
        if last:
            start = logits, weights
            return _result(*steps(dense, a, params, start, last, first, **options)[-1])
        beta = options["final_lambda"] * (1 - 0.95**num_iters)
        biases = params["sigma_bias"], params["activation_bias"]
        before, r = remembered(dense, weights), R * a[:, :, None]
        ends = [
            m_step(votes, r[b], before[b], *biases, beta, options["floor"])
            for b, votes in enumerate(dense)
        ]
        return Result(np.stack([e[0] for e in ends]), R, logits, np.stack([e[2] for e in ends]))

    return live
