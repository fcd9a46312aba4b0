"""What a step costs: time from an interleaved pass, memory from the compiler."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from capsjax.progress import Reporter
from capsjax.training.feed import Epoch
from capsjax.training.loop import Program
from capsjax.training.state import TrainState


class Cost(NamedTuple):
    """Hold what one training step costs.

    Attributes:
        seconds: seconds of a step, one for each round.
        temp_bytes: temporary memory of the compiled step, in bytes.
    """

    seconds: tuple[float, ...]
    temp_bytes: int


class Work(NamedTuple):
    """Hold a training step that is to be timed.

    Attributes:
        program: its compiled parts.
        state: where to begin, not replicated; it is left as it is.
        epoch: what steps train on: its first batches, again in each round.
        steps: steps of one timing, of which the mean is taken.
    """

    program: Program
    state: TrainState
    epoch: Epoch
    steps: int = 5


def measure_costs(
    programs: dict[str, Program],
    state: TrainState,
    epoch: Epoch,
    *,
    rounds: int,
    reporter: Reporter,
    steps: int = 5,
) -> dict[str, Cost]:
    """Time a step of several programs in turn, on the same state and batches.

    Args:
        programs: what to time, by name.
        state: where to begin, not replicated; it is left as it is.
        epoch: what steps train on: its first batches, again in each round.
        rounds: how often each is timed, in alternating order, after one round that does not count.
        reporter: what tells the person who waits.
        steps: steps of one timing, of which the mean is taken.

    Returns:
        The cost of a step, by name.
    """
    works = {name: Work(program, state, epoch, steps) for name, program in programs.items()}
    return time_in_turn(works, rounds=rounds, reporter=reporter)


def time_in_turn(works: dict[str, Work], *, rounds: int, reporter: Reporter) -> dict[str, Cost]:
    """Time several training steps in turn, so that a noisy machine is noisy to all of them.

    Args:
        works: what to time, by name.
        rounds: how often each is timed, in alternating order, after one round that does not count.
        reporter: what tells the person who waits.

    Returns:
        The cost of a step, by name.
    """
    reporter.start("timing a step", rounds)
    compiled, states, seconds = {}, {}, {name: [] for name in works}
    epochs: dict[int, Epoch] = {}  # several works may share one

    def arguments(name: str) -> tuple[Any, ...]:
        work = works[name]
        first = int(work.epoch.first)
        return states[name], epochs[id(work.epoch)], first, first + work.steps

    for name, work in works.items():
        strategy = work.program.strategy
        states[name] = strategy.replicate(jax.tree.map(lambda x: x.copy(), work.state))
        if id(work.epoch) not in epochs:
            epochs[id(work.epoch)] = strategy.replicate(work.epoch)
        compiled[name] = work.program.train_steps.lower(*arguments(name)).compile()
    for number in range(rounds + 1):
        order = list(works) if number % 2 else list(works)[::-1]
        for name in order:
            start = time.perf_counter()
            states[name], _values = jax.block_until_ready(compiled[name](*arguments(name)))
            if number > 0:  # round 0 warms up
                seconds[name].append((time.perf_counter() - start) / works[name].steps)
        reporter.update(number)
    return {
        name: Cost(tuple(seconds[name]), int(compiled[name].memory_analysis().temp_size_in_bytes))
        for name in works
    }


def ratio(cost: Cost, reference: Cost) -> tuple[float, float, float]:
    """Compare two costs round by round.

    Args:
        cost: of one step.
        reference: of the step that it is compared with, in the same rounds.

    Returns:
        Median, least and greatest of the ratios of seconds.
    """
    # Round by round, before the median: what slowed a round slowed both.
    ratios = np.asarray(cost.seconds) / np.asarray(reference.seconds)
    return float(np.median(ratios)), float(ratios.min()), float(ratios.max())
