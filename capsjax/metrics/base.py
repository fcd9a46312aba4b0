"""What every metric of a configuration is."""

import abc
import dataclasses

import numpy as np
from jaxtyping import Array, Float

from capsjax.schema.variant import Variant
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric(Variant, abc.ABC):
    """Define a number that is measured of a batch in training, and of a whole split at evaluation.

    It is a mean over examples, or follows from means over examples: `result` of the mean of what the metric
    returns for each, so that any number of batches and devices gives the same.

    Args:
        kind: its name in a configuration.
    """

    kind: str

    @property
    def name(self) -> str:
        """What it is called in `metrics.jsonl`: its kind, unless it says otherwise."""
        return self.kind

    @abc.abstractmethod
    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b ..."]:
        """Measure each example.

        Args:
            output: what the network knows of the batch.
            batch: images and labels.

        Returns:
            One or several numbers for each example, [b, ...], whose mean over examples `result` takes.
        """

    def result(self, mean: Float[np.ndarray, "..."]) -> float:
        """Return the metric of the mean over examples, [...], on the host; here the mean itself, []."""
        # Once for a whole split, after the sum over its batches, however many devices shared them.
        return float(mean)
