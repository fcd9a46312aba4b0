"""Train runs, and resume those that stopped: what notebooks call, and the command line too."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsjax import signals
from capsjax.checks import UserError
from capsjax.progress import Reporter, Silent
from capsjax.runs import advice, create, description, directory, memory, remedies
from capsjax.runs.config import Config, load_config
from capsjax.runs.evaluation import load
from capsjax.runs.feeds import check_feed
from capsjax.runs.finetune import transfer
from capsjax.runs.finish import Observer, finish
from capsjax.runs.folder import Folder
from capsjax.runs.lock import locked
from capsjax.runs.plan import plan
from capsjax.runs.run import Run
from capsjax.runs.sources import check_data, check_length, check_overrides, load_data, with_data
from capsjax.training import checkpoints
from capsjax.training.notebook import for_python

COMPILING = "compiling"  # the task that takes the first half minute, of which nothing is seen else


def train(
    config: Config | str | Path,
    data: Any = None,
    *,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    name: str | None = None,
    observe: Observer | None = None,
    start: Run | str | Path | None = None,
) -> Run:
    """Train a configuration, and test it once, at the end, with the last parameters.

    Args:
        config: a configuration, a path to one, or the name of one that ships with the package.
        data: the user's own images and labels, NumPy arrays: `(images, labels)` to be split, or a
            mapping with keys train, test and, if wished, validation; the path of a folder of pictures or
            of a file of arrays; a `Source`; None for the configuration's. Of a configuration whose data are
            made from another set, arrays and paths take the place of that, and are changed as it is.
        out: the run's directory, which must be new; None for `runs/<name>-<UTC time>`.
        reporter: what tells of progress; None for a line that changes in a notebook, and silence elsewhere.
        name: what the run is called; None for the configuration's own name.
        observe: called with the epochs done and the state before the first step and after every epoch.
        start: a run, or its directory, to begin with the parameters of, at step 0 and with a new optimiser.
            Layers that do not fit, as where there are other classes, are initialised; the reporter names
            them, or a warning where there is none, and so does `environment.json`.

    Returns:
        The run.

    Raises:
        UserError: If the configuration, the data, the directory or the run to start from is not as it
            should be.
    """
    if not isinstance(config, Config):
        name = name or Path(config).stem
        config = load_config(config)
    reporter = for_python(reporter)
    config, data = with_data(config, data)
    dataset = load_data(config, data, reporter)
    check_data(config, dataset, data, reporter)
    check_feed(config, dataset)
    planned = plan(config, dataset)
    memory.check_held(config, dataset)
    place = None if out is None else Path(out)

    def stopped(path: Path) -> Config | None:
        return Folder(path).stopped

    create.check_place(place, stopped=stopped)
    donor = load(start) if isinstance(start, str | Path) else start
    reporter.start(COMPILING, None)
    memory.check(config, dataset)
    state, described = planned.initial_state(config.seed), description.describe(config, dataset)
    if donor is not None:
        taken, anew = transfer(donor.variables, state.variables)
        state = state._replace(
            params={name: taken[name] for name in state.params},
            statistics={name: taken[name] for name in state.statistics},
        )
        origin = {"folder": str(donor.folder), "step": donor.step, "initialised": anew}
        described |= {"start": origin}
        if anew:
            line = f"start: initialised, as they do not fit {donor.folder}: {', '.join(anew)}"
            checkpoints.warn(line) if isinstance(reporter, Silent) else reporter.say(line)
    with signals.held():  # a directory without its files could not be resumed
        folder = create.create(place, name or dataset.name, stopped=stopped)
        directory.write_config(folder, config)
        directory.write_json(folder / "environment.json", described)
        directory.write_left_out(folder, dataset.left_out)
        if donor is not None:  # what resumes before the first epoch is over has these to begin with
            checkpoints.save(folder / "checkpoints", state)
        signals.advise(f"Resume with: {advice.how_to_resume(folder, config)[1]}")
    with locked(folder, reporter.say):
        return finish(config, dataset, planned, folder, state, reporter, observe)


def resume(
    run_dir: str | Path,
    data: Any = None,
    *,
    overrides: Mapping[str, object] | None = None,
    reporter: Reporter | None = None,
    observe: Observer | None = None,
) -> Run:
    """Resume a run that stopped, from its newest checkpoint, as if it never had, to the bit.

    A checkpoint that is damaged is passed over for the one before, kept as `<step>.damaged`, and written
    anew. So is the last one of a finished run, where it is damaged or gone.

    Args:
        run_dir: the run's directory.
        data: the user's own arrays, as `train` got them, where the run was trained on such.
        overrides: `training.epochs` or `training.steps`, to lengthen a run, finished or not;
            `training.eval_batch_size` or `training.feed`, where memory is short; `data.path` or
            `data.folder`, where its data are now elsewhere. They are written into its `config.yaml`. The
            learning rate is that of a run so long from the beginning: constant, exponential and piecewise
            schedules without a `warmup_fraction` do not depend on the length, so the result is that of such a
            run, to the bit; along a cosine, a line or a polynomial it rises again, to where the longer one
            would be.
        reporter: what tells of progress; None for a line in a notebook, else for warnings of damage alone.
        observe: as `train` takes it; the state that is resumed from is shown again.

    Returns:
        The run.

    Raises:
        UserError: If there is no such run, it is finished, another process trains it, the data are not
            those it began with, or the overrides change anything else or end before the step that was
            planned or reached.
    """
    quiet = reporter is None or type(reporter) is Silent
    folder, say = Path(run_dir).absolute(), checkpoints.warn if quiet else reporter.say
    reporter = for_python(reporter)
    before, config = directory.read_config(folder), directory.read_config(folder, overrides)
    check_overrides(before, config, overrides or {})
    if (folder / "runs").is_dir():
        got = f"{folder}: got a comparison, expected a single run; resume the comparison: "
        call, command = advice.how_to_resume(folder, config)
        raise UserError(got + call, on_command_line=got + command)
    dataset = load_data(config, data, reporter)
    begun = description.read_data(folder)["fingerprint"]
    if dataset.fingerprint() != begun:
        raise UserError(
            f"{folder}: got data whose SHA-256 is {dataset.fingerprint()[:12]}..., expected "
            f"{begun[:12]}..., that of the data the run began with"
        )
    check_feed(config, dataset)
    planned = plan(config, dataset)
    memory.check_held(config, dataset, folder=folder)
    begun_from_another = "start" in directory.read_json(folder / "environment.json")
    with locked(folder, say):
        initial = state = planned.initial_state(config.seed)
        kept = folder / "checkpoints"
        if checkpoints.steps(kept):
            try:
                state = checkpoints.restore(kept, initial, say=say, finite=False)
                remedies.check_finite(folder, config, state)  # the same steps end there again
            except checkpoints.DamagedError as error:
                if begun_from_another:
                    raise
                say(f"{error}; starting from step 0, to the same bits")
        elif begun_from_another:
            got = (
                f"{kept}: got no checkpoint, expected at least that of step 0, with the parameters that the "
                "run began with; start again: "
            )
            call, command = advice.how_to_train_anew(folder, config, {})
            raise UserError(got + call, on_command_line=got + command)
        step, tested = int(state.step), directory.tested_step(folder)
        check_length(before, config, len(dataset.train), max(step, tested or 0))
        if tested is not None and planned.total_steps <= tested <= step:
            raise _finished(folder, config)
        reporter.start(COMPILING, None)  # only where there is something to train
        memory.check(config, dataset, folder=folder)
        if config != before:
            directory.write_config(folder, config)
        signals.advise(f"Resume with: {advice.how_to_resume(folder, config)[1]}")
        checkpoints.set_aside(kept, after=int(state.step))
        return finish(config, dataset, planned, folder, state, reporter, observe)


def _finished(folder: Path, config: Config) -> UserError:
    """Say of a run that is finished how it is measured again, and how lengthened."""
    got = f"{folder}: got a run that is finished, expected one that stopped; "
    longer = ("", "")
    if directory.comparison_of(folder) is None:  # which takes no run of another length
        field = "epochs" if config.training.steps is None else "steps"
        more = {f"training.{field}": 2 * getattr(config.training, field)}
        longer = [
            f"to lengthen it: {how}\n  " for how in advice.how_to_resume(folder, config, more)
        ]
    data = ", data" if advice.has_arrays(config) else ""
    call = f"to measure it again: capsjax.evaluate({str(folder)!r}{data})"
    command = f"to measure it again: capsjax evaluate {shlex.quote(str(folder))}"
    if data:
        command = call.replace(": ", ": in Python, ", 1)
    return UserError(got + longer[0] + call, on_command_line=got + longer[1] + command)
