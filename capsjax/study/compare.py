"""Train the same network with several gradient modes, seed by seed, and write down what came out."""

import contextlib
import dataclasses
import math
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from capsjax import signals
from capsjax.bench.timing import measure_costs
from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.gradients import FullGradient, GradientMode, StopGradient, TruncatedGradient
from capsjax.progress import Reporter, Silent
from capsjax.routing import IterativeRouting, Routing, UniformRouting
from capsjax.runs import directory, experiment
from capsjax.runs.config import Config, Mode, load_config
from capsjax.runs.lock import locked
from capsjax.runs.plan import plan
from capsjax.study.alignment import make_alignment
from capsjax.study.remaining import Whole
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.notebook import for_python
from capsjax.training.state import Batch, TrainState
from capsjax.training.writers import MetricsWriter, read_metrics

ALIGNMENT_EXAMPLES = 256
ALIGNMENT = "alignment.jsonl"  # beside the metrics of a run
RUNS = "runs"


def routing_of(mode: Mode, routing: Routing) -> Routing:
    """Return the routing of a configuration with another gradient, or the uniform one.

    Args:
        mode: which one.
        routing: the configuration's; number of iterations and the rest of it stay.

    Raises:
        UserError: where the routing has no iterations to differentiate, so no gradient to choose.
    """
    if mode == "uniform":
        return UniformRouting()
    if not isinstance(routing, IterativeRouting):
        raise UserError(
            f"got a {type(routing).__name__}, expected an iterative routing, whose gradient "
            "can be chosen: set model.routing.kind to dynamic, fixed_point or em"
        )
    if routing.num_iters < 2:
        raise UserError(
            f"got model.routing.num_iters {routing.num_iters}, expected at least 2: the first "
            "coupling is uniform, and every gradient mode is the same"
        )
    gradients: dict[str, GradientMode] = {
        "stop": StopGradient(),
        "truncated": TruncatedGradient(last=1),
        "full": FullGradient(),
    }
    tolerance = getattr(routing, "tolerance", None)
    if tolerance is not None and gradients[mode].differentiates_updates:
        raise UserError(
            f"got model.routing.tolerance {tolerance} with mode {mode}, expected null: this mode "
            "goes back through every update and has to know how many there are"
        )
    return dataclasses.replace(routing, gradient=gradients[mode])


def variant(config: Config, mode: Mode, seed: int) -> Config:
    """Return the configuration of one run of a comparison; only routing and seed differ."""
    model = dataclasses.replace(config.model, routing=routing_of(mode, config.model.routing))
    return dataclasses.replace(config, model=model, seed=seed)


def compare(
    config: Config | str | Path,
    data: Any = None,
    *,
    out: str | Path | None = None,
    name: str | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Train the same network with several gradient modes, seed by seed, and measure what each costs.

    Within a seed every mode begins with the same parameters and sees the same batches.

    Args:
        config: a configuration, a path to one, or the name of one that ships with the package; its field
            `compare` says which modes and how many seeds.
        data: the user's own arrays, in the forms that `train` takes; None for the configuration's.
        out: the comparison's directory, which must be new; None for `runs/compare-<name>-<UTC time>`.
        name: what it is called; None for the configuration's own name.
        reporter: what tells of progress; None for a line that changes in a notebook, and silence elsewhere.

    Returns:
        The directory, as an absolute path; it holds `comparison.json`, and below `runs/` one run's
        directory for each mode and seed. `report` draws it.

    Raises:
        UserError: If the configuration, the data or the directory is not as it should be.
    """
    if not isinstance(config, Config):
        name = name or Path(config).stem
        config = load_config(config)
    reporter = for_python(reporter)
    config = experiment.with_data(config, data)
    dataset = experiment.load_data(config, data, reporter)
    experiment.check_data(config, dataset, data, reporter)
    for mode in config.compare.modes:
        variant(config, mode, config.seed)
    # A last seed that is out of range is refused before the first run.
    dataclasses.replace(config, seed=config.seed + config.compare.seeds - 1)
    signals.advise(signals.advice(), whole=True)  # not that of the run which goes on then
    place = None if out is None else Path(out)
    described = directory.describe(config, dataset)
    with signals.held():  # a directory without its files could not be resumed
        folder = directory.create(place, f"compare-{name or dataset.name}", stopped=_stopped)
        directory.write_config(folder, config)
        directory.write_json(folder / "environment.json", described)
        (folder / RUNS).mkdir()
    return _carry_out(folder, config, data, dataset, reporter)


def resume(run_dir: str | Path, data: Any = None, *, reporter: Reporter | None = None) -> Path:
    """Resume a comparison that stopped: its runs that are missing or stopped, then what they cost.

    Each run ends as if it had never stopped, to the bit; what is finished is left as it is.

    Args:
        run_dir: the comparison's directory.
        data: the user's own arrays, as `compare` got them, where they were such.
        reporter: what tells of progress; None for silence.

    Returns:
        The directory, an absolute path.

    Raises:
        UserError: If there is no such comparison, it is finished, another process carries it out, or the
            data are not those it began with.
    """
    folder, reporter = Path(run_dir).absolute(), reporter or Silent()
    config = directory.read_config(folder)
    if not directory.is_comparison(folder):
        call, command = directory.how_to_resume(folder, config)
        what = "comparison that it belongs to" if "compare.resume" in call else "run"
        came = f"{folder}: got a single run, expected a comparison; resume the {what}: "
        raise UserError(came + call, on_command_line=came + command)
    dataset = experiment.load_data(config, data, reporter)
    begun = directory.read_data(folder)["fingerprint"]
    if dataset.fingerprint() != begun:
        raise UserError(
            f"{folder}: got data whose SHA-256 is {dataset.fingerprint()[:12]}..., expected "
            f"{begun[:12]}..., that of the data the comparison began with"
        )
    if _stopped(folder) is None:
        came = (
            f"{folder}: got a comparison that is finished, expected one that stopped; to see it: "
        )
        command = f"capsjax report {shlex.quote(str(folder))}"
        raise UserError(f"{came}capsjax.report({str(folder)!r})", on_command_line=came + command)
    return _carry_out(folder, config, data, dataset, reporter)


def _stopped(folder: Path) -> Config | None:
    """Return the configuration of a comparison that is not finished; None where there is no such one."""
    try:
        config = directory.read_config(folder)
        runs = runs_of(folder, config).values()
        whole = (folder / "comparison.json").exists() and all(tested(path) for path in runs)
        return config if directory.is_comparison(folder) and not whole else None
    except (UserError, OSError):
        return None


def runs_of(folder: Path, config: Config) -> dict[tuple[Mode, int], Path]:
    """Return the directory of each run of a comparison, by mode and seed, in the order of training."""
    seeds = range(config.seed, config.seed + config.compare.seeds)
    return {
        (mode, seed): folder / RUNS / f"{mode}-seed{seed}"
        for seed in seeds
        for mode in config.compare.modes
    }


def tested(path: Path) -> dict[str, Any] | None:
    """Return the test line of a run's directory; None where the run is not finished, or not there."""
    lines = [line for line in read_metrics(path / "metrics.jsonl") if line["split"] == "test"]
    return lines[-1] if lines else None


def _carry_out(
    folder: Path, config: Config, data: Any, dataset: Dataset, reporter: Reporter
) -> Path:
    """Train what of a comparison is not trained yet, measure costs, and write down what came out.

    What is done is read off the directories of its runs; nothing else keeps account of it.
    """
    _, command = directory.how_to_resume(folder, config)
    signals.advise(f"Resume with: {command}", whole=True)
    variants = {mode: variant(config, mode, config.seed) for mode in config.compare.modes}
    align, runs = _aligner(config, dataset), runs_of(folder, config)
    planned = {run: dataclasses.replace(variants[run[0]], seed=run[1]) for run in runs}
    errors: dict[str, list[float]] = {mode: [] for mode in variants}
    whole = Whole(reporter, sum(tested(path) is None for path in runs.values()))
    try:
        with locked(folder, reporter.say):
            for run, path in runs.items():  # before any is trained
                _check_planned(path, planned[run])
            for done, ((mode, seed), path) in enumerate(runs.items(), start=1):
                if tested(path) is None:
                    whole.begin(path.name)
                    _complete(path, planned[mode, seed], data, whole, _observer(mode, path, align))
                    tell = whole.end
                else:
                    tell = reporter.say
                line = tested(path)
                errors[mode].append(line["error"] if line else math.nan)
                error = f"test error {100 * errors[mode][-1]:.2f} %"
                tell(f"{done}/{len(runs)} {mode}, seed {seed}: {error}")
            costs = _costs(variants, dataset, reporter)
            directory.write_json(
                folder / "comparison.json",
                {
                    "modes": list(variants),
                    "seeds": sorted({seed for _, seed in runs}),
                    "iterations": getattr(config.model.routing, "num_iters", 1),
                    "test_error": errors,
                    "cost": {mode: cost._asdict() for mode, cost in costs.items()},
                    "alignment": [record for run in runs.items() for record in _alignment(*run)],
                },
            )
    except OSError as error:
        error.add_note(f"resume with: {command}")
        raise
    return folder


def _complete(path: Path, config: Config, data: Any, reporter: Reporter, observe: Any) -> None:
    """Train one run of a comparison, or resume it where it stopped."""
    if not _begun(path):
        if path.is_dir():  # killed before there was anything to resume
            shutil.rmtree(path)
        experiment.train(config, data, out=path, reporter=reporter, observe=observe)
        return
    experiment.resume(path, data, reporter=reporter, observe=observe)


def _begun(path: Path) -> bool:
    """Tell whether there is anything of a run to resume."""
    return any(
        (path / name).exists() for name in ("checkpoints", "metrics.jsonl", "environment.json")
    )


def _check_planned(path: Path, config: Config) -> None:
    """Check that a run, finished or not, is the comparison's; one lengthened by itself is not.

    Raises:
        UserError: If it has another configuration.
    """
    if not _begun(path):
        return
    found = directory.read_config(path)
    if found == config:
        return
    training = dataclasses.replace(
        config.training, epochs=found.training.epochs, steps=found.training.steps
    )
    other = "another length" if found == dataclasses.replace(config, training=training) else ""
    raise UserError(
        f"{path}: got {other or 'another configuration'} than the comparison's with this mode and seed, "
        "expected the same; move this run away, and resume the comparison: it trains the run anew"
    )


def _observer(mode: Mode, path: Path, align: Any) -> Callable[[int, TrainState], None] | None:
    """Make what writes down, beside a run's metrics, how its gradients agree."""
    if mode not in ("stop", "full"):
        return None

    def observe(epoch: int, state: TrainState) -> None:
        found = align(epoch, state)
        if found:
            with contextlib.closing(MetricsWriter(path / ALIGNMENT)) as writer:
                writer.write("alignment", int(state.step), {"epoch": epoch} | found)

    return observe


def _alignment(run: tuple[Mode, int], path: Path) -> list[dict[str, Any]]:
    """Read how the gradients of a run agreed, one record for each epoch and group of parameters."""
    records = []
    for line in read_metrics(path / ALIGNMENT, ("alignment",)):
        groups = dict.fromkeys(name.rpartition(".")[0] for name in line if "." in name)
        for group in groups:
            measured = {name: line[f"{group}.{name}"] for name in ("cosine", "norm_ratio")}
            epoch = int(line["epoch"])
            records.append(
                {"mode": run[0], "seed": run[1], "epoch": epoch, "group": group} | measured
            )
    return records


def _aligner(config: Config, dataset: Dataset) -> Any:
    """Make the function that compares stop and full gradient at some epochs of a run."""
    plans = {mode: plan(variant(config, mode, 0), dataset) for mode in ("stop", "full")}
    measure = make_alignment(plans["stop"].functions.loss, plans["full"].functions.loss)
    size = min(ALIGNMENT_EXAMPLES, len(dataset.train))
    batch: Batch = next(iter(EvalFeed(dataset.train, dataset.scale, batch_size=size)))
    steps_per_epoch = len(dataset.train) // config.training.batch_size
    epochs = plans["full"].total_steps // steps_per_epoch
    gaps = config.compare.gradient_points - 1
    points = {round(epochs * point / gaps) for point in range(gaps + 1)}

    def align(epoch: int, state: TrainState) -> dict[str, float]:
        if epoch not in points:
            return {}
        groups = jax.device_get(measure(state.params, batch))
        return {
            f"{group}.{name}": float(value)
            for group, found in groups.items()
            for name, value in found._asdict().items()
        }

    return align


def _costs(variants: dict[Mode, Config], dataset: Dataset, reporter: Reporter) -> Any:
    """Time steps of every mode, on the first batches, from the first seed's initial parameters."""
    first = next(iter(variants.values()))
    plans = {mode: plan(config, dataset) for mode, config in variants.items()}
    planned = next(iter(plans.values()))
    feed = TrainFeed(dataset.train, planned.cut, first.seed)
    return measure_costs(
        {mode: planned.program for mode, planned in plans.items()},
        planned.initial_state(first.seed),
        feed.epoch(0),
        rounds=first.compare.timing_rounds,
        reporter=reporter,
        steps=min(5, feed.steps_per_epoch),
    )
