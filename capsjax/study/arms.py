"""What is drawn and tabled together: the runs of one arm, which differ by the seed alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from capsjax.gradients import GradientMode
from capsjax.layers import routings
from capsjax.routing import DynamicRouting, IterativeRouting, Routing, UniformRouting
from capsjax.runs.config import Config

Lines = list[dict[str, Any]]
Runs = Mapping[tuple[str, int], Lines]  # the metrics of a comparison's runs, by arm and seed

NOT_ROUTED = "none"  # the kind of routing of a network that routes nothing
JOIN = " + "  # between what layers of one network have of different kinds

LEAST = 5  # logged batches that a training error is averaged over, where there are so many


class Arm(NamedTuple):
    """Hold the metrics of one arm.

    Attributes:
        name: what it is called.
        mode: how its coupling is differentiated, which decides its colour.
        runs: the lines of `metrics.jsonl` of each of its runs; a run without any is not there.
        routing: the kind of its routing.
    """

    name: str
    mode: str
    runs: tuple[Lines, ...]
    routing: str = DynamicRouting.kind

    @property
    def label(self) -> str:
        """What figures call it: its name, with the routing where neither name nor colour tells that."""
        usual = self.routing in (DynamicRouting.kind, UniformRouting.kind, NOT_ROUTED)
        return self.name if usual else f"{self.name} ({self.routing})"


class Course(NamedTuple):
    """Hold a number on the way, over the runs of an arm: [steps] each."""

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Recent(NamedTuple):
    """Hold means over the newest logged batches of a run's training.

    Attributes:
        first: the step of the oldest of them.
        last: the step of the newest.
        batches: how many they are.
        error: mean share of wrong answers.
        loss: mean loss.
    """

    first: int
    last: int
    batches: int
    error: float
    loss: float


def mode_of(config: Config) -> str:
    """Name how a configuration's layers differentiate their couplings.

    Returns:
        The kind of the gradient of those that iterate; if none does, "uniform" or what else they are. Layers
        that differ are joined, in order: "stop + full".
    """
    used = list(routings(config.model).values())
    # What does not iterate has no mode: beside a layer that does, it says nothing of the gradient.
    iterative = [routing for routing in used if isinstance(routing, IterativeRouting)]
    return _joined(
        [kind_of(getattr(routing, "gradient", routing)) for routing in iterative or used]
    )


def routing_kind(config: Config) -> str:
    """Return the kind of a configuration's routing; of layers that differ all, in order: "em + dynamic".

    Of a network that routes nothing, as one of convolutions or of homogeneous vector capsules: "none".
    """
    return _joined([kind_of(each) for each in routings(config.model).values()]) or NOT_ROUTED


def iterations(config: Config) -> str:
    """Return r of a configuration's routing, "3"; of layers that differ all, "2 + 3"; "" if none iterates."""
    used = routings(config.model).values()
    return _joined([str(r.num_iters) for r in used if isinstance(r, IterativeRouting)])


def kind_of(part: Routing | GradientMode) -> str:
    """Return the kind of a routing or a gradient mode; the name of its class if it has none."""
    return getattr(part, "kind", type(part).__name__)


def _joined(words: Sequence[str]) -> str:
    return JOIN.join(dict.fromkeys(words))


def each(words: Iterable[str]) -> set[str]:
    """Return the modes or kinds that `mode_of` or `routing_kind` joined, each by itself."""
    return {word for joined in words for word in joined.split(JOIN)}


def describe_routing(config: Config) -> str:
    """Say how a configuration routes, if that is not by agreement, and r, if something iterates."""
    kind, rounds = routing_kind(config), iterations(config)
    parts = [] if kind == DynamicRouting.kind else [in_words(kind)]
    return ", ".join(parts + ([f"r = {rounds}"] if rounds else []))


def in_words(kind: str) -> str:
    """Say what kind of routing there is, as `routing_kind` returns it: "routing em", or "no routing"."""
    return "no routing" if kind == NOT_ROUTED else f"routing {kind}"


def values(lines: Lines, split: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Collect a number of one split from the lines of a run.

    Args:
        lines: the run's lines.
        split: train, validation or test.
        name: of the number.

    Returns:
        Steps and values, [lines] each; what is not a number is NaN.
    """
    chosen = [line for line in lines if line.get("split") == split]
    steps = np.asarray([line["step"] for line in chosen], int)
    found = [line.get(name) for line in chosen]
    numbers = [float(x) if isinstance(x, int | float) else np.nan for x in found]
    return steps, np.asarray(numbers, float)


def course(arm: Arm, split: str, name: str) -> Course | None:
    """Return mean and range over an arm's runs, at the steps that all of them logged.

    Args:
        arm: the runs.
        split: train, validation or test.
        name: of the number.

    Returns:
        The course; None if there is no such step.
    """
    found = [dict(zip(*values(lines, split, name), strict=True)) for lines in arm.runs]
    steps = sorted(set.intersection(*(set(run) for run in found))) if found else []
    if not steps:
        return None
    table = np.asarray([[run[step] for step in steps] for run in found])  # [runs, steps]
    return Course(np.asarray(steps), table.mean(0), table.min(0), table.max(0))  # over runs


def shown_split(arms: Sequence[Arm]) -> str:
    """Return the split that curves show: validation, or training if nothing validates."""
    validated = any(values(lines, "validation", "error")[0].size for a in arms for lines in a.runs)
    return "validation" if validated else "train"


def recent_training(lines: Lines) -> Recent | None:
    """Average training over the last tenth of its steps, over at least five logged batches.

    A line of training measures a single batch, in which an error of 0 says little.

    Args:
        lines: a run's metrics.

    Returns:
        The means; None if nothing was logged.
    """
    steps, errors = values(lines, "train", "error")
    if not steps.size:
        return None
    count = max(int(np.sum(steps > 0.9 * steps[-1])), min(LEAST, len(steps)))
    losses = values(lines, "train", "loss")[1]
    return Recent(
        first=int(steps[-count]),
        last=int(steps[-1]),
        batches=count,
        error=float(errors[-count:].mean()),
        loss=float(losses[-count:].mean()),
    )
