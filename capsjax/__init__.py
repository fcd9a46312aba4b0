"""Capsule networks in JAX, with the gradient through routing as a choice."""

import importlib
from typing import TYPE_CHECKING, Any

from capsjax.memory.allocator import keep_freed
from capsjax.version import __version__

if TYPE_CHECKING:
    from capsjax.gradients import (
        ClosedForm,
        FullGradient,
        GradientMode,
        ImplicitGradient,
        StopGradient,
        TruncatedGradient,
    )
    from capsjax.losses import margin_loss, reconstruction_loss, spread_loss
    from capsjax.numerics import safe_norm, squash
    from capsjax.reports.report import report
    from capsjax.routing import (
        DynamicRouting,
        EMRouting,
        FixedPointRouting,
        HeinsenRouting,
        InterestRouting,
        InvertedAttentionRouting,
        Routing,
        SelfAttentionRouting,
        SelfRouting,
        SlotAttentionRouting,
        SoftKMeansRouting,
        UniformRouting,
        VariationalRouting,
        dynamic_routing,
    )
    from capsjax.runs.config import Config, load_config
    from capsjax.runs.estimator import CapsNetClassifier
    from capsjax.runs.evaluation import evaluate, load
    from capsjax.runs.experiment import train
    from capsjax.runs.run import Run
    from capsjax.study.compare import compare
    from capsjax.study.resume import resume
    from capsjax.types import Capsules, RoutingResult, RoutingTrace
    from capsjax.votes import (
        DenseVotes,
        LinearVotes,
        Votes,
        mask,
        predict,
        shared_votes,
        window_votes,
    )

# What is public, and where it is: imported when it is first asked for, so that a command which only
# answers does not wait for JAX.
_HOMES = {
    "study.compare": ("compare",),
    "study.resume": ("resume",),
    "reports.report": ("report",),
    "runs.config": ("Config", "load_config"),
    "runs.estimator": ("CapsNetClassifier",),
    "runs.evaluation": ("evaluate", "load"),
    "runs.experiment": ("train",),
    "runs.run": ("Run",),
    "gradients": (
        "ClosedForm",
        "FullGradient",
        "GradientMode",
        "ImplicitGradient",
        "StopGradient",
        "TruncatedGradient",
    ),
    "losses": ("margin_loss", "reconstruction_loss", "spread_loss"),
    "numerics": ("safe_norm", "squash"),
    "routing": (
        "DynamicRouting",
        "EMRouting",
        "FixedPointRouting",
        "HeinsenRouting",
        "InterestRouting",
        "InvertedAttentionRouting",
        "Routing",
        "SelfAttentionRouting",
        "SelfRouting",
        "SlotAttentionRouting",
        "SoftKMeansRouting",
        "UniformRouting",
        "VariationalRouting",
        "dynamic_routing",
    ),
    "types": ("Capsules", "RoutingResult", "RoutingTrace"),
    "votes": (
        "DenseVotes",
        "LinearVotes",
        "Votes",
        "mask",
        "predict",
        "shared_votes",
        "window_votes",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CapsNetClassifier",
    "Capsules",
    "ClosedForm",
    "Config",
    "DenseVotes",
    "DynamicRouting",
    "EMRouting",
    "FixedPointRouting",
    "FullGradient",
    "GradientMode",
    "HeinsenRouting",
    "ImplicitGradient",
    "InterestRouting",
    "InvertedAttentionRouting",
    "LinearVotes",
    "Routing",
    "RoutingResult",
    "RoutingTrace",
    "Run",
    "SelfAttentionRouting",
    "SelfRouting",
    "SlotAttentionRouting",
    "SoftKMeansRouting",
    "StopGradient",
    "TruncatedGradient",
    "UniformRouting",
    "VariationalRouting",
    "Votes",
    "__version__",
    "compare",
    "dynamic_routing",
    "evaluate",
    "load",
    "load_config",
    "margin_loss",
    "mask",
    "predict",
    "reconstruction_loss",
    "report",
    "resume",
    "safe_norm",
    "shared_votes",
    "spread_loss",
    "squash",
    "train",
    "window_votes",
]

keep_freed()  # before a thread begins a heap of its own


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return importlib.import_module(f"capsjax.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'capsjax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"capsjax.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
