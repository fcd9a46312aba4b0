"""The loop: it takes steps, and yields the moments between them to whoever writes, validates and saves."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from capsjax import signals
from capsjax.checks import UserError
from capsjax.progress import Reporter
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.parallel import StepFunction, Strategy
from capsjax.training.state import Params, TrainState
from capsjax.training.step import Evaluated, Sums


@dataclasses.dataclass(frozen=True)
class CompiledSteps:
    """Hold the compiled parts of a run.

    Attributes:
        strategy: how devices share the work.
        train_steps: from a state, an epoch and the numbers of steps to the state after them and the mean
            values of the last batch.
        eval_step: from parameters and a shared batch to sums and a count, and what is kept of examples.
        remedy: what to change if the loss or a parameter is not finite.
        results: by name what makes a number of a mean over examples, if it is not a number already.
    """

    strategy: Strategy
    train_steps: StepFunction
    eval_step: StepFunction
    remedy: str = "choose a smaller learning rate (optimiser.schedule.rate)"
    results: Mapping[str, Callable[[np.ndarray], float]] = dataclasses.field(default_factory=dict)

    def numbers(self, means: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Make numbers of means over examples, each [] or [...]."""
        return {name: self.results.get(name, float)(mean) for name, mean in means.items()}


@dataclasses.dataclass(frozen=True)
class Moment:
    """Hold where training stands, between two calls of the device.

    Attributes:
        step: steps taken since the run began.
        epoch: how many epochs these are, or None within one.
        total_steps: the step that training ends with.
        state: the state on all devices, which the next step uses up; see `copy`.
        values: mean values of the last batch, on the devices, see `numbers`; empty before the first step.
        compiled: what took the steps.
        label: what the run is called in messages.
    """

    step: int
    epoch: int | None
    total_steps: int
    state: TrainState
    values: dict[str, jax.Array]
    compiled: CompiledSteps
    label: str

    @property
    def is_first(self) -> bool:
        """Whether no step was taken yet, since the beginning or since the run was resumed."""
        return not self.values

    @property
    def is_last(self) -> bool:
        """Whether no step follows."""
        return self.step >= self.total_steps

    def numbers(self) -> dict[str, float]:
        """Fetch the mean values of the last batch."""
        return self.compiled.numbers(_on_host(self.compiled.strategy.unreplicate(self.values)))

    def on_one_device(self) -> TrainState:
        """Return the state as it looks on one device, to be saved before the next step."""
        return self.compiled.strategy.unreplicate(self.state)

    def copy(self) -> TrainState:
        """Return a copy of the state that the next step leaves as it is."""
        return jax.tree.map(jnp.copy, self.on_one_device())

    def check_finite(self, *, params: bool = True) -> None:
        """Check that training may continue from here, on the host.

        In the program that takes the steps, one look at every parameter took 4 % of a small step. A parameter
        that is NaN makes the next step's loss NaN; so it is enough to look at parameters before they are
        measured or saved: the longest of capsules of NaN is class 0, whose error looks like a number.

        Args:
            params: whether to look at the parameters beside the loss.

        Raises:
            UserError: If the loss or a parameter is not finite; parameters are named.
        """
        strategy = self.compiled.strategy
        loss = float(strategy.unreplicate(self.values["loss"]))
        looked_at = strategy.unreplicate(self.state.variables) if params else {}
        names = ", ".join(name for name, x in looked_at.items() if not np.isfinite(x).all())
        found = f"a loss of {loss}" if not math.isfinite(loss) else ""
        expected = "a finite number" if found else "finite ones"
        if not found and names:
            found = f"parameters that are not finite ({names})"
        if found:
            raise UserError(
                f"{self.label}: got {found} at step {self.step}, expected {expected}; "
                f"{self.compiled.remedy}"
            )


def fit(
    compiled: CompiledSteps,
    state: TrainState,
    feed: TrainFeed,
    *,
    total_steps: int,
    log_every: int = 50,
    label: str = "training",
) -> Iterator[Moment]:
    """Train from a state to the last step, one moment after another.

    What a moment is for, the caller decides: to log, validate, save, or stop by leaving the loop. The first
    is before any step; the others come after each call of the device, which ends at every multiple of
    `log_every` and at the end of every epoch.

    Args:
        compiled: the compiled steps.
        state: where to begin, not replicated; its step says how far it is. It is used up.
        feed: where the batches come from.
        total_steps: the step to train to.
        log_every: steps between two moments that come for certain.
        label: what the run is called in messages.

    Yields:
        The moments.

    Raises:
        UserError: If the loss is not finite after a call of the device, or a parameter at the end of an epoch
            or of training, of which there is no moment then.
    """
    strategy, first = compiled.strategy, int(state.step)
    state, pace, done = strategy.replicate(state), _Pace(), first

    def moment(values: dict[str, jax.Array]) -> Moment:
        epoch, within = divmod(done, feed.steps_per_epoch)
        ended = None if within else epoch
        return Moment(done, ended, total_steps, state, values, compiled, label)

    yield moment({})
    for examples, end in feed.parts(first, total_steps, strategy.replicate):
        while done < end:
            # Who logs, validates and saves does so between calls.
            start, done = done, min(done + pace.steps, _after(done, log_every), end)
            with pace.timing(done - start), signals.released(start == first):
                state, values = jax.block_until_ready(
                    compiled.train_steps(state, examples, start, done)
                )
            reached = moment(values)
            reached.check_finite(params=reached.epoch is not None or reached.is_last)
            yield reached


class _Pace:
    """Choose how many steps the device takes in one call.

    Within a call nothing waits for the host, and the host sees nothing: progress and Ctrl-C wait for its
    end. So it should be short, but long beside the time that it takes to make a call.
    """

    SECONDS = 0.25

    def __init__(self):
        self.steps = 1

    @contextlib.contextmanager
    def timing(self, steps: int) -> Iterator[None]:
        """Time a call, and choose the steps of the next: at most twice as many as of the last."""
        begun = time.perf_counter()
        yield
        # The first call compiles, and takes long for that.
        fitting = self.SECONDS * steps / (time.perf_counter() - begun)
        self.steps = max(1, int(min(fitting, 2 * self.steps)))


def _after(step: int, every: int) -> int:
    """Return the next multiple of `every`."""
    return (step // every + 1) * every


class Measured(NamedTuple):
    """Hold what a split was measured to be.

    Attributes:
        numbers: means over all examples, and their number as `examples`.
        lengths: the network's belief in each class, of each example in order, [n, j]; None where the steps
            keep none.
    """

    numbers: dict[str, float]
    lengths: Float[np.ndarray, "n j"] | None


def evaluate(
    compiled: CompiledSteps,
    params: Params,
    feed: EvalFeed,
    reporter: Reporter | None = None,
    *,
    before: int = 0,
    parts: int = 1,
) -> Measured:
    """Measure every example of a split, the ragged last batch included.

    Args:
        compiled: the compiled steps.
        params: parameters and running statistics, replicated as the strategy wants them.
        feed: the examples.
        reporter: what tells the person who waits, if anything should.
        before: how many feeds of the same length were measured before, which are one task with this one.
        parts: how many there are in all.

    Returns:
        The means, and what is kept of each example.

    Raises:
        Interrupted: If a signal asked to end.
    """
    strategy, totals, kept = compiled.strategy, dict[str, np.ndarray](), []
    if reporter is not None and before == 0:
        reporter.start("evaluating", parts * len(feed))
    for number, batch in enumerate(feed):
        signals.check()
        # Fetched before the next: of several sums over devices under way at once, each can hold threads
        # that another waits for. Added up on the host, in double precision: 67 of 10,000 is 0.0067.
        part: Evaluated = compiled.eval_step(params, strategy.share(batch))
        part = strategy.unreplicate(part)
        sums = _on_host(part.sums)
        if part.lengths is not None:  # what fills a batch up comes last
            kept.append(np.asarray(part.lengths, np.float32)[: int(sums["count"])])
        totals = {name: value + totals.get(name, 0.0) for name, value in sums.items()}
        if reporter is not None:
            reporter.update(before * len(feed) + number + 1)
    count = totals.pop("count")
    means = {name: np.asarray(total / count) for name, total in totals.items()}
    numbers = compiled.numbers(means) | {"examples": float(count)}
    return Measured(numbers, np.concatenate(kept) if kept else None)


def _on_host(values: Sums) -> dict[str, np.ndarray]:
    """Fetch values, in double precision."""
    return {name: np.asarray(value, np.float64) for name, value in jax.device_get(values).items()}
