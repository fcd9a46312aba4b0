"""Capsule networks in JAX, with the gradient through routing as a choice."""

from capsjax.config import Config, load_config
from capsjax.experiment import Run, load, train
from capsjax.gradients import (
    ClosedForm,
    FullGradient,
    GradientMode,
    StopGradient,
    TruncatedGradient,
)
from capsjax.losses import margin_loss, reconstruction_loss
from capsjax.numerics import safe_norm, squash
from capsjax.routing import DynamicRouting, Routing, UniformRouting, dynamic_routing
from capsjax.types import RoutingResult, RoutingTrace
from capsjax.version import __version__
from capsjax.votes import DenseVotes, LinearVotes, Votes, predict

__all__ = [
    "ClosedForm",
    "Config",
    "DenseVotes",
    "DynamicRouting",
    "FullGradient",
    "GradientMode",
    "LinearVotes",
    "Routing",
    "RoutingResult",
    "RoutingTrace",
    "Run",
    "StopGradient",
    "TruncatedGradient",
    "UniformRouting",
    "Votes",
    "__version__",
    "dynamic_routing",
    "load",
    "load_config",
    "margin_loss",
    "predict",
    "reconstruction_loss",
    "safe_norm",
    "squash",
    "train",
]
