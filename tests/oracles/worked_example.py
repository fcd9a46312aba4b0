"""The chapter's example, two children, two parents, two dimensions, number by number from the oracles.

Names are the chapter's symbols, as its tables write them.
"""

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.numerics import length, softmax_over_parents, squash_jacobian

# [b, i, d] and [i, j, d, e]: the page shows each W_ij as the matrix that multiplies a column, its transpose.
U = np.array([[[1.0, 0.0], [0.0, 1.0]]])
W = np.array(
    [
        [[[1.0, 0.0], [0.0, 1.0]], [[1.0, -1.0], [0.0, 1.0]]],
        [[[1.0, 0.0], [0.2, 1.6]], [[1.0, 1.0], [0.6, -0.2]]],
    ]
)
BIAS = np.zeros((2, 2))
POSE_BAR = np.array([[[1.0, 0.0], [0.0, 1.0]]])  # L = v_1 . (1, 0) + v_2 . (0, 1)


def _pairs(name, x):
    """One entry for each child: a row over the parents."""
    return {f"{name}_{i + 1}": x[0, i] for i in range(2)}


def _poses(name, x):
    """One entry for each parent."""
    return {f"{name}_{j + 1}": x[0, j] for j in range(2)}


def _votes(name, x):
    return {f"{name}_{{{i + 1}{j + 1}}}": x[0, i, j] for i in range(2) for j in range(2)}


def _lengths(name, x):
    return {rf"\vert {name}_{j + 1}\vert": np.array([length(x[0, j])]) for j in range(2)}


def _matrices(name, x):
    """A matrix that multiplies a column, row by row."""
    return {f"{name}_{{{i + 1}{j + 1}}}": x[i, j].T.ravel() for i in range(2) for j in range(2)}


def _through_squash(s, pose_bar):
    bars = [squash_jacobian(s[0, j]) @ pose_bar[0, j] for j in range(2)]
    return np.array([bars])


def _through_couple(coupling, coupling_bar):
    mean = np.sum(coupling * coupling_bar, axis=-1, keepdims=True)
    return coupling * (coupling_bar - mean)


def _outer(coupling, bar):
    """A vote's share of a weighted sum: c_ij times a vector of the parent."""
    return coupling[..., None] * bar[:, None]


def numbers():
    """Every intermediate value of the page, forward and backward, by symbol."""
    z = oracle.votes(U, W)
    b0 = np.zeros((1, 2, 2))
    c0 = np.stack([softmax_over_parents(one) for one in b0])
    s0, v0 = oracle.readout(z, c0, BIAS)
    b1 = b0 + oracle.agreement(z, v0)
    c1 = np.stack([softmax_over_parents(one) for one in b1])
    s1, v1 = oracle.readout(z, c1, BIAS)
    s1_bar = _through_squash(s1, POSE_BAR)
    z_stop = _outer(c1, s1_bar)
    c1_bar = oracle.agreement(z, s1_bar)
    b1_bar = _through_couple(c1, c1_bar)
    v0_bar = oracle.combine(z, b1_bar)
    s0_bar = _through_squash(s0, v0_bar)
    by_agreement, by_first_sum = _outer(b1_bar, v0), _outer(c0, s0_bar)
    z_full = z_stop + by_agreement + by_first_sum
    u_stop, W_stop = oracle.through_votes(U, W, z_stop)
    u_full, W_full = oracle.through_votes(U, W, z_full)
    return {
        **_votes("z", z),
        **_pairs("b^0", b0),
        **_pairs("c^0", c0),
        **_poses("s^0", s0),
        **_lengths("s^0", s0),
        **_poses("v^0", v0),
        **_pairs("b^1", b1),
        **_pairs("c^1", c1),
        **_poses("s^1", s1),
        **_lengths("s^1", s1),
        **_poses("v^1", v1),
        "L": np.array([np.sum(POSE_BAR * v1)]),
        **{
            f"J(s^{t}_{j + 1})": squash_jacobian(s[0, j]).ravel()
            for t, s in enumerate((s0, s1))
            for j in range(2)
        },
        **_poses(r"\bar s^1", s1_bar),
        **_votes(r"\bar z^\text{stop}", z_stop),
        **_pairs(r"\bar u^\text{stop}", u_stop),
        **_matrices(r"\bar W^\text{stop}", W_stop),
        **_pairs(r"\bar c^1", c1_bar),
        **_pairs(r"\bar b^1", b1_bar),
        **_poses(r"\bar v^0", v0_bar),
        **_poses(r"\bar s^0", s0_bar),
        **_votes(r"\bar z^\text{agree}", by_agreement),
        **_votes(r"\bar z^\text{first}", by_first_sum),
        **_votes(r"\bar z^\text{full}", z_full),
        **_pairs(r"\bar u^\text{full}", u_full),
        **_matrices(r"\bar W^\text{full}", W_full),
    }
