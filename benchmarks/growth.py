"""Measure how the cost of routing and of a training step grows with each of their sizes.

    python benchmarks/growth.py [--quick] [--only routing|step]

One size is changed at a time; the others stay at batch 32 and the 2017 network's. Every point interleaves
its contenders, each in a process of its own, so that the most memory that each had resident is its own.
Writes benchmarks/results/growth.json; `--only` replaces one kind of work there.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from interleave import Job, compile_ours, environment, interleave

HERE = Path(__file__).parent
BASE = {"batch": 32, "children": 1152, "parents": 10, "in_dim": 8, "out_dim": 16, "num_iters": 3}
POINTS = {
    "batch": (8, 32, 128),
    "children": (288, 1152, 2304),
    "parents": (5, 10, 20),
    "num_iters": (1, 3, 10),
}
STEPS = (16, 64, 128)  # batches of a training step


def routing_jobs(sizes: dict[str, int]) -> dict[str, Job]:
    """Return the contenders of routing at some sizes."""
    job = {"work": "routing", "sizes": sizes}
    return {
        "capsjax, stop": {**job, "who": "ours", "gradient": "stop", "votes": "linear"},
        "capsjax, full": {**job, "who": "ours", "gradient": "closed_form", "votes": "linear"},
        "capsjax, full, dense": {**job, "who": "ours", "gradient": "full", "votes": "dense"},
        "PyTorch, detached": {**job, "who": "pytorch", "gradient": "detached"},
        "PyTorch, full": {**job, "who": "pytorch", "gradient": "full"},
    }


def step_jobs(batch: int) -> dict[str, Job]:
    """Return the contenders of a training step."""
    job = {"work": "step", "batch": batch}
    return {
        "capsjax, stop": {**job, "who": "ours", "gradient": "stop"},
        "capsjax, full": {**job, "who": "ours", "gradient": "closed_form"},
        "PyTorch, detached": {**job, "who": "pytorch", "gradient": "detached"},
        "PyTorch, full": {**job, "who": "pytorch", "gradient": "full"},
    }


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smallest point of each size")
    parser.add_argument(
        "--only", choices=("routing", "step"), help="measure one kind of work again"
    )
    arguments = parser.parse_args()
    rounds, found = (1 if arguments.quick else 3), []
    with tempfile.TemporaryDirectory() as cache:
        env = environment(cache)

        done: dict[str, Any] = {}

        def point(work: str, size: str, value: int, jobs: dict[str, Job]) -> None:
            print(f"{work}: {size} {value}", file=sys.stderr, flush=True)
            key = json.dumps(jobs)  # the point that all sizes share is measured once
            if key not in done:
                compile_ours(jobs, env)
                done[key] = interleave(jobs, rounds, env)
            found.append({"work": work, "size": size, "value": value, "results": done[key]})

        for size, values in ({} if arguments.only == "step" else POINTS).items():
            for value in values[:1] if arguments.quick else values:
                point("routing", size, value, routing_jobs({**BASE, size: value}))
        batches = () if arguments.only == "routing" else STEPS
        for batch in batches[:1] if arguments.quick else batches:
            point("step", "batch", batch, step_jobs(batch))
    (HERE / "results").mkdir(exist_ok=True)
    path = HERE / "results" / "growth.json"
    if arguments.only:
        before = json.loads(path.read_text("utf-8"))["points"]
        found = [point for point in before if point["work"] != arguments.only] + found
    path.write_text(json.dumps({"base": BASE, "points": found}, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
