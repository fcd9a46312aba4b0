"""Carry out the study, set by set: select learning rates, train all arms and seeds, collect the raw results.

    python experiments/gradient_modes/run.py SET... [--home DIR] [--out DIR] [--jobs N] [--seeds N]

SET is one of sets.yaml, or "all": the whole grid, on a CPU or a GPU. Runs go below --out
(runs/gradient_modes by default); a study that was stopped is resumed by the same command. --home is the
folder of another experiment that has a sets.yaml, with the same network and schedule. --seeds runs the
first of the planned seeds alone, where time is short; tables say so, and the same command without it adds
the others. Of each set results/SET there gets `selection.json`, which is written before its runs begin,
`config.yaml`, `environment.json`, `comparison.json`, `runs.json` with the last line of every run and the
images that it got wrong, and `gradients.json`, the mean over seeds of how the stop gradient points beside
the full one along training. The report of a set, a page for a browser, is written beside its runs.
"""

import argparse
import dataclasses
import datetime
import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import modes  # the arms that the package does not have
import numpy as np
import yaml

import capsjax as cj
from capsjax import progress
from capsjax.reports.comparison_page import report_comparison
from capsjax.runs import directory
from capsjax.runs.folder import Folder
from capsjax.study import outcomes
from capsjax.study.compare import compare, resume, stopped
from capsjax.study.design import design
from capsjax.study.ledger import read_ledger
from capsjax.study.seen import COUPLINGS, GRADIENTS, read_seen

HERE = Path(__file__).resolve().parent
STUDY = HERE / "study.yaml"
RATE = "optimiser.schedule.rate"
RATES = (0.003, 0.009, 0.027)
SELECTION_SEED, SELECTION_SEEDS, SEED = 800, 2, 100
assert modes.LeakyStopGradient.kind == "leaky_stop"


def read_sets(home: Path = HERE) -> dict[str, Any]:
    """Read the sets.yaml of an experiment."""
    return yaml.safe_load((home / "sets.yaml").read_text(encoding="utf-8"))


def load(entry: Mapping[str, Any], chosen: Mapping[str, Any]) -> cj.Config:
    """Read study.yaml with what an entry of sets.yaml sets, its own arms too where it has some."""
    own = entry.get("own_arms")
    if own is not None:
        others = dict.fromkeys(cj.load_config(STUDY).compare.arms)  # None: left out
        chosen = {**chosen, "compare.arms": {**others, **own}, "compare.reference": next(iter(own))}
    return cj.load_config(STUDY, {**entry["overrides"], **chosen})


def selection_config(entry: Mapping[str, Any]) -> cj.Config:
    """Return the comparison of learning rates on a data set."""
    chosen = {
        "seed": SELECTION_SEED,
        "compare.seeds": entry.get("selection_seeds", SELECTION_SEEDS),
        "compare.grid": {RATE: list(RATES)},
    }
    return load(entry, chosen)


def study_config(
    entry: Mapping[str, Any], rates: Mapping[str, float], margin: float | None = None
) -> cj.Config:
    """Return the comparison of arms on a data set, each with its own learning rate.

    Args:
        entry: of sets.yaml.
        rates: of each arm.
        margin: of equivalence, in percentage points; None if there is none.

    Returns:
        The configuration.
    """
    config = load(entry, {"seed": entry.get("seed", SEED), "compare.seeds": entry["seeds"]})
    arms = {name: dict(arm) for name, arm in config.compare.arms.items()}
    arms = {name: arms[name] | {RATE: rates[name]} for name in entry.get("arms", arms)}
    grid = {"model.routing.num_iters": tuple(entry["iterations"])} if "iterations" in entry else {}
    return dataclasses.replace(
        config, compare=dataclasses.replace(config.compare, arms=arms, grid=grid, margin=margin)
    )


def carry_out(config: cj.Config, folder: Path, jobs: int | None) -> Path:
    """Run a comparison, or resume it, with seeds that were left out before, or find it finished."""
    with progress.reporter() as reporter:
        if not folder.exists():
            return compare(config, out=folder, jobs=jobs, reporter=reporter)
        seeds = config.compare.seeds
        more = (
            {"compare.seeds": seeds} if directory.read_config(folder).compare.seeds < seeds else {}
        )
        if not more and stopped(folder) is None:
            return folder
        return resume(folder, overrides=more, jobs=jobs, reporter=reporter)


def collect(folder: Path) -> list[dict[str, Any]]:
    """Read the last lines of every run, and which test images it got wrong.

    Args:
        folder: of a comparison.

    Returns:
        For each run arm, seed, state, the lines of validation and test, and `wrong`: one bit for each test
        image in their order, packed as `numpy.packbits` does, in base 64.
    """
    config = directory.read_config(folder)
    found = []
    for entry in read_ledger(folder, config, design(config)):
        trial = entry.trial
        record: dict[str, Any] = {
            "arm": trial.arm.name,
            "seed": trial.seed,
            "state": entry.state,
            "why": entry.why,
        }
        if entry.state == "done":
            last = {line["split"]: line for line in Folder(trial.path).metrics}
            for split in ("validation", "test"):
                record[split] = {
                    key: value
                    for key, value in last[split].items()
                    if isinstance(value, int | float)
                }
            record["wrong"] = outcomes.pack(outcomes.wrong_images(entry))
        found.append(record)
    return found


def gradients(folder: Path) -> list[dict[str, Any]]:
    """Average over seeds how the stop gradient of all parameters points beside the full one.

    Args:
        folder: of a comparison that is finished.

    Returns:
        For each arm that was looked at and each point of its training: `epoch`, what `gradients.csv` says of
        the group "all", and the `entropy` of the coupling after the last iteration, in nats.
    """
    points: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in read_seen(folder, GRADIENTS):
        if row["group"] == "all":
            point = points.setdefault((row["mode"], row["epoch"]), {})
            for key in row.keys() - {"mode", "seed", "epoch", "group"}:
                point.setdefault(key, []).append(row[key])
    couplings = read_seen(folder, COUPLINGS)
    last: dict[str, int] = {}  # of each arm: arms may differ in their number of iterations
    for row in couplings:
        last[row["mode"]] = max(row["iteration"], last.get(row["mode"], 0))
    for row in couplings:
        if row["iteration"] == last[row["mode"]] and (row["mode"], row["epoch"]) in points:
            points[row["mode"], row["epoch"]].setdefault("entropy", []).append(row["entropy"])
    return [
        {"arm": arm, "epoch": epoch}
        | {
            key: round(float(np.mean(values)), 6)
            for key, values in sorted(point.items())
            if np.isfinite(values).all()  # a zero gradient has no direction
        }
        for (arm, epoch), point in sorted(points.items())
    ]


def seconds(folder: Path) -> float:
    """Add up how long the runs of a comparison took that are done, each by one process."""
    config, took = directory.read_config(folder), 0.0
    for entry in read_ledger(folder, config, design(config)):
        if entry.state == "done":
            began = directory.read_json(entry.trial.path / "environment.json")["started"]
            ended = (entry.trial.path / "metrics.jsonl").stat().st_mtime
            took += ended - datetime.datetime.fromisoformat(began).timestamp()
    return took


def select(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Choose the learning rate of each arm by its validation loss, and the margin of equivalence.

    Args:
        records: of the runs of the selection, as `collect` returns them.

    Returns:
        `rates` by arm; `margin` in percentage points, if full is among them; and `measured`, what they
        were chosen by.
    """
    measured: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        name, _, rate = record["arm"].partition(", rate=")
        line = {"state": record["state"], "seed": record["seed"]}
        if record["state"] == "done":
            # Of another loss than the margin loss, all of it.
            loss = "margin" if "margin" in record["validation"] else "loss"
            line |= {"error": record["validation"]["error"], loss: record["validation"][loss]}
        measured.setdefault(name, {}).setdefault(rate, []).append(line)

    def total(lines: list[dict[str, Any]]) -> float:
        if any(line["state"] != "done" for line in lines):
            return math.inf
        return sum(line.get("margin", line.get("loss", math.inf)) for line in lines)

    rates = {n: min(found, key=lambda rate: total(found[rate])) for n, found in measured.items()}
    for name, rate in rates.items():
        if total(measured[name][rate]) == math.inf:
            raise SystemExit(
                f"{name}: runs of the selection failed at every rate: {measured[name]}"
            )
    found: dict[str, Any] = {"rates": {name: float(rate) for name, rate in rates.items()}}
    if "full" in measured:
        full = [line["error"] for line in measured["full"][rates["full"]]]
        margin = math.ceil(round(100 * 0.1 * sum(full) / len(full) / 0.05, 6)) * 0.05
        found["margin"] = round(margin, 2)
    return found | {"measured": measured}


def write(path: Path, content: Any) -> None:
    """Write JSON, a record a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        text = "[\n" + ",\n".join(json.dumps(record) for record in content) + "\n]\n"
    else:
        text = json.dumps(content, indent=1) + "\n"
    path.write_text(text, encoding="utf-8")


def run(
    name: str,
    entry: Mapping[str, Any],
    out: Path,
    jobs: int | None,
    home: Path = HERE,
    seeds: int | None = None,
) -> None:
    """Carry out one set of a study: selection, unless it is there, then every arm and seed.

    Args:
        name: of the set.
        entry: what sets.yaml says of it.
        out: where runs go.
        jobs: how many processes train at once; None for as many as pay.
        home: the experiment's folder, where results go.
        seeds: how many seeds, the first of those that are planned; None for all.
    """
    entry = {**entry, "seeds": min(seeds or entry["seeds"], entry["seeds"])}
    results = home / "results" / name
    chosen = home / "results" / entry.get("rates_of", name) / "selection.json"
    if not chosen.exists():
        config = selection_config(entry)
        folder = carry_out(config, out / f"{name}-selection", jobs)
        write(chosen, select(collect(folder)))
    selected = directory.read_json(chosen)
    rates = selected["rates"] | entry.get("rates", {})
    folder = carry_out(study_config(entry, rates, selected.get("margin")), out / name, jobs)
    write(results / "runs.json", collect(folder))
    if read_seen(folder, GRADIENTS):  # not where arms differ in the number of iterations
        write(results / "gradients.json", gradients(folder))
    for file in ("config.yaml", "comparison.json"):
        shutil.copy(folder / file, results / file)
    # The command that does it anywhere: where this machine keeps its runs is of no use to others.
    environment = directory.read_json(folder / "environment.json")
    took = seconds(folder) + (seconds(kept) if (kept := out / f"{name}-selection").exists() else 0)
    kept_too = {"command": ["run.py", name], "run_seconds": round(took)}
    directory.write_json(results / "environment.json", environment | kept_too)
    # Here, as `capsjax report` does not know the arms of modes.py.
    print("report:", report_comparison(folder)[0], flush=True)


def main() -> None:
    """Read the command line, and carry out what it names."""
    parser = argparse.ArgumentParser(description="Carry out the study of gradient modes.")
    parser.add_argument("sets", nargs="+", metavar="SET", help="of sets.yaml, or all of them: all")
    parser.add_argument("--home", type=Path, default=HERE, help="folder of sets.yaml and results")
    parser.add_argument("--out", type=Path, help="where runs go (default runs/NAME)")
    parser.add_argument("--jobs", type=int, help="processes at once (default: as many as pay)")
    parser.add_argument("--seeds", type=int, help="the first N of the planned seeds alone")
    told = parser.parse_args()
    if told.seeds is not None and told.seeds < 1:
        parser.error(f"--seeds: got {told.seeds}, expected at least 1")
    home = told.home.resolve()
    sets, out = read_sets(home), told.out or Path("runs") / home.name
    if unknown := [name for name in told.sets if name not in (*sets, "all")]:
        parser.error(f"got {unknown[0]!r}, expected all, {', '.join(sets)}")
    for name in sets if "all" in told.sets else told.sets:
        print(f"{name}: begins", flush=True)
        run(name, sets[name], out, told.jobs, home, told.seeds)
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main()
