"""Routings by the name that a configuration gives them; for configurations and tests only."""

from capsjax.routing.base import Routing
from capsjax.routing.dynamic import DynamicRouting
from capsjax.routing.fixed_point import FixedPointRouting
from capsjax.routing.uniform import UniformRouting

ROUTINGS: dict[str, type[Routing]] = {
    "dynamic": DynamicRouting,
    "fixed_point": FixedPointRouting,
    "uniform": UniformRouting,
}
