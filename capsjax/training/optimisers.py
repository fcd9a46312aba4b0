"""Learning-rate schedules and optimisers, as frozen values: nodes of a configuration."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from capsjax.checks import FieldError, check_float, check_int, check_type
from capsjax.training.state import Params, group_of
from capsjax.types import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Variant, abc.ABC):
    """Define how the learning rate depends on the step.

    Args:
        rate: the learning rate at the first step.
    """

    rate: float = 1e-3

    def __post_init__(self):
        check_float(self, "rate", low=0.0, open_low=True)

    @abc.abstractmethod
    def make(self, total_steps: int) -> optax.Schedule:
        """Return the learning rate as a function of the step, for a run of so many steps."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Keep the learning rate as it is.

    Args:
        rate: the learning rate.
        kind: its name in a configuration.
    """

    kind: Literal["constant"] = "constant"

    def make(self, total_steps: int) -> optax.Schedule:
        """Return the constant."""
        del total_steps
        return optax.constant_schedule(self.rate)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """Multiply the learning rate by `decay` every `every` steps, down to a floor, continuously.

    The defaults are those of Sabour, Frosst and Hinton's released code; 0.96 every 20,000 steps from
    0.003 is what the authors of the 2018 paper answered.

    Args:
        rate: the learning rate at the first step.
        decay: the factor, above 0 and at most 1.
        every: steps for one such factor.
        floor: the least learning rate.
        kind: its name in a configuration.
    """

    decay: float = 0.96
    every: int = 2000
    floor: float = 1e-6
    kind: Literal["exponential"] = "exponential"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "decay", low=0.0, high=1.0, open_low=True)
        check_int(self, "every", low=1)
        check_float(self, "floor", low=0.0)

    def make(self, total_steps: int) -> optax.Schedule:
        """Return max(floor, rate * decay^(step / every))."""
        del total_steps
        return optax.exponential_decay(self.rate, self.every, self.decay, end_value=self.floor)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """Multiply the learning rate by `factor` at given steps, as Hahn 2019 and Tsai 2020 did.

    Args:
        rate: the learning rate at the first step.
        boundaries: the steps, ascending.
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
        check_float(self, "factor", low=0.0, open_low=True)

    def make(self, total_steps: int) -> optax.Schedule:
        """Return rate * factor^(boundaries passed)."""
        del total_steps
        steps = dict.fromkeys(self.boundaries, self.factor)
        return optax.piecewise_constant_schedule(self.rate, steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Warm up linearly, then fall along half a cosine to nothing at the last step.

    Args:
        rate: the highest learning rate.
        warmup: steps until it is reached.
        kind: its name in a configuration.
    """

    warmup: int = 0
    kind: Literal["cosine"] = "cosine"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "warmup", low=0)

    def make(self, total_steps: int) -> optax.Schedule:
        """Return the schedule over so many steps."""
        if self.warmup >= total_steps:
            expected = f"less than the {total_steps} steps of the run: train longer, or set it to 0"
            raise FieldError("optimiser.schedule", "warmup", self.warmup, expected)
        start = 0.0 if self.warmup else self.rate
        return optax.warmup_cosine_decay_schedule(start, self.rate, self.warmup, total_steps)


def freeze(
    optimiser: optax.GradientTransformation, groups: Iterable[str]
) -> optax.GradientTransformation:
    """Keep groups of parameters as they are, to the bit; the optimiser remembers nothing of them.

    Args:
        optimiser: what trains the others.
        groups: names of groups: what stands before the first dot of a parameter's name. Without any, the
            optimiser is returned as it is.

    Returns:
        A transformation of updates under dotted names.
    """
    frozen = frozenset(groups)
    if not frozen:
        return optimiser

    def labels(params: Params) -> dict[str, str]:
        return {name: "frozen" if group_of(name) in frozen else "trained" for name in params}

    # Adding -0 changes no bit of any number; adding 0 would make 0 of -0.
    still = optax.stateless(
        lambda updates, _: jax.tree.map(lambda x: jnp.full_like(x, -0.0), updates)
    )
    return optax.multi_transform({"trained": optimiser, "frozen": still}, labels)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Describe the Adam optimiser.

    Args:
        schedule: the learning rate at each step.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        epsilon: added to the root of the latter.
        kind: its name in a configuration.

    Reference:
        Kingma and Ba 2015; the defaults are the released code's of Sabour, Frosst and Hinton 2017.
    """

    schedule: Schedule = Exponential()
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    kind: Literal["adam"] = "adam"

    def __post_init__(self):
        check_type(self, "schedule", Schedule, "a schedule such as Constant() or Cosine()")
        for field in ("beta1", "beta2"):
            check_float(self, field, low=0.0)
            if getattr(self, field) >= 1:
                expected = "a number of at least 0 and less than 1"
                raise FieldError("Adam", field, getattr(self, field), expected)
        check_float(self, "epsilon", low=0.0, open_low=True)

    def make(self, total_steps: int) -> optax.GradientTransformation:
        """Return the Optax transformation for a run of so many steps."""
        schedule = self.schedule.make(total_steps)
        return optax.adam(schedule, b1=self.beta1, b2=self.beta2, eps=self.epsilon)
