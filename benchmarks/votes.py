"""Time value and gradient of routing with linear and dense votes, in turn, where the choice is close.

    python benchmarks/votes.py [ROUNDS] [--out FILE]

For few and more examples, few and many children and parents, and poses of several lengths. Prints ratios of
medians, what `form_votes` chooses, and its regret: the chosen form's time over that of the faster one. Three
gradient modes of one size count as one, by the geometric mean of their ratios: the choice does not know the
mode.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from capsjax.bench.routing import RoutingSizes, gradient_named, routing_work
from capsjax.bench.timing import time_interleaved
from capsjax.tables import Table
from capsjax.votes import faster_form

# Examples, children i, parents j, and components d and e of their poses.
GRID = (
    (1, 1152, 10, 8, 16),
    (4, 1152, 10, 8, 16),
    (6, 1152, 10, 8, 16),
    (8, 1152, 10, 8, 16),
    (12, 1152, 10, 8, 16),
    (16, 1152, 10, 8, 16),
    (32, 1152, 10, 8, 16),
    (4, 72, 10, 8, 16),
    (6, 72, 10, 8, 16),
    (8, 72, 10, 8, 16),
    (8, 72, 10, 12, 16),
    (12, 72, 10, 8, 16),
    (16, 72, 10, 8, 16),
    (64, 72, 10, 8, 8),
    (32, 72, 10, 16, 16),
    (16, 256, 10, 16, 16),
    (32, 288, 10, 20, 16),
    (8, 200, 2, 16, 16),
    (4, 256, 100, 8, 16),
    (8, 256, 100, 8, 16),
    (8, 288, 10, 32, 16),
    (32, 288, 10, 32, 16),
    (32, 288, 10, 8, 4),
)
MODES = ("stop", "full", "closed_form")
FORMS = ("linear", "dense")
Measured = dict[str, Any]


def measure(sizes: tuple[int, ...], rounds: int) -> Measured:
    """Time both forms of one size in every mode.

    Args:
        sizes: examples, i, j, d and e.
        rounds: how often each is timed.

    Returns:
        Seconds of each mode and form, and temporary bytes likewise.
    """
    names = "batch", "children", "parents", "in_dim", "out_dim"
    given = RoutingSizes(**dict(zip(names, sizes, strict=True)))
    works = {
        f"{mode}, {form}": routing_work(given, gradient=gradient_named(mode), votes=form)
        for mode in MODES
        for form in FORMS
    }
    seconds = time_interleaved({name: work.call for name, work in works.items()}, rounds)
    memory = {name: work.temp_bytes for name, work in works.items()}
    return {"sizes": list(sizes), "seconds": seconds, "temporary_bytes": memory}


def ratios(measured: Measured) -> dict[str, float]:
    """Return linear over dense votes' time, medians, by mode; and their geometric mean as `all`."""
    seconds = {name: float(np.median(taken)) for name, taken in measured["seconds"].items()}
    found = {mode: seconds[f"{mode}, linear"] / seconds[f"{mode}, dense"] for mode in MODES}
    return found | {"all": math.prod(found.values()) ** (1 / len(MODES))}


def regret(measured: Measured) -> float:
    """Return the time of what `form_votes` chooses over that of the faster form, at least 1."""
    linear, chosen = ratios(measured)["all"], faster_form(*measured["sizes"])
    return max(1.0, linear if chosen == "linear" else 1 / linear)


def table(measured: list[Measured], rounds: int) -> Table:
    """Return a line for each size."""
    lines = []
    for one in measured:
        found = ratios(one)
        numbers = (f"{found[name]:.2f}" for name in (*MODES, "all"))
        sizes = (str(size) for size in one["sizes"])
        lines.append((*sizes, *numbers, faster_form(*one["sizes"]), f"{regret(one):.2f}"))
    headings = ("b", "i", "j", "d", "e", *MODES, "all", "chosen", "regret")
    return Table(f"linear / dense votes, {rounds} rounds in turn", headings, tuple(lines))


def main() -> None:
    """Measure, print the table and write the raw results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", type=int, nargs="?", default=9)
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of the raw results")
    arguments = parser.parse_args()
    measured = []
    for sizes in GRID:
        measured.append(measure(sizes, arguments.rounds))
        jax.clear_caches()
        print(sizes, {name: round(x, 2) for name, x in ratios(measured[-1]).items()}, flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    Console(width=140).print(table(measured, arguments.rounds).to_rich())


if __name__ == "__main__":
    main()
