"""Steps over all local devices, each with its share of the batch: by `jit` or by `pmap`."""

import abc
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from capsjax.training.step import (
    TrainingLoss,
    ValueFunction,
    make_eval_step,
    make_train_step,
    make_train_steps,
)
from capsjax.types import Batch

Parallel = Literal["jit", "pmap"]
AXIS = "devices"


@runtime_checkable
class StepFunction(Protocol):
    """Name what a step can do that `jit` or `pmap` made."""

    def __call__(self, *args: Any) -> Any:
        """Take the step."""
        ...

    def lower(self, *args: Any) -> Any:
        """Return the step before compilation, to measure what it will need."""
        ...


class Strategy(abc.ABC):
    """Define how steps are compiled for several devices, and where their arrays live.

    Args:
        devices: the devices to use, all local ones unless given.

    Attributes:
        axis: the name of the axis of devices inside a step; None where a step sees the whole batch.
    """

    axis: str | None = None

    def __init__(self, devices: list[jax.Device] | None = None):
        self.devices = devices or jax.local_devices()
        self._mesh = jax.make_mesh(
            (len(self.devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=self.devices
        )
        self._split = NamedSharding(self._mesh, PartitionSpec(AXIS))
        self._everywhere = NamedSharding(self._mesh, PartitionSpec())

    @abc.abstractmethod
    def replicate(self, tree: PyTree) -> PyTree:
        """Copy arrays to every device."""

    @abc.abstractmethod
    def unreplicate(self, tree: PyTree) -> PyTree:
        """Return one copy of replicated arrays, as the same arrays look on one device."""

    @abc.abstractmethod
    def share(self, batch: Batch) -> Batch:
        """Give each device its part of a batch, padded with weight 0 where it does not divide."""

    def replicated_shapes(self, tree: PyTree) -> PyTree:
        """Describe what `replicate` makes of arrays of such shapes."""
        copies, place = self._layout()
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*copies, *x.shape), x.dtype, sharding=place), tree
        )

    def shared_shapes(self, batch: Batch) -> Batch:
        """Describe what `share` makes of a batch of such shapes."""
        copies, _ = self._layout()
        each = -(-batch.labels.shape[0] // len(self.devices))  # padded
        first = (*copies, each) if copies else (each * len(self.devices),)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((*first, *x.shape[1:]), x.dtype, sharding=self._split),
            batch,
        )

    def _layout(self) -> tuple[tuple[int, ...], NamedSharding]:
        """Return the leading axis of copies, if there is one, and where copies lie."""
        if self.axis is None:
            return (), self._everywhere
        return (len(self.devices),), self._split

    @abc.abstractmethod
    def train_steps(
        self,
        loss_function: TrainingLoss,
        optimiser: optax.GradientTransformation,
        slice_batch: Callable[[Any, Any], Batch],
    ) -> StepFunction:
        """Compile any number of steps of training as one call.

        Args:
            loss_function: from parameters and a batch to values of each example, and running statistics
                where there are any; see `step.make_train_step`.
            optimiser: from gradients to updates.
            slice_batch: from examples, as `replicate` makes them, and the number of a step to its batch.

        Returns:
            `step.make_train_steps` on all devices; it takes over (donates) the state that it is given.
        """

    @abc.abstractmethod
    def eval_step(self, value_function: ValueFunction) -> StepFunction:
        """Compile a step of evaluation."""

    def pad(self, batch: Batch) -> Batch:
        """Repeat the last example, with weight 0, until the batch divides among the devices."""
        missing = -batch.labels.shape[0] % len(self.devices)
        if not missing:
            return batch

        def repeat(field: Array) -> Array:
            return jnp.pad(field, [(0, missing), *[(0, 0)] * (field.ndim - 1)], mode="edge")

        padded = jax.tree.map(repeat, batch)
        return padded._replace(weights=jnp.pad(batch.weights, (0, missing)))


class JitStrategy(Strategy):
    """Compile the step for all devices at once; the compiler adds up over them."""

    def replicate(self, tree: PyTree) -> PyTree:
        """Copy arrays to every device."""
        return jax.device_put(tree, self._everywhere)

    def unreplicate(self, tree: PyTree) -> PyTree:
        """Return the arrays as they are: they look the same on any number of devices."""
        return tree

    def share(self, batch: Batch) -> Batch:
        """Give each device its part of a batch, padded with weight 0 where it does not divide."""
        return jax.device_put(self.pad(batch), self._split)

    def train_steps(
        self,
        loss_function: TrainingLoss,
        optimiser: optax.GradientTransformation,
        slice_batch: Callable[[Any, Any], Batch],
    ) -> StepFunction:
        """Compile any number of steps of training as one call.

        Args:
            loss_function: from parameters and a batch to values of each example.
            optimiser: from gradients to updates.
            slice_batch: from examples, as `replicate` makes them, and the number of a step to its batch.

        Returns:
            A function of a state, which it takes over (donates), examples, and the numbers of the first step
            and of the one after the last, which may differ from call to call without a new compilation.
        """

        def part(examples: Any, step: Any) -> Batch:
            # Padded first: a constraint that does not divide the batch would be refused.
            return jax.lax.with_sharding_constraint(
                self.pad(slice_batch(examples, step)), self._split
            )

        steps = make_train_steps(make_train_step(loss_function, optimiser), part)
        return jax.jit(steps, donate_argnums=0, out_shardings=self._everywhere)

    def eval_step(self, value_function: ValueFunction) -> StepFunction:
        """Compile a step of evaluation."""
        return jax.jit(make_eval_step(value_function), out_shardings=self._everywhere)


class PmapStrategy(Strategy):
    """Compile the step for one device, run it on each, and add up over them by `psum`."""

    axis = AXIS

    def replicate(self, tree: PyTree) -> PyTree:
        """Copy arrays to every device, as a leading axis."""

        def copy(x: Any) -> Array:
            one = jnp.asarray(x)[None]
            # One copy sent to each device: stacked first, all of them would lie on one.
            parts = [jax.device_put(one, device) for device in self.devices]
            shape = len(parts), *one.shape[1:]
            return jax.make_array_from_single_device_arrays(shape, self._split, parts)

        return jax.tree.map(copy, tree)

    def unreplicate(self, tree: PyTree) -> PyTree:
        """Return the first device's copy."""
        return jax.tree.map(lambda x: x.addressable_data(0).reshape(x.shape[1:]), tree)

    def share(self, batch: Batch) -> Batch:
        """Give each device its part of a batch, as a leading axis."""
        padded = self.pad(batch)
        parts = jax.tree.map(lambda x: x.reshape(len(self.devices), -1, *x.shape[1:]), padded)
        return jax.device_put(parts, self._split)

    def train_steps(
        self,
        loss_function: TrainingLoss,
        optimiser: optax.GradientTransformation,
        slice_batch: Callable[[Any, Any], Batch],
    ) -> StepFunction:
        """Compile any number of steps of training as one call.

        Args:
            loss_function: from parameters and a batch to values of each example.
            optimiser: from gradients to updates.
            slice_batch: from examples, as `replicate` makes them, and the number of a step to its batch.

        Returns:
            A function of a state, which it takes over (donates), examples, and the numbers of the first step
            and of the one after the last, which may differ from call to call without a new compilation.
        """

        def part(examples: Any, step: Any) -> Batch:
            whole = self.pad(slice_batch(examples, step))
            size = whole.labels.shape[0] // len(self.devices)
            # Every device cuts the whole batch and keeps its part: order and shifts are those of one device.
            start = jax.lax.axis_index(AXIS) * size
            return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), whole)

        step = make_train_step(loss_function, optimiser, reduce=_add_up, average=_average)
        return jax.pmap(
            make_train_steps(step, part),
            axis_name=AXIS,
            devices=self.devices,
            in_axes=(0, 0, None, None),
            donate_argnums=0,
        )

    def eval_step(self, value_function: ValueFunction) -> StepFunction:
        """Compile a step of evaluation."""
        step = make_eval_step(value_function, reduce=_add_up, gather=_put_together)
        return jax.pmap(step, axis_name=AXIS, devices=self.devices)


def _add_up(tree: Any) -> Any:
    return jax.lax.psum(tree, AXIS)


def _put_together(tree: Any) -> Any:
    return jax.lax.all_gather(tree, AXIS, tiled=True)


def _average(tree: Any) -> Any:
    return jax.lax.pmean(tree, AXIS)


STRATEGIES: dict[Parallel, type[Strategy]] = {"jit": JitStrategy, "pmap": PmapStrategy}
