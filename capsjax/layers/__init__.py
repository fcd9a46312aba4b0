"""Layers and networks as frozen values, and the Flax modules that they build."""

from capsjax.layers.backbone import Backbone
from capsjax.layers.base import Around, CapsuleShape, Features, Layer, Passed
from capsjax.layers.capsnet import CapsNetConfig
from capsjax.layers.conv import Conv, ConvConfig
from capsjax.layers.conv_capsules import ConvCapsules, ConvCapsulesConfig
from capsjax.layers.conv_decoder import ConvDecoder, ConvDecoderConfig
from capsjax.layers.decoder import Decoder, DecoderConfig, ImageDecoder
from capsjax.layers.dense import DenseCapsules, DenseConfig
from capsjax.layers.features import DenseFeatures, DenseFeaturesConfig
from capsjax.layers.halving import Halving, HalvingConfig
from capsjax.layers.head import ActivationHead, Head, LinearHead
from capsjax.layers.homogeneous import HomogeneousCapsules, HomogeneousConfig
from capsjax.layers.initialisers import KeepLength
from capsjax.layers.merge import Merge, MergeConfig
from capsjax.layers.model import Model, NetworkConfig, Step, shapes
from capsjax.layers.network import CapsNet, count_parameters
from capsjax.layers.normalisation import BatchNorm, GroupNorm, LayerNorm, Normalisation
from capsjax.layers.pool import Pool, PoolConfig
from capsjax.layers.primary import PrimaryCapsules, PrimaryConfig
from capsjax.layers.resnet import ResNet, ResNetConfig
from capsjax.layers.routings import (
    map_routings,
    routing_keys,
    routings,
    with_gradient,
    with_iterations,
    with_routings,
)
from capsjax.layers.shared_capsules import SharedCapsules, SharedCapsulesConfig
from capsjax.layers.type_capsules import TypeCapsules, TypeCapsulesConfig
from capsjax.types import NetworkOutput

__all__ = [
    "ActivationHead",
    "Around",
    "Backbone",
    "BatchNorm",
    "CapsNet",
    "CapsNetConfig",
    "CapsuleShape",
    "Conv",
    "ConvCapsules",
    "ConvCapsulesConfig",
    "ConvConfig",
    "ConvDecoder",
    "ConvDecoderConfig",
    "Decoder",
    "DecoderConfig",
    "DenseCapsules",
    "DenseConfig",
    "DenseFeatures",
    "DenseFeaturesConfig",
    "Features",
    "GroupNorm",
    "Halving",
    "HalvingConfig",
    "Head",
    "HomogeneousCapsules",
    "HomogeneousConfig",
    "ImageDecoder",
    "KeepLength",
    "Layer",
    "LayerNorm",
    "LinearHead",
    "Merge",
    "MergeConfig",
    "Model",
    "NetworkConfig",
    "NetworkOutput",
    "Normalisation",
    "Passed",
    "Pool",
    "PoolConfig",
    "PrimaryCapsules",
    "PrimaryConfig",
    "ResNet",
    "ResNetConfig",
    "SharedCapsules",
    "SharedCapsulesConfig",
    "Step",
    "TypeCapsules",
    "TypeCapsulesConfig",
    "count_parameters",
    "map_routings",
    "routing_keys",
    "routings",
    "shapes",
    "with_gradient",
    "with_iterations",
    "with_routings",
]
