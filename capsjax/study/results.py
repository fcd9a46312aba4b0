"""What a comparison found: errors, costs, how gradients agree, and with what each arm began."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from capsjax.bench.timing import Cost, TimedStep, time_steps
from capsjax.layers import routings
from capsjax.progress import Reporter
from capsjax.runs import directory
from capsjax.runs.config import Config
from capsjax.runs.feeds import train_feed
from capsjax.runs.plan import plan
from capsjax.study.beginning import beginning
from capsjax.study.design import Design
from capsjax.study.ledger import Entry, read_ledger
from capsjax.study.outcomes import outcomes
from capsjax.study.seen import GRADIENTS, write_seen
from capsjax.study.trial_runner import TrialRunner
from capsjax.training.slicing import Epoch

RESULTS = "comparison.json"
ALIGNED = ("mode", "seed", "epoch", "group", "cosine", "norm_ratio")


def write_results(
    folder: Path, config: Config, designed: Design, runner: TrialRunner, reporter: Reporter
) -> None:
    """Time the steps of all arms in turn, and write `comparison.json`.

    Args:
        folder: the comparison's directory.
        config: its configuration.
        designed: its arms.
        runner: what carried out its runs.
        reporter: what tells of progress.
    """
    entries = read_ledger(folder, config, designed)
    done = list(dict.fromkeys(e.trial.arm.name for e in entries if e.state == "done"))
    costs = _costs(config, designed, done, runner, reporter) if done else {}
    seen = write_seen(folder, entries)
    last = next(
        reversed(routings(config.model).values()), None
    )  # of the classes, if they are routed
    directory.write_json(
        folder / RESULTS,
        {
            "modes": list(designed.arms),
            "reference": designed.reference,
            "seeds": sorted({entry.trial.seed for entry in entries}),
            "iterations": getattr(last, "num_iters", 1),
            "test_error": {name: _errors(name, entries) for name in designed.arms},
            **outcomes(designed, entries),
            "cost": {name: cost._asdict() for name, cost in costs.items()},
            "alignment": [{key: record[key] for key in ALIGNED} for record in seen[GRADIENTS]],
            "beginning": _beginnings(designed, runner),
        },
    )


def _errors(name: str, entries: list[Entry]) -> list[float]:
    found = (e.error for e in entries if e.trial.arm.name == name)
    return [math.nan if error is None else error for error in found]


def _beginnings(designed: Design, runner: TrialRunner) -> dict[str, Any]:
    """Describe how each arm begins that begins otherwise than all others."""
    donor, beginnings = designed.donor.config, {}
    for name, arm in designed.arms.items():
        sets = (runner.dataset(c.data) for c in (arm.config, donor))
        found = beginning(arm.config, donor, *sets)
        if found.own or not found.batches:
            beginnings[name] = {"parameters": list(found.own), "batches": found.batches}
    return beginnings


def _costs(
    config: Config, designed: Design, names: list[str], runner: TrialRunner, reporter: Reporter
) -> dict[str, Cost]:
    """Time steps of every arm, on the first batches, from the first seed's initial parameters."""
    steps: dict[str, TimedStep] = {}
    first: dict[Any, tuple[Epoch, int]] = {}
    for name in names:
        arm = designed.arms[name].config
        dataset = runner.dataset(arm.data)
        planned = plan(arm, dataset)
        seeded = dataclasses.replace(arm, seed=config.seed)
        feed = train_feed(seeded, dataset.train, planned.slicer)
        # Several steps in a call, as in training, but none beyond what was cut.
        few = min(5, feed.steps_per_epoch)
        # Arms that cut the same batches share them on the device.
        key = arm.data, planned.slicer, arm.training.feed
        epoch, count = first.setdefault(key, next(feed.parts(0, few, lambda examples: examples)))
        state = planned.initial_state(config.seed)
        steps[name] = TimedStep(planned.compiled, state, epoch, count)
    return time_steps(steps, rounds=config.compare.timing_rounds, reporter=reporter)
