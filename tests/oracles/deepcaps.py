"""DeepCaps, section 3.2, in loops: votes by a convolution in three dimensions, and routing by them."""

import numpy as np

from tests.oracles.numerics import length, squash


def convolve3d(volume, kernel, stride):
    """Valid convolution of a volume [h, w, z] by a kernel [k, l, d, n], with steps (1, 1, stride)."""
    h, w, z = volume.shape
    k, m, d, n = kernel.shape
    found = np.zeros((h - k + 1, w - m + 1, (z - d) // stride + 1, n))
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            for s in range(found.shape[2]):
                seen = volume[y : y + k, x : x + m, s * stride : s * stride + d]
                for out in range(n):
                    found[y, x, s, out] = (seen * kernel[..., out]).sum()
    return found


def votes(poses, kernel, parents):
    """Poses [b, h, w, a, d] and a kernel [k, l, d, j e] -> the votes of each type, [b, a, y, x, j, e]."""
    h, w, a, d = poses.shape[1:]
    found = []
    for example in poses:
        # Types behind one another, d components each: one step along the third axis is one type.
        drawn = convolve3d(example.reshape(h, w, a * d), kernel, d)  # [y, x, a, j e]
        found.append(np.moveaxis(drawn, 2, 0).reshape(a, *drawn.shape[:2], parents, -1))
    return np.stack(found)


def route(dense, bias, iterations):
    """Votes [b, a, y, x, j, e] and a bias [j, e] -> poses [b, y, x, j, e], couplings [b, a, y, x, j]."""
    poses, couplings = [], []
    for example in dense:
        logits = np.zeros(example.shape[:-1])
        for t in range(iterations):
            c = np.stack(
                [np.exp(one - one.max()) / np.exp(one - one.max()).sum() for one in logits]
            )
            v = np.zeros(example.shape[1:])
            for place in np.ndindex(v.shape[:3]):
                s = bias[place[-1]].copy()
                for i in range(len(example)):
                    s += c[(i, *place)] * example[(i, *place)]
                v[place] = squash(s)
            if t < iterations - 1:
                for at in np.ndindex(logits.shape):
                    logits[at] += example[at] @ v[at[1:]]
        poses.append(v)
        couplings.append(c)
    return np.stack(poses), np.stack(couplings)


def lengths(poses):
    """Poses [..., e] -> lengths [...]."""
    found = np.zeros(poses.shape[:-1])
    for at in np.ndindex(found.shape):
        found[at] = length(poses[at])
    return found
