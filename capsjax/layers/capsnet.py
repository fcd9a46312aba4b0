"""The short form of a network: stem, primary capsules, class capsules, decoder."""

import dataclasses
from typing import Literal

from capsjax.checks import check_bool, check_choice, check_int, check_type
from capsjax.convolution import PRECISIONS, Precision
from capsjax.layers.base import INITIALISATIONS, Initialisation
from capsjax.layers.conv import ConvConfig
from capsjax.layers.decoder import DecoderConfig, ImageDecoder
from capsjax.layers.dense import DenseConfig
from capsjax.layers.model import Model, NetworkConfig
from capsjax.layers.primary import PrimaryConfig
from capsjax.routing import DynamicRouting, Routing
from capsjax.votes import FORMS, VoteForm


@dataclasses.dataclass(frozen=True, kw_only=True)
class CapsNetConfig(Model):
    """Describe a capsule network: stem, primary capsules, class capsules, decoder.

    The defaults are the network of Sabour, Frosst and Hinton 2017. Image size, channels and the number
    of classes are the data's, so they are not here. It is the short form of a `NetworkConfig` of three
    layers, `stem`, `primary` and `classes`, with the same parameters.

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
            and biases of 0.1; "scaled" for weights scaled by fan-in and biases of 0; "keep_length" for the
            same, but class capsules about as long as primary ones.
        precision: what the convolutions multiply, "float32" or "bfloat16"; everything else, parameters
            and routing among it, is float32 in both.
        kind: its name in a configuration.
    """

    stem: ConvConfig = ConvConfig()
    primary: PrimaryConfig = PrimaryConfig()
    dim: int = 16
    routing: Routing = DynamicRouting()
    routing_bias: bool = False
    votes: VoteForm = "auto"
    decoder: ImageDecoder | None = DecoderConfig()
    initialisation: Initialisation = "scaled"
    precision: Precision = "float32"
    kind: Literal["capsnet"] = "capsnet"

    def __post_init__(self):
        check_int(self, "dim", low=1)
        check_choice(self, "initialisation", INITIALISATIONS)
        check_choice(self, "precision", PRECISIONS)
        check_bool(self, "routing_bias")
        check_choice(self, "votes", FORMS)
        check_type(self, "stem", ConvConfig, "ConvConfig(...)")
        check_type(self, "primary", PrimaryConfig, "PrimaryConfig(...)")
        check_type(
            self, "routing", Routing, "a routing such as DynamicRouting() or UniformRouting()"
        )
        if self.decoder is not None:
            check_type(self, "decoder", ImageDecoder, "DecoderConfig(...) or None")

    def network(self) -> NetworkConfig:
        """Return the network of three layers, by the names that their parameters have."""
        # The names are those of parameters in checkpoints from before there were layers by name.
        classes = DenseConfig(dim=self.dim, routing_bias=self.routing_bias, votes=self.votes)
        return NetworkConfig(
            layers={"stem": self.stem, "primary": self.primary, "classes": classes},
            routing=self.routing,
            decoder=self.decoder,
            initialisation=self.initialisation,
            precision=self.precision,
        )

    def key(self, name: str) -> str:
        """Return where a configuration says what a layer is: the class capsules are the network's own."""
        return "model" if name == "classes" else f"model.{name}"
