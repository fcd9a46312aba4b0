"""The 2017 network in eager PyTorch, in the formulation of the well-known ports; to measure against.

Votes are formed by a batched matrix product, kept as [batch, parents, children, 16], and routed in place.
`detached` routes on detached votes, as many ports do; `full` goes through every iteration.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Mode = Literal["detached", "full"]


def squash(s: Tensor) -> Tensor:
    """Squash vectors on the last axis, with the usual small constant against division by zero."""
    norm = s.norm(dim=-1, keepdim=True)
    return norm**2 / (1 + norm**2) * s / (norm + 1e-8)


class DenseCapsules(nn.Module):
    """Route child capsules to parents, i of d dimensions to j of e."""

    def __init__(self, i: int, j: int, d: int, e: int, mode: Mode, num_iters: int):
        super().__init__()
        self.mode, self.num_iters = mode, num_iters
        self.weight = nn.Parameter(0.01 * torch.randn(j, i, e, d))

    def forward(self, u: Tensor) -> Tensor:
        """Map child poses [batch, i, d] to parent poses [batch, j, e]."""
        # One product of a small matrix and a column for each example, parent and child.
        votes = torch.matmul(self.weight, u[:, None, :, :, None]).squeeze(-1)  # [b, j, i, e]
        routed = votes.detach() if self.mode == "detached" else votes
        logits = torch.zeros(votes.shape[:3], device=votes.device)
        for _ in range(self.num_iters - 1):
            coupling = functional.softmax(logits, dim=1)
            pose = squash((coupling[..., None] * routed).sum(dim=2, keepdim=True))  # [b, j, 1, e]
            logits = logits + (pose * routed).sum(dim=-1)  # [b, j, i]
        coupling = functional.softmax(logits, dim=1)
        return squash((coupling[..., None] * votes).sum(dim=2))  # [b, j, e]


class CapsNet(nn.Module):
    """The 2017 network with its decoder."""

    def __init__(self, mode: Mode, num_iters: int = 3):
        super().__init__()
        self.stem = nn.Conv2d(1, 256, 9)
        self.primary = nn.Conv2d(256, 256, 9, stride=2)
        self.classes = DenseCapsules(1152, 10, 8, 16, mode, num_iters)
        self.decoder = nn.Sequential(
            nn.Linear(160, 512),
            nn.ReLU(),
            nn.Linear(512, 1024),
            nn.ReLU(),
            nn.Linear(1024, 784),
            nn.Sigmoid(),
        )

    def forward(self, images: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Classify images, and draw the chosen classes.

        Args:
            images: pixels, [batch, 1, 28, 28].
            chosen: 1 for the class that is drawn, [batch, 10].

        Returns:
            Lengths of the class capsules, [batch, 10], and drawings, [batch, 784].
        """
        x = self.primary(functional.relu(self.stem(images)))  # [b, 256, 6, 6]
        # Channels are types times components; a capsule is a type at a place.
        x = x.view(x.shape[0], 32, 8, 6, 6).permute(0, 3, 4, 1, 2).reshape(x.shape[0], -1, 8)
        poses = self.classes(squash(x))
        drawn = self.decoder((poses * chosen[..., None]).view(x.shape[0], -1))
        return poses.norm(dim=-1), drawn  # [b, 10], [b, 784]


def loss_of(lengths: Tensor, drawn: Tensor, images: Tensor, chosen: Tensor) -> Tensor:
    """Return the margin loss plus 0.0005 times the sum of squared errors, averaged over the batch.

    Args:
        lengths: lengths of the class capsules, [batch, 10].
        drawn: pixels that the decoder drew, [batch, 784].
        images: pixels, [batch, 1, 28, 28].
        chosen: 1 for the class of each image, [batch, 10].

    Returns:
        One number.
    """
    short = functional.relu(0.9 - lengths) ** 2
    long = functional.relu(lengths - 0.1) ** 2
    margin = (chosen * short + 0.5 * (1 - chosen) * long).sum(1)
    return (margin + 0.0005 * ((drawn - images.flatten(1)) ** 2).sum(1)).mean()
