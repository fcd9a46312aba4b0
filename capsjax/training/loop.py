"""The loop: steps, a metrics line now and then, validation and a checkpoint every epoch."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from capsjax import room, signals
from capsjax.checks import LARGEST_INT, FieldError, UserError, check_choice, check_int
from capsjax.progress import Reporter
from capsjax.training import checkpoints
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.parallel import Compiled, Parallel, Strategy
from capsjax.training.state import Params, TrainState
from capsjax.training.step import Sums
from capsjax.training.writers import MetricsWriter


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Describe how long and how to train.

    Args:
        batch_size: examples in a step, over all devices.
        epochs: times through the training split; None where `steps` is given.
        steps: optimiser steps; None where `epochs` is given.
        eval_batch_size: examples in a step of evaluation, over all devices.
        log_every: steps between two lines of training metrics.
        checkpoint_every: epochs between two checkpoints; the last step always writes one.
        keep_checkpoints: how many of the newest checkpoints stay; None keeps all.
        parallel: how several devices share a batch, "jit" or "pmap".
        freeze: groups of parameters that stay as they are, to the bit, such as "stem" and "primary".

    Raises:
        FieldError: where a value is out of range, or not exactly one of epochs and steps is given.
    """

    batch_size: int = 128
    epochs: int | None = None
    steps: int | None = None
    eval_batch_size: int = 500
    log_every: int = 50
    checkpoint_every: int = 1
    keep_checkpoints: int | None = 3
    parallel: Parallel = "jit"
    freeze: tuple[str, ...] = ()

    def __post_init__(self):
        for field in ("batch_size", "eval_batch_size", "log_every", "checkpoint_every"):
            check_int(self, field, low=1)
        for field in ("epochs", "steps", "keep_checkpoints"):
            if getattr(self, field) is not None:
                check_int(self, field, low=1)
        if (self.epochs is None) == (self.steps is None):
            expected = "one of epochs and steps to be an integer, the other "
            in_config = f"{expected}null: set training.epochs or training.steps to null"
            raise FieldError("TrainingConfig", "epochs", self.epochs, f"{expected}None", in_config)
        check_choice(self, "parallel", ("jit", "pmap"))
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
        """Return the steps of a run on so many training examples.

        Raises:
            UserError: where they do not fill one batch, or there are more steps than can be counted.
        """
        steps_per_epoch = examples // self.batch_size
        if steps_per_epoch == 0:
            raise UserError(
                f"training.batch_size: got {self.batch_size} for {examples} training examples, "
                f"expected at most {examples}: choose a smaller batch"
            )
        steps = self.steps if self.steps is not None else (self.epochs or 1) * steps_per_epoch
        if steps > LARGEST_INT:
            raise UserError(
                f"training.epochs: got {self.epochs} of {steps_per_epoch} steps, {steps} in all, expected "
                f"at most {LARGEST_INT} steps"
            )
        return steps


@dataclasses.dataclass(frozen=True)
class Program:
    """Hold the compiled parts of a run.

    Attributes:
        strategy: how devices share the work.
        train_steps: from a state, an epoch and the numbers of steps to the state after them and the mean
            values of the last batch.
        eval_step: from parameters and a shared batch to sums and a count.
        remedy: what to change where the loss or a parameter is not finite.
        results: by name what makes a number of a mean over examples, where it is not a number already.
    """

    strategy: Strategy
    train_steps: Compiled
    eval_step: Compiled
    remedy: str = "choose a smaller learning rate (optimiser.schedule.rate)"
    results: Mapping[str, Callable[[np.ndarray], float]] = dataclasses.field(default_factory=dict)

    def numbers(self, means: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Make numbers of means over examples, each [] or [...]."""
        return {name: self.results.get(name, float)(mean) for name, mean in means.items()}


def fit(
    program: Program,
    state: TrainState,
    feed: TrainFeed,
    validation: EvalFeed | None,
    *,
    config: TrainingConfig,
    total_steps: int,
    writer: MetricsWriter,
    folder: Path,
    reporter: Reporter,
    label: str = "training",
    observe: Callable[[int, TrainState], None] | None = None,
) -> TrainState:
    """Train from a state to the last step.

    Args:
        program: the compiled steps.
        state: where to begin, not replicated; its step says how far it is. It is used up.
        feed: training batches.
        validation: examples to validate on at the end of every epoch, or None.
        config: batch size, logging, checkpoints.
        total_steps: the step to train to.
        writer: where metrics go.
        folder: where checkpoints go.
        reporter: what tells the person who waits.
        label: what the reporter calls the run.
        observe: called with the number of epochs done and the state (not replicated) before the first
            step, where no epoch is under way, and after every epoch; it must not keep the state, whose
            arrays the next step reuses.

    Returns:
        The state after the last step, not replicated.

    Raises:
        UserError: where the loss or a parameter is not finite after a call of the device; nothing is
            measured or saved of that state.
        Interrupted: If a signal asked to end, after the state was saved.
    """
    strategy, first = program.strategy, int(state.step)

    def check_finite(loss: Array, params: Params, step: int) -> None:
        found = _not_finite(strategy.unreplicate(loss), strategy.unreplicate(params), step)
        if found is not None:
            raise UserError(f"{label}: {found}; {program.remedy}")

    reporter.start(label, total_steps, first)
    if observe is not None and first == 0:
        observe(0, _copied(state))
    if first > 0:
        reporter.say(f"{label}: resuming from step {first} of {total_steps}")
    state, note, validated = strategy.replicate(state), "", ""
    examples, pace, done = None, _Pace(), first
    at_end = first > 0 and first % feed.steps_per_epoch == 0
    if observe is not None and at_end:  # on the same devices as after an epoch: to the bit the same
        observe(first // feed.steps_per_epoch, _copied(strategy.unreplicate(state)))
    if at_end and validation is not None and not writer.has("validation", first):
        # A signal came while it was measured.
        writer.write("validation", first, evaluate(program, state.params, validation))
    clock, since = time.perf_counter(), first
    while done < total_steps:
        epoch, within = divmod(done, feed.steps_per_epoch)
        if examples is None:
            examples = strategy.replicate(feed.epoch(epoch))
        elif within == 0:  # the images stay where they are
            examples = examples._replace(**strategy.replicate(feed.turn(epoch)))
        # Numbers, validation and checkpoints come between calls.
        line, end = _after(done, config.log_every), _after(done, feed.steps_per_epoch)
        start, done = done, min(done + pace.steps, line, end, total_steps)
        if start == first:
            with signals.released(True):  # what is compiled here is what is called below
                compiled = program.train_steps.lower(state, examples, start, done).compile()
                room.check_program(compiled, f"{label}: a training step", room.REMEDY + room.ANEW)
        with pace.timing(done - start), signals.released(start == first):
            state, values = jax.block_until_ready(program.train_steps(state, examples, start, done))
        epoch, within = divmod(done, feed.steps_per_epoch)
        ends = within == 0 or done == total_steps
        check_finite(values["loss"], state.params if ends else {}, done)
        if done % config.log_every == 0 or done == total_steps:
            numbers = program.numbers(_on_host(strategy.unreplicate(values)))
            now = time.perf_counter()
            numbers["images_per_second"] = (done - since) * feed.cut.batch_size / (now - clock)
            clock, since = now, done
            note = f"loss {numbers['loss']:.4f}"
            writer.write("train", done, numbers)
        if not ends:
            reporter.update(done, note + validated)
        else:
            pause = time.perf_counter()
            if validation is not None:
                try:
                    numbers = evaluate(program, state.params, validation)
                except signals.Interrupted:
                    checkpoints.save(folder, strategy.unreplicate(state), config.keep_checkpoints)
                    raise
                writer.write("validation", done, numbers)
                validated = f", validation error {100 * numbers['error']:.2f} %"
            reporter.update(done, note + validated)
            here = strategy.unreplicate(state)
            if (within == 0 and epoch % config.checkpoint_every == 0) or done == total_steps:
                checkpoints.save(folder, here, config.keep_checkpoints)
            if observe is not None and within == 0:
                observe(epoch, _copied(here))
            clock += time.perf_counter() - pause
        if signals.asked() and done < total_steps:
            check_finite(values["loss"], state.params, done)
            checkpoints.save(folder, strategy.unreplicate(state), config.keep_checkpoints)
            signals.check()
    return strategy.unreplicate(state)


def _not_finite(loss: Float[Array, ""], params: Params, step: int) -> str | None:
    """Say what is not finite after a step: the loss, or else the parameters, by name; None where all is.

    The host looks, and at parameters only before they are measured or saved: the longest of capsules of
    NaN is class 0, whose error looks like a number. Between, a parameter that is NaN makes the next step's
    loss NaN. In the program that takes the steps, one look at every parameter took 4 % of a small step.
    """
    if not math.isfinite(loss):
        return f"got a loss of {float(loss)} at step {step}, expected a finite number"
    names = ", ".join(name for name, value in params.items() if not np.isfinite(value).all())
    if not names:
        return None
    return f"got parameters that are not finite ({names}) at step {step}, expected finite ones"


def _copied(state: TrainState) -> TrainState:
    """Return a state that may be kept: the next call of the device takes the arrays of this one."""
    return jax.tree.map(jnp.copy, state)


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
        """Time a call of so many steps, and choose the next: at most twice as many as the last."""
        begun = time.perf_counter()
        yield
        # The first call compiles, and takes long for that.
        fitting = self.SECONDS * steps / (time.perf_counter() - begun)
        self.steps = max(1, int(min(fitting, 2 * self.steps)))


def _after(step: int, every: int) -> int:
    """Return the next multiple of `every`."""
    return (step // every + 1) * every


def evaluate(
    program: Program, params: Params, feed: EvalFeed, reporter: Reporter | None = None
) -> dict[str, float]:
    """Measure every example of a split, the ragged last batch included.

    Args:
        program: the compiled steps.
        params: parameters, replicated as the program's strategy wants them.
        feed: the examples.
        reporter: what tells the person who waits, if anything should.

    Returns:
        Means over all examples, and their number as `examples`.

    Raises:
        Interrupted: If a signal asked to end.
    """
    strategy, totals = program.strategy, dict[str, np.ndarray]()
    if reporter is not None:
        reporter.start("evaluating", len(feed))
    for number, batch in enumerate(feed):
        signals.check()
        # Fetched before the next: of several sums over devices under way at once, each can hold threads
        # that another waits for. Added up on the host, in double precision: 67 of 10,000 is 0.0067.
        part = program.eval_step(params, strategy.share(batch))
        sums = _on_host(strategy.unreplicate(part))
        totals = {name: value + totals.get(name, 0.0) for name, value in sums.items()}
        if reporter is not None:
            reporter.update(number + 1)
    count = totals.pop("count")
    means = {name: np.asarray(total / count) for name, total in totals.items()}
    return program.numbers(means) | {"examples": float(count)}


def _on_host(values: Sums) -> dict[str, np.ndarray]:
    """Fetch values, in double precision."""
    return {name: np.asarray(value, np.float64) for name, value in jax.device_get(values).items()}
