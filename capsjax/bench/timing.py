"""The one loop that times, and what a step costs: time from it, memory from the compiler."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from capsjax.progress import Reporter
from capsjax.training.loop import CompiledSteps
from capsjax.training.slicing import Epoch
from capsjax.training.state import TrainState

Name = TypeVar("Name")


def alternating_rounds(
    names: Iterable[Name], rounds: int, *, warm_up: int = 1
) -> Iterator[tuple[int, list[Name]]]:
    """Give everyone a turn in each round, so that a noisy machine is noisy to all of them.

    Every second round goes in reverse order, so that nothing always comes after the same one.

    Args:
        names: whose turns they are.
        rounds: how many rounds count.
        warm_up: how many come before those.

    Yields:
        The number of a round, from 1 where it counts and up to 0 where it warms up; and its order.
    """
    forwards = list(names)
    for number in range(1 - warm_up, rounds + 1):
        yield number, forwards if number % 2 else forwards[::-1]


def time_interleaved(
    calls: Mapping[Name, Callable[[], Any]],
    rounds: int,
    *,
    warm_up: int = 1,
    tell: Callable[[int], None] = lambda number: None,
) -> dict[Name, list[float]]:
    """Time calls in turn, round by round.

    Args:
        calls: what to time, by name; what a call returns is waited for.
        rounds: how often each is timed.
        warm_up: how often each is called before that.
        tell: called with the number of each round, as `alternating_rounds` counts, at its end.

    Returns:
        Of each call the seconds of every round.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for number, order in alternating_rounds(calls, rounds, warm_up=warm_up):
        for name in order:
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            if number > 0:
                seconds[name].append(time.perf_counter() - start)
        tell(number)
    return seconds


class Cost(NamedTuple):
    """Hold what one training step costs.

    Attributes:
        seconds: seconds of a step, one for each round.
        temp_bytes: temporary memory of the compiled step, in bytes.
    """

    seconds: tuple[float, ...]
    temp_bytes: int


class TimedStep(NamedTuple):
    """Hold a training step that is to be timed.

    Attributes:
        compiled: its compiled parts.
        state: where to begin, not replicated; it is left as it is.
        epoch: what steps train on: its first batches, again in each round.
        steps: steps of one timing, of which the mean is taken.
    """

    compiled: CompiledSteps
    state: TrainState
    epoch: Epoch
    steps: int = 5


def time_steps(steps: dict[str, TimedStep], *, rounds: int, reporter: Reporter) -> dict[str, Cost]:
    """Time several training steps in turn, so that a noisy machine is noisy to all of them.

    Args:
        steps: what to time, by name.
        rounds: how often each is timed, in alternating order, after one round that does not count.
        reporter: what tells the person who waits.

    Returns:
        The cost of a step, by name.
    """
    reporter.start("timing a step", rounds)
    executables, states = {}, {}
    epochs: dict[int, Epoch] = {}  # several steps may share one

    def arguments(name: str) -> tuple[Any, ...]:
        step = steps[name]
        first = int(step.epoch.first)
        return states[name], epochs[id(step.epoch)], first, first + step.steps

    for name, step in steps.items():
        strategy = step.compiled.strategy
        # Copies: a step takes over the state that it is given.
        states[name] = strategy.replicate(jax.tree.map(lambda x: x.copy(), step.state))
        if id(step.epoch) not in epochs:
            epochs[id(step.epoch)] = strategy.replicate(step.epoch)
        executables[name] = step.compiled.train_steps.lower(*arguments(name)).compile()

    def take_steps(name: str) -> TrainState:
        states[name], _values = executables[name](*arguments(name))
        return states[name]

    calls = {name: partial(take_steps, name) for name in steps}
    seconds = time_interleaved(calls, rounds, tell=reporter.update)
    return {
        name: Cost(
            tuple(taken / steps[name].steps for taken in seconds[name]),
            int(executables[name].memory_analysis().temp_size_in_bytes),
        )
        for name in steps
    }


def ratio(cost: Cost, reference: Cost) -> tuple[float, float, float]:
    """Compare two costs round by round: the one definition of a time beside another in every report.

    Args:
        cost: of one step.
        reference: of the step that it is compared with, in the same rounds.

    Returns:
        Median, lower and upper quartile of the ratios of seconds.
    """
    # Round by round, before the median: what slowed a round slowed both.
    ratios = np.asarray(cost.seconds) / np.asarray(reference.seconds)
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return float(middle), float(low), float(high)
