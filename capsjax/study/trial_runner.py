"""Run one trial of a comparison in this process: train or resume it, or write down why it failed."""

import dataclasses
import functools
import operator
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsjax.checks import UserError
from capsjax.data import Dataset, Source
from capsjax.progress import Reporter, Silent
from capsjax.runs import directory, experiment
from capsjax.runs.config import Config
from capsjax.runs.sources import load_data
from capsjax.schema.text import to_tree
from capsjax.study.beginning import start_of
from capsjax.study.design import Design
from capsjax.study.ledger import Trial, forget_failure, record_failure
from capsjax.study.observation import (
    Look,
    gradient_pairs,
    look_at_couplings,
    look_at_gradients,
    points,
    routed_alike,
    write_observation,
)
from capsjax.training.state import TrainState


class TrialRunner:
    """Run the trials of a comparison, one after another.

    Args:
        config: the comparison's configuration.
        designed: its arms.
        data: the user's own arrays; None for those of each arm's configuration.
    """

    def __init__(self, config: Config, designed: Design, data: Any = None):
        self._config, self._design, self._data = config, designed, data
        self._pairs = gradient_pairs(config, designed)
        # One at a time stays: a study goes through many, and each run loads its own.
        self.dataset = functools.lru_cache(maxsize=2)(self._load)
        # Arms that differ in gradient or rate alone look by the same programs.
        self._gradients = functools.lru_cache(maxsize=64)(self._look_at_gradients)
        self._couplings = functools.lru_cache(maxsize=64)(self._look_at_couplings)

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
        """Make what writes down, beside a run's metrics, how gradients agree and what layers couple."""
        pair, alike = self._pairs.get(trial.arm.name), routed_alike(trial.arm.config)
        looks = [] if pair is None else [self._gradients(pair)]
        looks += [] if alike is None else [self._couplings(alike)]
        if not looks:
            return None
        chosen = points(trial.config, self.dataset(trial.config.data))

        def observe(epoch: int, state: TrainState) -> None:
            for look in looks if epoch in chosen else ():
                write_observation(trial.path, state, epoch, look)

        return observe

    def _look_at_gradients(self, pair: tuple[Config, Config]) -> Look:
        return look_at_gradients(pair, self.dataset(pair[1].data))

    def _look_at_couplings(self, config: Config) -> Look:
        return look_at_couplings(config, self.dataset(config.data))


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
        other: the one that says where data are now, `training.eval_batch_size` and `training.feed`.

    Returns:
        The configuration with those of the other.
    """
    size, feed = other.training.eval_batch_size, other.training.feed
    training = dataclasses.replace(config.training, eval_batch_size=size, feed=feed)
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
    places = (f"data.{place}" for place in planned.data.place_keys())
    keys = ("training.eval_batch_size", "training.feed", *places)
    changed: dict[str, Any] = {key: operator.attrgetter(key)(planned) for key in keys}
    return {key: new for key, new in changed.items() if operator.attrgetter(key)(found) != new}
