"""What is looked at along a run beside its metrics: how gradients agree, and what couplings do."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.gradients import StopGradient
from capsjax.layers import routings, with_gradient, with_routings
from capsjax.routing import IterativeRouting
from capsjax.runs.config import Config
from capsjax.runs.feeds import eval_feed
from capsjax.runs.metrics_file import MetricsWriter, read_metrics
from capsjax.runs.plan import plan
from capsjax.schema.text import to_tree
from capsjax.study.alignment import Alignment, make_analysis
from capsjax.study.couplings import describe_couplings
from capsjax.study.design import Design, variant
from capsjax.study.ledger import Trial
from capsjax.training.optimisers import Constant
from capsjax.training.state import Params, TrainState
from capsjax.types import Batch

EXAMPLES = 256
FILE = "alignment.jsonl"  # beside the metrics of a run
ALONE = (
    "stop in "  # and a layer: in place of a group, where the coupling of one layer is held constant
)
Numbers = dict[str, float]
# From a state to lines of FILE, by what they are of: alignment, examples, couplings.
Look = Callable[[TrainState], dict[str, Numbers]]


def gradient_pairs(config: Config, designed: Design) -> dict[str, tuple[Config, Config]]:
    """Find the arms along whose runs the stop gradient is compared with the full one.

    They are those with the one or the other where arms differ in the gradient mode alone, or in the learning
    rate too.

    Args:
        config: the comparison's configuration.
        designed: its arms.

    Returns:
        By the name of an arm its configuration with the stop gradient, and with the full one.
    """
    # Of arms that differ in the gradient alone, its kind by their names.
    alone: dict[str, dict[str, str]] = {}
    for name, arm in designed.arms.items():
        tree = to_tree(_without_rate(arm.config))
        kinds = set(_gradients(tree["model"]))
        if len(kinds) == 1 and kinds <= {"stop", "full"}:
            alone.setdefault(repr(_without_gradients(tree)), {})[name] = kinds.pop()
    short = not config.compare.arms  # then all differ in the gradient alone
    names = [n for kinds in alone.values() if short or len(set(kinds.values())) == 2 for n in kinds]
    pairs = {}
    for name in names:
        with contextlib.suppress(UserError):  # with one iteration every gradient is the same
            pairs[name] = gradient_pair(designed.arms[name].config)
    return pairs


def gradient_pair(config: Config) -> tuple[Config, Config]:
    """Return a configuration with the stop gradient, and with the full one, of the first seed.

    Returns:
        Both at a constant learning rate of 1, as arms that differ in the rate alone share them.

    Raises:
        UserError: If nothing iterates, so that there is no gradient to choose.
    """
    config = _without_rate(config)
    return variant(config, "stop", 0), variant(config, "full", 0)


def _without_rate(config: Config) -> Config:
    """Return a configuration whose learning rate is 1, whatever it was."""
    # The direction of an update does not depend on the learning rate, unless that is 0, as in a warm-up.
    optimiser = dataclasses.replace(config.optimiser, schedule=Constant(rate=1.0))
    return dataclasses.replace(config, optimiser=optimiser)


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


def look_at_gradients(pair: tuple[Config, Config], dataset: Dataset) -> Look:
    """Make the function that compares stop and full gradient of a state.

    Args:
        pair: as `gradient_pair` gives it.
        dataset: what is learnt from.

    Returns:
        From a state of training to a line `alignment`, with numbers GROUP.NAME, and a line `examples`, with
        numbers N.NAME of single examples, all parameters together. Where several layers route, a group
        "stop in LAYER" has the coupling of that layer alone held constant.
    """
    stop, full = (plan(config, dataset) for config in pair)
    alone = {
        f"{ALONE}{layer}": plan(config, dataset).functions.loss
        for layer, config in _stopped_in_one(pair[1]).items()
    }
    losses = stop.functions.loss, full.functions.loss
    analyse = make_analysis(*losses, full.optimiser, alone=alone)
    batch = _batch(pair[1], dataset)

    def look(state: TrainState) -> dict[str, Numbers]:
        found = jax.device_get(analyse(state, batch))
        line: Numbers = {}
        for group, aligned in found.gradient.items():
            line |= _numbers(f"{group}.", aligned)
            line |= _numbers(f"{group}.update_", found.update[group])
            line |= _numbers(f"{group}.response_", found.response[group])
            if found.examples:
                means = Alignment(*(float(np.mean(x)) for x in found.examples[group]))
                line |= _numbers(f"{group}.example_", means)
        for group in alone:  # in the order of layers, which what is compiled does not keep
            line |= _numbers(f"{group}.", found.alone[group])
        singles: Numbers = {}
        for n, entropy in enumerate(found.entropy):
            one = Alignment(*(x[n] for x in found.examples["all"]))
            singles |= _numbers(f"{n}.", one) | {f"{n}.entropy": _short(entropy)}
        return {"alignment": line, "examples": singles}

    return look


def _numbers(before: str, found: Alignment) -> Numbers:
    values = found._asdict() | {"share": found.share}
    return {before + name: _short(value) for name, value in values.items()}


def _short(value: Any) -> float:
    """Return a number to six digits: no more of it is known, and the files are small."""
    return float(f"{float(value):.6g}")


def _stopped_in_one(config: Config) -> dict[str, Config]:
    """Return a configuration with the coupling of one layer held constant, by layer, if several iterate."""
    used = routings(config.model)
    iterating = {n: r for n, r in used.items() if isinstance(r, IterativeRouting)}
    if len(iterating) < 2:
        return {}
    stopped = {n: dataclasses.replace(r, gradient=StopGradient()) for n, r in iterating.items()}
    return {
        name: dataclasses.replace(config, model=with_routings(config.model, {name: routing}))
        for name, routing in stopped.items()
    }


def look_at_couplings(config: Config, dataset: Dataset) -> Look:
    """Make the function that measures the couplings of a state at each iteration.

    Args:
        config: the arm's; its gradient mode does not matter.
        dataset: what is learnt from.

    Returns:
        From a state of training to a line `couplings`, with numbers LAYER.ITERATION.NAME, from iteration 1.
    """
    apply, batch = plan(config, dataset).functions.apply, _batch(config, dataset)

    @jax.jit
    def measure(variables: Params, images: Float[Array, "b h w c"]) -> Any:
        return describe_couplings(apply(variables, images, None, trace=True).layers)

    def look(state: TrainState) -> dict[str, Numbers]:
        line = {
            f"{layer}.{iteration}.{name}": _short(value)
            for layer, found in jax.device_get(measure(state.variables, batch.images)).items()
            for name, values in found.items()
            for iteration, value in enumerate(values, start=1)
        }
        return {"couplings": line}

    return look


def routed_alike(config: Config) -> Config | None:
    """Return a configuration that couples as an arm does, whatever its gradient; None if nothing iterates."""
    if not any(isinstance(r, IterativeRouting) for r in routings(config.model).values()):
        return None
    config = _without_rate(config)  # arms that differ in rate or mode share what is compiled
    with contextlib.suppress(UserError):
        return dataclasses.replace(config, model=with_gradient(config.model, StopGradient()))
    return config


def _batch(config: Config, dataset: Dataset) -> Batch:
    """Return the same examples at every point, without shifts: what changes is the parameters alone."""
    size = min(EXAMPLES, len(dataset.train))
    feed = eval_feed(config, dataset.train, dataset.scale, overlap=dataset.overlap, batch_size=size)
    return next(iter(feed))


def points(config: Config, dataset: Dataset) -> set[int]:
    """Return the epochs of a run at which it is looked at, the first and the last among them.

    Args:
        config: the run's.
        dataset: what is learnt from.

    Returns:
        Numbers of epochs, `compare.gradient_points` of them where there are as many.
    """
    total = config.training.total_steps(len(dataset.train))
    epochs = total // (len(dataset.train) // config.training.batch_size)
    gaps = config.compare.gradient_points - 1
    return {round(epochs * point / gaps) for point in range(gaps + 1)}


def write_observation(run: Path, state: TrainState, epoch: int, look: Look) -> None:
    """Write down, beside a run's metrics, what there is to see in a state.

    Args:
        run: the run's directory.
        state: where it stands.
        epoch: how many epochs that is.
        look: what looks at it.
    """
    with contextlib.closing(MetricsWriter(run / FILE)) as writer:
        for kind, numbers in look(state).items():
            if numbers:
                writer.write(kind, int(state.step), {"epoch": epoch} | numbers)


def read_observations(
    trial: Trial, keys: Mapping[str, tuple[str, ...]]
) -> dict[str, list[dict[str, Any]]]:
    """Read what was seen along a run, one record for each epoch and whatever the numbers are of.

    Args:
        trial: the run.
        keys: of each kind of line (alignment, examples, couplings) what the parts of a number's name before
            its last are, such as `layer` and `iteration`.

    Returns:
        By kind, records with `mode`, `seed`, `epoch`, the keys, and the numbers by name.
    """
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in keys}
    for line in read_metrics(trial.path / FILE, tuple(keys)):
        of = keys[line["split"]]
        known = {"mode": trial.arm.name, "seed": trial.seed, "epoch": int(line["epoch"])}
        parts: dict[str, dict[str, Any]] = {}
        for name, value in line.items():
            before, dot, last = name.rpartition(".")
            if dot:
                parts.setdefault(before, {})[last] = value
        for before, numbers in parts.items():
            values = (int(x) if x.isdigit() else x for x in before.rsplit(".", len(of) - 1))
            found[line["split"]].append(known | dict(zip(of, values, strict=True)) | numbers)
    return found
