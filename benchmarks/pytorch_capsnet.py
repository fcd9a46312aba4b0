"""The 2017 network in eager PyTorch, in the formulation of the well-known ports; to measure against.

Votes are formed by a batched matrix product, kept as [batch, parents, children, 16], and routed in place;
`detached` routes on detached votes, as many ports do, `full` through every iteration.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def squash(s: Tensor) -> Tensor:
    """Squash vectors on the last axis, with the usual small constant against division by zero."""
    norm = s.norm(dim=-1, keepdim=True)
    return norm**2 / (1 + norm**2) * s / (norm + 1e-8)


class DenseCapsule(nn.Module):
    """Route 1152 capsules of 8 dimensions to 10 of 16."""

    def __init__(self, children: int, parents: int, child_dim: int, parent_dim: int, routing: str, iters: int):
        super().__init__()
        self.routing, self.iters = routing, iters
        self.weight = nn.Parameter(0.01 * torch.randn(parents, children, parent_dim, child_dim))

    def forward(self, u: Tensor) -> Tensor:
        """Map child poses [batch, i, d] to parent poses [batch, j, e]."""
        votes = torch.matmul(self.weight, u[:, None, :, :, None]).squeeze(-1)
        inner = votes.detach() if self.routing == "detached" else votes
        logits = torch.zeros(*votes.shape[:3], device=votes.device)
        for iteration in range(self.iters):
            coupling = functional.softmax(logits, dim=1)
            if iteration == self.iters - 1:
                return squash((coupling[..., None] * votes).sum(dim=2))
            pose = squash((coupling[..., None] * inner).sum(dim=2, keepdim=True))
            logits = logits + (pose * inner).sum(dim=-1)
        raise ValueError("iters must be at least 1")


class CapsNet(nn.Module):
    """The 2017 network with its decoder."""

    def __init__(self, routing: str, iters: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(1, 256, 9)
        self.primary = nn.Conv2d(256, 256, 9, stride=2)
        self.classes = DenseCapsule(1152, 10, 8, 16, routing, iters)
        self.decoder = nn.Sequential(
            nn.Linear(160, 512), nn.ReLU(), nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 784), nn.Sigmoid()
        )

    def forward(self, images: Tensor, one_hot: Tensor) -> tuple[Tensor, Tensor]:
        """Return lengths [batch, 10] and reconstructions [batch, 784]."""
        x = functional.relu(self.stem(images))
        x = self.primary(x)
        x = x.view(x.shape[0], 32, 8, 6, 6).permute(0, 3, 4, 1, 2).reshape(x.shape[0], -1, 8)
        poses = self.classes(squash(x))
        drawn = self.decoder((poses * one_hot[..., None]).view(x.shape[0], -1))
        return poses.norm(dim=-1), drawn


def loss(lengths: Tensor, drawn: Tensor, images: Tensor, one_hot: Tensor) -> Tensor:
    """Margin loss plus 0.0005 times the sum of squared errors, averaged over the batch."""
    short = functional.relu(0.9 - lengths) ** 2
    long = functional.relu(lengths - 0.1) ** 2
    margin = (one_hot * short + 0.5 * (1 - one_hot) * long).sum(1)
    return (margin + 0.0005 * ((drawn - images.flatten(1)) ** 2).sum(1)).mean()
