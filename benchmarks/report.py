"""Make the table of targets and the figures, from the files that the other scripts wrote.

    python benchmarks/report.py

Prints the tables, writes them to benchmarks/results/tables.md, and the figures to docs/images/speed.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import figures
import numpy as np
from machine import OPERATIONS, bandwidth, matrix_rate
from rich.console import Console

from capsjax.tables import Table

HERE = Path(__file__).parent
RESULTS, IMAGES = HERE / "results", HERE.parent / "docs" / "images" / "speed"


class Target(NamedTuple):
    """Hold a line of the table: what is divided by what, and what is aimed at.

    Attributes:
        text: the line's name.
        group: what was interleaved.
        ours: the contender above the line.
        other: the contender below it.
        bar: the least that is wanted of the ratio.
        goal: what is hoped for.
        field: "seconds", or "peak_rss_bytes" for memory.
    """

    text: str
    group: str
    ours: str
    other: str
    bar: float | None
    goal: float | None
    field: str = "seconds"


TUNED, TUNED_16, KEPT = "step, tuned", "forward, tuned, batch 16", "kept memory"
TARGETS = (
    Target("step, stop, to PyTorch detached", "step, stop", "ours", "pytorch", 0.45, 0.30),
    Target("step, full, to PyTorch full", "step, full", "ours", "pytorch", 0.45, 0.25),
    Target("step, stop, to naive Flax", "step, stop", "ours", "naive flax", 0.05, 0.03),
    Target("routing, stop, to PyTorch detached", "routing, stop", "ours", "pytorch", 0.15, 0.08),
    Target("routing, full, to PyTorch full", "routing, full", "ours", "pytorch", 0.15, 0.08),
    Target("step, full to stop, ours", "step, full", "ours", "ours, stop", 1.15, 1.05),
    Target("forward, to PyTorch", "forward", "ours", "pytorch", 0.60, 0.35),
    Target("step, stop, to tuned PyTorch", TUNED, "ours, stop", "tuned, detached", 0.36, 0.25),
    Target("step, full, to tuned PyTorch", TUNED, "ours, full", "tuned, full", 0.42, 0.30),
    Target(
        "step, stop, to the same, compiled, bfloat16",
        TUNED,
        "ours, stop",
        "tuned, compiled, bfloat16",
        0.65,
        0.50,
    ),
    Target("step, full to stop, ours, beside it", TUNED, "ours, full", "ours, stop", 1.30, 1.15),
    Target("forward, to tuned PyTorch", "forward, tuned", "ours", "tuned", 0.55, 0.40),
    Target("forward, batch 16, to tuned PyTorch", TUNED_16, "ours", "tuned", 1.00, 0.70),
    Target(
        "peak memory, stop, to tuned PyTorch",
        TUNED,
        "ours, stop",
        "tuned, detached",
        1.00,
        0.70,
        "peak_rss_bytes",
    ),
    Target(
        "peak memory, full, to tuned PyTorch",
        TUNED,
        "ours, full",
        "tuned, full",
        1.00,
        0.70,
        "peak_rss_bytes",
    ),
    Target("peak memory, stop", "step, stop", "ours", "pytorch", 0.65, 0.45, "peak_rss_bytes"),
    Target("peak memory, full", "step, full", "ours", "pytorch", 0.65, 0.45, "peak_rss_bytes"),
    Target(
        "routing, closed form to automatic", "routing, full", "ours", "ours, automatic", None, None
    ),
    Target("step, ours, large pages", "large pages", "ours, large pages", "ours", None, None),
    Target(
        "step, PyTorch, large pages", "large pages", "pytorch, large pages", "pytorch", None, None
    ),
    Target("step, ours, memory kept", KEPT, "ours", "ours, nothing kept", None, None),
    Target(
        "peak memory, ours, memory kept",
        KEPT,
        "ours",
        "ours, nothing kept",
        None,
        None,
        "peak_rss_bytes",
    ),
    Target("step, tuned PyTorch, memory kept", KEPT, "pytorch, kept", "pytorch", None, None),
    Target(
        "peak memory, tuned PyTorch, memory kept",
        KEPT,
        "pytorch, kept",
        "pytorch",
        None,
        None,
        "peak_rss_bytes",
    ),
)


def ratio(run: dict[str, Any], target: Target) -> tuple[float, float]:
    """Compare the two contenders of a target within one repetition.

    Args:
        run: what `run.py` wrote.
        target: whose contenders.

    Returns:
        The ratio of their medians, and the worst ratio of one round.
    """
    found = run["groups"][target.group]
    ours, other = (np.atleast_1d(found[name][target.field]) for name in (target.ours, target.other))
    rounds = min(len(ours), len(other))  # a slow contender takes part in the first ones only
    ours, other = ours[:rounds], other[:rounds]
    return float(np.median(ours) / np.median(other)), float((ours / other).max())


def target_table(runs: dict[str, dict[str, Any]]) -> Table:
    """Return every target, with the ratio of medians of each repetition."""
    rows = []
    for target in TARGETS:
        found = [ratio(run, target) for run in runs.values() if target.group in run["groups"]]
        aims = ["" if aim is None else f"≤ {aim:.2f}" for aim in (target.bar, target.goal)]
        medians = ["not measured"] * (len(runs) - len(found)) + [f"{m:.3f}" for m, _ in found]
        worst = f"{max(worst for _, worst in found):.3f}" if found else ""
        rows.append((target.text, *aims, *medians, worst))
    seconds = [np.asarray(run["groups"]["machine"]["ours"]["seconds"]) for run in runs.values()]
    ideal = [OPERATIONS / matrix_rate(run) for run in runs.values()]
    shares = [best / np.median(took) for best, took in zip(ideal, seconds, strict=True)]
    slowest = min(best / took.max() for best, took in zip(ideal, seconds, strict=True))
    shares_text = [f"{share:.2f}" for share in shares]
    rows.append(
        (
            "153 GFLOP at the matrix rate, over the step",
            "≥ 0.90",
            "≥ 1.30",
            *shares_text,
            f"{slowest:.2f}",
        )
    )
    for config in next(iter(runs.values()))["first step"]:
        starts = [run["first step"][config] for run in runs.values()]
        medians = [f"{np.median(start):.1f} s" for start in starts]
        worst = max(max(start) for start in starts)
        rows.append(
            (
                f"start to first step, compiled before, {config}",
                "≤ 8 s",
                "≤ 4 s",
                *medians,
                f"{worst:.1f} s",
            )
        )
    return Table("Targets", ("ratio of medians", "bar", "goal", *runs, "worst round"), tuple(rows))


def machine_table(runs: dict[str, dict[str, Any]]) -> Table:
    """Return what each repetition ran on and how fast that was."""
    rows = []
    for name, run in runs.items():
        environment = run["environment"]
        jax = environment["packages"]["jax"]
        rates = f"{matrix_rate(run) / 1e9:.0f}", f"{bandwidth(run) / 1e9:.1f}"
        versions = f"jax {jax}, torch {run['torch']}, Python {environment['python']}"
        rows.append((name, environment["started"], str(run["cores"]), *rates, versions))
    headings = ("repetition", "started", "cores", "GFLOP/s", "GB/s copied", "versions")
    return Table("Machine", headings, tuple(rows))


def memory_table(runs: dict[str, dict[str, Any]]) -> Table:
    """Return the peak resident memory of each contender of a step, in MB, for each repetition."""
    rows = []
    for group in ("step, stop", "step, full"):
        for name in next(iter(runs.values()))["groups"][group]:
            peaks = [run["groups"][group][name]["peak_rss_bytes"] / 1e6 for run in runs.values()]
            rows.append((f"{group}: {name}", *(f"{peak:,.0f}" for peak in peaks)))
    return Table("Peak resident memory of training, MB", ("process", *runs), tuple(rows))


def main() -> None:
    """Read, and make all that can be made."""
    runs = {
        path.stem.removeprefix("repetition-"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RESULTS.glob("repetition-*.json"))
    }
    if not runs:
        raise SystemExit("got no benchmarks/results/repetition-*.json; see benchmarks/run.py")
    tables = [target_table(runs), machine_table(runs), memory_table(runs)]
    for table in tables:
        Console(width=140).print(table.to_rich())
    text = "\n".join(table.to_markdown() for table in tables)
    (RESULTS / "tables.md").write_text(text, encoding="utf-8")
    IMAGES.mkdir(parents=True, exist_ok=True)
    figures.draw_all(RESULTS, IMAGES, runs)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
