"""Convolutional capsules and EM routing in PyTorch: in the formulation of public ports, and with care.

A public port gathers windows by `unfold` and multiplies a small matrix for each pair; with care, windows are
gathered once and votes are one batched product over the kinds of children. Both route with a coupling that is
normalised at each position, as the ports' is.
"""

import math

import torch
from pytorch_capsnet import squash
from torch import Tensor, nn
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
    votes: Tensor,
    activation: Tensor,
    beta_u: Tensor,
    beta_a: Tensor,
    num_iters: int = 3,
    final_lambda: float = FINAL_LAMBDA,
) -> tuple[Tensor, Tensor]:
    """Route by EM (2018), as the ports write it: votes formed, densities pair by pair.

    Args:
        votes: [b, i, j, e].
        activation: of the children, [b, i].
        beta_u: cost of describing a component, [j].
        beta_a: the price of a parent, [j].
        num_iters: how often the Gaussians are fitted.
        final_lambda: what the inverse temperature tends to.

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
        temperature = final_lambda * (1 - 0.95 ** (t + 1))
        present = torch.sigmoid(temperature * (beta_a - cost))  # [b, 1, j]
        if t + 1 < num_iters:
            density = -0.5 * (
                (votes - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)
            ).sum(-1)
            r = torch.softmax(density + (present + 1e-12).log(), dim=-1)
    return mean.squeeze(1), present.squeeze(1)


class EMLayer(nn.Module):
    """Route 4x4 pose matrices to each position of a window, or to classes over the whole grid, by EM."""

    def __init__(self, types: int, parents: int, kernel: int | None, stride: int = 1):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        children = types * (kernel or 1) ** 2
        self.weight = nn.Parameter(torch.randn(children, parents, 4, 4) / 4)
        self.beta_u = nn.Parameter(torch.zeros(parents))
        self.beta_a = nn.Parameter(torch.zeros(parents))

    def forward(self, poses: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Map poses [b, h, w, a, 4, 4] and activations [b, h, w, a] to those of the parents.

        Returns:
            The same of a grid, or of classes [b, j, 16] and [b, j].
        """
        b, h, w, a = activation.shape
        betas = self.beta_u, self.beta_a
        if self.kernel is None:
            votes = public_votes(poses.reshape(b, h * w, a, 4, 4), self.weight)
            votes = torch.cat([places(h, w) + votes[..., :2], votes[..., 2:]], -1).flatten(1, 2)
            return em_routing(votes, activation.flatten(1), *betas, final_lambda=FINAL_LAMBDA / 4)
        votes = public_votes(windows(poses, self.kernel, self.stride), self.weight)
        present = windows(activation[..., None, None], self.kernel, self.stride).flatten(0, 1)
        found = em_routing(votes.flatten(0, 1), present[..., 0, 0], *betas)
        y, x = ((n - self.kernel) // self.stride + 1 for n in (h, w))
        return found[0].view(b, y, x, -1, 4, 4), found[1].view(b, y, x, -1)


def places(height: int, width: int) -> Tensor:
    """Return where each position of a grid is, from 0 to 1: [h w, 1, 1, 2]."""
    rows, columns = torch.linspace(0, 1, height), torch.linspace(0, 1, width)
    return torch.cartesian_prod(rows, columns).view(-1, 1, 1, 2)


class EMNetwork(nn.Module):
    """The small network of the 2018 paper, A = 64, B = 8, C = D = 16, for images of one channel."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Conv2d(1, 64, 5, stride=2)
        self.poses = nn.Conv2d(64, 8 * 16, 1, bias=False)
        self.present = nn.Conv2d(64, 8, 1, bias=False)
        self.first, self.second = EMLayer(8, 16, 3, stride=2), EMLayer(16, 16, 3)
        self.classes = EMLayer(16, classes, None)

    def forward(self, images: Tensor) -> Tensor:
        """Map images [b, 1, h, w] to activations of the classes [b, classes]."""
        x = self.stem(images).relu()
        poses = self.poses(x).permute(0, 2, 3, 1).unflatten(-1, (8, 4, 4))
        present = self.present(x).permute(0, 2, 3, 1).sigmoid()
        return self.classes(*self.second(*self.first(poses, present)))[1]


def spread_loss(scores: Tensor, labels: Tensor, margin: float = 0.2) -> Tensor:
    """Return the spread loss (2018, section 4.1) of scores [b, classes], mean over examples."""
    beside = (margin - (scores.gather(1, labels[:, None]) - scores)).relu() ** 2
    return beside.sum(1).mean() - margin**2
