"""Labels beside the class capsules that they are about: class numbers, or one for each class present."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from capsjax.checks import UserError, is_traced
from capsjax.numerics import as_array, as_floats, described
from capsjax.types import Batch


def class_lengths(
    name: str, lengths: Float[Array, "*batch j"], *, argument: str = "lengths"
) -> Float[Array, "*batch j"]:
    """Take lengths or activations of class capsules as floats.

    Args:
        name: the function that they were given to, for the message.
        lengths: one for each class, [*batch, j].
        argument: what the function calls them, for the message.

    Returns:
        The same as an array of floats, [*batch, j].

    Raises:
        UserError: If they have no axis of classes.
    """
    given = as_floats(as_array(f"{name}: {argument}", lengths))
    if given.ndim == 0:
        got = f"{name}: {argument}: got {described(given)}"
        raise UserError(f"{got}, expected an array [*batch, j]")
    return given


def class_numbers(
    name: str,
    labels: Num[Array, "..."],
    lengths: Float[Array, "*batch j"],
    *,
    presence: bool = False,
) -> Int[Array, "*batch"]:
    """Take labels as class numbers; none is broadcast.

    Args:
        name: the function that they were given to, for the message.
        labels: class numbers from 0, one for each example, integers [*batch], or lists of them.
        lengths: lengths of the class capsules, [*batch, j].
        presence: whether the function would have taken T as well, for the message.

    Returns:
        The labels as an array, [*batch].

    Raises:
        UserError: If their shape or type is another; or, outside functions that JAX traces, if one is
            below 0 or above j - 1.
    """
    numbers = as_array(f"{name}: labels", labels)  # [*batch]
    shape, classes = lengths.shape[:-1], lengths.shape[-1]
    whole = jnp.issubdtype(numbers.dtype, jnp.integer)
    # No broadcasting: one label for a batch, or a column, is likelier a mistake than meant.
    if numbers.shape != shape or not whole:
        other = (
            f" or zeros and ones {list(lengths.shape)}" if presence else ", a class number for each"
        )
        raise UserError(
            f"{name}: got labels {described(numbers)} for lengths {list(lengths.shape)}, expected "
            f"integers {list(shape)}{other}{_remedy(numbers, lengths.shape)}"
        )
    if not _is_known(numbers):
        return numbers
    # What was given, not the array: JAX would wrap what its integers cannot hold.
    values = np.asarray(labels).ravel()
    wrong = np.flatnonzero((values < 0) | (values >= classes))
    if wrong.size:
        raise UserError(
            f"{name}: label {wrong[0]} is {values[wrong[0]]}, expected an integer from 0 to {classes - 1} "
            f"for {classes} class capsules ({wrong.size} of {values.size} labels are out of range); number "
            "the classes from 0, or give the network as many as there are"
        )
    return numbers


def labels_of(batch: Batch, lengths: Float[Array, "b j"]) -> Num[Array, "b *j"]:
    """Return the labels of a batch as the functions of losses take them.

    Args:
        batch: its labels are class numbers, [b], or k of them for each example, [b, k].
        lengths: lengths of the class capsules, [b, j].

    Returns:
        The class numbers, [b]; of several for each example T, of the lengths' type, [b, j].
    """
    if batch.labels.ndim == 1:
        return batch.labels
    each = jax.nn.one_hot(batch.labels, lengths.shape[-1], dtype=lengths.dtype)  # [b, k, j]
    return each.sum(axis=1)


def presence(
    name: str, labels: Num[Array, "..."], lengths: Float[Array, "*batch j"]
) -> Float[Array, "*batch j"]:
    """Take labels as T, one for each class that is present; class numbers become that.

    Args:
        name: the function that they were given to, for the message.
        labels: class numbers, integers [*batch], or T itself, [*batch, j].
        lengths: lengths of the class capsules, [*batch, j].

    Returns:
        T, of the lengths' type, [*batch, j].

    Raises:
        UserError: If they are neither; or, outside functions that JAX traces, if T is not from 0 to 1.
    """
    given = as_array(f"{name}: labels", labels)
    if given.shape != lengths.shape:
        numbers = class_numbers(name, labels, lengths, presence=True)
        # A number out of range, which cannot be seen in a traced array, becomes a row of zeros.
        return jax.nn.one_hot(numbers, lengths.shape[-1], dtype=lengths.dtype)  # [*batch, j]
    if _is_known(given):
        low, high = (float(end(np.asarray(labels), initial=0)) for end in (np.min, np.max))
        if not (low >= 0 and high <= 1):  # so written, NaN is refused too
            raise UserError(
                f"{name}: got labels {described(given)} from {low:g} to {high:g}, expected 1 for each class "
                "that is present and 0 for the others; class numbers have one axis less"
            )
    return given.astype(lengths.dtype)


def _is_known(labels: Num[Array, "..."]) -> bool:
    """Return whether the numbers can be read here: neither traced nor partly on other machines."""
    return not is_traced(labels) and labels.is_fully_addressable


def _remedy(numbers: Num[Array, "..."], lengths: tuple[int, ...]) -> str:
    """Say how labels of the wrong shape or type become class numbers, where nothing is lost by it."""
    known = _is_known(numbers)
    values = np.asarray(numbers, np.float64) if known else None
    if numbers.shape == lengths:
        # Several ones in a row would be lost by argmax.
        one = values is None or bool(np.all((values == 1).sum(-1) == 1) and np.all(values >= 0))
        return "; from one-hot labels take labels.argmax(-1)" if one else ""
    whole = values is None or bool(np.all(values == np.trunc(values)))
    if numbers.shape == (*lengths[:-1], 1):
        cast = "" if jnp.issubdtype(numbers.dtype, jnp.integer) else ".astype(int)"
        return f"; of a column take labels[..., 0]{cast}" if whole else ""
    if numbers.shape == lengths[:-1] and whole:
        return "; of whole numbers take labels.astype(int)"
    return ""
