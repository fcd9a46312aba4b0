"""Any number of images through a network, batch by batch: the memory and the programs of a few."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from capsjax.checks import UserError
from capsjax.data import Augmentation, to_float
from capsjax.data.augment.base import judged
from capsjax.layers import NetworkOutput
from capsjax.memory import room
from capsjax.training.state import Params

# Few images make a batch of a size of its own, so that one image does not cost a whole batch; from 16 on,
# layers form votes as they do for more.
FEW = 16
_FITTING: set[Any] = set()  # programs that were looked at: compiled ones, which are kept as long


class Predictor(NamedTuple):
    """Predict images, any number of them, batch by batch.

    Attributes:
        apply: from parameters and scaled images to the network's output.
        params: the parameters, and running statistics where there are any.
        scale: factor that brings raw pixels to 0 to 1.
        batch_size: the most images that go at once.
        drawn: from how many of the longest capsules an image each is drawn.
        augmentations: those of training, which prepare these images too as far as nothing is random.
    """

    apply: Callable[..., NetworkOutput]
    params: Params
    scale: float
    batch_size: int
    drawn: int = 1
    augmentations: tuple[Augmentation, ...] = ()

    def outputs(self, images: np.ndarray, *, trace: bool) -> NetworkOutput:
        """Run the network on images.

        Args:
            images: raw pixels, [n, h, w, c], n from 0.
            trace: whether to return every iteration of the routing.

        Returns:
            All that the network knows of them.
        """
        parts, traces = [], []
        for batch, count in self._batches(images):
            options = {"trace": trace, "drawn": self.drawn}
            self._check(_outputs, batch, **options)
            found = _outputs(self.apply, self.params, batch, **options)
            part, traced = jax.device_get(found)
            parts.append(jax.tree.map(lambda field, n=count: field[:n], part))
            # A trace has its iterations first.
            traces.append(jax.tree.map(lambda field, n=count: field[:, :n], traced))
        return _whole(_joined(parts, 0), _joined(traces, 1))

    def lengths(self, images: np.ndarray) -> Float[np.ndarray, "n j"]:
        """Return the belief in each class for raw images [n, h, w, c], n from 0; nothing is drawn."""
        parts = []
        for batch, count in self._batches(images):
            self._check(_lengths, batch)
            parts.append(np.asarray(_lengths(self.apply, self.params, batch))[:count])
        return np.concatenate(parts)

    def prepared(self, images: np.ndarray) -> Any:
        """Return raw images [n, h, w, c] as they go into the network."""
        return judged(self.augmentations, to_float(images, self.scale)).images

    def _check(self, called: Any, batch: Any, **options: int) -> None:
        """Refuse a batch that does not fit into memory; what is compiled for that is what is called."""
        key = (called, self.apply, batch.shape, *options.items())
        if key in _FITTING:
            return
        try:
            compiled = called.lower(self.apply, self.params, batch, **options).compile()
            room.check_program(compiled, f"images: the network on {len(batch)} at once")
        except room.TooLargeError as error:
            fewer = f"pass at most {FEW} at a time, images[:{FEW}]"
            way_out = fewer if len(batch) > FEW else "train a smaller network"
            raise UserError(f"{error}; {way_out}") from None
        _FITTING.add(key)

    def _batches(self, images: np.ndarray) -> Iterator[tuple[Any, int]]:
        """Cut images into batches of one of two sizes, filled up with black; no images are one of 0."""
        few = min(FEW, self.batch_size)
        for start in range(0, max(1, len(images)), self.batch_size):
            part = images[start : start + self.batch_size]
            size = few if len(part) <= few else self.batch_size
            # Filled up: every size of a batch is a program of its own to compile.
            padded = np.zeros((size, *images.shape[1:]), images.dtype)
            padded[: len(part)] = part
            yield self.prepared(padded), len(part)


def _parts(output: NetworkOutput) -> tuple[NetworkOutput, dict[str, Any]]:
    """Part an output from its traces, and from what the last of its layers holds as well."""
    each = output.layers.items()
    traces = {name: routed.trace for name, routed in each}
    layers = OrderedDict((name, routed._replace(trace=None)) for name, routed in each)
    without: Any = output
    return without._replace(coupling=None, trace=None, layers=layers), traces


def _whole(output: NetworkOutput, traces: dict[str, Any]) -> NetworkOutput:
    """Put an output together again."""
    each = output.layers.items()
    layers = OrderedDict((name, routed._replace(trace=traces[name])) for name, routed in each)
    if not layers:  # nothing is routed
        return output._replace(layers=layers)
    last = list(layers.values())[-1]
    return output._replace(coupling=last.coupling, trace=last.trace, layers=layers)


def _joined(parts: list[Any], axis: int) -> Any:
    return jax.tree.map(lambda *fields: jnp.asarray(np.concatenate(fields, axis)), *parts)


@functools.partial(jax.jit, static_argnames=("apply", "trace", "drawn"))
def _outputs(
    apply: Callable[..., Any], params: Params, images: Any, *, trace: bool, drawn: int
) -> Any:
    return _parts(apply(params, images, trace=trace, drawn=drawn))


@functools.partial(jax.jit, static_argnames=("apply",))
def _lengths(apply: Callable[..., NetworkOutput], params: Params, images: Any) -> Any:
    return apply(params, images).lengths
