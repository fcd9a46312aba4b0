"""What every loss of a configuration is: that of the classes and, with a decoder, that of what it draws."""

import abc
import dataclasses
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from capsjax.checks import LARGEST_FLOAT, FieldError, UserError, check_float
from capsjax.losses.reconstruction import reconstruction_loss
from capsjax.schema.variant import Variant
from capsjax.types import Batch, NetworkOutput, PerExample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss(Variant, abc.ABC):
    """Define what training minimises: a loss of the classes and, with a decoder, one of the reconstruction.

    loss = w_label * classes + reconstruction_weight * reconstruction

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: w, in training alone: "balanced" for weights by which every class counts as much,
            however many examples it has; or a number for each class; None for 1. What is measured of a split
            is never weighted.
        kind: its name in a configuration.

    Raises:
        FieldError: If a weight is not a finite number from 0, or none is above.
    """

    # Configurations from before there was a choice need not say which.
    assumed_kind: ClassVar[str | None] = "margin"
    # Whether each class that is present is asked for a score of its own near 1, whatever the others have;
    # and whether scores are taken as probabilities, so that none may be above 1.
    separate: ClassVar[bool] = False
    probabilities: ClassVar[bool] = False

    reconstruction_weight: float = 0.0005
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    kind: str

    def __post_init__(self):
        check_float(self, "reconstruction_weight", low=0.0)
        given = self.class_weights
        if given is None or given == "balanced":
            return
        numbers = isinstance(given, tuple) and all(isinstance(w, int | float) for w in given)
        if not numbers or not all(0 <= w < LARGEST_FLOAT for w in given) or not any(given):
            expected = "balanced, or a finite number from 0 for each class, or nothing"
            raise FieldError(type(self).__name__, "class_weights", given, expected)

    def for_classes(self, counts: Int[np.ndarray, "j"]) -> "Loss":
        """Return the loss with a weight for each class, where it weights them.

        w_j = n / (J n_j), whose mean over the n examples is 1; J classes have examples

        Args:
            counts: how many examples of each class train, [j].

        Returns:
            The loss.

        Raises:
            UserError: If there are more or fewer weights than classes.
        """
        given = self.class_weights
        if given == "balanced":
            there = counts > 0
            weights = np.ones(len(counts))  # of a class without examples it does not matter
            weights[there] = counts.sum() / (there.sum() * counts[there])
            return dataclasses.replace(self, class_weights=tuple(weights.tolist()))
        if given is not None and len(given) != len(counts):
            raise UserError(
                f"loss.class_weights: got {len(given)} for {len(counts)} classes, expected one for each, or "
                "balanced",
                argument="loss.class_weights",
            )
        return self

    def __call__(self, output: NetworkOutput, batch: Batch) -> PerExample:
        """Measure each example.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            `loss`, what is minimised; the loss of the classes under the loss's own `kind`; and
            `reconstruction`, unweighted, 0 without a decoder, of several images their sum; each [b].
        """
        classes = self.of_classes(output, batch)
        if self.class_weights is not None:
            if self.class_weights == "balanced":
                raise UserError(
                    f"{type(self).__name__}: got class_weights='balanced', expected numbers: take them from "
                    "how often each class trains, loss.for_classes(np.bincount(labels))"
                )
            weights = jnp.asarray(self.class_weights, classes.dtype)  # [j]
            own = weights[batch.labels]  # [b], or [b, k], whose mean an example counts
            classes = classes * (own if own.ndim == 1 else own.mean(axis=-1))
        reconstruction = jnp.zeros_like(
            classes
        )  # a column of `metrics.jsonl` without a decoder too
        if output.reconstruction is not None:
            # Without class capsules a decoder draws one image, of all that there is to see.
            targets = batch.images
            if batch.targets is not None and output.reconstruction.ndim == batch.targets.ndim:
                targets = batch.targets
            reconstruction = reconstruction_loss(output.reconstruction, targets)  # [b], or [b, k]
            if reconstruction.ndim == 2:
                reconstruction = reconstruction.sum(axis=-1)  # of every image that was drawn
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
