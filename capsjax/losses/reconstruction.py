"""How far a drawn image is from the one that was shown."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.numerics import as_floats, compute_dtype


def reconstruction_loss(
    reconstruction: Float[Array, "*batch h w c"], image: Float[Array, "*batch h w c"]
) -> Float[Array, "*batch"]:
    """Sum the squared differences over the pixels of each image.

    L = sum_p (reconstruction_p - image_p)^2

    The 2017 paper adds it to the margin loss with the weight 0.0005.

    Args:
        reconstruction: what the decoder drew, 0 to 1, [*batch, h, w, c].
        image: what it should have drawn, 0 to 1, [*batch, h, w, c].

    Returns:
        The loss of each example, [*batch], of the wider of the two types; computed in float32 at least.
        float16 holds no sum above 65504.

    Raises:
        UserError: If the shapes differ.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.1.
    """
    reconstruction, image = as_floats(reconstruction), as_floats(image)
    if reconstruction.shape != image.shape:
        raise UserError(
            f"reconstruction_loss: got {list(reconstruction.shape)} for an image "
            f"{list(image.shape)}, expected equal shapes"
        )
    dtype = jnp.promote_types(reconstruction.dtype, image.dtype)
    # In float32 at least: half precision has no room for sums over thousands of pixels.
    drawn, given = (x.astype(compute_dtype(dtype)) for x in (reconstruction, image))
    return jnp.sum(jnp.square(drawn - given), axis=(-3, -2, -1)).astype(dtype)  # [*batch]
