"""Routing by agreement (2017, procedure 1) and uniform routing, number by number in float64.

Arrays: u [b, i, d], W [i, j, d, e], bias [j, e]. Also the gradients: the closed form where the
coupling is a constant, and the reverse recursion through any number of the last updates.
"""

from typing import NamedTuple

import numpy as np

from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled, length, squash, squash_jacobian


class Result(NamedTuple):
    pose: np.ndarray
    coupling: np.ndarray
    logits: np.ndarray
    activation: np.ndarray


class Trace(NamedTuple):
    coupling: np.ndarray
    entropy: np.ndarray
    agreement: np.ndarray


def votes(u, W):
    """Equation 2: vote_ij = W_ij u_i, [b, i, j, e]."""
    batch, children, parents, size = *u.shape[:2], W.shape[1], W.shape[3]
    dense = np.zeros((batch, children, parents, size))
    for b in range(batch):
        for i in range(children):
            for j in range(parents):
                for e in range(size):
                    dense[b, i, j, e] = sum(W[i, j, d, e] * u[b, i, d] for d in range(u.shape[2]))
    return dense


def combine(dense, coupling):
    """s_j = sum_i c_ij vote_ij, [b, j, e]."""
    batch, children, parents, size = dense.shape
    s = np.zeros((batch, parents, size))
    for b in range(batch):
        for j in range(parents):
            for i in range(children):
                s[b, j] += coupling[b, i, j] * dense[b, i, j]
    return s


def agreement(dense, pose):
    """a_ij = vote_ij . v_j, [b, i, j]."""
    batch, children, parents, _ = dense.shape
    a = np.zeros((batch, children, parents))
    for b in range(batch):
        for i in range(children):
            for j in range(parents):
                a[b, i, j] = sum(dense[b, i, j] * pose[b, j])
    return a


def readout(dense, coupling, bias):
    s = combine(dense, coupling)
    pose = np.zeros(s.shape)
    for b in range(s.shape[0]):
        for j in range(s.shape[1]):
            s[b, j] += bias[j]
            pose[b, j] = squash(s[b, j])
    return s, pose


class _Step(NamedTuple):
    logits: np.ndarray
    coupling: np.ndarray
    s: np.ndarray
    pose: np.ndarray


def _steps(dense, bias, logits, updates, leaky):
    """Every readout from given logits on, `updates` updates between the first and the last."""
    steps = []
    for t in range(updates + 1):
        coupling = coupled(logits, leaky)
        s, pose = readout(dense, coupling, bias)
        steps.append(_Step(logits, coupling, s, pose))
        if t < updates:
            logits = logits + agreement(dense, pose)
    return steps


def lengths(pose):
    return np.array([[length(v) for v in example] for example in pose])


def _start(dense):
    return np.zeros(dense.shape[:3])


def dynamic_routing(u, W, bias, *, num_iters=3, leaky=False):
    """Procedure 1 with the released code's bias: r readouts, r - 1 updates."""
    dense = votes(u, W)
    last = _steps(dense, bias, _start(dense), num_iters - 1, leaky)[-1]
    return Result(last.pose, last.coupling, last.logits, lengths(last.pose))


def dynamic_trace(u, W, bias, *, num_iters=3, leaky=False):
    """Coupling, mean entropy and coupled agreement per child of each of the r readouts."""
    dense = votes(u, W)
    steps = _steps(dense, bias, _start(dense), num_iters - 1, leaky)
    return Trace(
        np.stack([step.coupling for step in steps]),
        np.stack([[entropy(one) for one in step.coupling] for step in steps]),
        np.stack(
            [
                (step.coupling * agreement(dense, step.pose)).sum((1, 2)) / dense.shape[1]
                for step in steps
            ]
        ),
    )


def dynamic_frozen(u, W, bias, *, last, num_iters=3, leaky=False):
    """Return the function whose gradient the mode with `last` live updates is.

    What comes before is frozen at the values that it has for these inputs: the logits before the last
    updates or, where none is live, the coupling.
    """
    dense = votes(u, W)
    frozen = _steps(dense, bias, _start(dense), num_iters - 1, leaky)[num_iters - 1 - last]

    def live(u, W, bias):
        dense = votes(u, W)
        if last == 0:
            _, pose = readout(dense, frozen.coupling, bias)
            return Result(pose, frozen.coupling, frozen.logits, lengths(pose))
        step = _steps(dense, bias, frozen.logits, last, leaky)[-1]
        return Result(step.pose, step.coupling, step.logits, lengths(step.pose))

    return live


def uniform_routing(u, W, bias):
    """Every coupling 1 / J."""
    return dynamic_routing(u, W, bias, num_iters=1)


def stopped_gradient(u, W, bias, pose_bar, *, num_iters=3, leaky=False):
    """Return du, dW, dbias where the coupling is a constant, in closed form.

    g_j = J(s_j) dL/dv_j; dW_ij = c_ij u_i g_j^T; du_i = sum_j c_ij W_ij g_j; dbias_j = sum_b g_j.
    """
    result = dynamic_routing(u, W, bias, num_iters=num_iters, leaky=leaky)
    s = combine(votes(u, W), result.coupling)
    u_bar, W_bar, bias_bar = np.zeros(u.shape), np.zeros(W.shape), np.zeros(bias.shape)
    for b in range(u.shape[0]):
        for j in range(W.shape[1]):
            g = squash_jacobian(s[b, j] + bias[j]).T @ pose_bar[b, j]
            bias_bar[j] += g
            for i in range(W.shape[0]):
                c = result.coupling[b, i, j]
                u_bar[b, i] += c * (W[i, j] @ g)
                W_bar[i, j] += c * np.outer(u[b, i], g)
    return u_bar, W_bar, bias_bar


def dynamic_gradient(u, W, bias, bars, *, last, num_iters=3, leaky=False):
    """Return du, dW, dbias through the last updates, by hand, from the end to the beginning.

    `bars` is the cotangent of a Result. Of the readout: s_bar = J(s) v_bar, c_ij_bar = vote_ij . s_j_bar.
    Of the softmax: b_ij_bar = c_ij (c_ij_bar - sum_k c_ik c_ik_bar). Of the update b' = b + vote . v:
    v_j_bar = sum_i b'_ij_bar vote_ij. A vote gets c_ij s_j_bar and b'_ij_bar v_j.
    """
    dense = votes(u, W)
    steps = _steps(dense, bias, _start(dense), num_iters - 1, leaky)
    dense_bar, bias_bar = np.zeros(dense.shape), np.zeros(bias.shape)
    pose_bar = bars.pose + _unit(steps[-1].pose) * bars.activation[..., None]
    logits_bar, coupling_bar = bars.logits, bars.coupling
    first = num_iters - 1 - last
    for t in range(num_iters - 1, first - 1, -1):
        step = steps[t]
        s_bar = np.zeros(step.s.shape)
        for b in range(s_bar.shape[0]):
            for j in range(s_bar.shape[1]):
                s_bar[b, j] = squash_jacobian(step.s[b, j]).T @ pose_bar[b, j]
                bias_bar[j] += s_bar[b, j]
                for i in range(dense.shape[1]):
                    dense_bar[b, i, j] += step.coupling[b, i, j] * s_bar[b, j]
        if t == first:
            break  # Its logits are constants: zero, or frozen.
        coupling_bar = coupling_bar + agreement(dense, s_bar)
        mean = np.sum(step.coupling * coupling_bar, axis=-1, keepdims=True)
        logits_bar = logits_bar + step.coupling * (coupling_bar - mean)
        coupling_bar = np.zeros(coupling_bar.shape)
        pose_bar = combine(dense, logits_bar)
        for b in range(dense.shape[0]):
            for i in range(dense.shape[1]):
                for j in range(dense.shape[2]):
                    dense_bar[b, i, j] += logits_bar[b, i, j] * steps[t - 1].pose[b, j]
    return (*through_votes(u, W, dense_bar), bias_bar)


def _unit(pose):
    return pose / lengths(pose)[..., None]


def through_votes(u, W, dense_bar):
    u_bar, W_bar = np.zeros(u.shape), np.zeros(W.shape)
    for b in range(u.shape[0]):
        for i in range(W.shape[0]):
            for j in range(W.shape[1]):
                u_bar[b, i] += W[i, j] @ dense_bar[b, i, j]
                W_bar[i, j] += np.outer(u[b, i], dense_bar[b, i, j])
    return u_bar, W_bar


def finite_differences(function, arrays, step=1e-6):
    """Return the gradient of a function of arrays to a number, by central differences."""
    gradients = []
    for n, array in enumerate(arrays):
        gradient = np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            ends = []
            for sign in (1, -1):
                moved = array.copy()
                moved[at] += sign * step
                ends.append(function(*arrays[:n], moved, *arrays[n + 1 :]))
            gradient[at] = (ends[0] - ends[1]) / (2 * step)
        gradients.append(gradient)
    return tuple(gradients)
