"""Make the tables of README.md from the raw results of this experiment, and of gradient_modes beside them.

    python experiments/routing_matters/tables.py

Replaces what stands between the two marks in README.md; a test holds that nothing else stands there.
"""

import argparse
import importlib
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def read(name: str, entry: Mapping[str, Any], home: Path, modes: Path) -> dict[str, np.ndarray]:
    """Read the test errors of a set, of the seeds that every arm has.

    Args:
        name: of the set.
        entry: what sets.yaml says of it.
        home: this experiment's results.
        modes: those of gradient_modes.

    Returns:
        By arm, test errors in per cent, [seeds]; nothing if there are none yet.
    """
    own = finding.read(name, home)
    found = [own]
    if "beside" in entry:
        found.append(finding.read(entry["beside"], modes))
    if any(each is None for each in found):
        return {}
    seeds = sorted(set.intersection(*(set(each.seeds) for each in found)))
    if not seeds:
        return {}
    errors = {}
    for each in reversed(found):  # its own before another's
        rows = [each.seeds.index(seed) for seed in seeds]
        errors |= {arm: each.errors[arm][rows] for arm in ARMS if arm in each.errors}
    return {arm: errors[arm] for arm in ARMS}


def table(errors: Mapping[str, np.ndarray]) -> list[str]:
    """Return the tables of a set: every arm, and every difference that the plan asks for."""
    head = " | ".join(ARMS)
    found = (summarise(errors[arm]) for arm in ARMS)
    cells = " | ".join(f"{mean.mean:.2f} ± {mean.sd:.2f}" for mean in found)
    margin = math.ceil(round(0.1 * errors["uniform"].mean() / 0.05, 6)) * 0.05
    ps = holm([sign_flip_test(errors[one], errors[other]) for one, other in PAIRS])
    lines = [
        f"Test error, % (mean ± sd). Margin of equivalence: {margin:.2f} points.",
        "",
        f"| {head} |",
        "|" + "---:|" * len(ARMS),
        f"| {cells} |",
        "",
        "| difference | points (95 %) | p (Holm) | equivalent |",
        "|---|---:|---:|---|",
    ]
    for (one, other), p in zip(PAIRS, ps, strict=True):
        between = finding.between(paired_difference(errors[one], errors[other]))
        shown = finding.equivalent(errors[one], errors[other], margin)
        lines.append(f"| {one} minus {other} | {between} | {p:.2g} | {shown} |")
    return lines


def tables(home: Path = HERE / "results", modes: Path = MODES / "results") -> str:
    """Return all tables, in Markdown.

    Args:
        home: this experiment's results.
        modes: those of gradient_modes.
    """
    parts = []
    for name, entry in yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8")).items():
        errors = read(name, entry, home, modes)
        if errors:
            seeds = f"{len(errors['full'])} of {entry['seeds']} seeds"
            parts.append([f"### {NAMES[name]}, {seeds}", "", *table(errors)])
    return "\n\n".join("\n".join(part) for part in parts) or finding.NOTHING


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    made = finding.written(README.read_text(encoding="utf-8"), tables())
    README.write_text(made, encoding="utf-8")
