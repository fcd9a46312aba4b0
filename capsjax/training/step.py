"""Pure steps, made from a loss function and an Optax transformation."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from capsjax.training.state import Params, TrainState
from capsjax.types import Batch, PerExample

Sums = dict[str, Float[Array, "..."]]


class Tracked(NamedTuple):
    """Hold what a loss finds if the network keeps running statistics.

    Attributes:
        values: the values of each example.
        statistics: the running statistics after the batch.
    """

    values: PerExample
    statistics: Params


class Scored(NamedTuple):
    """Hold what evaluation finds of examples.

    Attributes:
        values: the values of each example, whose means are measured.
        lengths: the network's belief in each class, [b, j], which is kept of each example.
    """

    values: PerExample
    lengths: Float[Array, "b j"]


class Evaluated(NamedTuple):
    """Hold what a step of evaluation finds.

    Attributes:
        sums: sums over the examples that count, and their number as `count`.
        lengths: the network's belief in each class, of every example of the batch, padding too, [b, j];
            None where the values came without.
    """

    sums: Sums
    lengths: Float[Array, "b j"] | None


# From parameters (and running statistics, if there are any) and a batch.
LossFunction = Callable[[Params, Batch], PerExample]
ValueFunction = Callable[[Params, Batch], PerExample | Scored]
TrainingLoss = Callable[[Params, Batch], PerExample | Tracked]
Count = int | Int[Array, ""]
Reduce = Callable[[Any], Any]


def weighted_sums(values: PerExample, weights: Float[Array, "b"]) -> Sums:
    """Sum each value over the examples that count, and the examples themselves, as `count`.

    Args:
        values: what was measured of each example, by name, [b] or [b, ...].
        weights: 1 for an example, 0 for padding, whose values are dropped even if they are not finite, [b].

    Returns:
        The sums over examples, [] or [...], and `count`, [].
    """

    def total(value: Float[Array, "b ..."]) -> Float[Array, "..."]:
        weight = weights.reshape(-1, *(1,) * (value.ndim - 1))  # [b, 1, ...]
        return jnp.sum(jnp.where(weight > 0, value, 0) * weight, axis=0)

    sums = {name: total(value) for name, value in values.items()}
    return sums | {"count": jnp.sum(weights)}


def means(sums: Sums) -> Sums:
    """Divide each sum by the count, which is left out."""
    return {name: total / sums["count"] for name, total in sums.items() if name != "count"}


def make_train_step(
    loss_function: TrainingLoss,
    optimiser: optax.GradientTransformation,
    *,
    reduce: Reduce = lambda tree: tree,
    average: Reduce = lambda tree: tree,
) -> Callable[[TrainState, Batch], tuple[TrainState, Sums]]:
    """Make a step of training.

    Args:
        loss_function: from parameters and a batch to values of each example, `loss` among them; where the
            state has running statistics, those are among the parameters, and it gives `Tracked`.
        optimiser: from gradients to updates.
        reduce: adds up a tree of sums over the devices that hold parts of the batch.
        average: averages running statistics over them.

    Returns:
        A pure function from a state and a batch to the next state and the batch's mean values.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        def objective(params: Params) -> tuple[Float[Array, ""], tuple[Sums, Params]]:
            found = loss_function(params | state.statistics, batch)
            values, after = found if isinstance(found, Tracked) else (found, state.statistics)
            with jax.named_scope("loss"):
                sums = weighted_sums(values, batch.weights)
            return sums["loss"], (sums, after)

        gradient, (sums, after) = jax.grad(objective, has_aux=True)(state.params)
        gradient, sums = reduce((gradient, sums))
        with jax.named_scope("optimiser"):
            # Of the sum, divided by the count of all devices: a mean of means would weigh padded parts more.
            gradient = jax.tree.map(lambda total: total / sums["count"], gradient)
            updates, opt_state = optimiser.update(gradient, state.opt_state, state.params)
            params = cast(Params, optax.apply_updates(state.params, updates))
        return TrainState(state.step + 1, params, opt_state, average(after)), means(sums)

    return train_step


def make_train_steps(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Sums]],
    slice_batch: Callable[[Any, Int[Array, ""]], Batch],
) -> Callable[[TrainState, Any, Count, Count], tuple[TrainState, Sums]]:
    """Make a loop of steps that the device runs by itself.

    Args:
        train_step: from a state and a batch to the next state and the batch's mean values.
        slice_batch: from examples and the number of a step to the step's batch.

    Returns:
        A pure function from a state, examples, and the numbers of the first step and of the one after
        the last, to the state after them and the mean values of the last batch. How many steps there
        are is no part of what is compiled.
    """

    # Traced once, for the shapes of its values and for the loop; inlined, it is no call in the program.
    @partial(jax.jit, inline=True)
    def one(state: TrainState, examples: Any, step: Int[Array, ""]) -> tuple[TrainState, Sums]:
        return train_step(state, slice_batch(examples, step))

    def train_steps(state: TrainState, examples: Any, start: Count, stop: Count) -> Any:
        def body(step: Int[Array, ""], carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
            return one(carry[0], examples, step)

        # The loop's carry needs values before the first step: their shapes alone, found without computing.
        _, values = jax.eval_shape(one, state, examples, jnp.asarray(start))
        nothing = jax.tree.map(lambda value: jnp.zeros(value.shape, value.dtype), values)
        return jax.lax.fori_loop(start, stop, body, (state, nothing))

    return train_steps


def make_eval_step(
    value_function: ValueFunction,
    *,
    reduce: Reduce = lambda tree: tree,
    gather: Reduce = lambda tree: tree,
) -> Callable[[Params, Batch], Evaluated]:
    """Make a step of evaluation: a pure function from parameters and a batch to sums and a count.

    Args:
        value_function: from parameters and a batch to values of each example, and what is kept of it.
        reduce: adds up a tree of sums over the devices that hold parts of the batch.
        gather: puts together what is kept of the examples of all devices.

    Returns:
        The step.
    """

    def eval_step(params: Params, batch: Batch) -> Evaluated:
        found = value_function(params, batch)
        values, lengths = found if isinstance(found, Scored) else (found, None)
        return Evaluated(reduce(weighted_sums(values, batch.weights)), gather(lengths))

    return eval_step
