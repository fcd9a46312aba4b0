"""Arrays that are spread over devices: inside `jax.shard_map`, and on meshes with explicit axes."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree


def vary_as(x: PyTree, like: PyTree) -> PyTree:
    """Let arrays vary over every mesh axis over which others do, as loops inside `jax.shard_map` need it.

    A loop's carry has one type from the first step to the last, so zeros, which are the same on every
    device, have to begin as what they become. The gradient of an array that is the same on every device is
    then the sum over the devices: reverse mode of this function adds it up.

    Args:
        x: arrays.
        like: arrays of which some may vary over mesh axes.

    Returns:
        The same arrays; outside `jax.shard_map`, unchanged.
    """
    axes = frozenset().union(*map(_varying, jax.tree.leaves(like)))

    def vary(leaf: Array) -> Array:
        missing = tuple(sorted(axes - _varying(leaf)))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, x) if axes else x


def _varying(x: Any) -> frozenset[str]:
    """Return the names of the mesh axes over which an array varies."""
    kind = jax.typeof(x)
    # JAX 0.10.2 keeps them in `mat`, other versions in `vma`.
    return getattr(kind, "vma", None) or getattr(getattr(kind, "mat", None), "varying", frozenset())


def over_mesh(function: Callable[..., Any], args: tuple[Any, ...], batch: tuple[int, ...]) -> Any:
    """Call a function of arrays that may be spread over devices, in either of JAX's ways to say so.

    Args:
        function: a pure function of the arguments that returns two trees of arrays: the first with the batch
            on their leading axes, the second with one axis before them.
        args: trees of arrays, of which some have the batch on their leading axes.
        batch: (*batch).

    Returns:
        Both trees, each axis of the batch spread as in the first array that spreads it.
    """
    args = vary_as(args, args)
    leaves = jax.tree.leaves(args)
    spread = [getattr(jax.typeof(leaf).sharding, "spec", ()) for leaf in leaves]
    # An explicit axis stands in the array's type; inside, the compiler is to place what is made of it.
    if not any(axis is not None for axes in spread for axis in axes):
        return function(*args)
    size = len(batch)
    carry = [axes for leaf, axes in zip(leaves, spread, strict=True) if leaf.shape[:size] == batch]
    named = ([axes[k] for axes in carry if axes[k] is not None] for k in range(size))
    axes = [found[0] if found else None for found in named]
    return jax.sharding.auto_axes(
        lambda args: function(*args),
        out_sharding=(PartitionSpec(*axes), PartitionSpec(None, *axes)),
    )(args)
