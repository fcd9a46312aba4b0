"""Gradient modes: how the final coupling depends on what was routed, each a value.

A mode knows nothing of capsules. It runs an iterative routing's updates and decides which of them the
gradient passes through; the readout that follows is always live.
"""

from capsjax.gradients.base import GradientMode, Iterative, iterate
from capsjax.gradients.closed_form import ClosedForm
from capsjax.gradients.full import FullGradient
from capsjax.gradients.implicit import ImplicitGradient
from capsjax.gradients.stop import StopGradient
from capsjax.gradients.truncated import TruncatedGradient

__all__ = [
    "ClosedForm",
    "FullGradient",
    "GradientMode",
    "ImplicitGradient",
    "Iterative",
    "StopGradient",
    "TruncatedGradient",
    "iterate",
]
