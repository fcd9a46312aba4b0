"""Convolutional capsules and EM routing in PyTorch: in the formulation of public ports, and with care.

A public port gathers windows by `unfold` and multiplies a small matrix for each pair; with care, windows are
gathered once and votes are one batched product over the kinds of children. Both route with a coupling that is
normalised at each position, as the ports' is.
"""

import math

import torch
from pytorch_capsnet import squash
from torch import Tensor
from torch.nn import functional

FINAL_LAMBDA, FLOOR = 0.01, 1e-4


def windows(u: Tensor, kernel: int, stride: int) -> Tensor:
    """Gather what each window sees: [b, h, w, a, p, d] to [b, positions, k k a, p, d]."""
    b, h, w, a, p, d = u.shape
    x = functional.unfold(
        u.permute(0, 3, 4, 5, 1, 2).reshape(b, a * p * d, h, w), kernel, stride=stride
    )
    x = x.view(b, a, p, d, kernel * kernel, -1).permute(0, 5, 4, 1, 2, 3)  # [b, n, k k, a, p, d]
    return x.reshape(b, x.shape[1], kernel * kernel * a, p, d)


def public_votes(x: Tensor, W: Tensor) -> Tensor:
    """Multiply for each pair by itself: [b, n, i, p, d] and [i, j, d, e] give [b, n, i, j, p e]."""
    b, n, i, p, d = x.shape
    _, j, _, e = W.shape
    if p == 1:
        stacked = W.transpose(2, 3).reshape(i, j * e, d)
        return torch.matmul(stacked, x.reshape(b, n, i, d, 1)).view(b, n, i, j, e)
    return torch.matmul(x.unsqueeze(3), W).reshape(b, n, i, j, p * e)


def careful_votes(x: Tensor, W: Tensor) -> Tensor:
    """Multiply once for each kind of child: the same votes."""
    b, n, i, p, d = x.shape
    _, j, _, e = W.shape
    rows = x.permute(2, 0, 1, 3, 4).reshape(i, b * n * p, d)
    votes = torch.bmm(rows, W.transpose(1, 2).reshape(i, d, j * e)).view(i, b, n, p, j, e)
    return votes.permute(1, 2, 0, 4, 3, 5).reshape(b, n, i, j, p * e)


def conv_capsules(
    u: Tensor, W: Tensor, *, stride: int, detached: bool, careful: bool, num_iters: int = 3
) -> Tensor:
    """Route by agreement over windows: [b, h, w, a, p, d] and [k, k, a, j, d, e] give [b, n, j, p e]."""
    x = windows(u, W.shape[0], stride)
    W = W.flatten(0, 2)
    votes = (careful_votes if careful else public_votes)(x, W)
    held = votes.detach() if detached else votes
    logits = votes.new_zeros(votes.shape[:-1])  # [b, n, i, j]
    for _ in range(num_iters - 1):
        pose = combined(logits, held, careful)
        if careful:
            agreed = torch.einsum("bnije,bnje->bnij", held, pose)
        else:
            agreed = (held * pose.unsqueeze(2)).sum(-1)
        logits = logits + agreed
    return combined(logits, votes, careful)


def combined(logits: Tensor, votes: Tensor, careful: bool) -> Tensor:
    """Couple, sum over children, squash: [b, n, j, p e]."""
    coupling = logits.softmax(-1)
    if careful:
        return squash(torch.einsum("bnij,bnije->bnje", coupling, votes))
    return squash((coupling.unsqueeze(-1) * votes).sum(2))


def em_routing(
    votes: Tensor, activation: Tensor, beta_u: Tensor, beta_a: Tensor, num_iters: int = 3
) -> tuple[Tensor, Tensor]:
    """Route by EM (2018), as the ports write it: votes formed, densities pair by pair.

    Args:
        votes: [b, i, j, e].
        activation: of the children, [b, i].
        beta_u: cost of describing a component, [j].
        beta_a: the price of a parent, [j].
        num_iters: how often the Gaussians are fitted.

    Returns:
        Means [b, j, e] and activations [b, j].
    """
    r = torch.full_like(votes[..., 0], 1 / votes.shape[2])  # [b, i, j]
    for t in range(num_iters):
        weight = (r * activation.unsqueeze(-1)).unsqueeze(-1)  # [b, i, j, 1]
        total = weight.sum(1, keepdim=True)  # [b, 1, j, 1]
        mean = (weight * votes).sum(1, keepdim=True) / total
        variance = (weight * (votes - mean) ** 2).sum(1, keepdim=True) / total + FLOOR
        cost = ((beta_u.view(1, 1, -1, 1) + 0.5 * variance.log()) * total).sum(-1)  # [b, 1, j]
        temperature = FINAL_LAMBDA * (1 - 0.95 ** (t + 1))
        present = torch.sigmoid(temperature * (beta_a - cost))  # [b, 1, j]
        if t + 1 < num_iters:
            density = -0.5 * (
                (votes - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)
            ).sum(-1)
            r = torch.softmax(density + (present + 1e-12).log(), dim=-1)
    return mean.squeeze(1), present.squeeze(1)
