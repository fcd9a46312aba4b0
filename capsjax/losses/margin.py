"""The margin loss of the 2017 paper, and as its released code scales it."""

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from capsjax.checks import UserError, check_choice, check_float, nearest
from capsjax.losses.base import Loss
from capsjax.losses.labels import class_lengths, labels_of, presence
from capsjax.numerics import compute_dtype
from capsjax.types import Batch, NetworkOutput

MarginPreset = Literal["paper", "released"]
PRESETS = get_args(MarginPreset)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarginLoss(Loss):
    """Describe the margin loss: a present class should be long, and an absent one short.

    Args:
        reconstruction_weight: what the sum of squared pixel differences is multiplied by.
        class_weights: what each class counts in training, as `Loss` has it.
        margin: "paper" for the formula, "released" for the released code's smaller scale.
        positive_margin: the length from which a present class costs nothing.
        negative_margin: the length up to which an absent class costs nothing.
        down_weight: the weight of absent classes.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the margin is unknown.

    Reference:
        Sabour, Frosst and Hinton 2017, equation 4, and their released code.
    """

    separate = True

    margin: MarginPreset = "paper"
    positive_margin: float = 0.9
    negative_margin: float = 0.1
    down_weight: float = 0.5
    kind: Literal["margin"] = "margin"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "margin", PRESETS)
        check_float(self, "positive_margin", low=0.0, high=1.0)
        check_float(self, "negative_margin", low=0.0, high=1.0)
        check_float(self, "down_weight", low=0.0)

    def of_classes(self, output: NetworkOutput, batch: Batch) -> Float[Array, "b"]:
        """Measure the class capsules' lengths by `margin_loss`.

        Args:
            output: what the network knows of the batch.
            batch: images, labels and, in training, its progress.

        Returns:
            The loss of each example, [b].
        """
        return margin_loss(
            output.lengths,
            labels_of(batch, output.lengths),
            positive_margin=self.positive_margin,
            negative_margin=self.negative_margin,
            down_weight=self.down_weight,
            preset=self.margin,
        )


def margin_loss(
    lengths: Float[Array, "*batch j"],
    labels: Num[Array, "..."],
    *,
    positive_margin: float = MarginLoss.positive_margin,
    negative_margin: float = MarginLoss.negative_margin,
    down_weight: float = MarginLoss.down_weight,
    preset: MarginPreset = "paper",
) -> Float[Array, "*batch"]:
    """Penalise a class that is present with a short capsule, or absent with a long one.

    L = sum_k T_k max(0, m+ - |v_k|)^2 + lambda (1 - T_k) max(0, |v_k| - m-)^2

    The paper's formula sums over the classes. The authors' released code halves it and averages over
    the classes, which for ten classes makes it 20 times smaller beside the same reconstruction loss;
    the two presets differ in that alone.

    Args:
        lengths: lengths of the class capsules, 0 to 1, [*batch, j].
        labels: class numbers, integers [*batch], or T itself, [*batch, j], with any number of ones; for an
            example of no class, zeros. A number that no class has is refused where it can be seen; inside
            functions that JAX traces, where it cannot, no class counts as present.
        positive_margin: m+, the length from which a present class costs nothing.
        negative_margin: m-, the length up to which an absent class costs nothing.
        down_weight: lambda, the weight of absent classes.
        preset: "paper" for the formula above, "released" for it divided by 2 j.

    Returns:
        The loss of each example, of the lengths' type, [*batch]; computed in float32 at least.

    Raises:
        UserError: If the preset is unknown, or the labels' shape, type or numbers do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> round(margin_loss(jnp.array([[0.5, 0.5]]), jnp.array([0])).item(), 4)
        0.24

    Reference:
        Sabour, Frosst and Hinton 2017, equation 4, and their released code.
    """
    if preset not in PRESETS:
        raise UserError(
            f"margin_loss: got preset {preset!r}, expected 'paper' or 'released'"
            + nearest(str(preset), PRESETS)
        )
    lengths = class_lengths("margin_loss", lengths)
    wide = lengths.astype(compute_dtype(lengths.dtype))
    present = presence("margin_loss", labels, wide)  # T, [*batch, j]
    # A huge length's square overflows, and where the class is present 0 times that would be NaN.
    huge = float(jnp.finfo(wide.dtype).max) ** 0.5
    beyond = jnp.where((present == 1) & (wide > huge), 0, wide)
    short = jnp.square(jnp.maximum(0, positive_margin - wide))
    long = jnp.square(jnp.maximum(0, beyond - negative_margin))
    loss = jnp.sum(present * short + down_weight * (1 - present) * long, axis=-1)
    # Summed over classes, [*batch]; `released` averages over them, and has a factor of 1/2 of its own.
    loss = loss / (2 * wide.shape[-1]) if preset == "released" else loss
    return loss.astype(lengths.dtype)
