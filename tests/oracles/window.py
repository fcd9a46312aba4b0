"""Votes of a convolution in loops: every pair of a child and a parent, one at a time."""

import numpy as np

from tests.oracles.numerics import squash


def pairs(grid, kernel, stride):
    """Every (y, x, k, l), a place in a window, with the child (row, column) that stands there."""
    rows, columns = ((size - k) // stride + 1 for size, k in zip(grid, kernel, strict=True))
    for y in range(rows):
        for x in range(columns):
            for k in range(kernel[0]):
                for at in range(kernel[1]):
                    yield (y, x, k, at), (y * stride + k, x * stride + at)


def votes(u, W, stride):
    """Poses [b, h, w, a, p, d] and matrices [k, l, a, j, d, e] -> votes [b, y, x, k, l, a, j, p, e]."""
    b, h, w, a, p, _ = u.shape
    k, columns, _, j, _, e = W.shape
    known = list(pairs((h, w), (k, columns), stride))
    sizes = [1 + max(pair[n] for pair, _ in known) for n in range(4)]
    found = np.zeros((b, *sizes, a, j, p, e))
    for n in range(b):
        for pair, child in known:
            for i in range(a):
                for parent in range(j):
                    found[(n, *pair, i, parent)] = u[(n, *child, i)] @ W[(*pair[2:], i, parent)]
    return found


def couple(b, grid, stride, share, leaky=False):
    """Logits [b, y, x, k, l, a, j] -> couplings: a softmax over the parents of each child."""
    c = np.zeros_like(b)
    for n in range(len(b)):
        for i in range(b.shape[5]):
            groups = {}
            for pair, child in pairs(grid, b.shape[3:5], stride):
                groups.setdefault(child if share == "child" else pair, []).append(pair)
            for group in groups.values():
                lines = [b[(n, *pair, i)] for pair in group]  # of j parents each
                top = max([float(line.max()) for line in lines] + [0.0] * leaky)
                powers = [np.exp(line - top) for line in lines]
                whole = sum(line.sum() for line in powers) + leaky * np.exp(-top)
                for pair, line in zip(group, powers, strict=True):
                    c[(n, *pair, i)] = line / whole
    return c


def combine(c, dense):
    """Couplings and votes -> sums [b, y, x, j, p, e]."""
    return np.einsum("byxklaj,byxklajpe->byxjpe", c, dense)


def agreement(pose, dense):
    """Poses [b, y, x, j, p, e] and votes -> [b, y, x, k, l, a, j]."""
    return np.einsum("byxjpe,byxklajpe->byxklaj", pose, dense)


def readout(c, dense, bias):
    """Squash the whole pose of each parent, all its rows."""
    s = combine(c, dense) + bias
    poses = s.reshape(-1, s.shape[-2] * s.shape[-1])
    return np.array([squash(pose) for pose in poses]).reshape(s.shape)


def dynamic(u, W, bias, stride, share, *, num_iters=3, logits=None):
    """Routing by agreement, from given logits on, or zeros -> pose, coupling and logits."""
    dense = votes(u, W, stride)
    b = np.zeros(dense.shape[:-2]) if logits is None else logits
    for t in range(num_iters):
        c = couple(b, u.shape[1:3], stride, share)
        pose = readout(c, dense, bias)
        if t + 1 < num_iters:
            b = b + agreement(pose, dense)
    return pose, c, b


def apart(u, W, activation, stride):
    """A grid's children as each window sees them, as if each position were an example with its own.

    Poses [b, h, w, a, p, d], matrices [k, l, a, j, d, e] and activations [b, h, w, a] -> u [b y x, i, p d],
    W [i, j, p d, p e] and activations [b y x, i], i = k l a: the rows of a pose share its matrices.
    """
    b, h, w, a, p, d = u.shape
    k, columns, _, j, _, e = W.shape
    known = list(pairs((h, w), (k, columns), stride))
    sizes = [1 + max(pair[n] for pair, _ in known) for n in range(4)]
    seen, present = np.zeros((b, *sizes, a, p, d)), np.zeros((b, *sizes, a))
    for pair, child in known:
        for n in range(b):
            seen[(n, *pair)], present[(n, *pair)] = u[(n, *child)], activation[(n, *child)]
    blocks = np.zeros((k, columns, a, j, p, d, p, e))
    for row in range(p):
        blocks[..., row, :, row, :] = W
    examples, i = b * sizes[0] * sizes[1], k * columns * a
    matrices = blocks.reshape(i, j, p * d, p * e)
    return seen.reshape(examples, i, p * d), matrices, present.reshape(examples, i)


def coupling(grid, kernel, stride, share):
    """`couple` for what `apart` makes: logits [b y x, i, j] -> couplings."""
    rows, columns = ((size - k) // stride + 1 for size, k in zip(grid, kernel, strict=True))

    def coupled(logits, leaky=False):
        on_grid = logits.reshape(
            -1, rows, columns, *kernel, logits.shape[1] // np.prod(kernel), logits.shape[2]
        )
        return couple(on_grid, grid, stride, share, leaky).reshape(logits.shape)

    return coupled
