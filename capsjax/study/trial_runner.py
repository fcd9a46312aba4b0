"""Run one trial of a comparison in this process: train or resume it, or write down why it failed."""

import contextlib
import dataclasses
import functools
import operator
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from capsjax.checks import UserError
from capsjax.data import Dataset, Source
from capsjax.progress import Reporter, Silent
from capsjax.runs import directory, experiment
from capsjax.runs.config import Config
from capsjax.runs.metrics_file import MetricsWriter, read_metrics
from capsjax.runs.plan import plan
from capsjax.runs.sources import load_data
from capsjax.schema.text import to_tree
from capsjax.study.alignment import make_alignment
from capsjax.study.beginning import start_of
from capsjax.study.design import Design, variant
from capsjax.study.ledger import Trial, forget_failure, record_failure
from capsjax.training.feed import EvalFeed
from capsjax.training.state import TrainState
from capsjax.types import Batch

ALIGNMENT_EXAMPLES = 256
ALIGNMENT = "alignment.jsonl"  # beside the metrics of a run

Align = Callable[[int, TrainState], dict[str, float]]


class TrialRunner:
    """Run the trials of a comparison, one after another.

    Args:
        config: the comparison's configuration.
        designed: its arms.
        data: the user's own arrays; None for those of each arm's configuration.
    """

    def __init__(self, config: Config, designed: Design, data: Any = None):
        self._config, self._design, self._data = config, designed, data
        self._aligned = aligned(config, designed)
        # One at a time stays: a study goes through many, and each run loads its own.
        self.dataset = functools.lru_cache(maxsize=2)(self._load)
        self._aligner = functools.lru_cache(maxsize=None)(self._make_aligner)

    def _load(self, source: Any) -> Dataset:
        arm = next(arm for arm in self._design.arms.values() if arm.config.data == source)
        return load_data(arm.config, self._data, Silent())

    def own_data(self) -> Dataset | None:
        """Return the user's own arrays as a dataset; None where each arm's configuration says its data."""
        return None if self._data is None else self.dataset(self._config.data)

    def run(self, trial: Trial, reporter: Reporter) -> str | None:
        """Train a run, or resume it where it stopped; what goes wrong is written into its directory.

        Args:
            trial: which run.
            reporter: what tells of progress.

        Returns:
            Why it failed; None if it is done.

        Raises:
            OSError: If nothing can be written, which no other run would survive.
            Interrupted: If a signal asked to end, after the run was saved.
        """
        try:
            self._complete(trial, reporter)
        except OSError:
            raise
        except Exception as error:
            return record_failure(trial.path, error)  # whatever it is, the other runs go on
        forget_failure(trial.path)
        return None

    def _complete(self, trial: Trial, reporter: Reporter) -> None:
        observe = self._observer(trial)
        if begun(trial.path):
            changes = _changes(directory.read_config(trial.path), trial.config)
            experiment.resume(
                trial.path, self._data, overrides=changes, reporter=reporter, observe=observe
            )
            return
        if trial.path.is_dir():  # killed, or failed, before there was anything to resume
            shutil.rmtree(trial.path)
        donor = self._design.donor.config
        start = start_of(trial, donor, self.dataset(trial.config.data), self.dataset(donor.data))
        experiment.train(
            trial.config,
            self._data,
            out=trial.path,
            reporter=reporter,
            observe=observe,
            start=start,
        )

    def _observer(self, trial: Trial) -> Callable[[int, TrainState], None] | None:
        """Make what writes down, beside a run's metrics, how its gradients agree."""
        pair = self._aligned.get(trial.arm.name)
        if pair is None:
            return None
        align = self._aligner(pair)

        def observe(epoch: int, state: TrainState) -> None:
            found = align(epoch, state)
            if found:
                with contextlib.closing(MetricsWriter(trial.path / ALIGNMENT)) as writer:
                    writer.write("alignment", int(state.step), {"epoch": epoch} | found)

        return observe

    def _make_aligner(self, pair: tuple[Config, Config]) -> Align:
        return make_aligner(pair, self.dataset(pair[1].data), self._config.compare.gradient_points)


def data_keys() -> tuple[str, ...]:
    """Return the keys of a configuration that say where data are, of every kind of them."""
    places = dict.fromkeys(place for source in Source.variants() for place in source.places)
    return tuple(f"data.{place}" for place in places)


def says_where(key: str) -> bool:
    """Return whether a key of a configuration says where data are, or those from which they are made."""
    outer, _, inner = key.partition(".")
    return outer == "data" and f"data.{inner.rpartition('.')[2]}" in data_keys()


def moved(config: Config, other: Config) -> Config:
    """Return a configuration with what may differ when a run is resumed, without a change of what is learnt.

    Args:
        config: the configuration.
        other: the one that says where data are now, and `training.eval_batch_size`.

    Returns:
        The configuration with those of the other.
    """
    size = other.training.eval_batch_size
    training = dataclasses.replace(config.training, eval_batch_size=size)
    return dataclasses.replace(config, data=config.data.moved_to(other.data), training=training)


def begun(path: Path) -> bool:
    """Return whether there is anything of a run to resume."""
    return any(
        (path / name).exists() for name in ("checkpoints", "metrics.jsonl", "environment.json")
    )


def check_planned(path: Path, config: Config) -> None:
    """Check that a run, finished or not, is the comparison's; one lengthened by itself is not.

    Args:
        path: the run's directory.
        config: what the comparison trains there.

    Raises:
        UserError: If it has another configuration.
    """
    if not begun(path):
        return
    found, planned = (_learnt(c) for c in (moved(directory.read_config(path), config), config))
    if found == planned:
        return
    for tree in (found, planned):
        tree["training"] = {**tree["training"], "epochs": None, "steps": None}
    what = "another length" if found == planned else "another configuration"
    raise UserError(
        f"{path}: got {what} than the comparison's with this mode and seed, expected the same; "
        "move this run away, and resume the comparison: it trains the run anew"
    )


def _learnt(config: Config) -> dict[str, Any]:
    """Return what of a configuration is a run's own."""
    return {key: value for key, value in to_tree(config).items() if key != "compare"}


def _changes(found: Config, planned: Config) -> dict[str, Any]:
    """Return where the data of a run are now, and what else may change when it is resumed."""
    changed: dict[str, Any] = {"training.eval_batch_size": planned.training.eval_batch_size}
    for key in (f"data.{place}" for place in planned.data.place_keys()):
        changed[key] = operator.attrgetter(key)(planned)
    return {key: new for key, new in changed.items() if operator.attrgetter(key)(found) != new}


def aligned(config: Config, designed: Design) -> dict[str, tuple[Config, Config]]:
    """Find the arms along whose runs the stop gradient is compared with the full one.

    They are those with the one or the other where arms differ in the gradient mode alone.

    Args:
        config: the comparison's configuration.
        designed: its arms.

    Returns:
        By the name of an arm its configuration with the stop gradient, and with the full one.
    """
    alone: dict[str, dict[str, str]] = {}
    for name, arm in designed.arms.items():
        tree = to_tree(arm.config)
        kinds = set(_gradients(tree["model"]))
        if len(kinds) == 1 and kinds <= {"stop", "full"}:
            alone.setdefault(repr(_without_gradients(tree)), {})[kinds.pop()] = name
    short = not config.compare.arms  # then all differ in the gradient alone
    names = [
        name for kinds in alone.values() if short or len(kinds) == 2 for name in kinds.values()
    ]
    pairs = {}
    for name in names:
        config = designed.arms[name].config
        with contextlib.suppress(UserError):  # with one iteration every gradient is the same
            pairs[name] = variant(config, "stop", 0), variant(config, "full", 0)
    return pairs


def _gradients(tree: Any) -> list[str]:
    """List the gradient modes of a network's routings."""
    if not isinstance(tree, Mapping):
        return []
    inner = [kind for value in tree.values() for kind in _gradients(value)]
    own = tree.get("gradient")
    return [*inner, str(own["kind"])] if isinstance(own, Mapping) and "kind" in own else inner


def _without_gradients(tree: Any) -> Any:
    if not isinstance(tree, Mapping):
        return tree
    return {key: _without_gradients(value) for key, value in tree.items() if key != "gradient"}


def make_aligner(pair: tuple[Config, Config], dataset: Dataset, points: int) -> Align:
    """Make the function that compares stop and full gradient at some epochs of a run.

    Args:
        pair: the configuration with the stop gradient, and with the full one.
        dataset: what is learnt from.
        points: the number of points of training.

    Returns:
        A function of an epoch and a state, which returns numbers at the chosen epochs and nothing at others.
    """
    stop, full = (plan(config, dataset) for config in pair)
    measure = make_alignment(stop.functions.loss, full.functions.loss)
    size = min(ALIGNMENT_EXAMPLES, len(dataset.train))
    # The same examples at every point, without shifts: what changes is the parameters alone.
    batch: Batch = next(iter(EvalFeed(dataset.train, dataset.scale, batch_size=size)))
    epochs = full.total_steps // (len(dataset.train) // pair[1].training.batch_size)
    gaps = points - 1
    chosen = {round(epochs * point / gaps) for point in range(gaps + 1)}

    def align(epoch: int, state: TrainState) -> dict[str, float]:
        if epoch not in chosen:
            return {}
        groups = jax.device_get(measure(state.params, batch, state.statistics))
        return {
            f"{group}.{name}": float(value)
            for group, found in groups.items()
            for name, value in found._asdict().items()
        }

    return align


def read_alignment(trial: Trial) -> list[dict[str, Any]]:
    """Read how the gradients of a run agreed, one record for each epoch and group of parameters."""
    records = []
    for line in read_metrics(trial.path / ALIGNMENT, ("alignment",)):
        groups = dict.fromkeys(name.rpartition(".")[0] for name in line if "." in name)
        for group in groups:
            measured = {name: line[f"{group}.{name}"] for name in ("cosine", "norm_ratio")}
            known = {"mode": trial.arm.name, "seed": trial.seed, "epoch": int(line["epoch"])}
            records.append(known | {"group": group} | measured)
    return records
