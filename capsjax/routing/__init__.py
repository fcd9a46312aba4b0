"""Routing algorithms, one a file, all on the same contract and loop."""

from capsjax.routing.agreement import AgreementRouting
from capsjax.routing.base import IterativeRouting, Routing
from capsjax.routing.concurrent import concurrent_attention
from capsjax.routing.dynamic import DynamicRouting, dynamic_routing
from capsjax.routing.em import EMRouting
from capsjax.routing.fixed_point import FixedPointRouting
from capsjax.routing.heinsen import HeinsenRouting
from capsjax.routing.interest import InterestRouting, interest_mask
from capsjax.routing.inverted_attention import InvertedAttentionRouting
from capsjax.routing.k_means import SoftKMeansRouting
from capsjax.routing.logits import LogitRouting
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.routing.self_attention import SelfAttentionRouting
from capsjax.routing.self_routing import SelfRouting
from capsjax.routing.slot_attention import SlotAttentionRouting
from capsjax.routing.uniform import UniformRouting
from capsjax.routing.variational import VariationalRouting

__all__ = [
    "AgreementRouting",
    "DynamicRouting",
    "EMRouting",
    "FixedPointRouting",
    "HeinsenRouting",
    "InterestRouting",
    "InvertedAttentionRouting",
    "IterativeRouting",
    "LogitRouting",
    "Parameter",
    "Routing",
    "SelfAttentionRouting",
    "SelfRouting",
    "Sizes",
    "SlotAttentionRouting",
    "SoftKMeansRouting",
    "UniformRouting",
    "VariationalRouting",
    "concurrent_attention",
    "dynamic_routing",
    "interest_mask",
]
