"""Measure everything that the table of targets asks for, once, and write it down.

    python benchmarks/run.py NAME [--quick]

Takes some ten minutes on two cores and writes benchmarks/results/NAME.json: the seconds of every round.
`python benchmarks/report.py` makes the tables of all repetition-*.json.
"""

import argparse
import datetime
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from interleave import Job, compile_ours, environment, interleave

from capsjax.runs import description

HERE = Path(__file__).parent
BATCH = 128
ROUTING = {"batch": 128, "children": 1152, "parents": 10, "in_dim": 8, "out_dim": 16}
KEPT, NOTHING_KEPT = {"CAPSJAX_KEEP_MEMORY": "1"}, {"CAPSJAX_KEEP_MEMORY": "0"}
LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}


def job(who: str, work: str, gradient: str, **more: Any) -> Job:
    """Describe a job of the 2017 size."""
    sizes = {"sizes": ROUTING} if work == "routing" else {"batch": BATCH}
    return {"who": who, "work": work, "gradient": gradient, **sizes, **more}


def groups() -> dict[str, dict[str, Job]]:
    """Return what is interleaved with what: few at a time, so that all of it stays in memory."""
    matrix = {"who": "matrix product", "size": 4096}
    tuned, compiled = {"tuned": True}, {"compile": True, "precision": "bfloat16"}
    forward = {
        "ours": job("ours", "forward", "stop"),
        "tuned": job("pytorch", "forward", "detached", **tuned),
        "tuned, compiled, bfloat16": job("pytorch", "forward", "detached", **tuned, **compiled),
    }
    return {
        "step, tuned": {
            "ours, stop": job("ours", "step", "stop"),
            "ours, full": job("ours", "step", "closed_form"),
            "tuned, detached": job("pytorch", "step", "detached", **tuned),
            "tuned, full": job("pytorch", "step", "full", **tuned),
            "tuned, compiled, bfloat16": job("pytorch", "step", "detached", **tuned, **compiled),
        },
        "forward, tuned": forward,
        "forward, tuned, batch 16": {name: {**one, "batch": 16} for name, one in forward.items()},
        "step, stop": {
            "ours": job("ours", "step", "stop"),
            "pytorch": job("pytorch", "step", "detached"),
            "naive flax": job("naive flax", "step", "stop"),
        },
        "step, full": {
            "ours": job("ours", "step", "closed_form"),
            "pytorch": job("pytorch", "step", "full"),
            "ours, stop": job("ours", "step", "stop"),
        },
        "forward": {
            "ours": job("ours", "forward", "stop"),
            "pytorch": job("pytorch", "forward", "detached"),
        },
        "routing, stop": {
            "ours": job("ours", "routing", "stop"),
            "pytorch": job("pytorch", "routing", "detached"),
        },
        "routing, full": {
            "ours": job("ours", "routing", "closed_form"),
            "pytorch": job("pytorch", "routing", "full"),
            "ours, automatic": job("ours", "routing", "full"),
        },
        "machine": {
            "ours": job("ours", "step", "stop"),
            "matrix product, pytorch": {**matrix, "library": "pytorch"},
            "matrix product, jax": {**matrix, "library": "jax"},
            "copy": {"who": "copy", "size": 1 << 27},
        },
        "large pages": {
            "ours": job("ours", "step", "stop"),
            "ours, large pages": job("ours", "step", "stop", env=LARGE_PAGES),
            "pytorch": job("pytorch", "step", "detached"),
            "pytorch, large pages": job("pytorch", "step", "detached", env=LARGE_PAGES),
        },
        "kept memory": {
            "ours": job("ours", "step", "stop"),
            "ours, nothing kept": job("ours", "step", "stop", env=NOTHING_KEPT),
            "pytorch": job("pytorch", "step", "detached", **tuned),
            "pytorch, kept": job("pytorch", "step", "detached", env=KEPT, **tuned),
        },
    }


def first_step(config: str, env: dict[str, str]) -> float:
    """Return the seconds from the start of `capsjax train` to its first line of metrics."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        flags = ["--training.log_every", "1", "--out", str(out)]
        command = [str(Path(sys.executable).parent / "capsjax"), "train", config, *flags]
        start = time.perf_counter()
        process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        metrics = out / "metrics.jsonl"
        # What a user waits for is the first line of metrics, whatever the process does before it.
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                raise RuntimeError(f"capsjax train {config} ended: {process.stderr.read()}")
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.send_signal(signal.SIGKILL)  # nothing of the run is wanted, so it need not save
        process.wait()
    return seconds


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="what the file is called")
    parser.add_argument(
        "--quick", action="store_true", help="one round of each: to see that it works"
    )
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else 7
    measured: dict[str, Any] = {
        "environment": description.environment(),
        "torch": subprocess.run(
            [sys.executable, "-c", "import torch; print(torch.__version__)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "groups": {},
    }
    with tempfile.TemporaryDirectory() as cache:
        env = environment(cache)
        for name, jobs in groups().items():
            print(f"{datetime.datetime.now():%H:%M} {name}", file=sys.stderr, flush=True)
            compile_ours(jobs, env)
            measured["groups"][name] = interleave(jobs, rounds, env, seldom=("naive flax",))
        env["JAX_COMPILATION_CACHE_DIR"] = cache
        env["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        configs = ["digits", *(["mnist_sabour2017"] if os.environ.get("CAPSJAX_DATA") else [])]
        starts = {name: [first_step(name, env) for _ in range(rounds + 1)] for name in configs}
        # The first finds nothing compiled; its own network's programs may be there from the steps above.
        measured["first step"] = {name: seconds[1:] for name, seconds in starts.items()}
        measured["first step, not compiled before"] = {
            name: seconds[0] for name, seconds in starts.items()
        }
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{arguments.name}.json"
    path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
