"""A training run's state as plain arrays, and the one place where Flax becomes functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from capsjax.display import as_table, one_line
from capsjax.types import Batch

__all__ = ["Batch", "Params", "TrainState", "functionalise", "group_of"]

Params = dict[str, Array]


def group_of(name: str) -> str:
    """Return the group that a parameter belongs to: the part of the network, such as "classes"."""
    return name.split(".", 1)[0]


class TrainState(NamedTuple):
    """Hold all that changes while training.

    Attributes:
        step: optimiser steps done, [].
        params: every trained array under its dotted path in the network, such as `classes.weight`.
        opt_state: what the optimiser remembers.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    @classmethod
    def create(cls, params: Params, optimiser: optax.GradientTransformation) -> "TrainState":
        """Start training from initial parameters."""
        return cls(jnp.zeros((), jnp.int32), params, optimiser.init(params))


def functionalise(module: nnx.Module) -> tuple[dict[str, Any], Callable[..., Any]]:
    """Split a module into its parameters and a pure function of them.

    Args:
        module: any Flax module without state of its own besides parameters; an abstract one gives the
            shapes of parameters instead of them.

    Returns:
        Parameters under dotted names; and `apply(params, *args, **kwargs)`, which is the module's call.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> params, apply = functionalise(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        >>> sorted(params), apply(params, jnp.ones([1, 2])).shape
        (['bias', 'kernel'], (1, 3))
    """
    graph, trained, rest = nnx.split(module, nnx.Param, ...)
    paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(trained))
    names = [".".join(str(getattr(key, "key", key)) for key in path) for path, _ in paths]
    layout = jax.tree.structure(trained)

    def apply(params: Params, *args: Any, **kwargs: Any) -> Any:
        state = jax.tree.unflatten(layout, [params[name] for name in names])
        return nnx.merge(graph, state, rest)(*args, **kwargs)

    return {name: leaf for name, (_, leaf) in zip(names, paths, strict=True)}, apply
