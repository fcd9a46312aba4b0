"""Make the tables of README.md, and those of the chapter docs/stop_or_full.md, from the raw results.

    python experiments/gradient_modes/finding.py

Replaces what stands between the two marks of each; a test holds that nothing else stands there.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from scipy import stats

from capsjax.study.outcomes import unpack
from capsjax.study.statistics import (
    Difference,
    equivalence_test,
    holm,
    paired_difference,
    random_effects,
    retained_gain,
    sign_flip_test,
    summarise,
    two_way_difference,
)

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results", HERE / "README.md"
CHAPTER = HERE.parents[1] / "docs" / "stop_or_full.md"
NOTHING = "Nothing has been measured yet."
GRID = "_iterations"  # what a set that varies the number of iterations ends with
NAMES = {
    "digits": "digits, 8×8",
    "usps": "USPS",
    "mnist_1k": "MNIST, 1,000 images",
    "mnist_10k": "MNIST, 10,000 images",
    "fashion_10k": "Fashion-MNIST, 10,000 images",
    "multimnist": "MultiMNIST",
    "eth80_objects": "ETH-80, new objects",
    "eth80_azimuth": "ETH-80, new azimuth",
    "eth80_elevation": "ETH-80, new elevation",
    "digits_first_plan": "digits, before the amendment of the plan",
}
APART = "digits_first_plan"  # not part of means over sets
UNIFORM, STOP, FULL = "uniform", "stop", "full"
EXCHANGED = (
    "Both at one learning rate, where selection gave stop and full different ones (not planned):"
)
BOTH = "stop, % | full, % | stop minus full, points (95 %) | p"
GAPS = ("gap", "example_gap")
FURTHER = "how far below uniform coupling's the entropy of the coupling is"


class Point(NamedTuple):
    """Hold how far the stop gradient is from the full one at one moment of training, mean over seeds.

    Attributes:
        name: of the set.
        arm: which trains, as the raw results call it.
        moment: from 0, before the first step.
        entropy: of the last iteration's coupling, nats.
        departure: how much less that is than uniform coupling's, nats.
        gap: one minus the cosine of the two gradients of 256 examples, all parameters.
        example_gap: the same of single examples, mean.
    """

    name: str
    arm: str
    moment: int
    entropy: float
    departure: float
    gap: float
    example_gap: float


class Measured(NamedTuple):
    """Hold what the runs of a set said, of the seeds that every arm has.

    Attributes:
        seeds: those seeds.
        failed: how many runs failed.
        errors: test errors in per cent by arm, [seeds].
        losses: test margin losses by arm, [seeds]; NaN of an arm with another loss.
        wrong: which test images were wrong by arm, [seeds, images].
        entropy: mean entropy of the coupling on test images in nats by arm, of those that couple.
    """

    seeds: tuple[int, ...]
    failed: int
    errors: dict[str, np.ndarray]
    losses: dict[str, np.ndarray]
    wrong: dict[str, np.ndarray]
    entropy: dict[str, float]


def read(name: str, results: Path | None = None) -> Measured | None:
    """Read the raw results of a set; None if there are none.

    Args:
        name: of the set, as sets.yaml has it.
        results: the folder of an experiment's results; this one's if None.

    Returns:
        What was measured, arm by arm.
    """
    path = (results or RESULTS) / name / "runs.json"
    if not path.exists():
        return None
    runs = json.loads(path.read_text(encoding="utf-8"))
    done = {(run["arm"], run["seed"]): run for run in runs if run["state"] == "done"}
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    seeds = [
        s for s in dict.fromkeys(run["seed"] for run in runs) if all((a, s) in done for a in arms)
    ]
    if not seeds:
        return None

    def collect(arm: str, key: str) -> np.ndarray:
        return np.array([done[arm, seed]["test"].get(key, math.nan) for seed in seeds])

    def images(arm: str) -> np.ndarray:
        found = [done[arm, seed] for seed in seeds]
        return np.stack([unpack(run["wrong"], int(run["test"]["examples"])) for run in found])

    return Measured(
        tuple(seeds),
        sum(run["state"] == "failed" for run in runs),
        {arm: 100 * collect(arm, "error") for arm in arms},
        {arm: collect(arm, "margin") for arm in arms},
        {arm: images(arm) for arm in arms},
        {
            arm: float(collect(arm, "entropy").mean())
            for arm in arms
            if "entropy" in done[arm, seeds[0]]["test"]
        },
    )


def between(found: Any, digits: int = 2) -> str:
    """Write a mean and its interval, such as "+0.32 (0.17 to 0.47)"."""
    numbers = found.mean, found.low, found.high
    mean, low, high = (f"{round(x, digits) + 0.0:+.{digits}f}" for x in numbers)  # no -0.00
    return mean if math.isnan(found.low) else f"{mean} ({low} to {high})"


def arms_table(measured: Measured, margin: float) -> list[str]:
    """Return the table of a set: every arm beside full."""
    others = [arm for arm in measured.errors if arm != FULL]
    full = measured.errors[FULL]
    p = dict(
        zip(others, holm([sign_flip_test(measured.errors[a], full) for a in others]), strict=True)
    )
    lines = [
        "| arm | test error, % (mean ± sd) | minus full, points (95 %) | over seeds and images | "
        "margin loss minus full, 10⁻³ | p (Holm) | equivalent to full | retained gain ρ |",
        "|---|---:|---:|---:|---:|---:|---|---:|",
    ]
    for arm, errors in measured.errors.items():
        mean = summarise(errors)
        cells = [arm, f"{mean.mean:.2f} ± {mean.sd:.2f}"]
        if arm == FULL:
            lines.append("| " + " | ".join([*cells, *[""] * 6]) + " |")
            continue
        losses = 1000 * measured.losses[arm], 1000 * measured.losses[FULL]
        both = two_way_difference(100.0 * measured.wrong[arm], 100.0 * measured.wrong[FULL])
        cells += [
            between(paired_difference(errors, full)),
            between(both),
            between(paired_difference(*losses)),
            f"{p[arm]:.2g}",
            equivalent(errors, full, margin),
            "" if arm == UNIFORM else retained(measured.errors, arm),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def equivalent(first: np.ndarray, second: np.ndarray, margin: float) -> str:
    """Write whether paired errors are equivalent to a margin, such as "yes (p = 0.01)"."""
    found = equivalence_test(first, second, margin=margin)
    return f"{'yes' if found.shown else 'not shown'} (p = {found.p:.2g})"


def retained(errors: Mapping[str, np.ndarray], arm: str, none: str = UNIFORM) -> str:
    """Write the retained gain of an arm, or why there is none.

    Args:
        errors: by arm, [seeds].
        arm: whose gain it is.
        none: the arm without what gains.
    """
    found = retained_gain(errors[none], errors[arm], errors[FULL])
    return found.why or f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def summary_table(sets: Mapping[str, Measured], planned: Mapping[str, Any]) -> list[str]:
    """Return the primary comparison on every set, and its mean over sets."""
    lines = [
        "| set | seeds (planned) | uniform, % | full, % | stop minus full, points (95 %) | p | "
        "the same, % of full's error | retained gain ρ of stop |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    effects, errors = [], []
    for name, measured in sets.items():
        stop, full = measured.errors[STOP], measured.errors[FULL]
        found, level = paired_difference(stop, full), float(full.mean())
        relative = Difference(*(100 * x / level for x in found))
        if name != APART:
            effects.append(relative.mean)
            errors.append(relative.standard_error)
        cells = (
            f"{NAMES[name]} | {len(measured.seeds)} ({planned[name]['seeds']})",
            f"{measured.errors[UNIFORM].mean():.2f} | {level:.2f} | {between(found)}",
            f"{sign_flip_test(stop, full):.2g} | {between(relative, 0)} | {retained(measured.errors, STOP)}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if len(effects) > 1 and min(errors) > 0:
        pooled = random_effects(effects, errors)
        lines.append(
            f"\nOver the {len(effects)} sets, by random effects: stop minus full is {between(pooled, 0)} % "
            f"of full's error; sets differ with a standard deviation of {pooled.between:.0f} %."
        )
    return lines


def iterations_table(planned: Mapping[str, Any]) -> list[str]:
    """Return stop minus full at r = 2 and 5, on the sets that have them."""
    rows = []
    for name, entry in planned.items():
        measured = read(name) if "iterations" in entry else None
        for r in entry.get("iterations", ()) if measured else ():
            stop, full = (measured.errors[f"{arm}, num_iters={r}"] for arm in (STOP, FULL))
            cells = f"{len(measured.seeds)} ({entry['seeds']}) | {both_cells(stop, full)}"
            rows.append(f"| {NAMES[entry['rates_of']]} | {r} | {cells} |")
    head = [f"| set | r | seeds (planned) | {BOTH} |", "|---|---:|---:|---:|---:|---:|---:|"]
    return [*head, *rows] if rows else []


def both_cells(stop: np.ndarray, full: np.ndarray) -> str:
    """Write the cells of `BOTH`, of errors in per cent, [seeds]."""
    difference = f"{between(paired_difference(stop, full))} | {sign_flip_test(stop, full):.2g}"
    return f"{stop.mean():.2f} | {full.mean():.2f} | {difference}"


def rates_table(planned: Mapping[str, Any]) -> list[str]:
    """Return stop minus full at one learning rate, on the sets where selection gave them different ones."""
    rows = []
    for name, entry in planned.items():
        exchanged = read(name) if "rates" in entry else None
        if exchanged is None:
            continue
        base = entry["rates_of"]
        chosen = json.loads((RESULTS / base / "selection.json").read_text(encoding="utf-8"))[
            "rates"
        ]
        for rate in sorted({chosen[STOP], chosen[FULL]}):
            # Of each arm the runs that had this rate: by selection, or exchanged.
            runs = [(arm, read(base) if chosen[arm] == rate else exchanged) for arm in (STOP, FULL)]
            stop, full = (_by_seed(measured, arm) for arm, measured in runs)
            seeds = [seed for seed in stop if seed in full]
            cells = both_cells(*(np.array([one[seed] for seed in seeds]) for one in (stop, full)))
            rows.append(f"| {NAMES[base]} | {rate:g} | {len(seeds)} | {cells} |")
    head = [
        f"| set | learning rate of both | seeds | {BOTH} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    return [*head, *rows] if rows else []


def _by_seed(measured: Measured | None, arm: str) -> dict[int, float]:
    """Return the test errors of an arm, in per cent."""
    return {} if measured is None else dict(zip(measured.seeds, measured.errors[arm], strict=True))


def losses_table(sets: Mapping[str, Measured]) -> list[str]:
    """Return, for every arm and set, the test margin loss minus full's, 95 % interval, in thousandths."""
    arms = list(dict.fromkeys(arm for measured in sets.values() for arm in measured.losses))
    arms.remove(FULL)
    lines = [
        f"| set | full, 10⁻³ | {' | '.join(f'{arm} minus full' for arm in arms)} |",
        "|---|---:|" + "---:|" * len(arms),
    ]
    for name, measured in sets.items():
        full = 1000 * measured.losses[FULL]
        cells = [NAMES[name], f"{full.mean():.1f}"]
        for arm in arms:
            losses = measured.losses.get(arm)
            cells.append(
                "" if losses is None else between(paired_difference(1000 * losses, full), 1)
            )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def beside_stop_table(sets: Mapping[str, Measured]) -> list[str]:
    """Return the arms that differ from stop by length, or by the bias alone, beside stop."""
    lines = [
        "| set | difference | error, points (95 %) | margin loss, 10⁻³ (95 %) |",
        "|---|---|---:|---:|",
    ]
    for name, measured in sets.items():
        for arm in ("rescaled", "leaky stop"):
            if arm in measured.errors:
                error = paired_difference(measured.errors[arm], measured.errors[STOP])
                losses = (1000 * measured.losses[each] for each in (arm, STOP))
                cells = (between(error), between(paired_difference(*losses)))
                lines.append(f"| {NAMES[name]} | {arm} minus stop | {' | '.join(cells)} |")
    return lines


def gradients_table(names: Sequence[str]) -> list[str]:
    """Return how the stop gradient points beside the full one as the full arm trains, means over seeds."""
    lines = [
        "| set | of training | entropy, nats | cosine | ratio of lengths | share | single examples: cosine | "
        "share | after Adam: cosine | ratio |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        path = RESULTS / name / "gradients.json"
        points = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        points = [point for point in points if point["arm"] == FULL]
        for when, place in (
            {"begin": 0, "half": len(points) // 2, "end": -1}.items() if points else ()
        ):
            cells = [NAMES[name], when, f"{points[place]['entropy']:.3f}"]
            keys = ["cosine", "norm_ratio", "share", "example_cosine", "example_share"]
            keys += ["response_cosine", "response_norm_ratio"]
            cells += [f"{points[place][key]:.2f}" for key in keys]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def law_points(planned: Mapping[str, Any]) -> list[Point]:
    """Return every moment at which stop and full were compared, of all sets, arms and iterations."""
    found = []
    for name, entry in planned.items():
        path = RESULTS / name / "gradients.json"
        uniform = math.log(8 if name.startswith("eth80") else 10)
        moments: dict[str, int] = {}
        there = "rates" not in entry and path.exists()
        for line in json.loads(path.read_text(encoding="utf-8")) if there else ():
            arm, entropy = line["arm"], line["entropy"]
            moment = moments[arm] = moments.get(arm, -1) + 1
            gaps = (1 - line[key] for key in ("cosine", "example_cosine"))
            found.append(Point(name, arm, moment, entropy, uniform - entropy, *gaps))
    return found


def law_table(planned: Mapping[str, Any]) -> list[str]:
    """Return how far the departure from uniform coupling orders the gaps between stop and full."""
    points = law_points(planned)
    last = {(p.name, p.arm): p.moment for p in points}
    # Before the first step there is one network, whichever arm is to train it.
    begin = [p for p in points if not p.moment and FULL in p.arm]
    after = [p for p in points if p.moment]
    end = [p for p in points if p.moment == last[p.name, p.arm]]
    parts = {
        "all": [*begin, *after],
        "before the first step": begin,
        "after it": after,
        "at the end": end,
        "at the end, r = 3": [p for p in end if not p.name.endswith(GRID)],
    }
    lines = [
        "| moments | points | all examples together | single examples |",
        "|---|---:|---:|---:|",
    ]
    for part, of in parts.items():
        if len(of) > 2:
            x = [p.departure for p in of]
            ranks = (stats.spearmanr(x, [getattr(p, y) for p in of])[0] for y in GAPS)
            lines.append(f"| {part} | {len(of)} | {' | '.join(f'{r:+.2f}' for r in ranks)} |")
    return lines


def read_all(planned: Mapping[str, Any]) -> dict[str, Measured]:
    """Read every set that has results, but those that vary another's iterations or learning rates."""
    found = {name: read(name) for name, entry in planned.items() if "rates_of" not in entry}
    return {name: measured for name, measured in found.items() if measured is not None}


def chapter() -> str:
    """Return the tables of the chapter, in Markdown: the sets of the plan as it is."""
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    sets = {name: found for name, found in read_all(planned).items() if name != APART}
    if not sets:
        return NOTHING
    parts = [
        summary_table(sets, planned),
        ["The test margin loss, in thousandths, which moves where no image changes sides:"],
        losses_table(sets),
        ["What length and bias do, beside stop:"],
        beside_stop_table(sets),
        *([[EXCHANGED], rows] if (rows := rates_table(planned)) else []),
        ["The stop gradient of all parameters beside the full one, while the full one trains:"],
        gradients_table(list(sets)),
        [f"Spearman's rank correlation of 1 − cosine with {FURTHER}:"],
        law_table(planned),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def tables() -> str:
    """Return all tables of the README, in Markdown."""
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    sets = read_all(planned)
    if not sets:
        return NOTHING
    parts: list[Sequence[str]] = [summary_table(sets, planned)]
    for name, measured in sets.items():
        chosen = json.loads((RESULTS / name / "selection.json").read_text(encoding="utf-8"))
        rates = ", ".join(f"{arm} {rate:g}" for arm, rate in chosen["rates"].items())
        entropy = ", ".join(f"{arm} {x:.3f}" for arm, x in measured.entropy.items())
        told = (
            f"Learning rates: {rates}. Margin of equivalence: {chosen['margin']:.2f} points. Entropy of the "
            f"coupling on test images, nats: {entropy}. Failed runs: {measured.failed}."
        )
        parts.append([f"## {NAMES[name]}, {len(measured.seeds)} seeds", "", told, ""])
        parts[-1] = [*parts[-1], *arms_table(measured, chosen["margin"])]
    if rows := iterations_table(planned):
        parts.append(["## By the number of iterations", "", *rows])
    if rows := rates_table(planned):
        parts.append(["## At one learning rate", "", *rows])
    return "\n\n".join("\n".join(part) for part in parts)


def written(text: str, made: str, name: str = "tables", program: str = "finding.py") -> str:
    """Return a page with tables between its marks.

    Args:
        text: the page.
        made: the tables, in Markdown.
        name: what the marks call them.
        program: what the first mark says that they are made by.
    """
    begin, end = f"<!-- {name}: {program} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path, made in ((README, tables()), (CHAPTER, chapter())):
        path.write_text(written(path.read_text(encoding="utf-8"), made), encoding="utf-8")
