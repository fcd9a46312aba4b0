"""Measure training, the forward pass and routing on a GPU beside PyTorch, with the card's own ceilings.

    python benchmarks/gpu.py NAME [--batch 128 1024] [--rounds 7] [--out FOLDER]
    python benchmarks/gpu.py NAME --report FILE...

Every contender is a process, all of which are there before the first is timed. Writes FOLDER/NAME.json after
every group, so that a run which is cut short leaves what it measured, and prints the tables. `--report` makes
the tables of several files at once. `--device cpu --config digits` only shows that it works: nothing that it
prints then is of interest.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from interleave import Job, compile_ours, environment, take_turns, workers
from machine import BATCH, OPERATIONS, product_rate
from rich.console import Console

from capsjax.runs import description
from capsjax.tables import Table

HERE = Path(__file__).parent
REFERENCE = "PyTorch, compiled, bfloat16"
Measured = dict[str, Any]


def groups(batch: int, device: str, times: int, config: str) -> dict[str, dict[str, Job]]:
    """Return what is interleaved with what, for a batch size.

    Args:
        batch: images in a batch.
        device: "cuda" or "cpu".
        times: pieces of work in each call.
        config: the configuration of the network.

    Returns:
        For each group the jobs of its contenders, by name.
    """
    common = {"device": device, "times": times, "warm": True}
    ours = {**common, "who": "ours", "batch": batch, "config": config}
    torch = {**common, "who": "pytorch", "batch": batch, "tuned": True}
    half, compiled = {"precision": "bfloat16"}, {"compile": True}

    def network(work: str) -> dict[str, Job]:
        mine, theirs = {**ours, "work": work}, {**torch, "work": work, "gradient": "full"}
        return {
            "capsjax, bfloat16": {**mine, **half, "gradient": "closed_form"},
            "capsjax, TF32": {**mine, "gradient": "closed_form"},
            "PyTorch, eager, TF32": theirs,
            "PyTorch, compiled, TF32": {**theirs, **compiled},
            REFERENCE: {**theirs, **compiled, **half},
        }

    sizes = {"batch": batch, "children": 1152, "parents": 10, "in_dim": 8, "out_dim": 16}
    alone = {**common, "work": "routing", "sizes": sizes}
    routing: dict[str, Job] = {
        f"capsjax, {gradient}": {**alone, "who": "ours", "votes": "linear", "gradient": gradient}
        for gradient in ("stop", "full", "closed_form")
    }
    closed = routing["capsjax, closed_form"]
    routing["capsjax, closed_form, r = 10"] = {**closed, "sizes": {**sizes, "num_iters": 10}}
    routing["capsjax, dense votes, closed_form"] = {**closed, "votes": "dense"}
    for gradient in ("detached", "full"):
        job = {**alone, "who": "pytorch", "gradient": gradient, "tuned": True}
        routing[f"PyTorch, eager, {gradient}"] = job
        routing[f"PyTorch, compiled, {gradient}"] = {**job, **compiled}
    steps = network("step")
    # What routing adds to a step is seen beside one that holds all couplings equal.
    bare = {**steps["capsjax, bfloat16"], "changed": {"model.routing": "uniform"}}
    for gradient in ("stop", "full"):
        name = f"capsjax, bfloat16, {gradient}"
        steps[name] = {**steps["capsjax, bfloat16"], "gradient": gradient}
    steps["capsjax, bfloat16, uniform coupling"] = bare
    return {
        f"step, batch {batch}": steps,
        f"routing, batch {batch}": routing,
        f"forward, batch {batch}": network("forward"),
    }


def ceilings(device: str, size: int, times: int) -> dict[str, Job]:
    """Return what measures the card at its best: matrix products and a copy.

    Args:
        device: "cuda" or "cpu".
        size: rows and columns of the matrices.
        times: products in each call.

    Returns:
        Jobs by name.
    """
    common = {"device": device, "times": times, "warm": True}
    product = {**common, "who": "matrix product", "size": size}
    jobs: dict[str, Job] = {
        f"{precision}, {library}": {**product, "precision": precision, "library": library}
        for precision in ("bfloat16", "TF32")
        for library in ("jax", "pytorch")
    }
    return jobs | {"copy": {**common, "who": "copy", "size": 8 * size**2}}


def tables(measured: Measured) -> list[Table]:
    """Return a table for each group, with ratios of medians and shares of the ceiling."""
    found, made = measured["groups"], []
    products = [
        one
        for one in found.get("ceilings", {}).values()
        if one["job"].get("precision") == "bfloat16"
    ]
    best = product_rate(products) if products else None
    for name, contenders in found.items():
        if name == "ceilings":
            made.append(_ceilings_table(contenders, measured))
            continue
        reference = contenders.get(REFERENCE) or contenders.get("PyTorch, compiled, full")
        rows = [_row(one, result, reference, best) for one, result in contenders.items()]
        headings = ("median", "fastest to slowest", "images/s", "to compiled PyTorch", "memory")
        more = ("share of bfloat16 rate",) if name.startswith("step") and best else ()
        width = 1 + len(headings) + len(more)
        made.append(Table(name, (name, *headings, *more), tuple(row[:width] for row in rows)))
    return made


def _row(
    name: str, result: Measured, reference: Measured | None, best: float | None
) -> tuple[str, ...]:
    seconds = np.asarray(result["seconds"])
    batch = result["job"].get("batch") or result["job"]["sizes"]["batch"]
    median, memory = float(np.median(seconds)), result["peak_device_bytes"]
    ratio = median / float(np.median(reference["seconds"])) if reference else None
    share = OPERATIONS / BATCH * batch / median / best if best else 0.0
    return (
        name,
        f"{1e3 * median:.3f} ms",
        f"{1e3 * seconds.min():.3f} to {1e3 * seconds.max():.3f}",
        f"{batch / median:,.0f}",
        "" if ratio is None else f"{ratio:.2f}",
        "" if memory is None else f"{memory / 1e6:,.0f} MB",
        f"{100 * share:.0f} %",
    )


def _ceilings_table(found: Measured, measured: Measured) -> Table:
    rows = []
    for name, result in found.items():
        seconds, size = np.asarray(result["seconds"]), result["job"]["size"]
        copied = result["job"]["who"] == "copy"
        amounts = (8 * size if copied else 2 * size**3) / seconds
        scale, unit = (1e9, "GB/s") if copied else (1e12, "TFLOP/s")
        spread = f"{amounts.min() / scale:,.1f} to {amounts.max() / scale:,.1f}"
        rows.append((name, f"{np.median(amounts) / scale:,.1f} {unit}", spread))
    device, versions = measured["environment"]["devices"][0], measured["environment"]["packages"]
    title = f"{device}; jax {versions['jax']}, torch {measured['torch']}"
    return Table(title, ("ceiling", "median", "slowest to fastest"), tuple(rows))


def merged(files: list[Path]) -> Measured:
    """Join the groups of several files, of one machine, into one."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in files]
    devices = {json.dumps(one["environment"]["devices"]) for one in read}
    if len(devices) != 1:
        raise SystemExit(f"got files of several machines, {', '.join(devices)}, expected one")
    return {**read[0], "groups": {k: v for one in read for k, v in one["groups"].items()}}


def show(measured: Measured, path: Path) -> None:
    """Print the tables, and write them beside the raw results."""
    made = tables(measured)
    for table in made:
        Console(width=140).print(table.to_rich())
    text = "\n".join(table.to_markdown() for table in made)
    path.with_suffix(".md").write_text(text, encoding="utf-8")


def _say(what: str, start: float) -> None:
    print(f"{time.monotonic() - start:4.0f} s: {what}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="what the file is called")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1024], metavar="N")
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--times", type=int, default=50, metavar="N", help="times in a call")
    parser.add_argument("--only", default="", help="groups whose name begins so, and the ceilings")
    parser.add_argument("--size", type=int, default=8192, metavar="N", help="of the matrices")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--config", default="mnist_sabour2017")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument(
        "--at-once", type=int, default=4, metavar="N", help="processes that compile at a time"
    )
    parser.add_argument("--seconds", type=float, help="begin no group after so many", metavar="S")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE")
    arguments = parser.parse_args()
    path = arguments.out / f"{arguments.name}.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.report:
        show(merged(arguments.report), path)
        return
    import torch

    measured = {"environment": description.environment(), "torch": torch.__version__, "groups": {}}
    work = {"ceilings": ceilings(arguments.device, arguments.size, 10)}
    for batch in arguments.batch:
        found = groups(batch, arguments.device, arguments.times, arguments.config)
        work |= {name: jobs for name, jobs in found.items() if name.startswith(arguments.only)}
    every = {(group, name): job for group, jobs in work.items() for name, job in jobs.items()}
    flat = {" / ".join(key): job for key, job in every.items()}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        # What one process takes beforehand is not there for the ones beside it.
        env = environment(cache) | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        _say(f"compiling, {arguments.at_once} at a time", start)
        compile_ours(flat, env, arguments.at_once)
        _say(f"starting {len(flat)} processes", start)
        with workers(flat, env, arguments.at_once) as started:
            for group, jobs in work.items():
                if arguments.seconds and time.monotonic() - start > arguments.seconds:
                    _say(f"left out, after {arguments.seconds} s: {group}", start)
                    continue
                _say(group, start)
                here = {
                    name: started[f"{group} / {name}"]
                    for name in jobs
                    if f"{group} / {name}" in started
                }
                present = {name: jobs[name] for name in here}
                measured["groups"][group] = take_turns(here, present, arguments.rounds)
                path.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    show(measured, path)
    print(path)


if __name__ == "__main__":
    main()
