"""A model of one number, whose training can be worked out by hand, and what trains it."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capsjax.data import Shift, Split
from capsjax.training.loop import CompiledSteps
from capsjax.training.parallel import JitStrategy, PmapStrategy
from capsjax.training.slicing import BatchSlicer
from capsjax.training.state import TrainState

OPTIMISER = optax.sgd(0.01, momentum=0.5)
IMAGES = np.random.default_rng(0).integers(0, 256, (22, 2, 2, 1)).astype(np.uint8)
CUT = BatchSlicer(
    batch_size=4, augmentations=(Shift(pixels=1),), scale=1 / 255
)  # five steps to an epoch
SPLIT = Split(IMAGES, np.arange(22) % 10)


def loss(params, batch):
    square = (params["w"] * batch.images.sum((1, 2, 3)) - batch.labels) ** 2
    return {"loss": square, "error": (square > 1).astype(square.dtype)}


@pytest.fixture(scope="module", params=[JitStrategy, PmapStrategy])
def compiled(request):
    strategy = request.param()
    return CompiledSteps(
        strategy, strategy.train_steps(loss, OPTIMISER, CUT), strategy.eval_step(loss)
    )


def initial():
    return TrainState.create({"w": jnp.asarray(0.5)}, OPTIMISER)


def broken_from(step, strategy):
    """A program whose update is NaN at a step (counted from 0), while the loss there is finite."""
    optimiser = optax.sgd(lambda count: jnp.where(count == step, jnp.nan, 0.01), momentum=0.5)
    return CompiledSteps(
        strategy, strategy.train_steps(loss, optimiser, CUT), strategy.eval_step(loss)
    )
