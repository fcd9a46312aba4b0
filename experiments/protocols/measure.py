"""What the shipped configurations reach on the data sets that capsule papers are judged on, over seeds.

    python experiments/protocols/measure.py [NAME ...] [--out DIR] [--seeds N] [--list]

Trains what DIR (runs/protocols) does not hold yet, resumes what was stopped, measures each run on all data
that its protocol asks for, writes results/errors.json and the tables in docs/data.md.
"""

import argparse
import dataclasses
import importlib
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import capsjax as cj
from capsjax.data.augment import AffnistLike
from capsjax.runs.directory import tested_step

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "gradient_modes"))
finding = importlib.import_module("finding")  # what writes its tables writes ours
RESULTS, PAGE = HERE / "results/errors.json", HERE.parents[1] / "docs/data.md"
PROTOCOLS = ("objects", "azimuth", "elevation")
# A configuration, and what differs from it; the last two have as many parameters, but for 449 of 256,896.
ETH80 = {
    "capsules": ("eth80", {}),
    "capsules, no decoder": ("eth80", {"model.decoder": None}),
    "CNN": ("eth80_cnn", {"model.decoder": None}),
}
# The nearest neighbour in grey pixels, errors in per cent on familiar and on novel views.
NEIGHBOUR = {"objects": (34.7, None), "azimuth": (37.3, 43.3), "elevation": (27.9, 54.4)}
ALL_STEPS = {"training.keep_checkpoints": None}  # to find the moment of an equal error
MOVED = {
    "data": {
        "kind": "perturbed",
        "source": "mnist",
        "canvas": 40,
        "changes": [{"kind": "shift", "pixels": 6}],
        "splits": ["validation", "test"],
    },
    "max_shift": 6,
    "model.decoder": None,
    **ALL_STEPS,
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Describe what is trained, and what it is measured on beside its own test split.

    Args:
        config: the name of the configuration.
        changed: what differs from it.
        other: fields of the data, by what the measurement is called; where there are any, every checkpoint
            is measured, not the last alone.
    """

    config: str
    changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    other: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


ENTRIES = {
    "fashion": Entry("fashion"),
    "usps": Entry("usps"),
    "multimnist": Entry("multimnist"),
    **{
        f"eth80 {protocol}, {network}": Entry(
            config,
            {"data.protocol": protocol, "data.validation": 0, **ALL_STEPS, **changed},
            {} if protocol == "objects" else {"familiar": {"views": "familiar"}},
        )
        for protocol in PROTOCOLS
        for network, (config, changed) in ETH80.items()
    },
    **{
        f"moved, {config}": Entry(config, MOVED, {"affine": {"changes": (AffnistLike(),)}})
        for config in ("mnist_small", "mnist_small_cnn")
    },
}


def measure(entry: Entry, folder: Path, seed: int) -> dict[str, Any]:
    """Train a run where there is none, resume one that was stopped, and measure it.

    Args:
        entry: what is run.
        folder: the run's directory.
        seed: of parameters and order.

    Returns:
        Errors by measurement, of each step that is asked for, in order; parameters; and the seconds of
        processor time that training took, None where it was not done here in one piece.
    """
    started, seconds = time.process_time(), None
    if not folder.exists():
        config = cj.load_config(entry.config, {**entry.changed, "seed": seed})
        run = cj.train(config, out=folder)
        seconds = round(time.process_time() - started)
    else:
        finished = tested_step(folder) is not None
        run = cj.load(folder) if finished else cj.resume(folder)
    sources = {name: dataclasses.replace(run.config.data, **f) for name, f in entry.other.items()}
    steps = run.directory.steps if sources else [run.step]
    found: dict[str, Any] = {"steps": steps, "test": [], **{name: [] for name in sources}}
    for step in steps:
        then = cj.load(folder, step=step)
        for name, data in {"test": None, **sources}.items():
            found[name].append(cj.evaluate(then, data)["error"])
    return found | {"parameters": sum(x.size for x in run.params.values()), "seconds": seconds}


def _read() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def spread(values: Sequence[float]) -> str:
    """Return a mean and the least and greatest, in per cent."""
    shown = [100 * value for value in values]
    mean = statistics.mean(shown)
    return f"{mean:.1f} ({min(shown):.1f} to {max(shown):.1f})" if len(shown) > 1 else f"{mean:.1f}"


def _last(rows: Mapping[str, Any], name: str) -> str:
    return spread([row[name][-1] for row in rows.values()])


def plain_table(found: Mapping[str, Any]) -> list[str]:
    """Return the table of the sets that have one error."""
    lines = [
        "| configuration | seeds | parameters | test error, % (least to greatest) |",
        "|---|---:|---:|---:|",
    ]
    for name in ("fashion", "usps", "multimnist"):
        if rows := found.get(name):
            size = next(iter(rows.values()))["parameters"]
            lines.append(f"| `{name}` | {len(rows)} | {size:,} | {_last(rows, 'test')} |")
    return lines


def at_equal(
    arms: Sequence[Mapping[str, Any]], by: str, judged: str
) -> list[Mapping[str, Sequence[float]]]:
    """Return what each arm's seeds have where all are equally good.

    Args:
        arms: rows by seed, of each network.
        by: the measurement in which they are to be equal: of each seed, the worst of the arms' last ones.
        judged: the measurement that is looked at, at the first step that is no worse than that.

    Returns:
        For each arm, by seed, as one measurement.
    """
    seeds = [seed for seed in arms[0] if all(seed in rows for rows in arms)]
    level = {seed: max(rows[seed][by][-1] for rows in arms) for seed in seeds}

    def first(row: Mapping[str, Any], worst: float) -> float:
        pairs = zip(row[by], row[judged], strict=True)
        return next(error for reached, error in pairs if reached <= worst)

    return [{s: {"equal": [first(rows[s], level[s])]} for s in seeds} for rows in arms]


def viewpoints_table(found: Mapping[str, Any]) -> list[str]:
    """Return the table of ETH-80 in its three protocols."""
    lines = [
        "| protocol | network | parameters | familiar views | novel views | novel, familiar equal |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for protocol in PROTOCOLS:
        arms = {network: found.get(f"eth80 {protocol}, {network}", {}) for network in ETH80}
        if not all(arms.values()):
            continue
        equal: Sequence[Mapping[str, Any]] = [{}] * len(arms)
        if protocol != "objects":
            equal = at_equal([*arms.values()], "familiar", "test")
        for (network, rows), same in zip(arms.items(), equal, strict=True):
            size, test = next(iter(rows.values()))["parameters"], _last(rows, "test")
            views = [test, "", ""]
            if protocol != "objects":
                views = [_last(rows, "familiar"), test, _last(same, "equal")]
            lines.append(f"| `{protocol}` | {network} | {size:,} | {' | '.join(views)} |")
        familiar, novel = NEIGHBOUR[protocol]
        lines.append(f"| `{protocol}` | nearest neighbour | | {familiar} | {novel or ''} | |")
    return lines


def moved_table(found: Mapping[str, Any]) -> list[str]:
    """Return the table of moved digits: at the end, and at equal error on moved ones."""
    lines = [
        "| network | seeds | parameters | moved digits | affine changes | affine, moved digits equal |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    arms = [found.get(f"moved, {config}", {}) for config in ("mnist_small", "mnist_small_cnn")]
    if not all(arms):
        return ["Not measured yet."]
    for name, rows, same in zip(
        ("capsules", "CNN"), arms, at_equal(arms, "test", "affine"), strict=True
    ):
        size = next(iter(rows.values()))["parameters"]
        cells = (_last(rows, "test"), _last(rows, "affine"), _last(same, "equal"))
        lines.append(f"| {name} | {len(rows)} | {size:,} | {' | '.join(cells)} |")
    return lines


TABLES = {"sets": plain_table, "viewpoints": viewpoints_table, "moved digits": moved_table}


def written(text: str, found: Mapping[str, Any]) -> str:
    """Return a page with these tables between its marks.

    Args:
        text: the page.
        found: what `errors.json` holds.
    """
    for name, table in TABLES.items():
        text = finding.written(text, "\n".join(table(found)), name, Path(__file__).name)
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for, and write it down as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="what to measure (default everything)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/protocols"), help="where runs are")
    parser.add_argument("--seeds", type=int, default=3, help="seeds from 0 on (default 3)")
    parser.add_argument("--list", action="store_true", help="print the names, and measure nothing")
    chosen = parser.parse_args(arguments)
    names = chosen.names or list(ENTRIES)
    if unknown := [name for name in names if name not in ENTRIES]:
        parser.error(f"{unknown[0]!r} is none of: {'; '.join(ENTRIES)}")
    if chosen.list:
        print("\n".join(ENTRIES))
        return
    for seed in range(chosen.seeds):
        for name in names:
            if str(seed) in _read().get(name, {}):
                continue
            folder = chosen.out / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
            row = measure(ENTRIES[name], folder, seed)
            print(name, seed, row, flush=True)
            found = _read()  # again: another of these programs may have written meanwhile
            found.setdefault(name, {})[str(seed)] = row
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
