"""A training step of a configuration, or its network's forward pass alone, as work to be timed."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from capsjax.bench.workload import (
    Arguments,
    NextArguments,
    Workload,
    check_times,
    compile_work,
    kind_of,
)
from capsjax.checks import UserError
from capsjax.data import Dataset, Split
from capsjax.layers import routings
from capsjax.runs.config import Config
from capsjax.runs.plan import Plan, plan
from capsjax.training.feed import TrainFeed
from capsjax.training.slicing import Epoch
from capsjax.types import Batch

LONG = 1_000_000  # steps
LARGEST = 1_000_000  # random images


def step_work(
    config: Config, batch_size: int | None = None, *, times: int = 1, forward: bool = False
) -> Workload:
    """Compile a training step of a configuration, for random images of its data's shape.

    Args:
        config: what is trained, and how.
        batch_size: examples in a batch, or None for the configuration's.
        times: how many steps the device takes by itself in a call, each with a batch of its own; or how
            many forward passes are sent off before one is waited for.
        forward: compile the network's forward pass alone, as at evaluation, instead of a step.

    Returns:
        The work; each call of a step trains on, from where the last one stopped.

    Raises:
        UserError: If the batch is empty, a call is to do nothing, or the data have no shape of their own.
    """
    check_times(times)
    # The length of the run decides nothing but the learning rate, which takes no time.
    training = dataclasses.replace(config.training, epochs=None, steps=LONG)
    if batch_size is not None:
        training = dataclasses.replace(training, batch_size=batch_size)
    config = dataclasses.replace(config, training=training)
    dataset = random_dataset(config, training.batch_size * (1 if forward else times))
    made = plan(config, dataset)
    feed = TrainFeed(dataset.train, made.slicer, config.seed)
    routing = next(reversed(routings(config.model).values()), None)
    sizes = {
        "batch": training.batch_size,
        "image": list(dataset.image_shape),
        "routing": kind_of(routing),
        "gradient": kind_of(getattr(routing, "gradient", None)),
        "num_iters": getattr(routing, "num_iters", None),
    }
    if forward:
        parts = _forward(made, config.seed, feed.batch(0))
        work = compile_work("forward", sizes, training.batch_size, *parts, times=times)
    else:
        parts = _train_steps(made, config.seed, feed.epoch(0))
        batch = training.batch_size
        work = compile_work("train step", sizes, batch, *parts, times=times, in_a_loop=True)
    return work._replace(layers=tuple(config.model.network().layers))


def _train_steps(made: Plan, seed: int, epoch: Epoch) -> tuple[Callable, Arguments, NextArguments]:
    """Return what compiles steps, their first arguments, and what makes the next of their result."""
    strategy, steps = made.compiled.strategy, epoch.order.shape[0] // made.slicer.batch_size
    state, examples = strategy.replicate((made.initial_state(seed), epoch))
    lower = made.compiled.train_steps.lower
    return lower, (state, examples, 0, steps), lambda result, used: (result[0], *used[1:])


def _forward(made: Plan, seed: int, batch: Batch) -> tuple[Callable, Arguments, NextArguments]:
    """Return the same for the network's forward pass: lengths and reconstructions."""
    functions = made.functions
    variables = functions.initial(seed) | functions.statistics(seed)

    def forward(params: Any, images: jax.Array) -> Any:
        output = functions.apply(params, images)
        return output.lengths, output.reconstruction

    return jax.jit(forward).lower, (variables, batch.images), lambda _, used: used


def random_dataset(config: Config, examples: int) -> Dataset:
    """Make random images of the shape that a configuration's data have, with random labels.

    Args:
        config: a configuration.
        examples: the number of images, which are all three splits.

    Raises:
        UserError: If the data's shape is not known before they are there, or there are no examples.
    """
    if not 1 <= examples <= LARGEST:
        expected = f"an integer of at least 1, and at most {LARGEST} images in a call"
        got = f"batch_size: got {examples} images, expected {expected}"
        raise UserError(got, argument="batch_size")
    rng, data = np.random.default_rng(0), config.data.shape()
    images = rng.integers(0, 256, (examples, *data.image_shape), np.uint8)
    overlap, drawn = config.data.overlap, rng.integers(0, data.num_classes, examples)
    # Of two classes at least, if images are paired.
    split = Split(images, drawn if overlap is None else np.arange(examples) % data.num_classes)
    return Dataset("random", split, split, split, data.num_classes, 1 / 255, overlap=overlap)
