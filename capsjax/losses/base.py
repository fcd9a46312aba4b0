"""What every loss of a configuration is: that of the classes and, with a decoder, that of what it draws."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import check_float
from capsjax.losses.reconstruction import reconstruction_loss
from capsjax.schema.variant import Variant
from capsjax.types import Batch, NetworkOutput, PerExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss(Variant, abc.ABC):
    """Define what training minimises: a loss of the classes and, with a decoder, one of the reconstruction.

    loss = classes + reconstruction_weight * reconstruction

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        kind: its name in a configuration.
    """

    # Configurations from before there was a choice need not say which.
    assumed_kind: ClassVar[str | None] = "margin"

    reconstruction_weight: float = 0.0005
    kind: str

    def __post_init__(self):
        check_float(self, "reconstruction_weight", low=0.0)

    def __call__(self, output: NetworkOutput, batch: Batch) -> PerExample:
        """Measure each example.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            `loss`, what is minimised; the loss of the classes under the loss's own `kind`; and
            `reconstruction`, unweighted, 0 without a decoder; each [b].
        """
        classes = self.of_classes(output, batch)
        reconstruction = jnp.zeros_like(
            classes
        )  # a column of `metrics.jsonl` without a decoder too
        if output.reconstruction is not None:
            reconstruction = reconstruction_loss(output.reconstruction, batch.images)
        return {
            "loss": classes + self.reconstruction_weight * reconstruction,
            self.kind: classes,
            "reconstruction": reconstruction,
        }

    @abc.abstractmethod
    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure how far the class capsules are from what the labels ask.

        Args:
            output: what the network knows of the batch; `lengths` are the activations of its class capsules.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
