"""Make the tables of README.md from the raw results of this experiment.

    python experiments/interests/tables.py

Replaces what stands between the two marks in README.md; a test holds that nothing else stands there.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

import numpy as np

from capsjax.study.statistics import holm, paired_difference, sign_flip_test, summarise

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "gradient_modes"))
finding = importlib.import_module("finding")  # what writes its tables writes ours
README, RUNS = HERE / "README.md", HERE / "results/runs.jsonl"
ARMS = ("random", "stop", "full", "full, trained")
FULL, NOTHING_ROUTED = "full", "random"
MARGIN, PLANNED = 0.5, 30  # percentage points of recall; seeds
MEASURES = {"recall": "recall@50", "recovery": "topics recovered"}


def read(path: Path = RUNS) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, float]]:
    """Read what was measured, of the seeds that every arm has.

    Args:
        path: the file of raw results.

    Returns:
        By measure and arm, per cent, [seeds], and the learning rates; nothing if there are none yet.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["arm"], line["seed"]): line for line in lines}
    seeds = sorted({s for _, s in done if all((arm, s) in done for arm in ARMS)})
    if not seeds:
        return {}, {}
    found = {
        key: {arm: np.array([100 * done[arm, s][key] for s in seeds]) for arm in ARMS}
        for key in MEASURES
    }
    return found, {arm: done[arm, seeds[0]]["rate"] for arm in ARMS}


def table(measured: dict[str, np.ndarray], name: str, margin: float | None) -> list[str]:
    """Return the table of a measure: every arm beside full.

    Args:
        measured: per cent by arm, [seeds].
        name: what is measured.
        margin: of equivalence, in points; None where the plan has none.
    """
    full, missed = measured[FULL], {arm: 100 - found for arm, found in measured.items()}
    others = [arm for arm in ARMS if arm != FULL]
    ps = dict(
        zip(others, holm([sign_flip_test(measured[arm], full) for arm in others]), strict=True)
    )
    lines = [
        f"| arm | {name}, % (mean ± sd) | minus full, points (95 %) | p (Holm) | equivalent to full | "
        "share of the gain retained |",
        "|---|---:|---:|---:|---|---:|",
    ]
    for arm in ARMS:
        mean = summarise(measured[arm])
        cells = [arm, f"{mean.mean:.2f} ± {mean.sd:.2f}", "", "", "", ""]
        if arm != FULL:
            cells[2] = finding.between(paired_difference(measured[arm], full))
            cells[3] = f"{ps[arm]:.2g}"
        if arm != FULL and margin is not None:
            cells[4] = finding.equivalent(measured[arm], full, margin)
        if arm not in (FULL, NOTHING_ROUTED):
            cells[5] = finding.retained(missed, arm, NOTHING_ROUTED)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def beyond_table(path: Path) -> list[str]:
    """Return recall at larger learning rates than the plan has, beside the same seeds of the plan's.

    Args:
        path: the file of the plan's runs, beside which `beyond.jsonl` lies.

    Returns:
        The table; nothing where there is no such file.
    """
    other = path.with_name("beyond.jsonl")
    if not other.exists():
        return []
    lines = [json.loads(line) for file in (path, other) for line in file.read_text().splitlines()]
    recall = {(line["rate"], line["arm"], line["seed"]): 100 * line["recall"] for line in lines}
    rates = sorted({rate for rate, _, _ in recall})
    seeds = [
        seed
        for seed in sorted({seed for _, _, seed in recall})
        if all((rate, arm, seed) in recall for rate in rates for arm in ARMS)
    ]
    rows = [
        f"Beyond the plan, larger learning rates, {len(seeds)} seeds, recall@50 in %:",
        "",
        f"| learning rate | {' | '.join(ARMS)} | stop minus full, points (95 %) |",
        "|---|" + "---:|" * (len(ARMS) + 1),
    ]
    for rate in rates:
        of = {arm: np.array([recall[rate, arm, seed] for seed in seeds]) for arm in ARMS}
        means = " | ".join(f"{found.mean():.2f}" for found in of.values())
        apart = finding.between(paired_difference(of["stop"], of[FULL]))
        rows.append(f"| {rate:g} | {means} | {apart} |")
    return rows


def tables(path: Path = RUNS) -> str:
    """Return all tables, in Markdown.

    Args:
        path: the file of raw results.
    """
    found, rates = read(path)
    if not found:
        return finding.NOTHING
    seeds = len(found["recall"][FULL])
    told = ", ".join(f"{arm} {rate:g}" for arm, rate in rates.items())
    parts = [
        [
            f"{seeds} of {PLANNED} seeds. Learning rates: {told}. Margin of equivalence: {MARGIN} points."
        ],
        *(
            table(found[key], name, MARGIN if key == "recall" else None)
            for key, name in MEASURES.items()
        ),
        beyond_table(path),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    made = finding.written(
        README.read_text(encoding="utf-8"), tables(), program=Path(__file__).name
    )
    README.write_text(made, encoding="utf-8")
