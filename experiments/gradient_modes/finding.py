"""Make the tables of README.md, and those of the chapter docs/stop_or_full.md, from the raw results.

    python experiments/gradient_modes/finding.py

Replaces what stands between the two marks of each; a test holds that nothing else stands there.
"""

import argparse
import importlib
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from scipy import stats

from capsjax.study.outcomes import unpack
from capsjax.study.statistics import (
    Difference,
    Pooled,
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
sys.path.append(str(HERE))
gradients = importlib.import_module("gradients")
RESULTS, README = HERE / "results", HERE / "README.md"
CHAPTER = HERE.parents[1] / "docs" / "stop_or_full.md"
NOTHING = "Nothing has been measured yet."
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
UNIFORM, STOP, TRUNCATED, FULL = "uniform", "stop", "truncated", "full"
ROUTING_ITERATIONS = 3  # of every set but those that vary it
BOTH = "stop, % | full, % | stop minus full, points (95 %) | p"
RUNS = "runs.json"


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


def relative(measured: Measured) -> Difference:
    """Return stop minus full in per cent of full's error."""
    stop, full = measured.errors[STOP], measured.errors[FULL]
    return Difference(*(100 * x / float(full.mean()) for x in paired_difference(stop, full)))


def pooled(sets: Mapping[str, Measured]) -> tuple[Pooled, tuple[float, float]]:
    """Return the mean of `relative` over sets, and where a further set's would lie, 95 %."""
    found = [relative(measured) for name, measured in sets.items() if name != APART]
    mean = random_effects([one.mean for one in found], [one.standard_error for one in found])
    # Higgins, Thompson and Spiegelhalter 2009: K - 2 degrees of freedom.
    width = stats.t.ppf(0.975, max(len(found) - 2, 1)) * math.hypot(
        mean.between, mean.standard_error
    )
    return mean, (mean.mean - width, mean.mean + width)


def selected(name: str) -> dict[str, Any]:
    """Read what the selection of a set chose: `rates` by arm, and the `margin` of equivalence in points."""
    return json.loads((RESULTS / name / "selection.json").read_text(encoding="utf-8"))


def summary_table(sets: Mapping[str, Measured], planned: Mapping[str, Any]) -> list[str]:
    """Return the primary comparison on every set, and its mean over sets."""
    lines = [
        "| set | seeds (planned) | uniform, % | full, % | stop minus full, points (95 %) | p | "
        "the same, % of full's error | retained gain ρ of stop | of the last update alone | "
        "margin of equivalence, points |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, measured in sets.items():
        stop, full = measured.errors[STOP], measured.errors[FULL]
        found, last = (
            _short(retained(measured.errors, arm)) if arm in measured.errors else ""
            for arm in (STOP, TRUNCATED)
        )
        cells = (
            f"{NAMES[name]} | {len(measured.seeds)} ({planned[name]['seeds']})",
            f"{measured.errors[UNIFORM].mean():.2f} | {full.mean():.2f}",
            f"{between(paired_difference(stop, full))} | {sign_flip_test(stop, full):.2g}",
            f"{between(relative(measured), 0)} | {found} | {'' if last == found else last}",
            f"{selected(name)['margin']:.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    if sum(name != APART for name in sets) > 1:
        mean, further = pooled(sets)
        lines.append(
            f"\nOver the {sum(name != APART for name in sets)} sets, by random effects: stop minus full is "
            f"{between(mean, 0)} % of full's error; sets differ with a standard deviation of "
            f"{mean.between:.0f} %, and a further set would lie between {further[0]:+.0f} and "
            f"{further[1]:+.0f} %."
        )
    return lines


def _short(kept: str) -> str:
    """Say in few words why nothing is retained, for a narrow column."""
    why = {"loses": "routing loses", "do not tell": "no gain shown"}
    return next((short for part, short in why.items() if part in kept), kept)


def iterations_table(planned: Mapping[str, Any]) -> list[str]:
    """Return stop minus full by the number of iterations, and what more of them change."""
    rows = []
    for name, entry in planned.items():
        measured = read(name) if "iterations" in entry else None
        if measured is None:
            continue
        base, title = read(entry["rates_of"]), NAMES[entry["rates_of"]]
        by_r = {
            r: {arm: _by_seed(measured, f"{arm}, num_iters={r}") for arm in (STOP, FULL)}
            for r in entry["iterations"]
        }
        if base is not None:
            by_r[ROUTING_ITERATIONS] = {arm: _by_seed(base, arm) for arm in (STOP, FULL)}
        gaps: list[dict[int, float]] = []
        for r, arms in sorted(by_r.items()):
            seeds = [seed for seed in arms[STOP] if seed in arms[FULL]]
            stop, full = (np.array([arms[arm][seed] for seed in seeds]) for arm in (STOP, FULL))
            gaps.append(dict(zip(seeds, stop - full, strict=True)))
            change = "" if len(gaps) < 2 else changed(*gaps[-2:])
            rows.append(f"| {title} | {r} | {len(seeds)} | {both_cells(stop, full)} | {change} |")
    head = [
        f"| set | r | seeds | {BOTH} | beside the r before, points (95 %) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return [*head, *rows] if rows else []


def changed(before: Mapping[int, float], after: Mapping[int, float]) -> str:
    """Write by how much a difference changed, paired by seed, with its p."""
    seeds = [seed for seed in after if seed in before]
    pair = [np.array([gap[seed] for seed in seeds]) for gap in (after, before)]
    return f"{between(paired_difference(*pair))}, p = {sign_flip_test(*pair):.2g}"


def both_cells(stop: np.ndarray, full: np.ndarray) -> str:
    """Write the cells of `BOTH`, of errors in per cent, [seeds]."""
    difference = f"{between(paired_difference(stop, full))} | {sign_flip_test(stop, full):.2g}"
    return f"{stop.mean():.2f} | {full.mean():.2f} | {difference}"


def rates_table(planned: Mapping[str, Any]) -> list[str]:
    """Return stop minus full at one learning rate, on the sets where selection gave them different ones."""
    rows = []
    for name, entry in planned.items():
        exchanged, base = read(name) if "rates" in entry else None, entry.get("rates_of", name)
        own = None if exchanged is None else read(base)
        if exchanged is None or own is None:
            continue
        chosen = selected(base)["rates"]
        arms = {arm: _by_seed(own, arm) for arm in (STOP, FULL)}
        planned_gap = {seed: arms[STOP][seed] - arms[FULL][seed] for seed in own.seeds}
        for rate in sorted({chosen[STOP], chosen[FULL]}):
            # Of each arm the runs that had this rate: by selection, or exchanged.
            here = {
                arm: of if chosen[arm] == rate else _by_seed(exchanged, arm)
                for arm, of in arms.items()
            }
            seeds = [seed for seed in here[STOP] if seed in here[FULL]]
            stop, full = (np.array([here[arm][seed] for seed in seeds]) for arm in (STOP, FULL))
            gap = dict(zip(seeds, stop - full, strict=True))
            cells = f"{len(seeds)} | {both_cells(stop, full)} | {changed(gap, planned_gap)}"
            rows.append(f"| {NAMES[base]} | {rate:g} | {cells} |")
    head = [
        f"| set | learning rate of both | seeds | {BOTH} | with the rates of the plan, points more (95 %) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    return [*head, *rows] if rows else []


def _by_seed(measured: Measured, arm: str) -> dict[int, float]:
    """Return the test errors of an arm, in per cent."""
    return dict(zip(measured.seeds, measured.errors[arm], strict=True))


def time_table(planned: Mapping[str, Any]) -> list[str]:
    """Return how much was trained of every set, and how long processes took for it, where that was kept."""
    lines = ["| set | runs | training steps | hours of processes |", "|---|---:|---:|---:|"]
    counts = []
    for name, entry in planned.items():
        path = RESULTS / name
        if not (path / RUNS).exists():
            continue
        runs = len(json.loads((path / RUNS).read_text(encoding="utf-8")))
        if (path / "selection.json").exists():
            measured = selected(name)["measured"].values()
            runs += sum(len(lines) for rates in measured for lines in rates.values())
        steps = runs * entry["overrides"]["training.steps"]
        seconds = json.loads((path / "environment.json").read_text("utf-8")).get("run_seconds")
        counts.append((runs, steps))
        hours = "not kept" if seconds is None else f"{seconds / 3600:.1f}"
        what = "r = 2 and 5" if "iterations" in entry else "rates exchanged"
        title = NAMES.get(name) or f"{NAMES[entry['rates_of']]}, {what}"
        lines.append(f"| {title} | {runs} | {steps:,} | {hours} |")
    return [*lines, "| all | {} | {:,} | |".format(*map(sum, zip(*counts, strict=True)))]


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


def read_all(planned: Mapping[str, Any]) -> dict[str, Measured]:
    """Read every set that has results, but those that vary another's iterations or learning rates."""
    found = {name: read(name) for name, entry in planned.items() if "rates_of" not in entry}
    return {name: measured for name, measured in found.items() if measured is not None}


def chapter() -> dict[str, str]:
    """Return the tables of the chapter by the name of their place, in Markdown."""
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    sets = {name: found for name, found in read_all(planned).items() if name != APART}
    parts = {
        "summary": summary_table(sets, planned),
        "losses": losses_table(sets),
        "beside stop": beside_stop_table(sets),
        "iterations": iterations_table(planned),
        "rates": rates_table(planned),
        "gradients": gradients.gradients_table(RESULTS, {name: NAMES[name] for name in sets}),
        "law": gradients.law_table(gradients.law_points(RESULTS, planned)),
    }
    return {name: "\n".join(part) for name, part in parts.items()}


def tables() -> str:
    """Return all tables of the README, in Markdown."""
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    sets = read_all(planned)
    if not sets:
        return NOTHING
    parts: list[Sequence[str]] = [summary_table(sets, planned)]
    for name, measured in sets.items():
        chosen = selected(name)
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
    parts.append(["## Time", "", *time_table(planned)])
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


def pages() -> dict[Path, dict[str, str]]:
    """Return the tables by page and the name of their place there."""
    return {README: {"tables": tables()}, CHAPTER: chapter()}


def with_tables(text: str, made: Mapping[str, str]) -> str:
    """Return a page with all of its tables, by the name of their place."""
    for name, table in made.items():
        text = written(text, table, name)
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path, made in pages().items():
        path.write_text(with_tables(path.read_text(encoding="utf-8"), made), encoding="utf-8")
