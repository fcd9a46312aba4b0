"""Routing algorithms, one a file, all on the same contract and loop."""

from capsjax.routing.base import IterativeRouting, Routing
from capsjax.routing.dynamic import DynamicRouting, dynamic_routing
from capsjax.routing.fixed_point import FixedPointRouting
from capsjax.routing.uniform import UniformRouting

__all__ = [
    "DynamicRouting",
    "FixedPointRouting",
    "IterativeRouting",
    "Routing",
    "UniformRouting",
    "dynamic_routing",
]
