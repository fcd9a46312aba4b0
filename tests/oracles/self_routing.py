"""Self-routing (2019, section 3) in loops."""

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled
from tests.oracles.routing import Result, Trace


def routing(u, W, a, params):
    """c from each child's own pose; activations and poses weighed by c and the children's activations."""
    dense = oracle.votes(u, W)
    batch, children, parents, size = dense.shape
    logits = np.zeros((batch, children, parents))
    for b, i, j in np.ndindex(batch, children, parents):
        logits[b, i, j] = params["offset"][i, j] + sum(params["route"][i, j] * u[b, i])
    coupling = coupled(logits)
    pose, activation = np.zeros((batch, parents, size)), np.zeros((batch, parents))
    # Of all that children give to these parents; a convolution's give to those of other positions too.
    given = np.einsum("bij,bi->b", coupling, a)
    for b, j in np.ndindex(batch, parents):
        weights = [coupling[b, i, j] * a[b, i] for i in range(children)]
        activation[b, j] = sum(weights) / given[b]
        if sum(weights) > 0:
            pose[b, j] = sum(w * dense[b, i, j] for i, w in enumerate(weights)) / sum(weights)
    return Result(pose, coupling, logits, activation)


def trace(u, W, a, params):
    dense, found = oracle.votes(u, W), routing(u, W, a, params)
    agreed = (found.coupling * oracle.agreement(dense, found.pose)).sum((1, 2)) / dense.shape[1]
    return Trace(
        found.coupling[None], np.array([[entropy(c) for c in found.coupling]]), agreed[None]
    )
