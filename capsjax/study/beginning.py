"""With what the arms of a comparison begin: the same parameters and batches, as far as shapes allow."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from capsjax.data import Dataset
from capsjax.runs.config import Config
from capsjax.runs.plan import plan
from capsjax.runs.run import Run
from capsjax.schema.text import to_tree
from capsjax.study.ledger import Trial
from capsjax.training.state import group_of

# What no batch depends on.
ELSEWHERE = ("model", "training", "optimiser", "loss", "metrics", "compare")


class Beginning(NamedTuple):
    """Say how an arm begins beside the one that all begin like.

    Attributes:
        own: groups of parameters that are not the other's, since shapes or initialisation differ.
        batches: whether it sees the same batches.
    """

    own: tuple[str, ...]
    batches: bool


def beginning(config: Config, donor: Config, dataset: Dataset, donors: Dataset) -> Beginning:
    """Say how an arm begins beside the one that all begin like, for every seed.

    Args:
        config: the arm's configuration.
        donor: that of the arm which all begin like.
        dataset: the arm's data.
        donors: the other's.

    Returns:
        Groups of parameters of its own, and whether it sees the same batches.
    """
    ours, theirs = (plan(c, d).functions.shapes() for c, d in ((config, dataset), (donor, donors)))
    own = list(dict.fromkeys(group_of(name) for name in ours))  # all, unless they can be compared
    if config.model == donor.model or initialised_alike(config, donor):
        own = [g for g in own if any(not _fits(n, ours, theirs) for n in ours if group_of(n) == g)]
    return Beginning(tuple(own), _batches(config) == _batches(donor))


def _fits(name: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    other = theirs.get(name)
    return other is not None and (other.shape, other.dtype) == (ours[name].shape, ours[name].dtype)


def _batches(config: Config) -> Any:
    """Return what the batches of a seed follow from."""
    tree = to_tree(config)
    return [
        {key: value for key, value in tree.items() if key not in (*ELSEWHERE, "seed")},
        config.training.batch_size,
    ]


def initialised_alike(one: Config, other: Config) -> bool:
    """Return whether two networks are initialised by the same rules, so that one may begin as the other.

    Args:
        one: the configuration of the one.
        other: that of the other.

    Returns:
        Whether all that their models say of initialisation is equal.
    """
    return _rules(to_tree(one.model)) == _rules(to_tree(other.model))


def _rules(tree: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if "initial" in key:
            found[key] = value
        else:
            found |= {f"{key}.{name}": rule for name, rule in _rules(value).items()}
    return found


def start_of(trial: Trial, donor: Config, dataset: Dataset, donors: Dataset) -> Run | None:
    """Make a run to begin an arm's with, if it would draw other parameters than all others.

    Random numbers are drawn layer by layer: one that draws more than another moves those of all that follow.

    Args:
        trial: the run that is to begin.
        donor: configuration of the arm that all begin like.
        dataset: the run's data.
        donors: the other's.

    Returns:
        A run at step 0 with the parameters to begin with; None if the trial's own are the same.
    """
    config = trial.config
    if config.model == donor.model or not initialised_alike(config, donor):
        return None
    # By name, whatever the order in which layers draw: what fits is the other's, to the bit.
    made = plan(config, dataset).functions
    own = made.initial(trial.seed)
    given = plan(donor, donors).functions.initial(trial.seed)
    params = {name: given[name] if _fits(name, own, given) else own[name] for name in own}
    if all(same(params[name], own[name]) for name in own):
        return None
    scale, shape, classes = dataset.scale, dataset.image_shape, dataset.num_classes
    running = made.statistics(trial.seed)
    return Run(config, trial.path, params, scale, shape, classes, 0, dataset.pixels, running)


def same(one: Any, other: Any) -> bool:
    """Return whether two arrays are equal to the bit.

    Args:
        one: an array.
        other: another of the same shape and type.

    Returns:
        Whether all bits agree: NaN is equal to itself then, and -0 is not 0.
    """
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()
