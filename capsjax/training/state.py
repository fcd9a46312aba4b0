"""A training run's state as plain arrays, and the one place where Flax becomes functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from capsjax.checks import UserError
from capsjax.display import as_table, one_line

Params = dict[str, Array]
NONE: Params = {}


def group_of(name: str) -> str:
    """Return the group that a parameter belongs to: the part of the network, such as "classes"."""
    return name.split(".", 1)[0]


class TrainState(NamedTuple):
    """Hold all that changes while training.

    Attributes:
        step: optimiser steps done, [].
        params: every trained array under its dotted path in the network, such as `classes.weight`.
        opt_state: what the optimiser remembers.
        statistics: running statistics under their dotted paths, such as `stem.norm.mean`: no gradient moves
            them, each step does; empty of most networks.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    statistics: Params = NONE

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    @property
    def variables(self) -> Params:
        """Return all that the network's functions take: parameters and running statistics."""
        return self.params | self.statistics

    @classmethod
    def create(
        cls,
        params: Params,
        optimiser: optax.GradientTransformation,
        statistics: Params | None = None,
    ) -> "TrainState":
        """Start training from initial parameters, and running statistics if there are any.

        Args:
            params: the parameters.
            optimiser: what will train them.
            statistics: running statistics, such as those of batch normalisation; None for none.

        Returns:
            The state at step 0.
        """
        return cls(jnp.zeros((), jnp.int32), params, optimiser.init(params), statistics or {})


class Functional(NamedTuple):
    """Hold a Flax module as plain arrays and pure functions of them.

    Attributes:
        params: what is trained (`nnx.Param`), under dotted names.
        statistics: running statistics (`nnx.BatchStat`), under dotted names.
        apply: `apply(variables, *args, **kwargs)` is the module's call at evaluation, where running
            statistics normalise; `variables` holds both.
        track: `track(variables, *args, axis_name=None, **kwargs)` is its call in training, where the batch
            normalises, and the running statistics after it; `axis_name` is what `pmap` calls the devices
            that share the batch.
    """

    params: Params
    statistics: Params
    apply: Callable[..., Any]
    track: Callable[..., tuple[Any, Params]]


def separate(module: nnx.Module) -> Functional:
    """Separate a module's arrays from what it computes.

    Args:
        module: any Flax module whose state is parameters and running statistics; an abstract one gives the
            shapes of arrays instead of them.

    Returns:
        Its parameters, running statistics and functions.

    Raises:
        UserError: If it holds state of another type, such as a generator of random numbers.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> made = separate(nnx.BatchNorm(2, momentum=0.5, rngs=nnx.Rngs(0)))
        >>> sorted(made.params), sorted(made.statistics)
        (['bias', 'scale'], ['mean', 'var'])
        >>> _, after = made.track(made.params | made.statistics, jnp.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> after["mean"].tolist()
        [1.0, 2.0]
    """
    graph, trained, kept, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    other, _ = _flat(rest)
    if other:
        raise UserError(
            f"{type(module).__name__}: got state that is neither a parameter nor a running statistic "
            f"({', '.join(other)}), expected nnx.Param and nnx.BatchStat alone: leave dropout out, or make "
            "it without a generator of its own (nnx.Dropout(rate))"
        )
    (params, trained_layout), (statistics, kept_layout) = _flat(trained), _flat(kept)
    names, running = tuple(params), tuple(statistics)

    # The rest, of which nothing is left here, would be state that a pure function forgets.
    def merged(variables: Params) -> Any:
        return nnx.merge(
            graph,
            jax.tree.unflatten(trained_layout, [variables[name] for name in names]),
            jax.tree.unflatten(kept_layout, [variables[name] for name in running]),
        )

    def apply(variables: Params, *args: Any, **kwargs: Any) -> Any:
        called = merged(variables)
        if running:  # else the module has nothing that training and evaluation tell apart
            called.eval()
        return called(*args, **kwargs)

    def track(
        variables: Params, *args: Any, axis_name: str | None = None, **kwargs: Any
    ) -> tuple[Any, Params]:
        called = merged(variables)
        if running:
            called.train()
            called.set_attributes(nnx.BatchNorm, axis_name=axis_name, raise_if_not_found=False)
        output = called(*args, **kwargs)
        leaves = jax.tree.leaves(nnx.state(called, nnx.BatchStat))
        return output, dict(zip(running, leaves, strict=True))

    return Functional(params, statistics, apply, track)


def _flat(state: Any) -> tuple[dict[str, Any], Any]:
    """Return the arrays of a state under dotted names, and the tree that they make."""
    paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
    named = {".".join(str(getattr(key, "key", key)) for key in path): leaf for path, leaf in paths}
    return named, jax.tree.structure(state)
