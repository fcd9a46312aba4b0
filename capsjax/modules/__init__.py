"""Flax modules: thin shells around the functions of the lower levels."""

from capsjax.modules.architecture import CapsNetConfig, DecoderConfig, PrimaryConfig, StemConfig
from capsjax.modules.initialisers import KeepLength
from capsjax.modules.layers import Decoder, DenseCapsules, PrimaryCapsules, Stem
from capsjax.modules.networks import CapsNet, count_parameters
from capsjax.modules.presets import digits, sabour2017
from capsjax.types import NetworkOutput

__all__ = [
    "CapsNet",
    "CapsNetConfig",
    "Decoder",
    "DecoderConfig",
    "DenseCapsules",
    "KeepLength",
    "NetworkOutput",
    "PrimaryCapsules",
    "PrimaryConfig",
    "Stem",
    "StemConfig",
    "count_parameters",
    "digits",
    "sabour2017",
]
