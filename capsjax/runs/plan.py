"""From a configuration to the functions and compiled steps of its run."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import optax
from flax import nnx
from jaxtyping import Array

from capsjax import room
from capsjax.checks import LARGEST_INT, UserError, nearest
from capsjax.data import Dataset
from capsjax.losses import Loss
from capsjax.metrics import ALWAYS, Metric
from capsjax.modules import CapsNet, CapsNetConfig, NetworkOutput
from capsjax.runs import remedies
from capsjax.runs.config import Config
from capsjax.training.feed import Cut
from capsjax.training.loop import Program
from capsjax.training.optimisers import Optimiser, freeze
from capsjax.training.parallel import STRATEGIES, Compiled, Parallel, Strategy
from capsjax.training.state import Batch, Params, TrainState, functionalise, group_of
from capsjax.training.step import LossFunction
from capsjax.types import PerExample

# What the functions of a network are made of, as `functions` takes it.
Network = tuple[CapsNetConfig, Loss, tuple[int, int, int], int, tuple[Metric, ...]]


@dataclasses.dataclass(frozen=True)
class Functions:
    """Hold the pure functions of a network.

    Attributes:
        initial: from a seed to parameters; they do not depend on the routing.
        shapes: the parameters' shapes, without making them.
        apply: from parameters, images and labels or None to the network's output.
        loss: from parameters and a batch to the values of each example in training.
        score: the same at evaluation, where the longest capsule is drawn.
    """

    initial: Callable[[int], Params]
    shapes: Callable[[], dict[str, jax.ShapeDtypeStruct]]
    apply: Callable[..., NetworkOutput]
    loss: LossFunction
    score: LossFunction


def functions(
    model: CapsNetConfig,
    loss: Loss,
    image_shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[Metric, ...] = (),
) -> Functions:
    """Make the functions of a network; equal arguments give the same ones, which compile once.

    Args:
        model: the network.
        loss: what is minimised.
        image_shape: height, width and channels of an image.
        num_classes: how many classes there are.
        metrics: what is measured beside what every run measures.

    Returns:
        The functions.
    """
    return _functions(model, loss, image_shape, num_classes, metrics)


@functools.lru_cache(maxsize=64)
def _functions(
    model: CapsNetConfig,
    loss: Loss,
    image_shape: tuple[int, int, int],
    num_classes: int,
    metrics: tuple[Metric, ...],
) -> Functions:

    def make(key: Array) -> CapsNet:
        return CapsNet(image_shape, num_classes, config=model, rngs=nnx.Rngs(params=key))

    _, apply = functionalise(nnx.eval_shape(make, jax.random.key(0)))
    made = jax.jit(lambda key: functionalise(make(key))[0])

    def shapes() -> dict[str, jax.ShapeDtypeStruct]:
        return jax.eval_shape(made, jax.random.key(0))

    def initial(seed: int) -> Params:
        room.check_parameters(shapes())
        return made(jax.random.key(seed))

    def values(output: NetworkOutput, batch: Batch) -> PerExample:
        with jax.named_scope("loss"):
            measured = {metric.name: metric(output, batch) for metric in (*ALWAYS, *metrics)}
            return loss(output, batch) | measured

    return Functions(
        initial=initial,
        shapes=shapes,
        apply=apply,
        loss=lambda params, batch: values(apply(params, batch.images, batch.labels), batch),
        score=lambda params, batch: values(apply(params, batch.images), batch),
    )


@functools.lru_cache(maxsize=64)
def _scoring(network: Network, parallel: Parallel) -> tuple[Strategy, Compiled]:
    """Make a step of evaluation, which runs of any length and optimiser share, and its strategy."""
    strategy = STRATEGIES[parallel]()
    return strategy, strategy.eval_step(functions(*network).score)


@functools.lru_cache(maxsize=64)
def _program(
    network: Network,
    optimiser: Optimiser,
    frozen: tuple[str, ...],
    total_steps: int,
    parallel: Parallel,
    cut: Cut,
) -> Program:
    model, loss, *_, metrics = network
    strategy, eval_step = _scoring(network, parallel)
    updates = freeze(optimiser.make(total_steps), frozen)
    return Program(
        strategy=strategy,
        train_steps=strategy.train_steps(functions(*network).loss, updates, cut),
        eval_step=eval_step,
        remedy=remedies.remedy(model, loss, optimiser),
        results={metric.name: metric.result for metric in metrics},
    )


@dataclasses.dataclass(frozen=True)
class Plan:
    """Hold what a configuration and its data come to.

    Attributes:
        functions: the network's pure functions.
        program: the compiled steps.
        optimiser: the Optax transformation.
        cut: how batches are cut from the training examples.
        total_steps: optimiser steps of the whole run.
    """

    functions: Functions
    program: Program
    optimiser: optax.GradientTransformation
    cut: Cut
    total_steps: int

    def initial_state(self, seed: int) -> TrainState:
        """Return the state before the first step."""
        return TrainState.create(self.functions.initial(seed), self.optimiser)


def _check_groups(frozen: tuple[str, ...], made: Functions) -> None:
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


def evaluation(config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Program:
    """Return the program of a run for evaluation alone: whatever the data, nothing is trained."""
    network = (config.model, config.loss, image_shape, num_classes, config.metrics)
    parallel, nothing = config.training.parallel, Cut(1, (), 1.0)
    return _program(network, config.optimiser, (), LARGEST_INT, parallel, nothing)


def plan(config: Config, dataset: Dataset) -> Plan:
    """Work out a run; configurations that differ in the seed alone share what is compiled."""
    network = (
        config.model,
        config.loss,
        dataset.image_shape,
        dataset.num_classes,
        config.metrics,
    )
    total_steps = config.training.total_steps(len(dataset.train))
    cut = Cut(config.training.batch_size, config.augmentations, dataset.scale, total_steps)
    made, frozen = functions(*network), config.training.freeze
    _check_groups(frozen, made)
    optimiser, parallel = config.optimiser, config.training.parallel
    return Plan(
        functions=made,
        program=_program(network, optimiser, frozen, total_steps, parallel, cut),
        optimiser=freeze(optimiser.make(total_steps), frozen),
        cut=cut,
        total_steps=total_steps,
    )
