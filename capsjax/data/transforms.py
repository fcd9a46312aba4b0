"""Pure functions of images, on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from capsjax.checks import UserError


def to_float(
    images: Num[Array | np.ndarray, "*batch h w c"], scale: float | Float[Array, ""]
) -> Float[Array, "*batch h w c"]:
    """Scale raw pixels to float32 from 0 to 1.

    Args:
        images: raw pixels, uint8 or floats [*batch, h, w, c].
        scale: the factor, `Dataset.scale`.

    Returns:
        images * scale, float32 [*batch, h, w, c].

    Example:
        >>> import jax.numpy as jnp
        >>> to_float(jnp.full((1, 1, 1), 8, jnp.uint8), 1 / 16).item()
        0.5
    """
    # On the device: bytes are a quarter of what floats are to copy there.
    return jnp.asarray(images, jnp.float32) * jnp.float32(scale)


def shift(
    images: Num[Array | np.ndarray, "b h w c"], offsets: Int[Array | np.ndarray, "b 2"]
) -> Num[Array, "b h w c"]:
    """Shift each image by its own offset, and fill with zeros.

    shifted[b, y, x] = images[b, y - dy_b, x - dx_b]

    Args:
        images: pixels of any type [b, h, w, c].
        offsets: (dy, dx) for each image, pixels down and to the right [b, 2].

    Returns:
        The shifted images, of the same type [b, h, w, c].

    Example:
        >>> import jax.numpy as jnp
        >>> image = jnp.array([[1, 2], [3, 4]]).reshape(1, 2, 2, 1)
        >>> shift(image, jnp.array([[0, 1]]))[0, ..., 0].tolist()
        [[0, 1], [0, 3]]
    """
    return jax.vmap(_shift_one)(jnp.asarray(images), jnp.asarray(offsets))


def random_shift(
    key: Array, images: Num[Array | np.ndarray, "b h w c"], max_shift: int
) -> Num[Array, "b h w c"]:
    """Shift each image by its own random offset, uniform over {-m, ..., m}^2.

    Args:
        key: random key.
        images: pixels of any type [b, h, w, c].
        max_shift: m, at least 0; 0 returns the images as they are.

    Returns:
        The shifted images, of the same type [b, h, w, c].

    Raises:
        UserError: If max_shift is not an integer of at least 0.
    """
    if isinstance(max_shift, bool) or not isinstance(max_shift, int) or max_shift < 0:
        raise UserError(f"max_shift: got {max_shift!r}, expected an integer of at least 0")
    if max_shift == 0:
        return jnp.asarray(images)
    # The upper end of `randint` is excluded.
    offsets = jax.random.randint(key, (images.shape[0], 2), -max_shift, max_shift + 1, jnp.int32)
    return shift(images, offsets)


def _shift_one(image: Num[Array, "h w c"], offset: Int[Array, "2"]) -> Num[Array, "h w c"]:
    # Rows, then columns: each is a gather of slices. An index of -1 is outside, not the last pixel.
    outside = {"mode": "fill", "fill_value": 0, "wrap_negative_indices": False}
    rows = jnp.arange(image.shape[0]) - offset[0]
    columns = jnp.arange(image.shape[1]) - offset[1]
    return image.at[rows].get(**outside).at[:, columns].get(**outside)
