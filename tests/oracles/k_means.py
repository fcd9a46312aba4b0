"""Soft k-means (MacKay 2003, section 20.2) of votes, in loops."""

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def means(votes, c):
    """Return means, [j, e], and shares of the children, [j], of one example."""
    _, parents, size = votes.shape
    mean, share = np.zeros((parents, size)), np.zeros(parents)
    for j in range(parents):
        mass = sum(c[:, j])
        share[j] = mass / np.sum(c)
        mean[j] = c[:, j] @ votes[:, j] / mass
    return mean, share


def nearness(votes, centre, beta):
    """Return -beta |V_ij - m_j|^2 / 2 of one example, [i, j]."""
    found = np.zeros(votes.shape[:2])
    for j in range(votes.shape[1]):
        found[:, j] = -beta / 2 * ((votes[:, j] - centre[j]) ** 2).sum(1)
    return found


def begin(dense, params, beta):
    if "centres" not in params:
        return np.zeros(dense.shape[:3])
    return np.stack([nearness(one, params["centres"], beta) for one in dense])


def steps(dense, logits, updates, beta):
    """Every (logits, c, means, shares) from given logits on."""
    found = []
    for t in range(updates + 1):
        c = coupled(logits)
        ends = [means(*pair) for pair in zip(dense, c, strict=True)]
        mean, share = (np.stack(part) for part in zip(*ends, strict=True))
        found.append((logits, c, mean, share))
        if t < updates:
            logits = np.stack([nearness(*pair, beta) for pair in zip(dense, mean, strict=True)])
    return found


def _result(step):
    logits, c, mean, share = step
    return Result(mean, c, logits, share)


def routing(u, W, a, params, *, num_iters, beta):
    dense = oracle.votes(u, W)
    return _result(steps(dense, begin(dense, params, beta), num_iters - 1, beta)[-1])


def trace(u, W, a, params, *, num_iters, beta):
    dense = oracle.votes(u, W)
    found = steps(dense, begin(dense, params, beta), num_iters - 1, beta)
    agreed = [
        (c * oracle.agreement(dense, mean)).sum((1, 2)) / dense.shape[1] for _, c, mean, _ in found
    ]
    entropies = [[entropy(one) for one in step[1]] for step in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def objective(dense, c, beta):
    """G = sum_i H(c_i) - beta / 2 sum_ij c_ij |V_ij - m_j|^2 of each example, m the means of c, [b]."""
    found = []
    for votes, one in zip(dense, c, strict=True):
        mean, _ = means(votes, one)
        far = -nearness(votes, mean, beta)
        found.append(-(one * np.log(one)).sum() - (one * far).sum())
    return np.array(found)


def frozen(u, W, a, params, *, last, num_iters, beta):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    start = begin(dense, params, beta)
    logits, c, _, _ = steps(dense, start, num_iters - 1, beta)[num_iters - 1 - last]

    def live(u, W, a, params):
        dense = oracle.votes(u, W)
        if last == num_iters - 1 and last:
            return routing(u, W, a, params, num_iters=num_iters, beta=beta)
        if last:
            return _result(steps(dense, logits, last, beta)[-1])
        ends = [means(*pair) for pair in zip(dense, c, strict=True)]
        mean, share = (np.stack(part) for part in zip(*ends, strict=True))
        return Result(mean, c, logits, share)

    return live
