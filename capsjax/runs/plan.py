"""From a configuration to the functions and compiled steps of its run."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from capsjax.checks import LARGEST_INT, UserError, nearest
from capsjax.data import Dataset
from capsjax.layers import CapsNet, Model, NetworkOutput
from capsjax.losses import Loss
from capsjax.memory import room
from capsjax.metrics import ALWAYS, Metric, children_entropy
from capsjax.runs import remedies
from capsjax.runs.config import Config
from capsjax.runs.served import check_served
from capsjax.training.loop import CompiledSteps
from capsjax.training.optimisers import Optimiser, freeze
from capsjax.training.parallel import STRATEGIES, Parallel, StepFunction, Strategy
from capsjax.training.slicing import BatchSlicer
from capsjax.training.state import Params, TrainState, group_of, separate
from capsjax.training.step import LossFunction, Scored, Tracked, TrainingLoss, ValueFunction
from capsjax.types import Batch, PerExample

# The arguments of `network_functions`.
NetworkArguments = tuple[Model, Loss, tuple[int, int, int], int, tuple[Metric, ...]]


@dataclasses.dataclass(frozen=True)
class NetworkFunctions:
    """Hold the pure functions of a network; what they call variables is parameters and running statistics.

    Attributes:
        initial: from a seed to parameters; they do not depend on the routing.
        statistics: from a seed to running statistics, empty of most networks.
        shapes: the parameters' shapes, without making them.
        apply: from variables, images and labels or None to the network's output at evaluation.
        loss: from variables and a batch to the values of each example in training.
        score: the same at evaluation, where the longest capsules are drawn, as many as there are labels, with
            the lengths of each example.
        training: from the axis of devices that share a batch, or None, to what a step of training takes: the
            loss, and the running statistics after it where there are any.
    """

    initial: Callable[[int], Params]
    statistics: Callable[[int], Params]
    shapes: Callable[[], dict[str, jax.ShapeDtypeStruct]]
    apply: Callable[..., NetworkOutput]
    loss: LossFunction
    score: ValueFunction
    training: Callable[[str | None], TrainingLoss]


def network_functions(
    model: Model,
    loss: Loss,
    image_shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[Metric, ...] = (),
) -> NetworkFunctions:
    """Make the functions of a network; equal arguments give the same ones, which compile once.

    Args:
        model: the network.
        loss: what is minimised.
        image_shape: height, width and channels of an image.
        num_classes: how many classes there are.
        metrics: what is measured beside what every run measures.

    Returns:
        The functions.

    Raises:
        UserError: If the network's layers do not fit the images or each other.
    """
    return _cached_functions(model, loss, image_shape, num_classes, metrics)


@functools.lru_cache(maxsize=64)
def _cached_functions(
    model: Model,
    loss: Loss,
    image_shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[Metric, ...],
) -> NetworkFunctions:

    def make(key: Array) -> CapsNet:
        return CapsNet(image_shape, num_classes, config=model, rngs=nnx.Rngs(params=key))

    parts = separate(nnx.eval_shape(make, jax.random.key(0)))
    made = jax.jit(lambda key: separate(make(key)).params)
    running = jax.jit(lambda key: separate(make(key)).statistics)
    shapes = jax.eval_shape(made, jax.random.key(0))

    def initial(seed: int) -> Params:
        room.check_parameters(shapes)
        return made(jax.random.key(seed))

    def statistics(seed: int) -> Params:
        return running(jax.random.key(seed)) if parts.statistics else {}

    unweighted = dataclasses.replace(loss, class_weights=None)

    def values(output: NetworkOutput, batch: Batch, loss: Loss) -> PerExample:
        with jax.named_scope("loss"):
            measured = {metric.name: metric(output, batch) for metric in (*ALWAYS, *metrics)}
            return loss(output, batch) | measured | _entropies(output)

    def track(variables: Params, batch: Batch, axis: str | None) -> Tracked:
        output, after = parts.track(variables, batch.images, batch.labels, axis_name=axis)
        return Tracked(values(output, batch, loss), after)

    def training(axis: str | None) -> TrainingLoss:
        if not parts.statistics:
            return lambda params, batch: track(params, batch, None).values
        return lambda variables, batch: track(variables, batch, axis)

    def score(variables: Params, batch: Batch) -> Scored:
        drawn = 1 if batch.labels.ndim == 1 else batch.labels.shape[1]
        output = parts.apply(variables, batch.images, drawn=drawn)
        # What is measured can be compared, however classes count in training.
        return Scored(values(output, batch, unweighted), output.lengths)

    return NetworkFunctions(
        initial=initial,
        statistics=statistics,
        shapes=lambda: shapes,
        apply=parts.apply,
        loss=lambda variables, batch: track(variables, batch, None).values,
        score=score,
        training=training,
    )


def functions_of(
    config: Config, image_shape: tuple[int, int, int], num_classes: int
) -> NetworkFunctions:
    """Make the functions of a run's network at evaluation, whatever the data.

    Args:
        config: what was run, or is to be.
        image_shape: height, width and channels of the data's images.
        num_classes: the number of classes.

    Returns:
        The functions, as `network_functions`.

    Raises:
        UserError: If the network's layers do not fit the images or each other.
    """
    return network_functions(*_network(config, image_shape, num_classes))


def _network(
    config: Config, image_shape: tuple[int, int, int], num_classes: int
) -> NetworkArguments:
    shape = config.input_shape(image_shape)
    return config.model, config.loss, shape, num_classes, config.metrics


def _entropies(output: NetworkOutput) -> PerExample:
    """Measure the coupling of each layer, `entropy.NAME` in nats, where several route."""
    if len(output.layers) < 2:
        return {}
    return {
        f"entropy.{name}": children_entropy(routed.coupling)
        for name, routed in output.layers.items()
    }


@functools.lru_cache(maxsize=64)
def _scoring(network: NetworkArguments, parallel: Parallel) -> tuple[Strategy, StepFunction]:
    """Make a step of evaluation, which runs of any length and optimiser share, and its strategy."""
    strategy = STRATEGIES[parallel]()
    return strategy, strategy.eval_step(network_functions(*network).score)


@functools.lru_cache(maxsize=64)
def _compiled_steps(
    network: NetworkArguments,
    optimiser: Optimiser,
    frozen: tuple[str, ...],
    total_steps: int,
    parallel: Parallel,
    slicer: BatchSlicer,
) -> CompiledSteps:
    model, loss, image_shape, num_classes, metrics = network
    unweighted = dataclasses.replace(
        loss, class_weights=None
    )  # which what is measured is in any case
    strategy, eval_step = _scoring((model, unweighted, image_shape, num_classes, metrics), parallel)
    updates = freeze(optimiser.make(total_steps), frozen)
    return CompiledSteps(
        strategy=strategy,
        train_steps=strategy.train_steps(
            network_functions(*network).training(strategy.axis), updates, slicer
        ),
        eval_step=eval_step,
        remedy=remedies.remedy(model, loss, optimiser),
        results={metric.name: metric.result for metric in metrics},
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Hold what a configuration and its data come to.

    Attributes:
        functions: the network's pure functions.
        compiled: the compiled steps.
        optimiser: the Optax transformation.
        slicer: how batches are cut from the training examples.
        total_steps: optimiser steps of the whole run.
    """

    functions: NetworkFunctions
    compiled: CompiledSteps
    optimiser: optax.GradientTransformation
    slicer: BatchSlicer
    total_steps: int

    def state_bytes(self) -> int:
        """Return the memory that parameters, their gradient and the optimiser's state take."""
        shapes = self.functions.shapes()
        held = jax.eval_shape(self.optimiser.init, shapes)
        return 2 * room.size_of(shapes) + room.size_of(held)

    def check_parameters(self) -> None:
        """Refuse a network that cannot be trained in the memory that there is.

        Raises:
            TooLargeError: If its parameters do not fit with their gradient and the optimiser's state.
        """
        shapes = self.functions.shapes()
        beside = self.state_bytes() - room.size_of(shapes)
        room.check_parameters(shapes, beside, "their gradient and what the optimiser remembers")

    def initial_state(self, seed: int) -> TrainState:
        """Return the state before the first step."""
        made = self.functions
        return TrainState.create(made.initial(seed), self.optimiser, made.statistics(seed))


def _check_groups(frozen: tuple[str, ...], made: NetworkFunctions) -> None:
    """Check that what is to be frozen is there, and that something is left to train."""
    groups = list(dict.fromkeys(group_of(name) for name in made.shapes()))
    listed = ", ".join(groups)
    for group in frozen:
        if group not in groups:
            raise UserError(
                f"training.freeze: got {group!r}, expected groups of the network's parameters: {listed}"
                + nearest(group, groups),
                argument="training.freeze",
            )
    if set(frozen) == set(groups):
        raise UserError(
            f"training.freeze: got every group of the network's parameters, expected at least one of "
            f"{listed} to be left to train",
            argument="training.freeze",
        )


def _check_divides(config: Config, made: NetworkFunctions) -> None:
    """Check that every device has as much of a batch, where the batch normalises."""
    size, devices = config.training.batch_size, len(jax.local_devices())
    if size % devices and made.statistics(0):
        raise UserError(
            f"training.batch_size: got {size} on {devices} devices, expected a multiple of {devices}: the "
            "network normalises by statistics of the batch, which what fills it up would change",
            argument="training.batch_size",
        )


def evaluation_steps(
    config: Config, image_shape: tuple[int, int, int], num_classes: int
) -> CompiledSteps:
    """Make the compiled steps of a run for evaluation alone.

    Args:
        config: what was run.
        image_shape: height, width and channels of the data's images.
        num_classes: the number of classes.

    Returns:
        Compiled steps of which only the step of evaluation is used, whatever the data.
    """
    network = _network(config, image_shape, num_classes)
    parallel, nothing = config.training.parallel, BatchSlicer(1, (), 1.0)
    return _compiled_steps(network, config.optimiser, (), LARGEST_INT, parallel, nothing)


def plan(config: Config, dataset: Dataset) -> Plan:
    """Work out a run; configurations that differ in the seed alone share what is compiled.

    Args:
        config: what is run.
        dataset: its data.

    Returns:
        The functions, the compiled steps and the number of steps.

    Raises:
        UserError: If the data do not fill a batch, what is to be frozen is not there, or the scores of the
            network cannot be what the loss asks.
    """
    check_served(config, dataset.labels_per_image)
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    network = (
        config.model,
        config.loss.for_classes(counts),
        config.input_shape(dataset.image_shape),
        dataset.num_classes,
        config.metrics,
    )
    total_steps = config.training.total_steps(len(dataset.train))
    slicer = BatchSlicer(
        config.training.batch_size,
        config.augmentations,
        dataset.scale,
        total_steps,
        dataset.overlap,
    )
    made, frozen = network_functions(*network), config.training.freeze
    _check_groups(frozen, made)
    _check_divides(config, made)
    optimiser, parallel = config.optimiser, config.training.parallel
    return Plan(
        functions=made,
        compiled=_compiled_steps(network, optimiser, frozen, total_steps, parallel, slicer),
        optimiser=freeze(optimiser.make(total_steps), frozen),
        slicer=slicer,
        total_steps=total_steps,
    )
