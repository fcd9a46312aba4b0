"""Measurements: time, memory, operations and accuracy of steps and routings, and where a step spends them."""

from capsjax.bench.work import (
    Measurement,
    RoutingSizes,
    Work,
    gradient_named,
    measure,
    peak_rss,
    random_dataset,
    routing_work,
    step_work,
)

__all__ = [
    "Measurement",
    "RoutingSizes",
    "Work",
    "gradient_named",
    "measure",
    "peak_rss",
    "random_dataset",
    "routing_work",
    "step_work",
]
