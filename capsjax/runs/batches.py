"""Any number of images through a network, batch by batch: the memory and the programs of a few."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from capsjax.data import to_float
from capsjax.modules import NetworkOutput
from capsjax.training.state import Params

# So few images make a batch of their own, which one image does not pay for; from 16 on, layers form votes
# as they do for more.
FEW = 16


class Work(NamedTuple):
    """Hold what images go through.

    Attributes:
        apply: from parameters and scaled images to the network's output.
        params: the parameters.
        scale: factor that brings raw pixels to 0 to 1.
        batch_size: the most images that go at once.
    """

    apply: Callable[..., NetworkOutput]
    params: Params
    scale: float
    batch_size: int

    def outputs(self, images: np.ndarray, *, trace: bool) -> NetworkOutput:
        """Return all that the network knows of raw images [n, h, w, c], n from 0."""
        parts = [
            _cut(jax.device_get(_outputs(self.apply, self.params, batch, trace=trace)), count)
            for batch, count in self._batches(images)
        ]
        traces = [part.trace for part in parts]
        whole = _joined([part._replace(trace=None) for part in parts], 0)
        return whole._replace(trace=_joined(traces, 1))

    def classes(self, images: np.ndarray) -> Int[np.ndarray, "n"]:
        """Return the class of each raw image [n, h, w, c], n from 0; nothing else is kept, or drawn."""
        parts = [
            np.asarray(_classes(self.apply, self.params, batch))[:count]
            for batch, count in self._batches(images)
        ]
        return np.concatenate(parts)

    def _batches(self, images: np.ndarray) -> Iterator[tuple[Any, int]]:
        """Cut images into batches of one of two sizes, filled up with black; no images are one of 0."""
        few = min(FEW, self.batch_size)
        for start in range(0, max(1, len(images)), self.batch_size):
            part = images[start : start + self.batch_size]
            size = few if len(part) <= few else self.batch_size
            padded = np.zeros((size, *images.shape[1:]), images.dtype)
            padded[: len(part)] = part
            yield to_float(padded, self.scale), len(part)


def _cut(output: NetworkOutput, count: int) -> NetworkOutput:
    """Leave out what filled a batch up; a trace has its iterations first."""
    trace = jax.tree.map(lambda field: field[:, :count], output.trace)
    return jax.tree.map(lambda field: field[:count], output._replace(trace=None))._replace(
        trace=trace
    )


def _joined(parts: list[Any], axis: int) -> Any:
    return jax.tree.map(lambda *fields: jnp.asarray(np.concatenate(fields, axis)), *parts)


@functools.partial(jax.jit, static_argnames=("apply", "trace"))
def _outputs(apply: Callable[..., Any], params: Params, images: Any, *, trace: bool) -> Any:
    return apply(params, images, trace=trace)


@functools.partial(jax.jit, static_argnames=("apply",))
def _classes(apply: Callable[..., NetworkOutput], params: Params, images: Any) -> Any:
    return apply(params, images).lengths.argmax(-1)
