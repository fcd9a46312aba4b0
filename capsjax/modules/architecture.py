"""What a capsule network is made of, as frozen values: nodes of a configuration."""

import dataclasses
from typing import Literal

from capsjax.checks import (
    FieldError,
    check_bool,
    check_choice,
    check_float,
    check_int,
    check_type,
)
from capsjax.convolution import PRECISIONS, Padding, Precision
from capsjax.routing import DynamicRouting, Routing
from capsjax.votes import FORMS, VoteForm

Initialisation = Literal["scaled", "released"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class StemConfig:
    """Describe the convolution that turns pixels into features.

    Args:
        channels: features at each position.
        kernel: width of the square kernel, in pixels.
        stride: step between positions, in pixels.
        padding: "VALID" or "SAME".
    """

    channels: int = 256
    kernel: int = 9
    stride: int = 1
    padding: Padding = "VALID"

    def __post_init__(self):
        for field in ("channels", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrimaryConfig:
    """Describe the convolution whose channels are the first capsules.

    Args:
        types: capsule types at each position.
        dim: d, components of a capsule's pose.
        kernel: width of the square kernel, in positions.
        stride: step between positions.
        padding: "VALID" or "SAME".
        coupling: what the convolution is multiplied by before its bias is added: 1 in the paper;
            1/32 in the released code, whose primary capsules go through one iteration of routing from
            a single child to 32 types.
    """

    types: int = 32
    dim: int = 8
    kernel: int = 9
    stride: int = 2
    padding: Padding = "VALID"
    coupling: float = 1.0

    def __post_init__(self):
        for field in ("types", "dim", "kernel", "stride"):
            check_int(self, field, low=1)
        check_choice(self, "padding", ("VALID", "SAME"))
        check_float(self, "coupling", low=0.0, open_low=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Describe the network that draws the image from the masked class capsules.

    Args:
        hidden: sizes of the hidden layers, ReLU after each; a sigmoid follows the last, whose size is
            the image's.
    """

    hidden: tuple[int, ...] = (512, 1024)

    def __post_init__(self):
        sizes = self.hidden if isinstance(self.hidden, tuple) else ()
        if not sizes or not all(type(size) is int and size > 0 for size in sizes):
            expected = "a tuple of at least one size, each an integer of at least 1"
            raise FieldError("DecoderConfig", "hidden", self.hidden, expected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapsNetConfig:
    """Describe a capsule network: stem, primary capsules, class capsules, decoder.

    The defaults are the network of Sabour, Frosst and Hinton 2017. Image size, channels and the number
    of classes are the data's, so they are not here.

    Args:
        stem: the first convolution.
        primary: the second, into capsules.
        dim: e, components of a class capsule's pose.
        routing: how primary capsules choose among class capsules.
        routing_bias: whether a trained bias is added to s_j at every iteration, as in the released
            code; j e more parameters.
        votes: "auto" for what is faster on this machine, by the number of examples and the sizes; "linear"
            votes are never formed; "dense" ones are, once for each batch, and allow forward mode.
        decoder: what draws the reconstruction, or None for none.
        initialisation: "released" for the authors' truncated normals (0.05 for the stem, 0.1 elsewhere)
            and biases of 0.1; "scaled" for weights scaled by fan-in and biases of 0.
        precision: what the convolutions multiply, "float32" or "bfloat16"; everything else, parameters
            and routing among it, is float32 in both.
        kind: its name in a configuration.
    """

    stem: StemConfig = StemConfig()
    primary: PrimaryConfig = PrimaryConfig()
    dim: int = 16
    routing: Routing = DynamicRouting()
    routing_bias: bool = False
    votes: VoteForm = "auto"
    decoder: DecoderConfig | None = DecoderConfig()
    initialisation: Initialisation = "scaled"
    precision: Precision = "float32"
    kind: Literal["capsnet"] = "capsnet"

    def __post_init__(self):
        check_int(self, "dim", low=1)
        check_choice(self, "initialisation", ("scaled", "released"))
        check_choice(self, "precision", PRECISIONS)
        check_bool(self, "routing_bias")
        check_choice(self, "votes", FORMS)
        check_type(self, "stem", StemConfig, "StemConfig(...)")
        check_type(self, "primary", PrimaryConfig, "PrimaryConfig(...)")
        check_type(
            self, "routing", Routing, "a routing such as DynamicRouting() or UniformRouting()"
        )
        if self.decoder is not None:
            check_type(self, "decoder", DecoderConfig, "DecoderConfig(...) or None")
