"""Train a run from a state to its end, then test it: what is written, measured, saved and told on the way."""

import shlex
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax

from capsjax import signals
from capsjax.data import Dataset
from capsjax.memory import room
from capsjax.progress import Reporter
from capsjax.runs import advice, memory
from capsjax.runs.config import Config
from capsjax.runs.feeds import eval_feed, train_feed
from capsjax.runs.metrics_file import MetricsWriter
from capsjax.runs.plan import Plan
from capsjax.runs.predictions import Predictions
from capsjax.runs.run import Run
from capsjax.training import checkpoints
from capsjax.training.config import TrainingConfig
from capsjax.training.feed import EvalFeed
from capsjax.training.loop import CompiledSteps, Moment, evaluate, fit
from capsjax.training.state import TrainState

Observer = Callable[[int, TrainState], None]


class Recorder:
    """Write down what a run comes to: lines of metrics, validation, checkpoints, and words on progress.

    Args:
        compiled: the compiled steps.
        training: how often lines and checkpoints are due.
        validation: the examples to validate on at the end of every epoch, or None.
        folder: the run's directory.
        reporter: what tells the person who waits.
        observe: called with the epochs done and a copy of the state before the first step, after every
            epoch, and where a run is resumed between two epochs.
    """

    def __init__(
        self,
        compiled: CompiledSteps,
        training: TrainingConfig,
        validation: EvalFeed | None,
        folder: Path,
        reporter: Reporter,
        observe: Observer | None = None,
    ):
        self._compiled, self._training = compiled, training
        self._validation, self._folder = validation, folder
        self._reporter, self._observe = reporter, observe
        self.metrics = MetricsWriter(folder / "metrics.jsonl")
        self._note, self._validated = "", ""
        self._clock, self._since = 0.0, 0  # when, and after which step, images a second count from

    def record(self, moment: Moment) -> None:
        """Write down what came of the steps since the last moment, and save where that is due.

        Args:
            moment: the first of a run, or of one that is resumed, or one after it.

        Raises:
            Interrupted: If a signal asked to end, after the state was saved.
        """
        step, training = moment.step, self._training
        if moment.is_first:
            self._begin(moment)
            return
        if step % training.log_every == 0 or moment.is_last:
            self._log(moment)
        if moment.epoch is None and not moment.is_last:
            self._tell(step)
        else:
            # What is measured and saved in between is no part of the images a second.
            pause = time.perf_counter()
            try:
                if self._due(moment):
                    self._validated = self._validate(moment)
            except signals.Interrupted:
                self._save(moment)
                raise
            self._tell(step)
            ended = moment.epoch is not None and moment.epoch % training.checkpoint_every == 0
            if ended or moment.is_last:
                self._save(moment)
            self._show(moment)
            self._clock += time.perf_counter() - pause
        # A checkpoint that holds NaN could not be resumed from, so it is not written.
        if signals.asked() and not moment.is_last:
            moment.check_finite()
            self._save(moment)
            signals.check()

    def _begin(self, moment: Moment) -> None:
        """Write down where the run begins, or is resumed; what a signal kept from being measured, too."""
        step, label = moment.step, self._folder.name
        self._reporter.start(label, moment.total_steps, step)
        if step > 0:
            self._reporter.say(f"{label}: resuming from step {step} of {moment.total_steps}")
        self._show(moment)
        # A signal may have ended the run between the last step of an epoch and its validation.
        if step > 0 and self._due(moment) and not self.metrics.has("validation", step):
            self._validate(moment)
        self._clock, self._since = time.perf_counter(), step

    def _log(self, moment: Moment) -> None:
        numbers = moment.numbers()
        now = time.perf_counter()
        images = (moment.step - self._since) * self._training.batch_size
        numbers["images_per_second"] = images / (now - self._clock)
        self._clock, self._since = now, moment.step
        self._note = f"loss {numbers['loss']:.4f}"
        self.metrics.write("train", moment.step, numbers)

    def _due(self, moment: Moment) -> bool:
        """Return whether the validation split is to be measured."""
        every = self._training.eval_every
        return moment.is_last or (moment.epoch is not None and moment.epoch % every == 0)

    def _validate(self, moment: Moment) -> str:
        if self._validation is None:
            return ""
        numbers, _ = evaluate(self._compiled, moment.state.variables, self._validation)
        self.metrics.write("validation", moment.step, numbers)
        return f", validation error {100 * numbers['error']:.2f} %"

    def _tell(self, step: int) -> None:
        self._reporter.update(step, self._note + self._validated)

    def _save(self, moment: Moment) -> None:
        kept = self._training.keep_checkpoints
        checkpoints.save(self._folder / "checkpoints", moment.on_one_device(), kept)

    def _show(self, moment: Moment) -> None:
        if self._observe is not None and moment.epoch is not None:
            self._observe(moment.epoch, moment.copy())  # the next step uses the state up


def finish(
    config: Config,
    dataset: Dataset,
    planned: Plan,
    folder: Path,
    state: TrainState,
    reporter: Reporter,
    observe: Observer | None = None,
) -> Run:
    """Train a run from a state to its last step, then test it once.

    Args:
        config: what is run.
        dataset: its data.
        planned: what the two come to.
        folder: the run's directory.
        state: where to begin; its step says how far it is. It is used up.
        reporter: what tells the person who waits.
        observe: as `Recorder` takes it; it must not change what it is given.

    Returns:
        The run, with the last parameters.

    Raises:
        UserError: If the loss or a parameter is not finite.
        Interrupted: If a signal asked to end, after the state was saved.
    """
    compiled, training = planned.compiled, config.training

    in_order = partial(eval_feed, config, scale=dataset.scale, overlap=dataset.overlap)
    validation = None if dataset.validation is None else in_order(dataset.validation)
    recorder = Recorder(compiled, training, validation, folder, reporter, observe)
    try:
        with signals.held(), room.advising(memory.what_to_lower(config)):
            moments = fit(
                compiled,
                state,
                train_feed(config, dataset.train, planned.slicer),
                total_steps=planned.total_steps,
                log_every=training.log_every,
                label=folder.name,
            )
            for moment in moments:
                recorder.record(moment)
                state = moment.state
        state = compiled.strategy.unreplicate(state)
        variables = compiled.strategy.replicate(state.variables)
        feed = in_order(dataset.test)
        tested, lengths = evaluate(compiled, variables, feed)
        if lengths is not None:
            step, names = planned.total_steps, dataset.class_names or range(dataset.num_classes)
            kept = Predictions.of(dataset.test, lengths, step=step, part="test", pairs=feed.pairs)
            kept.save(folder, names)
        recorder.metrics.write("test", planned.total_steps, tested)
        signals.advise(
            f"The run is complete; see it with: capsjax report {shlex.quote(str(folder))}"
        )
    except (KeyboardInterrupt, OSError) as error:
        error.add_note(f"resume with: {advice.how_to_resume(folder, config)[1]}")
        raise
    finally:
        recorder.metrics.close()
    # On one device, as from a checkpoint: arrays of two runs meet in one expression.
    params, statistics = jax.device_put(
        (state.params, state.statistics), compiled.strategy.devices[0]
    )
    return Run(
        config,
        folder,
        params,
        dataset.scale,
        dataset.image_shape,
        dataset.num_classes,
        planned.total_steps,
        dataset.pixels,
        statistics,
        dataset.class_names,
        dataset.rescaling,
        dataset.labels_per_image,
    )
