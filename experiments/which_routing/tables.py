"""Make the tables of README.md, and of docs/routing.md, from the raw results of this experiment.

    python experiments/which_routing/tables.py

Replaces what stands between the two marks of each; a test holds that nothing else stands there.
"""

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from capsjax.runs.plan import functions_of
from capsjax.study.design import design
from capsjax.study.statistics import paired_difference, summarise

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "gradient_modes"))
finding = importlib.import_module("finding")
run = importlib.import_module("run")
PAGES = HERE / "README.md", HERE.parents[1] / "docs" / "routing.md"
REFERENCE, BASE = "dynamic, full", "uniform"
SHAPES = {"fashion_10k": ((28, 28, 1), 10), "eth80_objects": ((32, 32, 1), 8)}
# Before the name of a data set: what its arms are.
OF_EM = {
    "em_start_": ", EM's released form, its activation bias begun at 0",
    "em_": ", EM by form and final inverse temperature",
    "": "",
}


def parted(name: str) -> tuple[str, str]:
    """Return what of `OF_EM` stands before the name of a set's data, and that name."""
    kind = next(kind for kind in OF_EM if name.startswith(kind))
    return kind, name.removeprefix(kind)


def parameters(name: str, entry: Mapping[str, Any]) -> dict[str, int]:
    """Count the parameters of every arm of a set, the decoder's apart.

    Args:
        name: of the set.
        entry: what sets.yaml says of it.
    """
    rates = dict.fromkeys(entry["own_arms"], run.RATES[0])
    arms = design(run.study_config(entry, rates)).arms
    data = SHAPES[parted(name)[1]]
    shapes = {arm: functions_of(made.config, *data).shapes() for arm, made in arms.items()}
    return {
        arm: sum(x.size for key, x in found.items() if not key.startswith("decoder"))
        for arm, found in shapes.items()
    }


def table(
    errors: Mapping[str, np.ndarray],
    cost: Mapping[str, Any],
    sizes: Mapping[str, int],
    rates: Mapping[str, float],
) -> list[str]:
    """Return the table of a set, the smallest error first, beside `REFERENCE` and `BASE` where it has them.

    Args:
        errors: test errors in per cent by arm, [seeds].
        cost: of a step by arm, as comparison.json has it: `seconds` of interleaved rounds and `temp_bytes`.
        sizes: parameters by arm.
        rates: the learning rate that was chosen, by arm.
    """
    others = [other for other in (REFERENCE, BASE) if other in errors]
    headings = [
        "routing",
        "test error, % (mean ± sd)",
        *(f"minus {other}, points (95 %)" for other in others),
        "time of a step",
        "temporary memory",
        "parameters",
        "learning rate",
    ]
    lines = [f"| {' | '.join(headings)} |", "|---|" + "---:|" * (len(headings) - 1)]
    base = cost[BASE]
    for arm in sorted(errors, key=lambda arm: errors[arm].mean()):
        mean = summarise(errors[arm])
        beside = [
            "" if arm == other else finding.between(paired_difference(errors[arm], errors[other]))
            for other in others
        ]
        # Of each round, since rounds are interleaved.
        rounds = zip(cost[arm]["seconds"], base["seconds"], strict=True)
        time = statistics.median(mine / other for mine, other in rounds)
        memory = cost[arm]["temp_bytes"] / base["temp_bytes"]
        cells = [f"{mean.mean:.2f} ± {mean.sd:.2f}", *beside, f"{time:.2f}", f"{memory:.2f}"]
        lines.append(f"| {arm} | {' | '.join(cells)} | {sizes[arm]:,} | {rates[arm]:g} |")
    return lines


def tables(results: Path = HERE / "results") -> str:
    """Return all tables, in Markdown.

    Args:
        results: this experiment's results.
    """
    parts = []
    for name, entry in run.read_sets(HERE).items():
        measured = finding.read(name, results)
        if measured is None:
            continue
        comparison = json.loads((results / name / "comparison.json").read_text(encoding="utf-8"))
        chosen = json.loads((results / name / "selection.json").read_text(encoding="utf-8"))
        sizes = parameters(name, entry)
        kind, data = parted(name)
        title = f"{finding.NAMES[data]}{OF_EM[kind]}"
        parts += [
            f"**{title}**, {len(measured.seeds)} of {entry['seeds']} seeds, "
            f"{measured.failed} failed runs:",
            "\n".join(table(measured.errors, comparison["cost"], sizes, chosen["rates"])),
        ]
    return "\n\n".join(parts) or finding.NOTHING


def written(page: str, made: str) -> str:
    """Return a page with tables between its marks."""
    return finding.written(page, made, "which routing", "experiments/which_routing/tables.py")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    made = tables()
    for page in PAGES:
        page.write_text(written(page.read_text(encoding="utf-8"), made), encoding="utf-8")
