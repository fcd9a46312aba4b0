"""Read how the stop gradient pointed beside the full one along training, and make tables of it."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

STOP, FULL = "stop", "full"
GRID = "_iterations"  # what a set that varies the number of iterations ends with
GAPS = ("gap", "example_gap")
COLUMNS = ("cosine", "norm_ratio", "share", "example_cosine", "example_share")
AFTER = ("response_cosine", "response_norm_ratio")


class Point(NamedTuple):
    """Hold how far the stop gradient is from the full one at one moment of training, mean over seeds.

    Attributes:
        name: of the set.
        arm: which trains, as the raw results call it.
        moment: from 0, before the first step.
        entropy: of the last iteration's coupling, nats.
        departure: how much less that is than uniform coupling's, nats.
        gap: one minus the cosine of the two gradients of 256 examples, all parameters.
        example_gap: the same of single examples, mean.
    """

    name: str
    arm: str
    moment: int
    entropy: float
    departure: float
    gap: float
    example_gap: float


def read(results: Path, name: str) -> list[dict[str, Any]]:
    """Read a set's gradients, a record for each arm and moment; nothing if there are none.

    Args:
        results: the folder of an experiment's results.
        name: of the set.
    """
    path = results / name / "gradients.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def gradients_table(results: Path, names: Mapping[str, str]) -> list[str]:
    """Return how the stop gradient points beside the full one, means over seeds.

    Args:
        results: the folder of an experiment's results.
        names: what each set is called.

    Returns:
        The rows: begin, half and end of training where full trains, and the end where stop does.
    """
    lines = [
        "| set | moment | entropy, nats | cosine | ratio of lengths | share | single examples: cosine | "
        "share | after Adam: cosine | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, title in names.items():
        found = read(results, name)
        points = [point for point in found if point["arm"] == FULL]
        ends = [point for point in found if point["arm"] == STOP][-1:]
        moments = {"begin": points[:1], "half": points[len(points) // 2 :][:1], "end": points[-1:]}
        for when, of in (moments | {"end, stop trains": ends}).items():
            for point in of:
                cells = [title, when, f"{point['entropy']:.3f}"]
                cells += [f"{point[key]:.2f}" for key in (*COLUMNS, *AFTER)]
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def law_points(results: Path, planned: Mapping[str, Any]) -> list[Point]:
    """Return every moment at which stop and full were compared, of all sets, arms and iterations.

    Args:
        results: the folder of an experiment's results.
        planned: its sets.
    """
    found = []
    for name, entry in planned.items():
        uniform = math.log(8 if name.startswith("eth80") else 10)
        moments: dict[str, int] = {}
        for line in [] if "rates" in entry else read(results, name):
            arm, entropy = line["arm"], line["entropy"]
            moment = moments[arm] = moments.get(arm, -1) + 1
            gaps = (1 - line[key] for key in ("cosine", "example_cosine"))
            found.append(Point(name, arm, moment, entropy, uniform - entropy, *gaps))
    return found


def law_table(points: Sequence[Point]) -> list[str]:
    """Return how far the departure from uniform coupling orders the gaps between stop and full."""
    last = {(p.name, p.arm): p.moment for p in points}
    # Before the first step there is one network, whichever arm is to train it.
    begin = [p for p in points if not p.moment and FULL in p.arm]
    after = [p for p in points if p.moment]
    end = [p for p in points if p.moment == last[p.name, p.arm]]
    parts = {
        "all": [*begin, *after],
        "before the first step": begin,
        "after it": after,
        "at the end": end,
        "at the end, r = 3": [p for p in end if not p.name.endswith(GRID)],
    }
    lines = [
        "| moments | points | all examples together | single examples |",
        "|---|---:|---:|---:|",
    ]
    for part, of in parts.items():
        if len(of) > 2:
            x = [p.departure for p in of]
            ranks = (stats.spearmanr(x, [getattr(p, y) for p in of])[0] for y in GAPS)
            lines.append(f"| {part} | {len(of)} | {' | '.join(f'{r:+.2f}' for r in ranks)} |")
    return lines
