"""How long a run trains, and how, as a configuration says it."""

import dataclasses

from capsjax.checks import LARGEST_INT, FieldError, UserError, check_choice, check_int
from capsjax.training.parallel import Parallel
from capsjax.training.stream import Feed


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Describe how long and how to train.

    Args:
        batch_size: examples in a step, over all devices.
        epochs: times through the training split; None if `steps` is given.
        steps: optimiser steps; None if `epochs` is given.
        eval_every: epochs between two validations; the last step always has one.
        eval_batch_size: examples in a step of evaluation, over all devices.
        log_every: steps between two lines of training metrics.
        checkpoint_every: epochs between two checkpoints; the last step always writes one.
        keep_checkpoints: how many of the newest checkpoints stay; None keeps all.
        parallel: how several devices share a batch, "jit" or "pmap".
        feed: "device" for the whole set on the devices; "grain" for part after part of it, to the same bits,
            where it does not fit there, by Grain (`pip install 'capsjax[grain]'`).
        freeze: groups of parameters that stay as they are, to the bit, such as "stem" and "primary".

    Raises:
        FieldError: If a value is out of range, or not exactly one of epochs and steps is given.
    """

    batch_size: int = 128
    epochs: int | None = None
    steps: int | None = None
    eval_every: int = 1
    eval_batch_size: int = 500
    log_every: int = 50
    checkpoint_every: int = 1
    keep_checkpoints: int | None = 3
    parallel: Parallel = "jit"
    feed: Feed = "device"
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        counts = ("batch_size", "eval_every", "eval_batch_size", "log_every", "checkpoint_every")
        for field in counts:
            check_int(self, field, low=1)
        for field in ("epochs", "steps", "keep_checkpoints"):
            if getattr(self, field) is not None:
                check_int(self, field, low=1)
        if (self.epochs is None) == (self.steps is None):
            expected = "one of epochs and steps to be an integer, the other "
            in_config = f"{expected}null: set training.epochs or training.steps to null"
            raise FieldError("TrainingConfig", "epochs", self.epochs, f"{expected}None", in_config)
        check_choice(self, "parallel", ("jit", "pmap"))
        check_choice(self, "feed", ("device", "grain"))
        groups = self.freeze if isinstance(self.freeze, tuple) else ("", "")
        if not all(isinstance(group, str) and group for group in groups) or len({*groups}) != len(
            groups
        ):
            expected = "of different groups of parameters, such as"
            raise FieldError(
                "TrainingConfig",
                "freeze",
                self.freeze,
                f"a tuple {expected} ('stem', 'primary')",
                f"a list {expected} [stem, primary]",
            )

    def total_steps(self, examples: int) -> int:
        """Return the steps of a run.

        Args:
            examples: the number of training examples.

        Returns:
            Optimiser steps in all epochs.

        Raises:
            UserError: If they do not fill one batch, or there are more steps than can be counted.
        """
        steps_per_epoch = examples // self.batch_size  # what does not fill a batch is left out
        if steps_per_epoch == 0:
            error = UserError(
                f"training.batch_size: got {self.batch_size} for {examples} training examples, "
                f"expected at most {examples}"
            )
            words = ": choose a smaller batch, such as "
            raise error.or_set(words, "training.batch_size", str(max(1, examples // 4)))
        steps = self.steps if self.steps is not None else (self.epochs or 1) * steps_per_epoch
        if steps > LARGEST_INT:
            raise UserError(
                f"training.epochs: got {self.epochs} of {steps_per_epoch} steps, {steps} in all, expected "
                f"at most {LARGEST_INT} steps"
            )
        return steps
