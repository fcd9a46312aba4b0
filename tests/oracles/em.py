"""EM routing (2018, procedure 1) in loops; a floor under the variance, and the authors' lambda."""

import math

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def m_step(votes, R, a, beta_u, beta_a, t, *, final_lambda, floor):
    """Return mean and variance, [j, e], and activation, [j], of one example."""
    children, parents, size = votes.shape
    mean, variance, activation = (
        np.zeros((parents, size)),
        np.zeros((parents, size)),
        np.zeros(parents),
    )
    inverse_temperature = final_lambda * (1 - 0.95 ** (t + 1))
    for j in range(parents):
        r = [R[i, j] * a[i] for i in range(children)]
        mass = sum(r)
        cost = 0.0
        for h in range(size):
            if mass > 0:
                mean[j, h] = sum(r[i] * votes[i, j, h] for i in range(children)) / mass
                squares = sum(r[i] * (votes[i, j, h] - mean[j, h]) ** 2 for i in range(children))
                variance[j, h] = squares / mass
            variance[j, h] += floor
            cost += (beta_u[j] + math.log(math.sqrt(variance[j, h]))) * mass
        activation[j] = 1 / (1 + math.exp(-inverse_temperature * (beta_a[j] - cost)))
    return mean, variance, activation


def e_step(votes, mean, variance, activation):
    """Return log a_j + log of each vote's density, [i, j], of one example."""
    children, parents, size = votes.shape
    logits = np.zeros((children, parents))
    for i in range(children):
        for j in range(parents):
            density = 1.0
            for h in range(size):
                far = (votes[i, j, h] - mean[j, h]) ** 2 / (2 * variance[j, h])
                density *= math.exp(-far) / math.sqrt(2 * math.pi * variance[j, h])
            logits[i, j] = math.log(activation[j]) + math.log(density)
    return logits


def steps(dense, a, params, logits, updates, first, **options):
    """Every (logits, R, mean, activation) of the batch from given logits on, the first readout numbered."""
    found = []
    for t in range(first, first + updates + 1):
        R = coupled(logits)
        ends = [
            m_step(dense[b], R[b], a[b], params["beta_u"], params["beta_a"], t, **options)
            for b in range(len(dense))
        ]
        found.append((logits, R, np.stack([e[0] for e in ends]), np.stack([e[2] for e in ends])))
        if t < first + updates:
            logits = np.stack([e_step(dense[b], *ends[b]) for b in range(len(dense))])
    return found


def _result(step):
    logits, R, mean, activation = step
    return Result(mean, R, logits, activation)


def routing(u, W, a, params, *, num_iters, **options):
    dense = oracle.votes(u, W)
    start = np.zeros(dense.shape[:3])
    return _result(steps(dense, a, params, start, num_iters - 1, 0, **options)[-1])


def trace(u, W, a, params, *, num_iters, **options):
    dense = oracle.votes(u, W)
    found = steps(dense, a, params, np.zeros(dense.shape[:3]), num_iters - 1, 0, **options)
    agreed = [
        (R * oracle.agreement(dense, mean)).sum((1, 2)) / dense.shape[1] for _, R, mean, _ in found
    ]
    entropies = [[entropy(one) for one in step[1]] for step in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def frozen(u, W, a, params, *, last, num_iters, **options):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    start, first = np.zeros(dense.shape[:3]), num_iters - 1 - last
    logits, R, _, _ = steps(dense, a, params, start, num_iters - 1, 0, **options)[first]

    def live(u, W, a, params):
        dense = oracle.votes(u, W)
        if last:
            return _result(steps(dense, a, params, logits, last, first, **options)[-1])
        betas = params["beta_u"], params["beta_a"], num_iters - 1
        ends = [m_step(dense[b], R[b], a[b], *betas, **options) for b in range(len(dense))]
        return Result(np.stack([e[0] for e in ends]), R, logits, np.stack([e[2] for e in ends]))

    return live
