"""Losses, one number for each example, computed in float32 at least and returned in the type that came.

A function measures; a value, such as `MarginLoss()`, is the node of a configuration that calls it.
"""

from capsjax.losses.base import Loss
from capsjax.losses.binary import BinaryLoss, binary_cross_entropy_loss
from capsjax.losses.cross_entropy import CrossEntropyLoss, cross_entropy_loss
from capsjax.losses.likelihood import LikelihoodLoss, likelihood_loss
from capsjax.losses.margin import MarginLoss, margin_loss
from capsjax.losses.reconstruction import reconstruction_loss
from capsjax.losses.spread import (
    LinearMargin,
    LogisticMargin,
    MarginSchedule,
    SpreadLoss,
    spread_loss,
)

LossConfig = MarginLoss  # its name from before there was a choice

__all__ = [
    "BinaryLoss",
    "CrossEntropyLoss",
    "LikelihoodLoss",
    "LinearMargin",
    "LogisticMargin",
    "Loss",
    "MarginLoss",
    "MarginSchedule",
    "SpreadLoss",
    "binary_cross_entropy_loss",
    "cross_entropy_loss",
    "likelihood_loss",
    "margin_loss",
    "reconstruction_loss",
    "spread_loss",
]
