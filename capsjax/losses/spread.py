"""The spread loss of matrix capsules, whose margin may grow in the course of training."""

import abc
import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from capsjax.checks import FieldError, UserError, check_float, plain
from capsjax.losses.base import Loss
from capsjax.losses.labels import class_lengths, labels_of, presence
from capsjax.numerics import compute_dtype
from capsjax.schema.variant import Variant
from capsjax.types import Batch, NetworkOutput


class MarginSchedule(Variant, abc.ABC):
    """Define how a margin depends on how far training is."""

    # Configurations from before there was a choice need not say which.
    assumed_kind: ClassVar[str | None] = "linear"

    @abc.abstractmethod
    def __call__(self, progress: Float[Array, "b"]) -> Float[Array, "b"]:
        """Return the margin.

        Args:
            progress: the share of the run's steps that is done, from 0 to 1, [b].

        Returns:
            The margin, [b].
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearMargin(MarginSchedule):
    """Move a margin along a line, and keep it where that ends.

    Args:
        start: the margin at the first step.
        end: the margin at the end of the line, and at evaluation.
        until: the share of the run's steps that the line takes, above 0 and at most 1.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range.

    Reference:
        Hinton, Sabour and Frosst 2018, section 3, from 0.2 to 0.9.
    """

    start: float = 0.2
    end: float = 0.9
    until: float = 1.0
    kind: Literal["linear"] = "linear"

    def __post_init__(self):
        check_float(self, "start", low=0.0, high=1.0)
        check_float(self, "end", low=0.0, high=1.0)
        check_float(self, "until", low=0.0, high=1.0, open_low=True)

    def __call__(self, progress: Float[Array, "b"]) -> Float[Array, "b"]:
        """Return start + (end - start) min(1, progress / until), [b]."""
        return self.start + (self.end - self.start) * jnp.minimum(1, progress / self.until)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogisticMargin(MarginSchedule):
    """Move a margin along a logistic function: slowly, then fast around its middle, then slowly again.

    The defaults are those of the 2018 paper's released code in a run of 400,000 steps, where the middle is at
    step 200,000 and the width is 50,000 steps; a run of another length stretches them.

    Args:
        start: the margin that it comes from; at the first step it is a little on its way.
        end: the margin that it tends to.
        middle: the share of the run's steps after which it is half-way, 0 to 1.
        width: the share of the run's steps in which its argument grows by 1, above 0.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range.

    Reference:
        google-research, capsule_em/layers.py: 0.2 + 0.79 logistic(step / 50,000 - 4).
    """

    start: float = 0.2
    end: float = 0.99
    middle: float = 0.5
    width: float = 0.125
    kind: Literal["logistic"] = "logistic"

    def __post_init__(self):
        check_float(self, "start", low=0.0, high=1.0)
        check_float(self, "end", low=0.0, high=1.0)
        check_float(self, "middle", low=0.0, high=1.0)
        check_float(self, "width", low=0.0, open_low=True)

    def __call__(self, progress: Float[Array, "b"]) -> Float[Array, "b"]:
        """Return start + (end - start) logistic((progress - middle) / width), [b]."""
        done = jax.nn.sigmoid((progress - self.middle) / self.width)
        return self.start + (self.end - self.start) * done


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpreadLoss(Loss):
    """Describe the spread loss: the right class should be active by a margin more than each other.

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: what each class counts in training, as `Loss` has it.
        margin: the margin, 0 to 1, or how it depends on how far training is; at evaluation it is that of the
            end of training, so that all validations of a run measure the same.
        kind: its name in a configuration.

    Raises:
        FieldError: If the margin is neither a number from 0 to 1 nor a schedule.

    Reference:
        Hinton, Sabour and Frosst 2018, equation 3.
    """

    separate = True

    margin: float | MarginSchedule = LinearMargin()
    kind: Literal["spread"] = "spread"

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.margin, MarginSchedule):
            return
        if isinstance(plain(self.margin), int | float):
            check_float(self, "margin", low=0.0, high=1.0)
            return
        expected = "a number from 0 to 1, or a schedule such as LinearMargin()"
        in_config = "a number from 0 to 1, or a schedule such as {kind: linear}"
        raise FieldError("SpreadLoss", "margin", self.margin, expected, in_config)

    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure the class capsules' activations by `spread_loss`, with the margin of the batch's progress.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
        margin = self.margin
        if isinstance(margin, MarginSchedule):
            # At evaluation, as at the end of training, so that all validations of a run measure the same.
            ended = jnp.ones(output.lengths.shape[:1], jnp.float32)
            margin = margin(ended if batch.progress is None else batch.progress)
        return spread_loss(output.lengths, labels_of(batch, output.lengths), margin=margin)


def spread_loss(
    activation: Float[Array, "*batch j"],
    labels: Num[Array, "..."],
    *,
    margin: float | Float[Array, "..."],
) -> Float[Array, "*batch"]:
    """Penalise a class that is not active by a margin less than one that is present.

    L = sum_t T_t sum_k (1 - T_k) max(0, m - (a_t - a_k))^2

    With one class t present this is the paper's sum over the others. Where several are, each is to be more
    active than each that is not.

    Args:
        activation: activations of the class capsules, 0 to 1, [*batch, j].
        labels: class numbers, integers [*batch], or T itself, [*batch, j], with any number of ones; for an
            example of no class, zeros. A number that no class has is refused where it can be seen; inside
            functions that JAX traces, where it cannot, no class counts as present.
        margin: m, 0 to 1, one number for all or one for each example, [*batch].

    Returns:
        The loss of each example, of the activations' type, [*batch]; computed in float32 at least.

    Raises:
        UserError: If the shape, type or numbers of the labels, or the shape of the margin, do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(spread_loss(jnp.array([[0.5, 0.4]]), jnp.array([0]), margin=0.9).item(), 4)
        0.64

    Reference:
        Hinton, Sabour and Frosst 2018, equation 3.
    """
    activation = class_lengths("spread_loss", activation, argument="activation")
    a = activation.astype(compute_dtype(activation.dtype))
    present = presence("spread_loss", labels, a)  # T, [*batch, j]
    m = jnp.asarray(margin, a.dtype)
    if m.shape not in ((), a.shape[:-1]):
        raise UserError(
            f"spread_loss: margin: got shape {list(m.shape)} for activations {list(a.shape)}, expected a "
            f"number, or one for each example, {list(a.shape[:-1])}"
        )
    m = jnp.broadcast_to(m, a.shape[:-1])[..., None, None]  # [*batch, 1, 1]
    weight = present[..., :, None] * (1 - present[..., None, :])  # [*batch, t, k]
    short = jnp.maximum(0, m - (a[..., :, None] - a[..., None, :]))  # [*batch, t, k]
    # A huge activation's square overflows, and where the pair does not count that would be NaN.
    loss = jnp.sum(weight * jnp.square(jnp.where(weight == 0, 0, short)), axis=(-2, -1))
    return loss.astype(activation.dtype)
