"""Train the same network with several gradient modes, seed by seed, and write down what came out."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from capsjax import experiment, rundir, signals
from capsjax.analysis.alignment import make_alignment
from capsjax.analysis.cost import measure_costs
from capsjax.analysis.remaining import Whole
from capsjax.checks import UserError
from capsjax.config import Config, Mode, load_config
from capsjax.data import Dataset
from capsjax.gradients import FullGradient, GradientMode, StopGradient, TruncatedGradient
from capsjax.program import plan
from capsjax.routing import IterativeRouting, Routing, UniformRouting
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.notebook import for_python
from capsjax.training.progress import Reporter
from capsjax.training.state import Batch, TrainState

ALIGNMENT_EXAMPLES = 256


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
            "can be chosen: set model.routing.kind to dynamic"
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
    modes, seeds = config.compare.modes, range(config.seed, config.seed + config.compare.seeds)
    variants = {mode: variant(config, mode, config.seed) for mode in modes}
    # A last seed that is out of range is refused before the first run.
    dataclasses.replace(config, seed=seeds[-1])
    signals.advise(signals.advice(), whole=True)  # not that of the run which goes on then
    place = None if out is None else Path(out)
    folder = rundir.create(place, f"compare-{name or dataset.name}", resumes=False)
    rundir.write_config(folder, config)
    rundir.write_json(folder / "environment.json", rundir.describe(config, dataset))

    align = _aligner(config, dataset)
    errors: dict[str, list[float]] = {mode: [] for mode in modes}
    alignments: list[dict[str, Any]] = []
    whole = Whole(reporter, len(modes) * len(seeds))
    for number, seed in enumerate(seeds):
        for place, mode in enumerate(modes):

            def observe(epoch: int, state: TrainState, mode: Mode = mode, seed: int = seed) -> None:
                if mode in ("stop", "full"):
                    alignments.extend(align(mode, seed, epoch, state))

            whole.begin(f"{mode}-seed{seed}")
            run = experiment.train(
                dataclasses.replace(variants[mode], seed=seed),
                data,
                out=folder / "runs" / f"{mode}-seed{seed}",
                reporter=whole,
                observe=observe,
            )
            errors[mode].append(run.test["error"])
            done = number * len(modes) + place + 1
            whole.end(
                f"{done}/{len(modes) * len(seeds)} {mode}, seed {seed}: "
                f"test error {100 * errors[mode][-1]:.2f} %"
            )
    costs = _costs(variants, dataset, reporter)
    rundir.write_json(
        folder / "comparison.json",
        {
            "modes": list(modes),
            "seeds": list(seeds),
            "iterations": getattr(config.model.routing, "num_iters", 1),
            "test_error": errors,
            "cost": {mode: cost._asdict() for mode, cost in costs.items()},
            "alignment": alignments,
        },
    )
    return folder


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

    def align(mode: Mode, seed: int, epoch: int, state: TrainState) -> list[dict[str, Any]]:
        if epoch not in points:
            return []
        groups = jax.device_get(measure(state.params, batch))
        return [
            {
                "mode": mode,
                "seed": seed,
                "epoch": epoch,
                "group": group,
                "cosine": float(found.cosine),
                "norm_ratio": float(found.norm_ratio),
            }
            for group, found in groups.items()
        ]

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
