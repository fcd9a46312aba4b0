"""What a network refuses of images and labels."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.checks import UserError
from capsjax.data.classes import check_labels, to_class_numbers
from capsjax.data.pixels import check_finite, check_range, shape_remedy, type_remedy, unit_remedy


def check_images(images: Any, image_shape: tuple[int, int, int], *, bounded: bool = True) -> None:
    """Check that images are what a network was made for; pixels, unless a transformation traces them.

    Args:
        images: what was given.
        image_shape: height, width and channels that it was made for.
        bounded: whether pixels have to be from 0 to 1, as a decoder that ends in a sigmoid draws them.

    Raises:
        UserError: If the shape or the type differs, or a pixel is not finite or not from 0 to 1.
    """
    if images.ndim != 4 or images.shape[1:] != image_shape:
        raise UserError(
            f"CapsNet: got images {list(images.shape)}, expected [batch, "
            f"{', '.join(map(str, image_shape))}], as the network was made for"
            + shape_remedy(images.shape, image_shape)
        )
    known = not isinstance(images, jax.core.Tracer)  # else there are no numbers to look at
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
        if bounded:
            check_range("CapsNet: images", np.asarray(images), 1.0)


def _ends(images: Any) -> tuple[float, float]:
    """Return the smallest and the largest pixel: two numbers to fetch, wherever the images are.

    Images that a traced function holds are known too, but what is computed of them there is not.
    """
    with jax.ensure_compile_time_eval():
        return float(images.min()), float(images.max())


def check_class_labels(labels: Any, count: int, num_classes: int) -> None:
    """Check that labels are classes of images; their numbers, unless a transformation traces them.

    Args:
        labels: what was given.
        count: the number of images.
        num_classes: the number of classes.

    Raises:
        UserError: If they are neither one class number an image, nor several, nor a 0 or 1 for each class.
    """
    if labels.shape == (count, num_classes) and labels.ndim == 2:
        if isinstance(labels, jax.core.Tracer) or np.isin(np.asarray(labels), (0, 1)).all():
            return
        raise UserError(
            f"CapsNet: got labels {labels.dtype}{list(labels.shape)} that hold other numbers than 0 and 1, "
            "expected 1 for each class that an image shows and 0 for the others"
        )
    several = labels.ndim == 2 and 1 < labels.shape[1] < num_classes
    if several and jnp.issubdtype(labels.dtype, jnp.integer) and labels.shape[0] == count:
        if not isinstance(labels, jax.core.Tracer):
            check_labels("CapsNet: labels", np.asarray(labels).ravel(), num_classes)
        return
    if not isinstance(labels, jax.core.Tracer):
        numbers = to_class_numbers(np.asarray(labels), count)
        check_labels("CapsNet: labels", numbers, num_classes)
    elif labels.shape != (count,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UserError(
            f"CapsNet: got labels {labels.dtype}{list(labels.shape)}, expected integers [{count}], one "
            "class number for each image"
        )
