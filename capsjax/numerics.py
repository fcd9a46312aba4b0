"""Lengths, squash and softmax that are right, in value and gradient, from zero to overflow."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, PyTree

from capsjax.checks import UserError

NO_FORWARD_MODE = (
    "routing: got forward mode (jax.jvp, jax.jacfwd), expected reverse mode: linear votes, ClosedForm() and "
    "ImplicitGradient() have a backward pass of their own and no forward one; for forward mode route "
    "DenseVotes(votes.dense()), in a network CapsNetConfig(votes='dense'), with StopGradient(), "
    "TruncatedGradient() or FullGradient()"
)


def compute_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the type to compute in: float32 for half precision, otherwise the type itself."""
    # Half precision keeps 8 or 11 bits: sums over a thousand children would lose the small ones.
    return jnp.promote_types(dtype, jnp.float32)


def as_array(name: str, given: Any) -> Array:
    """Take an array, or lists of numbers as one.

    Args:
        name: what it is for, which begins the error.
        given: the array or the lists.

    Returns:
        A JAX array.

    Raises:
        UserError: If it is neither.
    """
    try:
        return given if isinstance(given, jax.Array) else jnp.asarray(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: got {described(given)}, expected an array") from error


def as_numbers(name: str, given: Any) -> Array:
    """Take an array of real numbers, or lists of them.

    Args:
        name: what it is for, which begins the error.
        given: the array or the lists.

    Returns:
        A JAX array of floats or integers.

    Raises:
        UserError: If it is not an array of such.
    """
    array = as_array(name, given)
    # Booleans are neither: a mask in the place of numbers is a mistake.
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise UserError(f"{name}: got {described(array)}, expected real numbers")
    return array


def described(given: Any) -> str:
    """Describe in short what was given for an array."""
    if hasattr(given, "dtype"):
        return f"{given.dtype}{list(given.shape)}"
    return "None" if given is None else f"a {type(given).__name__}"


def safe_norm(
    x: Float[Array, "..."], axis: int = -1, keepdims: bool = False
) -> Float[Array, "..."]:
    """Measure the Euclidean length |x| along an axis, with gradient 0 (not NaN) at x = 0.

    Scales by the largest component first, so nothing overflows or underflows; computes in float32
    at least. Subnormal numbers of that type count as zero where the processor takes them so, as XLA has
    CPUs do. `jnp.linalg.norm` has the gradient 0/0 at zero, which a `where` around the result does
    not fix: the argument itself has to be kept away from zero (the double `where`).

    Args:
        x: vectors along `axis`, any other axes.
        axis: the axis of a vector's components.
        keepdims: whether the reduced axis stays, with size 1.

    Returns:
        Lengths, in x's type (float32 for integers), without `axis` unless `keepdims`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> float(safe_norm(jnp.array([3.0, 4.0])))
        5.0
        >>> [float(g) for g in jax.grad(safe_norm)(jnp.zeros(2))]
        [0.0, 0.0]
    """
    x = as_floats(x)
    length, _ = _polar(x.astype(compute_dtype(x.dtype)), axis)
    return (length if keepdims else jnp.squeeze(length, axis)).astype(x.dtype)


def add_cotangents(one: PyTree, other: PyTree) -> PyTree:
    """Add two trees of cotangents; those of arrays that no gradient can reach, such as masks, stay.

    Args:
        one: what is added to.
        other: the same structure; `float0`, JAX's type for no cotangent, adds nothing.

    Returns:
        The sums, in the structure of `one`.
    """
    return jax.tree.map(
        lambda x, more: x if more.dtype == jax.dtypes.float0 else x + more, one, other
    )


def at_least_tiny(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Keep a divisor that is never negative away from zero, so that neither quotient nor gradient overflows.

    Args:
        x: numbers of at least 0.

    Returns:
        max(x, the fourth root of the smallest normal number), 3e-10 in float32: its square, by which the
        gradient divides, leaves room for what it divides.
    """
    return jnp.maximum(x, jnp.finfo(x.dtype).tiny ** 0.25)


def as_floats(x: Array) -> Array:
    """Take NumPy's arrays and whole numbers too, which would be rounded to nothing as what they are."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)


def _polar(x: Float[Array, "..."], axis: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the length, with its axis kept, and the unit vector, both 0 at 0."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axis, keepdims=True))
    nonzero = largest > 0
    # Processors flush subnormal numbers to zero: the inverse of the very largest, and, where the gradient
    # takes it times a component, the very smallest.
    kind = jnp.finfo(x.dtype)
    scale = jnp.where(nonzero, jnp.clip(largest, kind.tiny / kind.eps, kind.max / 64), 1)
    # Neither result depends on the scale, so holding the scale constant is exact. The inner `where` keeps
    # the root away from 0, where its gradient is infinite.
    scaled = x / scale
    squares = jnp.sum(jnp.square(scaled), axis=axis, keepdims=True)
    root = jnp.sqrt(jnp.where(nonzero, squares, 1))
    return jnp.where(nonzero, scale * root, 0), scaled / root


def _gains(
    length: Float[Array, "... 1"],
) -> tuple[Float[Array, "... 1"], Float[Array, "... 1"], Float[Array, "... 1"]]:
    """Return squash's length, and its gains across s and along s, for a length |s|."""
    # Two branches, one for each side of length 1: the square of a large length, which overflows, is never
    # formed, but its inverse's is; nor is the inverse of a small length. Each `where` around an argument
    # keeps the branch that is not taken finite, as its gradient is multiplied by 0, and 0 * inf is NaN.
    large = length > 1
    small_square = jnp.square(jnp.where(large, 0, length))
    inverse = 1 / jnp.where(large, length, 1)
    inverse_square = jnp.square(inverse)
    squashed = jnp.where(large, 1 / (1 + inverse_square), small_square / (1 + small_square))
    across = jnp.where(large, inverse * squashed, length / (1 + small_square))
    shrink = jnp.where(large, inverse_square * squashed, 1 / (1 + small_square))
    return squashed, across, 2 * across * shrink


@jax.custom_jvp
def _squash(s: Float[Array, "... e"]) -> Float[Array, "... e"]:
    length, unit = _polar(s, -1)  # [..., 1], [..., e]
    squashed, _, _ = _gains(length)  # [..., 1]
    return squashed * unit


@_squash.defjvp
def _squash_jvp(
    primals: tuple[Float[Array, "... e"]], tangents: tuple[Float[Array, "... e"]]
) -> tuple[Float[Array, "... e"], Float[Array, "... e"]]:
    (s,), (ds,) = primals, tangents
    return _squash(s), squash_jacobian(s, ds)


def squash_jacobian(s: Float[Array, "... e"], x: Float[Array, "... e"]) -> Float[Array, "... e"]:
    """Multiply squash's Jacobian at s, which is symmetric, with vectors: J(s) x.

    J(s) = g (I - n n^T) + h n n^T, where n = s / |s|, g = |s| / (1 + |s|^2), h = 2 |s| / (1 + |s|^2)^2.

    Args:
        s: where to take it, vectors on the last axis, float32 or float64, [..., e].
        x: what to multiply, [..., e].

    Returns:
        J(s) x, [..., e]; 0 if s = 0.
    """
    length, unit = _polar(s, -1)  # [..., 1], [..., e]
    _, across, along = _gains(length)  # [..., 1]
    radial = unit * jnp.sum(unit * x, axis=-1, keepdims=True)  # n n^T x, [..., e]
    return across * (x - radial) + along * radial


def squash(s: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Squash vectors to a length below 1, keeping their direction.

    v = |s|^2 / (1 + |s|^2) * s / |s|, with the Jacobian, written by hand,

    J(s) = g (I - n n^T) + h n n^T, where n = s / |s|, g = |s| / (1 + |s|^2), h = 2 |s| / (1 + |s|^2)^2.

    Value and Jacobian are 0 at s = 0 and stay right up to the largest finite length. Computes in
    float32 at least and returns s's type. Works in forward and reverse mode.

    Args:
        s: vectors along `axis`, any other axes.
        axis: the axis of a vector's components. An axis of size 1 squashes each number alone.

    Returns:
        Squashed vectors, s's shape and type (float32 for integers).

    Raises:
        ValueError: If s has no such axis.

    Example:
        >>> import jax.numpy as jnp
        >>> [round(x, 4) for x in squash(jnp.array([3.0, 4.0])).tolist()]
        [0.5769, 0.7692]

    Reference:
        Sabour, Frosst and Hinton 2017, "Dynamic routing between capsules", equation 1.
    """
    s = as_floats(s)
    wide = jnp.moveaxis(s.astype(compute_dtype(s.dtype)), axis, -1)  # [..., e]
    return jnp.moveaxis(_squash(wide), -1, axis).astype(s.dtype)


@jax.custom_jvp
def _exponential_squash(s: Float[Array, "... e"]) -> Float[Array, "... e"]:
    length, unit = _polar(s, -1)  # [..., 1], [..., e]
    return -jnp.expm1(-length) * unit


@_exponential_squash.defjvp
def _exponential_squash_jvp(
    primals: tuple[Float[Array, "... e"]], tangents: tuple[Float[Array, "... e"]]
) -> tuple[Float[Array, "... e"], Float[Array, "... e"]]:
    """Return v and J x = g (x - n n^T x) + exp(-|s|) n n^T x, g = (1 - exp(-|s|)) / |s|, which is 1 at 0."""
    (s,), (x,) = primals, tangents
    length, unit = _polar(s, -1)  # [..., 1], [..., e]
    radial = unit * jnp.sum(unit * x, axis=-1, keepdims=True)  # n n^T x, [..., e]
    across = jnp.where(length > 0, -jnp.expm1(-length) / jnp.where(length > 0, length, 1), 1)
    return -jnp.expm1(-length) * unit, across * (x - radial) + jnp.exp(-length) * radial


def exponential_squash(s: Float[Array, "... e"]) -> Float[Array, "... e"]:
    """Squash vectors to a length below 1 by v = (1 - exp(-|s|)) s / |s|.

    Short vectors keep their length, where `squash` makes them shorter, |v| ~ |s|^2: the Jacobian at 0 is
    the identity. Value and gradient are right from zero to overflow; computes in float32 at least.

    Args:
        s: vectors on the last axis, [..., e].

    Returns:
        Squashed vectors, s's shape and type (float32 for integers).

    Reference:
        Xi, Bing and Jin 2017; Mazzia, Salvetti and Chiaberge 2021, "Efficient-CapsNet", section 3.1.
    """
    s = as_floats(s)
    return _exponential_squash(s.astype(compute_dtype(s.dtype))).astype(s.dtype)


def layer_norm(
    x: Float[Array, "... e"],
    gain: Float[Array, "e"],
    offset: Float[Array, "e"],
    epsilon: float = 1e-5,
) -> Float[Array, "... e"]:
    """Normalise vectors to mean 0 and variance 1 over their components, then scale and shift them.

    gain (x - mean x) / sqrt(var x + epsilon) + offset, for any finite x: squares are taken in units of the
    largest component, so that none overflows.

    Args:
        x: vectors on the last axis, float32 or float64, [..., e].
        gain: a factor for each component, [e].
        offset: a summand for each component, [e].
        epsilon: what is added to the variance, in squared units of x.

    Returns:
        Normalised vectors, [..., e].
    """
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)  # [..., 1]
    # The result does not depend on the unit, so holding it constant is exact.
    unit = jax.lax.stop_gradient(jnp.maximum(largest, 1))
    x = x / unit
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    # Where epsilon is nothing beside the vectors, rounding is all that equal components leave.
    least = jnp.maximum(epsilon / unit / unit, jnp.finfo(x.dtype).eps ** 2)
    least = jnp.where(unit > 1, least, epsilon)
    normal = x / jnp.sqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + least)
    return normal * jnp.broadcast_to(gain, x.shape) + jnp.broadcast_to(offset, x.shape)


def couple(logits: Float[Array, "*batch i j"], leaky: bool = False) -> Float[Array, "*batch i j"]:
    """Turn routing logits into coupling coefficients: the softmax over the **parents** of each child.

    Args:
        logits: routing logits b_ij, [*batch, i, j].
        leaky: adds one more logit, fixed at zero, for "none of the parents", then drops it; a child's
            coupling then sums to less than 1 (the authors' released code, `_leaky_routing`).

    Returns:
        Coupling coefficients c_ij, [*batch, i, j], of the logits' type; computed in float32 at least.

    Reference:
        Sabour, Frosst and Hinton 2017, equation 3.
    """
    return _softmax(logits.astype(compute_dtype(logits.dtype)), leaky).astype(logits.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(logits: Float[Array, "*batch i j"], leaky: bool) -> Float[Array, "*batch i j"]:
    if not leaky:
        return jax.nn.softmax(logits, axis=-1)
    none = jnp.zeros_like(logits[..., :1])  # [*batch, i, 1]
    return jax.nn.softmax(jnp.concatenate([none, logits], axis=-1), axis=-1)[..., 1:]


@_softmax.defjvp
def _softmax_jvp(
    leaky: bool, primals: tuple[Float[Array, "..."]], tangents: tuple[Float[Array, "..."]]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return c and c b' - c sum_j c b', whose transpose is `couple_adjoint`.

    The order of the products is that in which equal cotangents of huge votes cancel exactly.
    """
    coupling = _softmax(primals[0], leaky)
    weighed = coupling * tangents[0]
    return coupling, weighed - coupling * jnp.sum(weighed, axis=-1, keepdims=True)


def couple_adjoint(
    coupling: Float[Array, "*batch i j"], cotangent: Float[Array, "*batch i j"]
) -> Float[Array, "*batch i j"]:
    """Pull a cotangent of the coupling back to the logits: b_bar = c (c_bar - sum_j c c_bar).

    The same for leaky coupling: what leaked away has no cotangent.

    Args:
        coupling: coupling coefficients c_ij, [*batch, i, j].
        cotangent: c_bar, [*batch, i, j].

    Returns:
        b_bar, [*batch, i, j], of the coupling's type; computed in float32 at least.
    """
    dtype = coupling.dtype
    coupling, cotangent = (x.astype(compute_dtype(x.dtype)) for x in (coupling, cotangent))
    mean = jnp.sum(coupling * cotangent, axis=-1, keepdims=True)  # [*batch, i, 1]
    return (coupling * (cotangent - mean)).astype(dtype)


def reverse_only(tree: PyTree) -> PyTree:
    """Return arrays as they are, of which forward mode is refused in words, wherever it comes from.

    What has a backward pass of its own (`jax.custom_vjp`) is refused by JAX under `jax.jvp` too, but in words
    about `custom_vjp`, and under `jax.jit` only when the whole program is lowered, where nobody who called
    is there to catch it.

    Args:
        tree: what enters a function with a backward pass of its own.

    Returns:
        The same. Forward mode raises a `UserError` that says what has one.
    """
    return jax.tree.map(
        lambda x: _entering.bind(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def _refuse(*_: Any, **__: Any) -> Any:
    raise UserError(NO_FORWARD_MODE)


def _differentiate(primals: Sequence[Array], tangents: Sequence[Array]) -> tuple[Array, Any]:
    (x,), (tangent,) = primals, tangents
    return x, tangent if type(tangent) is ad.Zero else _tangent.bind(tangent)


# Two identities: of values, and of their tangents. The compiler sees nothing of the first. Reverse mode
# transposes the second, before which nothing of it is computed; forward mode computes it, alone or batched.
_entering, _tangent = Primitive("reverse_only"), Primitive("tangent_of_reverse_only")
for primitive in (_entering, _tangent):
    primitive.def_abstract_eval(lambda x: x)
_entering.def_impl(lambda x: x)
mlir.register_lowering(_entering, lambda _, x: [x])
batching.defvectorized(_entering)
ad.primitive_jvps[_entering] = _differentiate
_tangent.def_impl(_refuse)
mlir.register_lowering(_tangent, _refuse)
batching.primitive_batchers[_tangent] = _refuse
ad.deflinear2(_tangent, lambda cotangent, _: [cotangent])
