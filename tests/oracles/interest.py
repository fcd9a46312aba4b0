"""Behaviour-to-interest routing (MIND, algorithm 1) in loops, from given logits."""

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled, squash
from tests.oracles.routing import Result, Trace


def steps(dense, logits, updates):
    """Every (logits, c, interests) from given logits on."""
    found = []
    for t in range(updates + 1):
        c = coupled(logits)
        interests = read(dense, c)
        found.append((logits, c, interests))
        if t < updates:
            logits = logits + oracle.agreement(dense, interests)
    return found


def read(dense, c):
    return np.stack([[squash(z) for z in one] for one in oracle.combine(dense, c)])


def begin(dense, params):
    return np.broadcast_to(params["initial"], dense.shape[:3])


def _result(logits, c, interests):
    return Result(interests, c, logits, oracle.lengths(interests))


def routing(u, W, a, params, *, num_iters):
    dense = oracle.votes(u, W)
    return _result(*steps(dense, begin(dense, params), num_iters - 1)[-1])


def trace(u, W, a, params, *, num_iters):
    dense = oracle.votes(u, W)
    found = steps(dense, begin(dense, params), num_iters - 1)
    agreed = [
        (c * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1] for _, c, pose in found
    ]
    entropies = [[entropy(one) for one in c] for _, c, _ in found]
    return Trace(np.stack([c for _, c, _ in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, params, *, last, num_iters):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    first = num_iters - 1 - last
    logits, c, _ = steps(dense, begin(dense, params), num_iters - 1)[first]

    def live(u, W, a, params):
        dense = oracle.votes(u, W)
        if last:
            start = begin(dense, params) if first == 0 else logits
            return _result(*steps(dense, start, last)[-1])
        return _result(logits, c, read(dense, c))

    return live
