"""Slot attention (2020, algorithm 1) in loops, from given slots; the GRU as PyTorch documents it."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.inverted_attention import layer_norm
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(x, h, p):
    """One slot."""
    r = sigmoid(x @ p["gru_input"][0] + h @ p["gru_slot"][0] + p["gru_bias"][0])
    z = sigmoid(x @ p["gru_input"][1] + h @ p["gru_slot"][1] + p["gru_bias"][1])
    n = np.tanh(
        x @ p["gru_input"][2] + p["gru_bias"][2] + r * (h @ p["gru_slot"][2] + p["gru_bias"][3])
    )
    return (1 - z) * n + z * h


def attend(x, slots, p):
    """Logits of one example, [i, j]: key times query by the root of their size."""
    logits = np.zeros((len(x), len(slots)))
    for j, slot in enumerate(slots):
        query = layer_norm(slot, p["query_gain"], p["query_offset"]) @ p["query"]
        for i, one in enumerate(x):
            logits[i, j] = (one @ p["key"]) @ query / math.sqrt(len(slot))
    return logits


def rewrite(votes, c, slots, p):
    """The slots after an iteration of one example, and their shares of the inputs."""
    new, share = np.zeros(slots.shape), c.sum(0) / c.sum()
    for j in range(len(slots)):
        mean = sum(c[i, j] * votes[i, j] for i in range(len(c))) / c[:, j].sum()
        slot = gru(mean, slots[j], p)
        hidden = layer_norm(slot, p["mlp_gain"], p["mlp_offset"]) @ p["mlp_in"] + p["mlp_in_bias"]
        new[j] = slot + np.maximum(hidden, 0) @ p["mlp_out"] + p["mlp_out_bias"]
    return new, share


def steps(dense, u, slots, updates, p):
    """Every (logits, c, slots after, shares) from given slots on, [b, j, e]."""
    found = []
    for _ in range(updates + 1):
        logits = np.stack([attend(*pair, p) for pair in zip(u, slots, strict=True)])
        c = coupled(logits)
        ends = [rewrite(*three, p) for three in zip(dense, c, slots, strict=True)]
        slots, share = (np.stack(part) for part in zip(*ends, strict=True))
        found.append((logits, c, slots, share))
    return found


def begin(u, p):
    return np.stack([p["slots"]] * len(u))


def _result(step):
    logits, c, slots, share = step
    return Result(slots, c, logits, share)


def routing(u, W, a, p, *, num_iters):
    return _result(steps(oracle.votes(u, W), u, begin(u, p), num_iters - 1, p)[-1])


def trace(u, W, a, p, *, num_iters):
    dense = oracle.votes(u, W)
    found = steps(dense, u, begin(u, p), num_iters - 1, p)
    agreed = [
        (c * oracle.agreement(dense, slots)).sum((1, 2)) / dense.shape[1]
        for _, c, slots, _ in found
    ]
    entropies = [[entropy(one) for one in step[1]] for step in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, p, *, last, num_iters):
    """The function whose gradient the mode with `last` live updates is.

    Before them slots and logits are constants, so that the first live update weighs by constants.
    """
    first = num_iters - 1 - last
    found = steps(oracle.votes(u, W), u, begin(u, p), num_iters - 1, p)
    logits, c, _, _ = found[first]
    before = found[first - 1][2] if first else begin(u, p)

    def live(u, W, a, p):
        dense = oracle.votes(u, W)
        if not first and last:
            return routing(u, W, a, p, num_iters=num_iters)
        ends = [rewrite(*three, p) for three in zip(dense, c, before, strict=True)]
        slots, share = (np.stack(part) for part in zip(*ends, strict=True))
        if last:
            return _result(steps(dense, u, slots, last - 1, p)[-1])
        return Result(slots, c, logits, share)

    return live
