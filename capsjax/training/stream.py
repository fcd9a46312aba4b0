"""Examples that stay on the host: parts that Grain reads ahead come to the device one after another."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from capsjax.checks import UserError
from capsjax.data.dataset import Split
from capsjax.data.overlap import Overlap
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import BatchSlicer, Epoch, epoch_shapes, slice_in_order
from capsjax.types import Batch

Feed = Literal["device", "grain"]
# Bytes of the images of a part: some seconds of steps, so that a call of the device seldom ends early.
PART = 1 << 26
# Of a part that is trained on, the one that takes its place, on the device and before it on the host, and two
# that are read ahead: the next of this epoch and the first of the next. On a CPU all lie in one memory.
PARTS = 5


def check_streams(overlap: Overlap | None) -> None:
    """Refuse what cannot be read part by part.

    Args:
        overlap: how two examples make one; None where each image is an example.

    Raises:
        UserError: If examples overlap, or Grain is not installed.
    """
    if overlap is not None:
        raise UserError(
            "training.feed: got grain for images that lie over each other, each over one from anywhere in "
            "its split, expected the whole split on the device: set training.feed to device",
            argument="training.feed",
        )
    _grain()


def _grain() -> Any:
    try:
        return importlib.import_module("grain")
    except ImportError as error:
        raise UserError(
            "training.feed: got grain, which reads examples ahead, expected that to be installed: pip "
            "install 'capsjax[grain]'; or set training.feed to device",
            argument="training.feed",
        ) from error


def steps_of_part(split: Split, batch_size: int) -> int:
    """Return for how many steps a part holds the examples: those of an epoch in few parts of one size.

    Args:
        split: the examples.
        batch_size: examples in a step.
    """
    steps = max(1, len(split) // batch_size)
    fitting = max(1, PART // (batch_size * split.images[:1].nbytes))
    return -(-steps // -(-steps // fitting))


def examples_of_part(split: Split, batch_size: int) -> int:
    """Return how many examples a part holds: those of its steps, and one more to fill it up.

    From as many as a batch has the compiler cuts no batch, and jax 0.12 then rounds otherwise.

    Args:
        split: the examples.
        batch_size: examples in a step.
    """
    return min(steps_of_part(split, batch_size) * batch_size + 1, len(split))


def part_shapes(split: Split, batch_size: int) -> Epoch:
    """Describe a part of an epoch as `StreamedTrainFeed` makes it.

    Args:
        split: the examples.
        batch_size: examples in a step.
    """
    return epoch_shapes(split, count=examples_of_part(split, batch_size))


def _ahead(read: Callable[[int], Any], count: int) -> Any:
    """Read elements by their numbers, each while the one before is used, until the iterator is closed."""
    grain = _grain()
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    reader = iter(grain.MapDataset.range(count).map(read).to_iter_dataset(options))
    reader.start_prefetch()
    return reader


class StreamedTrainFeed(TrainFeed):
    """Bring training examples to the device part by part, in the order of `TrainFeed`.

    Where a run is resumed in the middle of an epoch, nothing is read of what came before.

    Args:
        split: the examples, which may lie in a file that is mapped into memory.
        slicer: how a batch is cut.
        seed: random seed of order and augmentations.

    Raises:
        UserError: If the examples overlap, or Grain is not installed.
    """

    def __init__(self, split: Split, slicer: BatchSlicer, seed: int):
        check_streams(slicer.overlap)
        super().__init__(split, slicer, seed)
        self._split, self._steps = split, steps_of_part(split, slicer.batch_size)

    def _held(self, split: Split) -> tuple[Any, Any]:
        return split.images, split.labels

    def parts(
        self, start: int, stop: int, place: Callable[[Any], Any]
    ) -> Iterator[tuple[Epoch, int]]:
        """Give what the batches of some steps are cut from, part by part.

        Args:
            start: the first step.
            stop: the step after the last.
            place: puts arrays where steps take them from.

        Yields:
            Examples, and the step after the last that is cut from them.
        """
        reader = following = self._epoch(start, stop)
        try:
            while start < stop:
                reader, end = following, min(self._end(start), stop)
                if end < stop:
                    following = self._epoch(end, stop)
                for images, labels in reader:
                    order, first = jnp.arange(len(labels)), jnp.asarray(start, jnp.int32)
                    start = min(start + self._steps, end)
                    yield place(Epoch(images, labels, order, first, self._augment_key)), start
        finally:  # who leaves the loop stops the reading
            reader.close()
            following.close()

    def _end(self, step: int) -> int:
        """Return the end of a step's epoch."""
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch

    def _epoch(self, start: int, stop: int) -> Any:
        """Read an epoch from a step on, parts of one size, which are filled up."""
        number, within = divmod(start, self.steps_per_epoch)
        steps, batch = min(self._end(start), stop) - start, self.slicer.batch_size
        order = np.asarray(self.epoch_order(number)["order"])
        wanted, size = order[within * batch :][: steps * batch], self._steps * batch
        filled = examples_of_part(self._split, batch)

        def read(part: int) -> tuple[np.ndarray, np.ndarray]:
            places = wanted[part * size :][:size]
            places = np.pad(places, (0, filled - len(places)), mode="edge")
            return self.images[places], self.labels[places]

        return _ahead(read, -(-steps // self._steps))


class StreamedEvalFeed(EvalFeed):
    """Bring every example of a split to the device batch by batch, as `EvalFeed` cuts them.

    Args:
        split: the examples, which may lie in a file that is mapped into memory.
        scale: factor that brings raw pixels to 0 to 1.
        overlap: None, as each image is an example.
        ways: what else `EvalFeed` takes.

    Raises:
        UserError: If the examples overlap, or Grain is not installed.
    """

    def __init__(self, split: Split, scale: float, *, overlap: Overlap | None = None, **ways: Any):
        check_streams(overlap)
        super().__init__(split, scale, **ways)

    def _held(self, split: Split) -> tuple[Any, Any]:
        return split.images, split.labels

    def __iter__(self) -> Iterator[Batch]:
        ways = self.scale, self.batch_size, *self._preparing
        with contextlib.closing(_ahead(self._read, len(self))) as reader:
            for images, labels, inside in reader:
                batch = slice_in_order(images, labels, None, 0, *ways)
                yield batch._replace(weights=jnp.asarray(inside, jnp.float32))

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        index = number * self.batch_size + np.arange(self.batch_size)
        inside = index < len(self.labels)
        chosen = np.where(inside, index, 0)  # padding repeats the first example, with weight 0
        return self.images[chosen], self.labels[chosen], inside


class Feeds(NamedTuple):
    """Hold the two feeds of a way to feed: of training and of evaluation."""

    train: type[TrainFeed]
    evaluation: type[EvalFeed]


FEEDS: dict[Feed, Feeds] = {
    "device": Feeds(TrainFeed, EvalFeed),
    "grain": Feeds(StreamedTrainFeed, StreamedEvalFeed),
}
