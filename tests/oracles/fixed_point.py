"""Routing that replaces its logits by the last agreement, in loops; its fixed point's gradient, solved."""

import numpy as np

from tests.oracles import routing as oracle
from tests.oracles.losses import entropy
from tests.oracles.numerics import coupled, length, squash_jacobian
from tests.oracles.routing import Result, Trace


def steps(dense, bias, logits, updates, *, beta, damping, leaky):
    """Every (logits, coupling, s, pose), with `updates` updates between the first and the last."""
    found = []
    for t in range(updates + 1):
        coupling = coupled(logits, leaky)
        s, pose = oracle.readout(dense, coupling, bias)
        found.append((logits, coupling, s, pose))
        if t < updates:
            logits = damping * logits + (1 - damping) * beta * oracle.agreement(dense, pose)
    return found


def _result(step):
    logits, coupling, _, pose = step
    return Result(pose, coupling, logits, oracle.lengths(pose))


def routing(u, W, bias, *, num_iters, **sizes):
    dense = oracle.votes(u, W)
    return _result(steps(dense, bias, np.zeros(dense.shape[:3]), num_iters - 1, **sizes)[-1])


def trace(u, W, bias, *, num_iters, **sizes):
    """Coupling, mean entropy and coupled agreement per child of each readout."""
    dense = oracle.votes(u, W)
    found = steps(dense, bias, np.zeros(dense.shape[:3]), num_iters - 1, **sizes)
    agreed = [
        (coupling * oracle.agreement(dense, pose)).sum((1, 2)) / dense.shape[1]
        for _, coupling, _, pose in found
    ]
    entropies = [[entropy(one) for one in coupling] for _, coupling, _, _ in found]
    return Trace(np.stack([step[1] for step in found]), np.stack(entropies), np.stack(agreed))


def objective(dense, bias, coupling, *, beta, leaky):
    """F = beta sum_j phi(|s_j|) + sum_i H(c_i) of each example, phi(r) = r - arctan r, [b]."""
    s, _ = oracle.readout(dense, coupling, bias)
    found = np.zeros(len(dense))
    for b in range(len(dense)):
        for j in range(s.shape[1]):
            found[b] += beta * (length(s[b, j]) - np.arctan(length(s[b, j])))
        for i in range(dense.shape[1]):
            shares = list(coupling[b, i])
            shares += [1 - sum(shares)] if leaky else []
            found[b] -= sum(c * np.log(c) for c in shares if c > 0)
    return found


def frozen(u, W, bias, *, last, num_iters, **sizes):
    """The function whose gradient the mode with `last` live updates is."""
    dense = oracle.votes(u, W)
    start = np.zeros(dense.shape[:3])
    logits, coupling, _, _ = steps(dense, bias, start, num_iters - 1, **sizes)[num_iters - 1 - last]

    def live(u, W, bias):
        dense = oracle.votes(u, W)
        if last == 0:
            _, pose = oracle.readout(dense, coupling, bias)
            return Result(pose, coupling, logits, oracle.lengths(pose))
        return _result(steps(dense, bias, logits, last, **sizes)[-1])

    return live


def _softmax_jacobian(c):
    """d c_j / d b_k of one child, the same with a leak: c_j (delta_jk - c_k)."""
    return np.diag(c) - np.outer(c, c)


def gradient(u, W, bias, bars, *, last, num_iters, beta, damping, leaky):
    """Return du, dW, dbias through the last updates, from the end to the beginning; one example a time.

    `bars` is the cotangent of a Result. Everything is a matrix: s_bar = J(s) v_bar; of the softmax
    b_bar_i = D_i c_bar_i; of the update v_bar_j = (1 - damping) beta sum_i b_bar_ij vote_ij, and
    damping b_bar stays with the logits before it.
    """
    dense = oracle.votes(u, W)
    sizes = {"beta": beta, "damping": damping, "leaky": leaky}
    found = steps(dense, bias, np.zeros(dense.shape[:3]), num_iters - 1, **sizes)
    gain = (1 - damping) * beta
    dense_bar, bias_bar = np.zeros(dense.shape), np.zeros(bias.shape)
    pose_bar, c_bar, b_bar = _ends(found[-1], bars)
    first = num_iters - 1 - last
    for t in range(num_iters - 1, first - 1, -1):
        _, coupling, s, _ = found[t]
        for b, j in np.ndindex(s.shape[:2]):
            s_bar = squash_jacobian(s[b, j]) @ pose_bar[b, j]
            bias_bar[j] += s_bar
            for i in range(dense.shape[1]):
                dense_bar[b, i, j] += coupling[b, i, j] * s_bar
                c_bar[b, i, j] += dense[b, i, j] @ s_bar
        if t == first:
            break  # Its logits are constants: zero, or frozen.
        for b, i in np.ndindex(dense.shape[:2]):
            b_bar[b, i] += _softmax_jacobian(coupling[b, i]) @ c_bar[b, i]
        pose_bar, c_bar = np.zeros(s.shape), np.zeros(c_bar.shape)
        for b, i, j in np.ndindex(dense.shape[:3]):
            pose_bar[b, j] += gain * b_bar[b, i, j] * dense[b, i, j]
            dense_bar[b, i, j] += gain * b_bar[b, i, j] * found[t - 1][3][b, j]
        b_bar = damping * b_bar
    return (*oracle.through_votes(u, W, dense_bar), bias_bar)


def _ends(step, bars):
    """The cotangents of pose, coupling and logits that a Result's make."""
    pose = step[3]
    pose_bar = bars.pose + pose / oracle.lengths(pose)[..., None] * bars.activation[..., None]
    return pose_bar, np.array(bars.coupling), np.array(bars.logits)


def implicit_gradient(u, W, bias, bars, *, num_iters, beta, damping, leaky):
    """Return du, dW, dbias of the fixed point: the whole linear equation of an example, solved at once.

    With b = beta vote . v(c) and c = softmax(b), and K = d (beta vote . v) / d c over all pairs,
    D = d c / d b: (I - D K) z = b_bar + D c_bar, c_bar with what the live readout sends it.
    """
    dense = oracle.votes(u, W)
    start = np.zeros(dense.shape[:3])
    step = steps(dense, bias, start, num_iters - 1, beta=beta, damping=damping, leaky=leaky)[-1]
    _, coupling, s, pose = step
    pose_bar, c_bar, b_bar = _ends(step, bars)
    dense_bar, bias_bar = np.zeros(dense.shape), np.zeros(bias.shape)
    _, children, parents, _ = dense.shape
    for b in range(len(dense)):
        jacobians = [squash_jacobian(s[b, j]) for j in range(parents)]
        K = np.zeros((children, parents, children, parents))
        D = np.zeros((children, parents, children, parents))
        for i in range(children):
            D[i, :, i, :] = _softmax_jacobian(coupling[b, i])
            for k in range(children):
                for j in range(parents):
                    K[i, j, k, j] = beta * dense[b, i, j] @ jacobians[j] @ dense[b, k, j]
        size = children * parents
        K, D = K.reshape(size, size), D.reshape(size, size)
        live = np.array([jacobians[j] @ pose_bar[b, j] for j in range(parents)])
        to_c = c_bar[b] + np.einsum("ije,je->ij", dense[b], live)
        z = np.linalg.solve(np.eye(size) - D @ K, b_bar[b].ravel() + D @ to_c.ravel())
        z = z.reshape(children, parents)
        for j in range(parents):
            s_bar = live[j] + beta * jacobians[j] @ (z[:, j] @ dense[b, :, j])
            bias_bar[j] += s_bar
            for i in range(children):
                dense_bar[b, i, j] += coupling[b, i, j] * s_bar + beta * z[i, j] * pose[b, j]
    return (*oracle.through_votes(u, W, dense_bar), bias_bar)
