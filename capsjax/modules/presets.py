"""Networks by name."""

from typing import Literal

from capsjax.checks import UserError, nearest
from capsjax.gradients import FullGradient
from capsjax.modules.architecture import (
    CapsNetConfig,
    DecoderConfig,
    PrimaryConfig,
    StemConfig,
)
from capsjax.routing import DynamicRouting, Routing

VARIANTS = ("paper", "released")


def sabour2017(
    variant: Literal["paper", "released"] = "paper",
    *,
    routing: Routing = DynamicRouting(num_iters=3, gradient=FullGradient()),
    routing_bias: bool = False,
    decoder: bool = True,
) -> CapsNetConfig:
    """Return the network of the 2017 paper.

    On 28x28x1 images with 10 classes it has 8,215,568 parameters, 6,804,224 without the decoder, and
    160 more with the routing bias.

    Args:
        variant: "paper" for what the paper says; "released" for the authors' code, whose primary
            capsules are divided by 32 before a bias of 0.1, whose biases all begin at 0.1, and whose
            weights begin as truncated normals.
        routing: the authors' three iterations with the full gradient, unless given.
        routing_bias: whether a bias is added at every iteration, as the released code does.
        decoder: whether images are reconstructed.

    Raises:
        UserError: where the variant is unknown.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4, and their released code.
    """
    if variant not in VARIANTS:
        raise UserError(
            f"sabour2017: got variant {variant!r}, expected 'paper' or 'released'"
            + nearest(str(variant), VARIANTS)
        )
    released = variant == "released"
    return CapsNetConfig(
        stem=StemConfig(channels=256, kernel=9),
        primary=PrimaryConfig(
            types=32, dim=8, kernel=9, stride=2, coupling=1 / 32 if released else 1.0
        ),
        dim=16,
        routing=routing,
        routing_bias=routing_bias,
        decoder=DecoderConfig(hidden=(512, 1024)) if decoder else None,
        initialisation="released" if released else "scaled",
    )


def digits(
    *, routing: Routing = DynamicRouting(num_iters=3, gradient=FullGradient())
) -> CapsNetConfig:
    """Return a small network for 8x8 images, which trains in seconds on a CPU.

    Args:
        routing: three iterations with the full gradient, unless given.
    """
    return CapsNetConfig(
        stem=StemConfig(channels=32, kernel=3),
        primary=PrimaryConfig(types=8, dim=8, kernel=3, stride=2, padding="SAME"),
        dim=8,
        routing=routing,
        decoder=DecoderConfig(hidden=(64,)),
    )
