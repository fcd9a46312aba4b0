"""Learning-rate schedules, as frozen values: nodes of a configuration."""

import abc
import dataclasses
from typing import Literal

import optax

from capsjax.checks import FieldError, check_bool, check_float, check_int
from capsjax.schema.variant import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Variant, abc.ABC):
    """Define how the learning rate depends on the step, after a linear warm-up from 0.

    Args:
        rate: the learning rate at the first step, or at the end of the warm-up.
        warmup: the number of steps of the warm-up.
        warmup_fraction: the same as a fraction of the run, below 1; rounded to whole steps.
    """

    rate: float = 1e-3
    warmup: int = 0
    warmup_fraction: float = 0.0

    def __post_init__(self):
        check_float(self, "rate", low=0.0, open_low=True)
        check_int(self, "warmup", low=0)
        check_float(self, "warmup_fraction", low=0.0, high=1.0, open_high=True)
        if self.warmup and self.warmup_fraction:
            expected = f"0 beside warmup = {self.warmup}: a warm-up in steps or as a fraction"
            raise FieldError(type(self).__name__, "warmup_fraction", self.warmup_fraction, expected)

    def make(self, total_steps: int) -> optax.Schedule:
        """Return the learning rate as a function of the step, warm-up included.

        Args:
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from 0, [].

        Raises:
            FieldError: If the warm-up leaves no step of the run.
        """
        if self.warmup >= total_steps:
            expected = f"less than the {total_steps} steps of the run: train longer, or set it to 0"
            raise FieldError("optimiser.schedule", "warmup", self.warmup, expected)
        # A fraction that rounds to the whole run still leaves one step at the full rate.
        share = min(round(self.warmup_fraction * total_steps), total_steps - 1)
        warmup = self.warmup or share
        after = self.after_warmup(warmup, total_steps)
        if not warmup:  # nothing to join, and no comparison in every step
            return after
        # `join_schedules` gives the second function the step counted from the boundary.
        return optax.join_schedules(
            [optax.linear_schedule(0.0, self.rate, warmup), after], [warmup]
        )

    @abc.abstractmethod
    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Return the learning rate after the warm-up.

        Args:
            warmup: steps of the warm-up, less than `total_steps`.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Keep the learning rate as it is.

    Args:
        rate: the learning rate.
        warmup: how many steps it rises from 0 first.
        warmup_fraction: the same as a fraction of the run.
        kind: its name in a configuration.
    """

    kind: Literal["constant"] = "constant"

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Keep the learning rate: rate(step) = rate.

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        del warmup, total_steps
        return optax.constant_schedule(self.rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """Multiply the learning rate by `decay` every `every` steps, down to a floor.

    The defaults are those of Sabour, Frosst and Hinton's released code; 0.96 every 20,000 steps from
    0.003 is what the authors of the 2018 paper answered.

    Args:
        rate: the learning rate at the first step.
        warmup: how many steps it rises from 0 first; the decay counts from their end.
        warmup_fraction: the same as a fraction of the run.
        decay: the factor, above 0 and at most 1.
        every: steps for one such factor.
        floor: the least learning rate.
        staircase: whether it falls at once every `every` steps, instead of continuously.
        kind: its name in a configuration.
    """

    decay: float = 0.96
    every: int = 2000
    floor: float = 1e-6
    staircase: bool = False
    kind: Literal["exponential"] = "exponential"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "decay", low=0.0, high=1.0, open_low=True)
        check_int(self, "every", low=1)
        check_float(self, "floor", low=0.0)
        check_bool(self, "staircase")

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Decay the learning rate: rate(step) = max(floor, rate decay^(step / every)).

        For a staircase the exponent is rounded down.

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        del warmup, total_steps
        # The run's length is not in it: a run that is lengthened later follows the same curve.
        return optax.exponential_decay(
            self.rate, self.every, self.decay, staircase=self.staircase, end_value=self.floor
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """Multiply the learning rate by `factor` at given steps, as Hahn 2019 and Tsai 2020 did.

    Args:
        rate: the learning rate at the first step.
        warmup: how many steps it rises from 0 first; the boundaries come after them.
        warmup_fraction: the same as a fraction of the run; a boundary within takes effect at its end.
        boundaries: the steps, ascending, counted from the beginning of the run.
        factor: the factor at each.
        kind: its name in a configuration.
    """

    boundaries: tuple[int, ...] = ()
    factor: float = 0.1
    kind: Literal["piecewise"] = "piecewise"

    def __post_init__(self):
        super().__post_init__()
        steps = self.boundaries
        whole = isinstance(steps, tuple) and all(type(step) is int and step > 0 for step in steps)
        if not whole or list(steps) != sorted(set(steps)):
            expected = "a tuple of ascending steps, each an integer of at least 1"
            raise FieldError("Piecewise", "boundaries", self.boundaries, expected)
        # Within a warm-up in steps a boundary is a mistake; how long a fraction is, is not known yet.
        if steps and steps[0] < self.warmup:
            expected = f"steps of at least {self.warmup}, where the warm-up ends"
            raise FieldError("Piecewise", "boundaries", self.boundaries, expected)
        check_float(self, "factor", low=0.0, open_low=True)

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Multiply the learning rate at each boundary: rate(step) = rate factor^(boundaries passed).

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        del total_steps
        # Optax counts from the end of the warm-up. A boundary within the warm-up, which a fraction of the run
        # can cover, becomes negative, and so has been passed from the first step on.
        steps = {boundary - warmup: self.factor for boundary in self.boundaries}
        return optax.piecewise_constant_schedule(self.rate, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falling(Schedule, abc.ABC):
    """Fall from the end of the warm-up to a floor, which the last step reaches.

    Args:
        rate: the highest learning rate.
        warmup: steps until it is reached.
        warmup_fraction: the same as a fraction of the run.
        floor: the learning rate at the end of the run, at most `rate`.
    """

    floor: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "floor", low=0.0)
        if self.floor > self.rate:
            expected = f"at most rate = {self.rate:g}, from which the learning rate falls"
            raise FieldError(type(self).__name__, "floor", self.floor, expected)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Falling):
    """Fall along half a cosine, to nothing unless there is a floor, after a warm-up if wanted.

    Args:
        rate: the highest learning rate.
        warmup: steps until it is reached.
        warmup_fraction: the same as a fraction of the run.
        floor: the learning rate at the end of the run.
        kind: its name in a configuration.

    Reference:
        Loshchilov and Hutter 2017, equation 5, without restarts.
    """

    kind: Literal["cosine"] = "cosine"

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Lower the learning rate along half a cosine.

        rate(step) = floor + (rate - floor) (1 + cos(pi step / (total_steps - warmup))) / 2

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        share = self.floor / self.rate  # Optax takes the floor as a fraction of the rate
        return optax.cosine_decay_schedule(self.rate, total_steps - warmup, share)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(Falling):
    """Fall along a line, to nothing unless there is a floor.

    Args:
        rate: the highest learning rate.
        warmup: steps until it is reached.
        warmup_fraction: the same as a fraction of the run.
        floor: the learning rate at the end of the run.
        kind: its name in a configuration.
    """

    kind: Literal["linear"] = "linear"

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Lower the learning rate along a line.

        rate(step) = floor + (rate - floor) (1 - step / (total_steps - warmup))

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        return optax.linear_schedule(self.rate, self.floor, total_steps - warmup)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Polynomial(Falling):
    """Fall along a power of what is left of the run, to nothing unless there is a floor.

    Args:
        rate: the highest learning rate.
        warmup: steps until it is reached.
        warmup_fraction: the same as a fraction of the run.
        floor: the learning rate at the end of the run.
        power: the exponent, above 0; 1 is a line.
        kind: its name in a configuration.
    """

    power: float = 2.0
    kind: Literal["polynomial"] = "polynomial"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "power", low=0.0, open_low=True)

    def after_warmup(self, warmup: int, total_steps: int) -> optax.Schedule:
        """Lower the learning rate along a power of the rest of the run.

        rate(step) = floor + (rate - floor) (1 - step / (total_steps - warmup))^power

        Args:
            warmup: steps of the warm-up.
            total_steps: optimiser steps of the whole run.

        Returns:
            A function of the step, counted from the end of the warm-up, [].
        """
        return optax.polynomial_schedule(self.rate, self.floor, self.power, total_steps - warmup)
