"""Whether classes are as often right as their scores say."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from capsjax.checks import check_int
from capsjax.metrics.base import Metric
from capsjax.metrics.error import correct
from capsjax.types import Batch, NetworkOutput


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationError(Metric):
    """Describe the expected calibration error, of the highest score as a probability.

    ECE = sum_n |sum of confidences - number of correct examples| / examples, over the examples of bin n

    The 2017 paper takes the length of a class capsule as the probability that the class is there.

    Args:
        bins: how many bins of equal width there are between 0 and 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If `bins` is not an integer of at least 1.

    Reference:
        Guo, Pleiss, Sun and Weinberger 2017, equation 5.
    """

    bins: int = 15
    kind: Literal["calibration_error"] = "calibration_error"

    def __post_init__(self):
        check_int(self, "bins", low=1)

    def __call__(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b bins"]:
        """Return confidence - 1 or 0 for right or wrong, in the bin of the confidence, else 0, [b, bins].

        Of k labels it is the mean over the k highest scores, each right if it is one of them.
        """
        if batch.labels.ndim == 1:
            confidence = output.lengths.max(axis=-1).astype(jnp.float32)  # [b]
            right = correct(output.lengths, batch.labels)
            return self._in_bins(confidence, right)
        confidence, taken = jax.lax.top_k(output.lengths, batch.labels.shape[1])  # [b, k]
        right = (taken[:, :, None] == batch.labels[:, None]).any(axis=-1)  # [b, k]
        return self._in_bins(confidence.astype(jnp.float32), right).mean(axis=1)

    def _in_bins(
        self, confidence: Float[Array, "*n"], right: Bool[Array, "*n"]
    ) -> Float[Array, "*n bins"]:
        place = jnp.clip(jnp.ceil(confidence * self.bins) - 1, 0, self.bins - 1)
        # A bin has its upper end: with 15, 1/15 is in the first.
        chosen = jax.nn.one_hot(place.astype(jnp.int32), self.bins)  # [*n, bins]
        # Signed, so that the mean over examples gives each bin's difference, whose size `result` takes.
        return (confidence - right.astype(jnp.float32))[..., None] * chosen  # [*n, bins]

    def result(self, mean: Float[np.ndarray, "bins"]) -> float:
        """Return the sum of the absolute means of the bins, [bins]."""
        return float(np.abs(mean).sum())
