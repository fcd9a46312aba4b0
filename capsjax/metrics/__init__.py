"""What to measure of a classification and of a routing, in float32 at least.

A function measures; a value, such as `TopKError(k=3)`, is the node of a configuration that calls it.
"""

from capsjax.metrics.activity import LayerActivity, layer_activity
from capsjax.metrics.base import Metric
from capsjax.metrics.calibration import CalibrationError
from capsjax.metrics.coupling import (
    CouplingEntropy,
    children_entropy,
    coupled_agreement,
    coupling_distance,
    coupling_entropy,
)
from capsjax.metrics.dead import DeadCapsules, dead_capsules
from capsjax.metrics.error import Accuracy, ErrorRate, accuracy, correct
from capsjax.metrics.several import LabelError
from capsjax.metrics.top_k import TopKError, top_k_error

# What every run measures: reports draw these.
ALWAYS = (ErrorRate(), CouplingEntropy())

__all__ = [
    "Accuracy",
    "CalibrationError",
    "CouplingEntropy",
    "DeadCapsules",
    "ErrorRate",
    "LabelError",
    "LayerActivity",
    "Metric",
    "TopKError",
    "accuracy",
    "children_entropy",
    "correct",
    "coupled_agreement",
    "coupling_distance",
    "coupling_entropy",
    "dead_capsules",
    "layer_activity",
    "top_k_error",
]
