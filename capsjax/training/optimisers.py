"""Optimisers, as frozen values: nodes of a configuration; schedules are their learning rates."""

import abc
import dataclasses
from collections.abc import Iterable
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from capsjax.checks import FieldError, check_bool, check_float, check_type
from capsjax.schema.variant import Variant
from capsjax.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    Piecewise,
    Polynomial,
    Schedule,
)
from capsjax.training.state import Params, group_of

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Exponential",
    "Linear",
    "Optimiser",
    "Piecewise",
    "Polynomial",
    "Schedule",
    "freeze",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimiser(Variant, abc.ABC):
    """Define how a gradient becomes a change of the parameters.

    Args:
        schedule: the learning rate at each step.
        clip_norm: the largest L2 norm of the gradient of all trained parameters together; a longer one is
            shortened to it. None leaves it as it is.
    """

    # Configurations from before there was a choice need not say which.
    assumed_kind: ClassVar[str | None] = "adam"

    schedule: Schedule = Exponential()
    clip_norm: float | None = None

    def __post_init__(self):
        check_type(self, "schedule", Schedule, "a schedule such as Constant() or Cosine()")
        if self.clip_norm is not None:
            check_float(self, "clip_norm", low=0.0, open_low=True)

    def make(self, total_steps: int) -> optax.GradientTransformation:
        """Return the Optax transformation of gradients into updates.

        Args:
            total_steps: optimiser steps of the whole run.

        Returns:
            A transformation whose state has the same layout for a run of any length.
        """
        rule = self.rule(self.schedule.make(total_steps))
        if self.clip_norm is None:
            return rule
        # Before the rule: moments see the clipped gradient, and weight decay adds to it unclipped.
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), rule)

    @abc.abstractmethod
    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """Return the transformation of gradients that may have been clipped.

        Args:
            rate: the learning rate as a function of the step.

        Returns:
            An Optax transformation whose updates are added to the parameters.
        """


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

    # A function rather than a tree: the names are not known before Optax gets the parameters.
    def labels(params: Params) -> dict[str, str]:
        return {name: "frozen" if group_of(name) in frozen else "trained" for name in params}

    # Adding -0 changes no bit of any number; adding 0 would make 0 of -0.
    still = optax.stateless(
        lambda updates, _: jax.tree.map(lambda x: jnp.full_like(x, -0.0), updates)
    )
    return optax.multi_transform({"trained": optimiser, "frozen": still}, labels)


def _penalised(rule: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Add a penalty on the weights to the gradient, which a rule's means see, unlike AdamW's decay."""
    # Without one there is no chain, in which the state, as checkpoints have it, would be nested.
    return optax.chain(optax.add_decayed_weights(decay), rule) if decay else rule


def _check_moments(owner: "Adam | AdamW") -> None:
    """Check the numbers that Adam and AdamW share."""
    # At 1 a mean would keep its first value, 0, and the correction of its bias would divide by 0.
    check_float(owner, "beta1", low=0.0, high=1.0, open_high=True)
    check_float(owner, "beta2", low=0.0, high=1.0, open_high=True)
    check_float(owner, "epsilon", low=0.0, open_low=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Optimiser):
    """Describe Adam: the mean of the gradient over the root of the mean of its square.

    Args:
        schedule: the learning rate at each step.
        clip_norm: the largest norm of the gradient; None leaves it as it is.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        epsilon: added to the root of the latter.
        weight_decay: the multiple of every trained parameter, biases included, that is added to its
            gradient, as a penalty of weight_decay / 2 times the squared norm would; unlike `AdamW`'s it goes
            through both means.
        kind: its name in a configuration.

    Reference:
        Kingma and Ba 2015; the defaults are the released code's of Sabour, Frosst and Hinton 2017.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    kind: Literal["adam"] = "adam"

    def __post_init__(self):
        super().__post_init__()
        _check_moments(self)
        check_float(self, "weight_decay", low=0.0)

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """Return -rate m / (sqrt(v) + epsilon), means of g + weight_decay w without their bias towards 0."""
        adam = optax.adam(rate, b1=self.beta1, b2=self.beta2, eps=self.epsilon)
        return _penalised(adam, self.weight_decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Optimiser):
    """Describe Adam with decoupled weight decay, which its moments do not see.

    Args:
        schedule: the learning rate at each step.
        clip_norm: the largest norm of the gradient; None leaves it as it is.
        beta1: decay of the mean of the gradient.
        beta2: decay of the mean of its square.
        epsilon: added to the root of the latter.
        weight_decay: the part of every trained parameter, biases included, that a step at learning rate 1
            would take away.
        kind: its name in a configuration.

    Reference:
        Loshchilov and Hutter 2019, algorithm 2, with the learning rate as a factor of the decay too.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    kind: Literal["adamw"] = "adamw"

    def __post_init__(self):
        super().__post_init__()
        _check_moments(self)
        check_float(self, "weight_decay", low=0.0)

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """Return -rate (m / (sqrt(v) + epsilon) + weight_decay w)."""
        return optax.adamw(
            rate, b1=self.beta1, b2=self.beta2, eps=self.epsilon, weight_decay=self.weight_decay
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimiser):
    """Describe stochastic gradient descent with momentum.

    Args:
        schedule: the learning rate at each step.
        clip_norm: the largest norm of the gradient, before the weight decay; None leaves it as it is.
        momentum: the part of the last step's direction that is kept, below 1; 0 keeps nothing.
        nesterov: whether the gradient is added once more after the momentum, as Nesterov's method does.
        weight_decay: the multiple of every trained parameter, biases included, that is added to its
            gradient, as a penalty of weight_decay / 2 times the squared norm would.
        kind: its name in a configuration.

    Reference:
        Sutskever, Martens, Dahl and Hinton 2013, section 2, with the learning rate outside the velocity.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    kind: Literal["sgd"] = "sgd"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "momentum", low=0.0, high=1.0, open_high=True)
        check_bool(self, "nesterov")
        if self.nesterov and not self.momentum:
            raise FieldError("SGD", "nesterov", True, "False where momentum is 0: there is none")
        check_float(self, "weight_decay", low=0.0)

    def rule(self, rate: optax.Schedule) -> optax.GradientTransformation:
        """Return -rate u, where u = momentum u + g + weight_decay w; for Nesterov g + momentum u."""
        # None rather than 0: with any number Optax keeps a velocity, as large as the parameters.
        descent = optax.sgd(rate, momentum=self.momentum or None, nesterov=self.nesterov)
        return _penalised(descent, self.weight_decay)
