"""Make the tables of README.md from the raw results of this experiment, and of gradient_modes beside them.

    python experiments/routing_matters/tables.py

Replaces what stands between the two marks in README.md; a test holds that nothing else stands there.
"""

import argparse
import importlib
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from capsjax.study.statistics import holm, paired_difference, sign_flip_test, summarise

HERE = Path(__file__).resolve().parent
MODES = HERE.parent / "gradient_modes"
sys.path.append(str(MODES))
finding = importlib.import_module("finding")  # of gradient_modes: the same raw results
README = HERE / "README.md"
NAMES = finding.NAMES | {"affine": "MNIST, moved; tested on affine changes"}
ARMS = ("uniform", "random", "full", "full, shorter", "cnn")
PAIRS = (("full", "uniform"), ("full, shorter", "uniform"), ("full", "random"), ("full", "cnn"))
BESIDE = ("random", "uniform")  # the third hypothesis, which the plan gives no test


class Errors(NamedTuple):
    """Hold what the arms of a set said, of the seeds that every arm has.

    Attributes:
        errors: test errors in per cent by arm, [seeds].
        losses: test margin losses by arm, [seeds].
        failed: how many runs failed.
        rates: learning rates by arm.
    """

    errors: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    failed: int
    rates: dict[str, float]


def read(name: str, entry: Mapping[str, Any], home: Path, modes: Path) -> Errors | None:
    """Read what the arms of a set said.

    Args:
        name: of the set.
        entry: what sets.yaml says of it.
        home: this experiment's results.
        modes: those of gradient_modes.

    Returns:
        What was measured; None if there is nothing yet.
    """
    places = [(home, name)]
    if "beside" in entry:
        places.append((modes, entry["beside"]))
    found = [finding.read(each, results) for results, each in places]
    if any(each is None for each in found):
        return None
    seeds = sorted(set.intersection(*(set(each.seeds) for each in found)))
    if not seeds:
        return None
    errors, losses, rates = {}, {}, {}
    for (results, each), one in reversed([*zip(places, found, strict=True)]):  # its own last
        rows = [one.seeds.index(seed) for seed in seeds]
        for arm in filter(one.errors.__contains__, ARMS):
            errors[arm], losses[arm] = one.errors[arm][rows], one.losses[arm][rows]
        path = results / each / "selection.json"
        if path.exists():
            rates |= json.loads(path.read_text(encoding="utf-8"))["rates"]
    failed = sum(_failed(results / each) for results, each in places)
    in_order = [{arm: of[arm] for arm in ARMS} for of in (errors, losses)]
    return Errors(*in_order, failed, {arm: rates[arm] for arm in ARMS if arm in rates})


def _failed(results: Path) -> int:
    """Count the runs that failed, of the arms that are compared here."""
    runs = json.loads((results / "runs.json").read_text(encoding="utf-8"))
    return sum(run["state"] == "failed" and run["arm"] in ARMS for run in runs)


def table(measured: Errors) -> list[str]:
    """Return the tables of a set: every arm, and every difference that the plan asks for."""
    errors, head = measured.errors, " | ".join(ARMS)
    found = (summarise(errors[arm]) for arm in ARMS)
    cells = " | ".join(f"{mean.mean:.2f} ± {mean.sd:.2f}" for mean in found)
    margin = math.ceil(round(0.1 * errors["uniform"].mean() / 0.05, 6)) * 0.05
    ps = holm([sign_flip_test(errors[one], errors[other]) for one, other in PAIRS])
    rates = ", ".join(f"{arm} {rate:g}" for arm, rate in measured.rates.items())
    chosen = f"Learning rates: {rates}. " if rates else ""
    lines = [
        f"Test error, % (mean ± sd). Margin of equivalence: {margin:.2f} points. {chosen}"
        f"Failed runs: {measured.failed}.",
        "",
        f"| {head} |",
        "|" + "---:|" * len(ARMS),
        f"| {cells} |",
        "",
        "| difference | points (95 %) | p (Holm) | equivalent | margin loss, 10⁻³ (95 %) |",
        "|---|---:|---:|---|---:|",
    ]
    alone = sign_flip_test(*(errors[arm] for arm in BESIDE))
    for (one, other), p in zip((*PAIRS, BESIDE), (*ps, alone), strict=True):
        between = finding.between(paired_difference(errors[one], errors[other]))
        shown = finding.equivalent(errors[one], errors[other], margin)
        told = f"{p:.2g}" if (one, other) != BESIDE else f"{p:.2g}, alone"
        losses = (1000 * measured.losses[arm] for arm in (one, other))
        cells = f"{between} | {told} | {shown} | {finding.between(paired_difference(*losses), 1)}"
        lines.append(f"| {one} minus {other} | {cells} |")
    return lines


def tables(home: Path = HERE / "results", modes: Path = MODES / "results") -> str:
    """Return all tables, in Markdown.

    Args:
        home: this experiment's results.
        modes: those of gradient_modes.
    """
    parts = []
    for name, entry in yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8")).items():
        measured = read(name, entry, home, modes)
        if measured is not None:
            seeds = f"{len(measured.errors['full'])} of {entry['seeds']} seeds"
            parts.append([f"### {NAMES[name]}, {seeds}", "", *table(measured)])
    return "\n\n".join("\n".join(part) for part in parts) or finding.NOTHING


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    made = finding.written(README.read_text(encoding="utf-8"), tables())
    README.write_text(made, encoding="utf-8")
