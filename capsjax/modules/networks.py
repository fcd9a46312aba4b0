"""Whole networks: from an image to the lengths of the class capsules and a reconstruction."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Num

from capsjax.checks import UserError
from capsjax.convolution import output_size
from capsjax.data.classes import check_labels, to_class_numbers
from capsjax.data.pixels import check_finite, check_range, shape_remedy, type_remedy, unit_remedy
from capsjax.data.trainable import channels_first
from capsjax.modules.architecture import CapsNetConfig
from capsjax.modules.layers import (
    Decoder,
    DenseCapsules,
    PrimaryCapsules,
    Stem,
    longest,
    primary_count,
)
from capsjax.types import NetworkOutput


class CapsNet(nnx.Module):
    """Classify images by the lengths of capsules: stem, primary capsules, class capsules, decoder.

    Args:
        image_shape: height, width and channels of the images.
        num_classes: j, the number of class capsules.
        config: the sizes of everything else; the default is the 2017 paper's.
        rngs: random numbers for the parameters.

    Raises:
        UserError: where the image is too small for the convolutions.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> from capsjax.modules.presets import digits
        >>> network = CapsNet((8, 8, 1), 10, config=digits(), rngs=nnx.Rngs(0))
        >>> network(jnp.zeros([4, 8, 8, 1])).lengths.shape
        (4, 10)

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        config: CapsNetConfig = CapsNetConfig(),
        rngs: nnx.Rngs,
    ):
        _check_fits(image_shape, config)
        self.config = config
        self.image_shape = image_shape
        start, precision = config.initialisation, config.precision
        self.stem = Stem(
            image_shape[-1], config.stem, initialisation=start, precision=precision, rngs=rngs
        )
        self.primary = PrimaryCapsules(
            config.stem.channels,
            config.primary,
            initialisation=start,
            precision=precision,
            rngs=rngs,
        )
        self.classes = DenseCapsules(
            primary_count(image_shape, config.stem, config.primary),
            num_classes,
            config.primary.dim,
            config.dim,
            routing=config.routing,
            bias=config.routing_bias,
            form=config.votes,
            initialisation=start,
            rngs=rngs,
        )
        # NNX settles at the first assignment whether an attribute holds parameters, so there is one.
        self.decoder = (
            Decoder(
                num_classes,
                config.dim,
                image_shape,
                config.decoder,
                initialisation=start,
                rngs=rngs,
            )
            if config.decoder is not None
            else None
        )

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        labels: Num[Array, "b"] | Num[Array, "b j"] | None = None,
        *,
        trace: bool = False,
    ) -> NetworkOutput:
        """Classify a batch and draw it again.

        Args:
            images: pixels from 0 to 1, [b, h, w, c].
            labels: the classes whose capsules are drawn, as in training: their numbers, [b], or where there
                are several a 1 for each class and 0 for the others, [b, j]; None draws from the longest,
                as at evaluation. Nothing else depends on them.
            trace: whether to return every iteration of the routing.

        Returns:
            All that the network knows of the batch.

        Raises:
            UserError: where the images have another shape or type than the network was made for, there is
                not one class number for each; and where a pixel is not finite or not from 0 to 1, or a
                label not a class, unless a transformation traces them.
        """
        _check_images(images, self.image_shape)
        if labels is not None:
            _check_labels(labels, images.shape[0], self.classes.weight.shape[1])
        with jax.named_scope("stem"):
            features = self.stem(images)
        with jax.named_scope("primary"):
            u = self.primary(features)
        with jax.named_scope("routing"):
            routed = self.classes(u, trace=trace)
        lengths = routed.activation
        reconstruction = None
        if self.decoder is not None:
            if labels is None:
                mask = longest(lengths)
            elif labels.ndim == 2:
                mask = labels.astype(lengths.dtype)
            else:
                mask = jax.nn.one_hot(labels, lengths.shape[-1], dtype=lengths.dtype)
            with jax.named_scope("decoder"):
                reconstruction = self.decoder(routed.pose, mask)
        return NetworkOutput(lengths, routed.pose, routed.coupling, u, reconstruction, routed.trace)


def count_parameters(module: nnx.Module) -> int:
    """Return how many numbers a module trains."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def _check_images(images: Any, image_shape: tuple[int, int, int]) -> None:
    if images.ndim != 4 or images.shape[1:] != image_shape:
        raise UserError(
            f"CapsNet: got images {list(images.shape)}, expected [batch, "
            f"{', '.join(map(str, image_shape))}], as the network was made for"
            + shape_remedy(images.shape, image_shape)
        )
    known = not isinstance(images, jax.core.Tracer)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        remedy = "use images / 255, where they are bytes"
        if known and images.size:
            low, high = _ends(images)
            dark = low >= 0 and high <= 1  # also True and False
            remedy = type_remedy(np.asarray(images)) if dark else unit_remedy(low, high)
        raise UserError(
            f"CapsNet: got images of type {images.dtype}, expected floats from 0 to 1; {remedy}"
        )
    if not known or not images.size:
        return
    low, high = _ends(images)
    if not (low >= 0 and high <= 1):  # NaN neither
        check_finite(np.asarray(images))
        check_range("CapsNet: images", np.asarray(images), 1.0)


def _ends(images: Any) -> tuple[float, float]:
    """Return the smallest and the largest pixel: two numbers to fetch, wherever the images are.

    Images that a traced function holds are known too, but what is computed of them there is not.
    """
    with jax.ensure_compile_time_eval():
        return float(images.min()), float(images.max())


def _check_labels(labels: Any, count: int, num_classes: int) -> None:
    if labels.shape == (count, num_classes) and labels.ndim == 2:
        if isinstance(labels, jax.core.Tracer) or np.isin(np.asarray(labels), (0, 1)).all():
            return
        raise UserError(
            f"CapsNet: got labels {labels.dtype}{list(labels.shape)} that hold other numbers than 0 and 1, "
            "expected 1 for each class that an image shows and 0 for the others"
        )
    if not isinstance(labels, jax.core.Tracer):
        numbers = to_class_numbers(np.asarray(labels), count)
        check_labels("CapsNet: labels", numbers, num_classes)
    elif labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(
            f"CapsNet: got labels {labels.dtype}{list(labels.shape)}, expected integers [{count}], one "
            "class number for each image"
        )


def _check_fits(image_shape: tuple[int, int, int], config: CapsNetConfig) -> None:
    for axis, pixels in zip(("height", "width"), image_shape[:2], strict=True):
        size = pixels
        for name, conv in (("stem", config.stem), ("primary", config.primary)):
            if conv.padding == "VALID" and conv.kernel > size:
                raise UserError(
                    f"CapsNet: got images of {axis} {pixels}, which leave {size} for the {name}'s "
                    f"kernel of {conv.kernel}; expected at least {conv.kernel}: "
                    + (
                        "if the channels come first, images are np.moveaxis(images, 1, -1), and image_shape "
                        f"is {(*image_shape[1:], image_shape[0])}"
                        if channels_first(image_shape)
                        else f"choose {name}.kernel of at most {size}, or {name}.padding SAME"
                    )
                )
            size = output_size(size, conv.kernel, conv.stride, conv.padding)
