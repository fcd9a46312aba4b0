"""Carry out runs of a comparison in several processes, each on processor cores of its own.

The last bits of what XLA computes on a CPU depend on the number of threads that work is parted for, not on
where they run. So every process parts its work for as many threads as this one does, and these take turns on
the process's own cores: the results are those of one process, to the bit.
"""

import dataclasses
import itertools
import json
import math
import os
import selectors
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capsjax import signals
from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.memory import room
from capsjax.progress import Reporter
from capsjax.runs.plan import Plan, plan
from capsjax.schema.variant import Variant
from capsjax.study.ledger import Trial, outcome, read_entry, record_failure
from capsjax.study.remaining import ParallelProgress
from capsjax.study.trial_runner import TrialRunner
from capsjax.study.wire import Worker, dismiss

# What of JAX's settings decides what is computed, and where compiled programs are kept.
SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_rank_promotion",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
# Where several processes pay, as measured on two cores: a comparison on digits, 74,000 parameters and 6,100
# steps, takes 0.7 to 0.8 of the time, and mnist_small, 471,000 parameters, does 1.5 times the steps a second.
# Another process takes some seconds to begin; large networks use several cores by themselves. More than two
# processes were not measured; a run of a small network has far less than BYTES, beside copies of its images.
MOST, LARGEST, FEWEST_STEPS, BYTES = 2, 1_000_000, 2_000, 4e9
THREADS = "NPROC"  # how many threads XLA parts work for, whatever cores a process has


def in_processes(
    folder: Path, trials: list[Trial], jobs: int, runner: TrialRunner, reporter: Reporter
) -> None:
    """Carry out runs, several at once; one that fails, or whose process ends, does not stop the others.

    Args:
        folder: the comparison's directory.
        trials: the runs that are missing, in order.
        jobs: how many processes.
        runner: which knows the data of the comparison.
        reporter: what tells of progress.

    Raises:
        UserError: If processes cannot share this machine's devices, or would not know a class of one's own.
        OSError: If nothing can be written.
        Interrupted: If a signal asked to end, after every run that was under way was saved.
    """
    modules = check_jobs(jobs)
    plans = ((t, plan(t.config, runner.dataset(t.config.data))) for t in trials)
    steps = {trial.path.name: _steps_left(trial, planned) for trial, planned in plans}
    progress = ParallelProgress(reporter, steps)
    with tempfile.TemporaryDirectory(prefix="capsjax-") as scratch, signals.held():
        cores = partition_cores(available_cores(), jobs)
        data = _hand_over(Path(scratch), runner)
        settings = {name: jax.config.values.get(name) for name in SETTINGS}

        def hire(place: int) -> Worker:
            setup = {"cores": cores[place], "data": data, "modules": modules, "jax": settings}
            setup["path"] = sys.path  # a script's own folder is among it, where its modules are
            errors = Path(scratch) / f"errors-{place}"
            return Worker(folder, setup, os.environ | {THREADS: _threads()}, errors)

        crew = [hire(place) for place in range(jobs)]
        try:
            _share_out(crew, trials, progress, hire)
        finally:
            dismiss(crew)


def check_jobs(jobs: int) -> list[str]:
    """Check that runs can go on in several processes, and find what they have to import.

    Args:
        jobs: how many processes.

    Returns:
        Modules outside capsjax that define what a configuration may name.

    Raises:
        UserError: If there is a device that processes cannot share, or a class that no other process can
            import.
    """
    if jobs < 1:
        raise UserError(f"jobs: got {jobs}, expected at least 1", argument="jobs")
    if jobs > 1 and jax.default_backend() != "cpu":
        raise UserError(
            f"jobs: got {jobs} on {jax.default_backend()}, expected 1: one process takes all of its memory",
            argument="jobs",
        )
    found = {
        cls.__module__: cls
        for cls in _subclasses(Variant)
        if not cls.__module__.startswith("capsjax.")
    }
    if jobs > 1 and "__main__" in found:
        raise UserError(
            f"jobs: got {jobs} with {found['__main__'].__name__}, which this script or notebook defines, "
            "expected a class that other processes can import: put it into a module, or leave out jobs",
            argument="jobs",
        )
    return sorted(found)


def jobs_that_pay(trials: list[Trial], runner: TrialRunner) -> int:
    """Return how many processes runs are best shared by: two on a CPU, if the networks are small.

    Args:
        trials: the runs that are missing.
        runner: which knows the data of the comparison.

    Returns:
        The number; 1 where `check_jobs` would refuse more, where processes cannot have cores of their own,
        where a network is large, where so few steps are left that no other process is worth its start, and
        where memory is short or unknown.
    """
    most = min(MOST, len(trials), len(available_cores()))
    memory = room.available()
    if most < 2 or not hasattr(os, "sched_setaffinity") or math.isinf(memory):
        return 1
    try:
        check_jobs(most)
        datasets = [runner.dataset(trial.config.data) for trial in trials]
        plans = [plan(t.config, data) for t, data in zip(trials, datasets, strict=True)]
    except UserError:  # of a run that cannot begin, which is written down when its turn comes
        return 1
    images = max(sum(s.images.nbytes for s in data.splits().values()) for data in datasets)
    if memory < most * (BYTES + 4 * images):
        return 1
    steps = sum(_steps_left(trial, planned) for trial, planned in zip(trials, plans, strict=True))
    shapes = (made.shapes() for made in {planned.functions for planned in plans})
    largest = max(sum(leaf.size for leaf in found.values()) for found in shapes)
    return most if steps >= FEWEST_STEPS and largest <= LARGEST else 1


def _subclasses(cls: type) -> list[type]:
    return [leaf for child in cls.__subclasses__() for leaf in (child, *_subclasses(child))]


def available_cores() -> list[int]:
    """Return the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def partition_cores(cores: list[int], jobs: int) -> list[list[int]]:
    """Divide processor cores among processes; if there are fewer cores, several processes share one.

    Args:
        cores: numbers of the cores.
        jobs: the number of processes.

    Returns:
        The cores of each process, at least one.
    """
    if jobs >= len(cores):
        return [[cores[place % len(cores)]] for place in range(jobs)]
    bounds = [round(len(cores) * place / jobs) for place in range(jobs + 1)]
    return [cores[low:high] for low, high in itertools.pairwise(bounds)]


def _threads() -> str:
    """Return for how many threads XLA parts the work of this process."""
    return os.environ.get(THREADS) or str(len(available_cores()))


def _steps_left(trial: Trial, planned: Plan) -> int:
    return max(planned.total_steps - (read_entry(trial).step or 0), 0)


def _hand_over(scratch: Path, runner: TrialRunner) -> str | None:
    """Write the user's own arrays where other processes find them; nothing where the configuration says."""
    dataset = runner.own_data()
    if dataset is None:
        return None
    path, arrays = scratch / "data.npz", dict[str, Any]()
    for name, split in dataset.splits().items():
        arrays |= {f"{name}_images": split.images, f"{name}_labels": split.labels}
    known = {"num_classes": dataset.num_classes, "scale": dataset.scale, "name": dataset.name}
    rescaling = None if dataset.rescaling is None else dataset.rescaling.as_json()
    overlap = None if dataset.overlap is None else dataclasses.asdict(dataset.overlap)
    known["told"] = json.dumps([dataset.class_names, rescaling, overlap])
    arrays |= {key: np.asarray(value) for key, value in known.items()}
    np.savez(path, **arrays)
    return str(path)


def read_data(path: str) -> Dataset:
    """Read what `in_processes` wrote of the user's own arrays."""
    from capsjax.data.dataset import Split
    from capsjax.data.overlap import Overlap
    from capsjax.data.rescaling import Rescaling

    with np.load(path, allow_pickle=False) as file:
        splits = {
            name: Split(file[f"{name}_images"], file[f"{name}_labels"])
            if f"{name}_images" in file
            else None
            for name in ("train", "validation", "test")
        }
        train, test = splits["train"], splits["test"]
        assert train is not None
        assert test is not None
        name, scale = str(file["name"]), float(file["scale"])
        names, rescaling, overlap = json.loads(str(file["told"]))
        return Dataset(
            name,
            train,
            splits["validation"],
            test,
            int(file["num_classes"]),
            scale,
            class_names=tuple(names),
            rescaling=Rescaling.recorded(rescaling),
            overlap=None if overlap is None else Overlap(**overlap),
        )


def _share_out(
    crew: list[Worker],
    trials: list[Trial],
    progress: ParallelProgress,
    hire: Callable[[int], Worker],
) -> None:
    """Give each worker a run whenever it has none, until all are done or a signal asks to end."""
    waiting, finished = list(trials), 0
    with selectors.DefaultSelector() as selector:
        for place, worker in enumerate(crew):
            selector.register(worker.output, selectors.EVENT_READ, place)
            worker.begin(waiting.pop(0))
        while any(worker.trial for worker in crew) and not signals.asked():
            for key, _ in selector.select(timeout=0.2):
                place, worker = key.data, crew[key.data]
                trial, heard = worker.trial, worker.listen()
                if heard is None:
                    selector.unregister(worker.output)
                if trial is None or (heard is not None and not _tell(progress, trial, heard)):
                    continue
                if heard is None:
                    record_failure(trial.path, worker.why_it_ended())
                worker.trial = None
                finished += 1
                progress.end(trial.path.name, f"{finished}/{len(trials)} {outcome(trial)}")
                if not waiting:
                    continue
                if heard is None:
                    worker.wait(0.0)
                    crew[place] = worker = hire(place)
                    selector.register(worker.output, selectors.EVENT_READ, place)
                worker.begin(waiting.pop(0))


def _tell(progress: ParallelProgress, trial: Trial, heard: list[Mapping[str, Any]]) -> bool:
    """Pass on what a worker tells; return whether it has ended its run.

    Raises:
        OSError: If the worker could write nothing.
    """
    run = trial.path.name
    for message in heard:
        event = message["event"]
        if event == "start":
            progress.start(run, message["label"], message["total"], message["done"])
        elif event == "update":
            progress.update(run, message["done"], message["note"])
        elif event == "say":
            progress.say(message["line"])
        elif event == "disk":
            raise OSError(message["number"], message["text"], message["name"])
    return any(message["event"] == "end" for message in heard)
