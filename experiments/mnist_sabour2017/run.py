"""Train the 2017 network on MNIST as its authors did: every row of their ablation, seed by seed.

    python experiments/mnist_sabour2017/run.py --out DIR [--rows full stop] [--seeds 0 1 2] [--seconds 540]
    python experiments/mnist_sabour2017/run.py --out DIR --report

Runs one after another: all rows with the first seed, then all with the next, so that what there was time
for is paired. A run that was stopped is resumed from its last checkpoint when the same command is given
again. Every run that was started is in DIR/runs.jsonl and in the table, finished or not; `--seconds` stops
the last one in time.
"""

import argparse
import contextlib
import datetime
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from capsjax.runs import description, directory
from capsjax.study.statistics import paired_difference, summarise
from capsjax.tables import Table
from capsjax.training import checkpoints

# What a row changes of the configuration, and the paper's test error in percent (table 1).
ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "full": ({}, "0.25 ± 0.005"),
    "stop": ({"model.routing.gradient": "stop"}, ""),
    "r=3, no decoder": ({"model.decoder": "null"}, "0.35 ± 0.036"),
    "r=1": ({"model.routing.num_iters": 1}, "0.29 ± 0.011"),
    "r=1, no decoder": ({"model.routing.num_iters": 1, "model.decoder": "null"}, "0.34 ± 0.032"),
}
LEDGER = "runs.jsonl"


def folder_of(out: Path, row: str, seed: int) -> Path:
    """Return the directory of a run."""
    name = row.replace(", ", "-").replace(" ", "-").replace("=", "")
    return out / f"{name}-seed{seed}"


def command(config: str, folder: Path, row: str, seed: int, flags: list[str]) -> list[str]:
    """Return the command that begins a run, or resumes it."""
    start = [sys.executable, "-m", "capsjax.cli", "train"]
    if folder.exists():
        return [*start, "--resume", str(folder)]
    changed, _ = ROWS[row]
    words = [word for key, value in changed.items() for word in (f"--{key}", str(value))]
    return [*start, config, "--seed", str(seed), "--out", str(folder), *words, *flags]


def test_error(folder: Path) -> float | None:
    """Return a finished run's test error, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        if last["split"] == "test":
            return last["error"]
    return None


def note(out: Path, row: str, seed: int, event: str) -> None:
    """Write down what happened to a run."""
    folder, now = folder_of(out, row, seed), datetime.datetime.now(datetime.UTC)
    steps = checkpoints.steps(folder / "checkpoints") if folder.exists() else []
    line = {
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "row": row,
        "seed": seed,
        "event": event,
        "step": max(steps, default=0),
        "error": test_error(folder),
    }
    with (out / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(line) + "\n")


def carry_out(words: list[str], seconds: float) -> str:
    """Run a command; interrupt it where it takes too long. Returns what happened, in a word.

    An interrupt of this process, by Ctrl-C or a signal, interrupts the command, too, and waits for its end.
    """
    process = subprocess.Popen(words)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _interrupt(process)
        return "stopped"
    except KeyboardInterrupt:
        _interrupt(process)
        return "interrupted"
    return "finished" if code == 0 else "failed"


def _interrupt(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
            return


def settle(out: Path, config: str, flags: list[str]) -> None:
    """Write down what all runs of a directory are trained with, or refuse another."""
    path, asked = out / "command.json", {"config": config, "flags": flags}
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        directory.write_json(path, asked)
        directory.write_json(out / "environment.json", description.environment())
    elif (begun := json.loads(path.read_text(encoding="utf-8"))) != asked:
        raise SystemExit(
            f"{out}: got {_written(asked)}, expected {_written(begun)}, with which its runs began: give the "
            "same, or another --out"
        )


def _written(asked: dict[str, Any]) -> str:
    return " ".join(["--config", asked["config"], *asked["flags"]])


def pending(out: Path, rows: list[str], seeds: list[int]) -> Iterator[tuple[str, int]]:
    """Go through the runs that are not finished, seed by seed."""
    for seed in seeds:
        for row in rows:
            if test_error(folder_of(out, row, seed)) is None:
                yield row, seed


def ledger_of(out: Path) -> list[dict[str, Any]]:
    """Read what happened."""
    path = out / LEDGER
    if not path.exists():
        raise SystemExit(f"{path}: got no such file, expected runs; see --help")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(out: Path) -> Table:
    """Return every run that was started, and what the rows come to."""
    lines = ledger_of(out)
    started = list(dict.fromkeys((line["row"], line["seed"]) for line in lines))
    errors: dict[str, dict[int, float | None]] = {}
    for row, seed in started:
        errors.setdefault(row, {})[seed] = test_error(folder_of(out, row, seed))
    rows = []
    for row, found in errors.items():
        done = {seed: 100 * error for seed, error in found.items() if error is not None}
        each = ", ".join(
            f"{seed}: {done[seed]:.2f}" if seed in done else f"{seed}: not finished"
            for seed in found
        )
        summary = summarise(list(done.values())) if done else None
        mean = "" if summary is None else f"{summary.mean:.3f}"
        mean += f" ± {summary.sd:.3f}" if len(done) > 1 else ""
        paired = "" if row == "full" else _paired(done, errors.get("full", {}))
        rows.append((row, each, mean, paired, ROWS[row][1]))
    asked = json.loads((out / "command.json").read_text(encoding="utf-8"))
    title = f"{_written(asked)}: last parameters, as of {lines[-1]['at']}"
    headings = ("row", "test error of each seed, %", "mean ± sd", "minus full, 95 %", "paper")
    if asked["config"] != "mnist_sabour2017":  # the paper says nothing of it
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return Table(title, headings, tuple(rows))


def _paired(done: dict[int, float], full: dict[int, float | None]) -> str:
    """Return the mean difference to the full gradient over the seeds that both have finished."""
    both = {seed: 100 * error for seed, error in full.items() if error is not None and seed in done}
    if len(both) < 2:
        return ""
    found = paired_difference([done[seed] for seed in both], list(both.values()))
    return f"{found.mean:+.3f} ({found.low:+.3f} to {found.high:+.3f}, {len(both)} seeds)"


def main() -> None:
    """Train what there is time for, and show what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Further flags, such as --training.steps 30000, go to capsjax train.",
    )
    parser.add_argument("--out", type=Path, required=True, help="where the runs are")
    parser.add_argument("--config", default="mnist_sabour2017")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="to stop after")
    parser.add_argument("--report", action="store_true", help="show the table alone")
    arguments, flags = parser.parse_known_args()
    out, end = arguments.out, time.monotonic() + arguments.seconds
    if not arguments.report:
        settle(out, arguments.config, flags)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        for row, seed in pending(out, arguments.rows, arguments.seeds):
            left = end - time.monotonic()
            if left <= 0:
                break
            folder = folder_of(out, row, seed)
            note(out, row, seed, "resumed" if folder.exists() else "started")
            words = command(arguments.config, folder, row, seed, flags)
            event = carry_out(words, min(left, 1e6))
            note(out, row, seed, event)
            if event == "failed":
                raise SystemExit(f"{folder}: failed, as said above; nothing more was started")
            if event == "interrupted":
                raise SystemExit(f"{folder}: interrupted; the same command resumes it")
    shown = table(out)
    Console(width=150).print(shown.to_rich())
    (out / "table.md").write_text(shown.to_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
