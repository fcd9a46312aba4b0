"""Train every arm of a comparison with every seed, and write down the results."""

import dataclasses
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsjax import signals
from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.data.source import whole_path
from capsjax.progress import Reporter, Silent
from capsjax.runs import advice, create, description, directory, memory
from capsjax.runs.config import Config, load_config
from capsjax.runs.feeds import check_feed
from capsjax.runs.folder import Folder
from capsjax.runs.lock import locked
from capsjax.runs.sources import check_data, load_data, with_data
from capsjax.schema.text import to_tree
from capsjax.study.design import Design, design, routing_of, variant
from capsjax.study.ledger import RUNS, Trial, outcome, read_ledger, trials_of
from capsjax.study.pool import check_jobs, in_processes, jobs_that_pay
from capsjax.study.remaining import SequentialProgress
from capsjax.study.results import RESULTS, write_results
from capsjax.study.trial_runner import TrialRunner, check_planned, data_keys, moved, says_where
from capsjax.training.notebook import for_python

__all__ = ["compare", "failures", "resume", "routing_of", "stopped", "variant"]

# What of a comparison may change when it is resumed: more runs, and how steps are timed.
GROWING = ("arms", "grid", "modes", "reference", "seeds", "timing_rounds")


def compare(
    config: Config | str | Path,
    data: Any = None,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    reporter: Reporter | None = None,
    jobs: int | None = 1,
) -> Path:
    """Train every arm of a comparison with every seed, and measure what a step of each costs.

    Within a seed all arms begin with the same parameters, as far as their shapes allow, and see the same
    batches, where their data and batch sizes are the same. A run that fails is written down, and the
    others go on.

    Args:
        config: a configuration, a path to one, or the name of one that ships with the package; its field
            `compare` says which arms and how many seeds.
        data: the user's own arrays, in the forms that `train` takes; None for the configuration's.
        out: the comparison's directory, which must be new; None for `runs/compare-<name>-<UTC time>`.
        name: what it is called; None for the configuration's own name.
        reporter: what tells of progress; None for a line that changes in a notebook, and silence elsewhere.
        jobs: how many processes train at once, each on processor cores of its own; the results are the
            same to the bit. None for as many as pay: two on a CPU where networks are small.

    Returns:
        The directory, as an absolute path; it holds `comparison.json`, and below `runs/` one run's
        directory for each arm and seed. `report` draws it.

    Raises:
        UserError: If the configuration, an arm, the data or the directory is not as it should be.
    """
    if not isinstance(config, Config):
        name = name or Path(config).stem
        config = load_config(config)
    reporter = for_python(reporter)
    config, data = with_data(config, data)
    config = _found_anywhere(config)
    designed = design(config)
    check_jobs(1 if jobs is None else jobs)
    # A last seed that is out of range is refused before the first run.
    dataclasses.replace(config, seed=config.seed + config.compare.seeds - 1)
    datasets = _load(config, designed, data, reporter)
    signals.advise(signals.advice(), whole=True)  # not that of the run which follows
    place = None if out is None else Path(out)
    first, described = next(iter(datasets.values())).name, _describe(config, datasets)
    left_out = [*dict.fromkeys(line for one in datasets.values() for line in one.left_out)]
    del datasets  # each run loads its own
    with signals.held():  # a directory without its files could not be resumed
        folder = create.create(place, f"compare-{name or first}", stopped=stopped)
        directory.write_config(folder, config)
        directory.write_json(folder / "environment.json", described)
        directory.write_left_out(folder, left_out)
        (folder / RUNS).mkdir()
    return _carry_out(folder, config, designed, data, reporter, jobs)


def resume(
    run_dir: str | Path,
    data: Any = None,
    *,
    overrides: Mapping[str, object] | None = None,
    reporter: Reporter | None = None,
    jobs: int | None = 1,
) -> Path:
    """Resume a comparison: its runs that are missing, stopped or failed, then what steps cost.

    Each run ends as if it had never stopped, to the bit; what is finished is left as it is.

    Args:
        run_dir: the comparison's directory.
        data: the user's own arrays, as `compare` got them, where they were such.
        overrides: `compare.seeds`, to add seeds; further arms (`compare.arms`, `compare.modes`) or values of
            the grid; `data.path`, `data.folder` and the like, where the data are now elsewhere;
            `training.eval_batch_size`, `training.feed`. They are written into its `config.yaml`.
        reporter: what tells of progress; None for silence.
        jobs: how many processes train at once; None for as many as pay.

    Returns:
        The directory, an absolute path.

    Raises:
        UserError: If there is no such comparison, it is finished and nothing is added, another process
            carries it out, the data are not those it began with, or the overrides would change or drop runs.
    """
    folder, reporter = Path(run_dir).absolute(), reporter or Silent()
    before = directory.read_config(folder)
    if not directory.is_comparison(folder):
        call, command = advice.how_to_resume(folder, before)
        part = directory.comparison_of(folder) is not None and Folder(folder).tested is None
        what = "comparison that it belongs to" if part else "run"
        got = f"{folder}: got a single run, expected a comparison; resume the {what}: "
        raise UserError(got + call, on_command_line=got + command)
    config = directory.read_config(folder, overrides)
    if config != before:
        config, data = with_data(config, data)
        config = _found_anywhere(config)
    designed = design(config)
    check_jobs(1 if jobs is None else jobs)
    _check_grown(before, config, designed, overrides or {})
    dataclasses.replace(config, seed=config.seed + config.compare.seeds - 1)
    datasets = _load(config, designed, data, reporter)
    begun = _begun_with(folder, design(before))
    for name, dataset in datasets.items():
        if begun.get(name, dataset.fingerprint()) != dataset.fingerprint():
            raise UserError(
                f"{folder}: got data whose SHA-256 is {dataset.fingerprint()[:12]}..., expected "
                f"{begun[name][:12]}..., that of the data the comparison began with"
            )
    if config == before and stopped(folder) is None:
        got = f"{folder}: got a comparison that is finished, expected one that stopped; to see it: "
        command = f"capsjax report {shlex.quote(str(folder))}"
        raise UserError(f"{got}capsjax.report({str(folder)!r})", on_command_line=got + command)
    if config != before:
        with locked(folder, reporter.say):
            (folder / RESULTS).unlink(missing_ok=True)  # until there are those of all runs
            found = directory.read_json(folder / "environment.json")
            directory.write_json(folder / "environment.json", found | _datasets(datasets))
            directory.write_config(folder, config)
    return _carry_out(folder, config, designed, data, reporter, jobs)


def stopped(folder: Path) -> Config | None:
    """Return the configuration of a comparison that is not finished; None if there is no such one."""
    try:
        config = directory.read_config(folder)
        trials = trials_of(folder, config, design(config))
        whole = (folder / RESULTS).exists() and all(Folder(trial.path).tested for trial in trials)
        return config if directory.is_comparison(folder) and not whole else None
    except (UserError, OSError):
        return None


def failures(folder: Path) -> str:
    """Say which runs of a comparison failed, why, and how to try them again; nothing if none did."""
    config = directory.read_config(folder)
    entries = read_ledger(folder, config, design(config))
    lost = [entry for entry in entries if entry.state == "failed"]
    if not lost:
        return ""
    few = "; ".join(f"{entry.trial}" for entry in lost[:4]) + ("; ..." if len(lost) > 4 else "")
    done = sum(entry.state == "done" for entry in entries)
    return (
        f"{folder}: {len(lost)} of {len(entries)} runs failed ({few}), {done} are done; the first "
        f"failed with: {lost[0].why}\n  to try them again: {advice.how_to_resume(folder, config)[1]}"
    )


def _carry_out(
    folder: Path, config: Config, designed: Design, data: Any, reporter: Reporter, jobs: int | None
) -> Path:
    """Train what of a comparison is not trained yet, measure costs, and write down the results.

    What is done is read off the directories of its runs; nothing else keeps account of it.
    """
    _, command = advice.how_to_resume(folder, config)
    signals.advise(f"Resume with: {command}", whole=True)
    trials = trials_of(folder, config, designed)
    runner = TrialRunner(config, designed, data)
    try:
        with locked(folder, reporter.say):
            for trial in trials:  # before any is trained
                check_planned(trial.path, trial.config)
            missing = [trial for trial in trials if Folder(trial.path).tested is None]
            for path in (trial.path for trial in missing if trial.path.is_dir()):
                # A process of a comparison that was killed saves before it ends: its run has not failed.
                with locked(path, reporter.say):
                    pass
            jobs = min(jobs_that_pay(missing, runner) if jobs is None else jobs, len(missing))
            if jobs > 1:
                in_processes(folder, missing, jobs, runner, reporter)
            else:
                _one_by_one(trials, runner, reporter)
            write_results(folder, config, designed, runner, reporter)
    except OSError as error:
        error.add_note(f"resume with: {command}")
        raise
    words = failures(folder)
    if words and type(reporter) is Silent:
        warnings.warn(words, UserWarning, stacklevel=3)
    return folder


def _one_by_one(trials: list[Trial], runner: TrialRunner, reporter: Reporter) -> None:
    """Train the runs that are missing, one after another, in this process."""
    progress = SequentialProgress(
        reporter, sum(Folder(trial.path).tested is None for trial in trials)
    )
    for done, trial in enumerate(trials, start=1):
        tell = reporter.say
        if Folder(trial.path).tested is None:
            progress.begin(trial.path.name)
            runner.run(trial, progress)
            tell = progress.end
        tell(f"{done}/{len(trials)} {outcome(trial)}")


def _found_anywhere(config: Config) -> Config:
    """Return a comparison whose arms say where their data are, from wherever it is read again."""

    def found(key: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(found(key, inner) for inner in value)
        if isinstance(value, Mapping):
            return {name: found(f"{key}.{name}", inner) for name, inner in value.items()}
        return whole_path(value) if says_where(key) and isinstance(value, str) else value

    compared = config.compare
    arms = {n: {key: found(key, v) for key, v in arm.items()} for n, arm in compared.arms.items()}
    grid = {key: found(key, values) for key, values in compared.grid.items()}
    return dataclasses.replace(config, compare=dataclasses.replace(compared, arms=arms, grid=grid))


def _load(config: Config, designed: Design, data: Any, reporter: Reporter) -> dict[str, Dataset]:
    """Load the data of every arm, by the name of the first that learns from them, and check each arm."""
    datasets: dict[str, Dataset] = {}
    of: dict[Any, Dataset] = {}
    for name, arm in designed.arms.items():
        source = arm.config.data
        if data is not None and source != config.data:
            raise UserError(
                f"arm {name!r}: got data of its own, {source!r}, beside arrays for all arms, expected one of "
                "the two: leave out the argument data, or the arm's data"
            )
        if source not in of:
            of[source] = datasets[name] = load_data(arm.config, data, reporter)
            check_data(arm.config, of[source], data, reporter)
        try:
            check_feed(arm.config, of[source])
            memory.check_held(arm.config, of[source])
        except UserError as error:
            if len(designed.arms) == 1 or not config.compare.arms:
                raise
            raise error.within(f"arm {name!r}") from error
    return datasets


def _describe(config: Config, datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    first = next(iter(datasets.values()))
    return description.describe(config, first) | _datasets(datasets)


def _datasets(datasets: Mapping[str, Dataset]) -> dict[str, Any]:
    """Describe several data sets, each by the first arm that learns from it; nothing of a single one."""
    described = {name: description.describe_data(dataset) for name, dataset in datasets.items()}
    return {"datasets": described} if len(described) > 1 else {}


def _begun_with(folder: Path, designed: Design) -> dict[str, str]:
    """Return the fingerprints of the data that a comparison began with, as `_load` names them."""
    first = description.read_data(folder)["fingerprint"]
    recorded = directory.read_json(folder / "environment.json").get("datasets", {})
    several = {name: str(data.get("fingerprint")) for name, data in recorded.items()}
    return several or {next(iter(designed.arms)): first}


def _check_grown(
    before: Config, after: Config, designed: Design, overrides: Mapping[str, object]
) -> None:
    """Check that a comparison that is resumed has all its runs as they were, and maybe more."""
    got = f"overrides: got {', '.join(map(str, overrides))}"
    trees = [to_tree(moved(before, after)), to_tree(after)]
    for tree in trees:
        tree["compare"] = {k: v for k, v in tree["compare"].items() if k not in GROWING}
    if trees[0] != trees[1]:
        places = dict.fromkeys((*data_keys(), *(f"data.{k}" for k in before.data.place_keys())))
        free = "training.eval_batch_size", "training.feed"
        expected = [*(f"compare.{k}" for k in GROWING), *places, *free]
        raise UserError(
            f"{got}, expected {', '.join(expected)} alone: a "
            "comparison is resumed as it began, with more runs if you like"
        )
    if after.compare.seeds < before.compare.seeds:
        raise UserError(
            f"compare.seeds: got {after.compare.seeds}, expected at least the {before.compare.seeds} that "
            "the comparison has: seeds can be added, not taken away",
            argument="compare.seeds",
        )
    if before.compare == after.compare:
        return
    for name, arm in design(before).arms.items():
        new = designed.arms.get(name)
        if (
            new is None
            or dataclasses.replace(
                moved(arm.config, new.config), compare=new.config.compare, data=new.config.data
            )
            != new.config
        ):
            what = "without the arm" if new is None else "with other settings of the arm"
            raise UserError(
                f"{got}, {what} {name!r}, expected every arm as it was: arms can be added, not changed"
            )
