"""Hold the numbers that stand in sentences to the raw results, as finding.py holds those in tables.

    python experiments/gradient_modes/facts.py

Prints what a page should say and does not, and exits with 1 if there is such a thing. A test calls `missing`,
and `unfounded`, which finds numbers in the chapter that no fact has.
"""

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from capsjax.study.statistics import paired_difference, retained_gain

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))
finding = importlib.import_module("finding")
gradients = finding.gradients
ROOT = HERE.parents[1]
CHAPTER, FRONT, CHOOSING = finding.CHAPTER, ROOT / "README.md", ROOT / "docs" / "choosing.md"
UNIFORM, STOP, TRUNCATED, FULL = "uniform", "stop", "truncated", "full"
SETS = "digits usps mnist_1k mnist_10k fashion_10k multimnist eth80_objects eth80_azimuth eth80_elevation"
GAINED = "usps", "multimnist", "mnist_10k", "digits"
WORDS = {
    "digits": "the 8×8 digits",
    "usps": "USPS",
    "mnist_1k": "1,000 images of MNIST",
    "mnist_10k": "10,000 images of MNIST",
    "fashion_10k": "Fashion-MNIST",
    "multimnist": "overlapping digits",
    "eth80_objects": "new objects",
    "eth80_azimuth": "new azimuths",
    "eth80_elevation": "new elevations",
}
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
# Numbers that are no results: names of sets, the level of intervals, what was chosen before the runs.
NAMES = (
    r"8×8|10,000|1,000 (?:images|of them)|ETH-80|95 %|\b2017\b|\b2018\b|200,000|r = \d"
    r"|, and 2 and 5 on|ln 10|\b1 − cosine"
)


def interval(found: Any, digits: int = 2, sign: str = "") -> str:
    """Write "0.70 (0.57 to 0.83)", with a sign before each where `sign` is "+"."""
    value, low, high = (f"{x + 0.0:{sign}.{digits}f}" for x in tuple(found)[:3])
    return f"{value} ({low} to {high})"


def span(numbers: Any, digits: int = 2) -> str:
    """Write the least and the largest of numbers, "0.32 to 0.73"."""
    return f"{min(numbers):.{digits}f} to {max(numbers):.{digits}f}"


def listed(words: Sequence[str]) -> str:
    """Write words as a list, "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def facts() -> dict[Path, list[str]]:
    """Return what each page has to say, word for word."""
    planned = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    every = finding.read_all(planned)
    sets = {name: every[name] for name in SETS.split()}
    errors = {name: measured.errors for name, measured in sets.items()}

    def kept(name: str, arm: str) -> str:
        arms = (errors[name][each] for each in (UNIFORM, arm, FULL))
        return interval(retained_gain(*arms))

    def cost(name: str) -> str:
        found = finding.relative(sets[name])
        return f"{found.mean:.0f} % {{}} ({found.low:+.0f} to {found.high:+.0f})"

    def points(name: str, one: str, other: str, digits: int = 2, sign: str = "+") -> str:
        found = paired_difference(errors[name][one], errors[name][other])
        return interval(found, digits, sign)

    mean, further = finding.pooled(sets)
    pooled = f"{mean.mean:+.0f} %, {mean.low:+.0f} to {mean.high:+.0f}"
    gained = {arm: [kept(name, arm) for name in GAINED] for arm in (STOP, TRUNCATED)}
    return {
        CHAPTER: [
            f"{cost('usps').format('more than the full gradient makes on USPS')}",
            f"{cost('multimnist').format('on overlapping digits')}",
            f"{cost('mnist_1k').format('on 1,000 images of MNIST')}",
            f"The mean over the nine sets cannot be distinguished from zero ({pooled})",
            f"between {further[0]:+.0f} and {further[1]:+.0f} %",
            "a constant coupling saves {} on USPS, {} on overlapping digits, {} on 10,000 images of MNIST "
            "and {} on the 8×8 digits".format(*gained[STOP]),
            "through the last update alone saves {}, {}, {} and {}".format(*gained[TRUNCATED]),
            *_of_sets(sets, points),
            *_of_margins(sets),
            *_of_losses(sets),
            *_of_length(sets),
            *_of_iterations(sets),
            *_of_rates(planned),
            *_of_gradients(planned),
        ],
        FRONT: [
            f"{cost('usps').format('more errors on USPS')}, "
            f"{cost('multimnist').format('on overlapping digits')} and "
            f"{cost('mnist_1k').format('on 1,000 images of MNIST')}",
            "{} on USPS, {} on overlapping digits, {} on 10,000 images of MNIST".format(
                *gained[STOP]
            ),
            f"the mean over the nine cannot be distinguished from zero ({pooled})",
        ],
        CHOOSING: [
            "{} on USPS, {} on overlapping digits, {} on 10,000 images of MNIST".format(
                *gained[STOP]
            ),
            "{} on USPS and {} on overlapping digits".format(*gained[TRUNCATED]),
            f"{gained[TRUNCATED][2]} on 10,000 images of MNIST and {gained[TRUNCATED][3]} on the 8×8 digits",
        ],
    }


def _of_sets(sets: Mapping[str, Any], points: Callable[..., str]) -> list[str]:
    """Return what the chapter says set by set."""
    wrong = sets["digits"].errors[FULL].mean() / 100 * sets["digits"].wrong[FULL].shape[1]
    fashion = sets["fashion_10k"].errors
    lost = [
        paired_difference(sets[name].errors[FULL], sets[name].errors[UNIFORM]).mean
        for name in ("eth80_objects", "eth80_azimuth", "eth80_elevation")
    ]
    return [
        f"errors than uniform coupling, {points('mnist_1k', STOP, UNIFORM)} points",
        f"full and uniform differ by {points('mnist_1k', FULL, UNIFORM)}",
        f"the last update alone makes {points('mnist_1k', TRUNCATED, FULL)} more than full",
        f"full leaves {wrong:.1f} wrong images of 500",
        f"({fashion[UNIFORM].mean():.2f} and {fashion[FULL].mean():.2f} %)",
        f"{lost[0]:.1f} points on new objects, {lost[1]:.1f} on new azimuths and {lost[2]:.1f} on new "
        "elevations",
        f"{points('eth80_elevation', STOP, FULL)} points on new elevations",
        f"{points('eth80_azimuth', STOP, FULL)} on new azimuths",
        f"the last update alone on new objects, by {points('eth80_objects', TRUNCATED, FULL)} points",
    ]


def _of_margins(sets: Mapping[str, Any]) -> list[str]:
    """Return what is said of the margins of equivalence beside the gain of routing."""
    margins = {name: finding.selected(name)["margin"] for name in sets}
    gain = {
        name: paired_difference(one.errors[UNIFORM], one.errors[FULL]).mean
        for name, one in sets.items()
    }
    return [
        f"{margins['multimnist']:.2f} points beside a gain of {gain['multimnist']:.2f} on overlapping digits",
        f"{margins['mnist_10k']:.2f} beside {gain['mnist_10k']:.2f} and {gain['digits']:.2f} on 10,000 "
        "images of MNIST and the 8×8 digits",
        f"{margins['usps']:.2f} beside {gain['usps']:.2f} on USPS",
    ]


def _of_losses(sets: Mapping[str, Any]) -> list[str]:
    """Return on which sets the margin loss tells two arms apart, by the words of the chapter."""

    def larger(one: str, other: str) -> list[str]:
        return [
            WORDS[name]
            for name, measured in sets.items()
            if paired_difference(measured.losses[one], measured.losses[other]).low > 0
        ]

    stop = larger(STOP, FULL)
    rest = NUMBERS[len(sets) - len(stop) - len(larger(FULL, STOP))]
    return [
        f"on {listed(stop)}, and not on the other {rest}",
        f"In the margin loss it is better than stop on {listed(larger(STOP, 'rescaled'))}",
        f"on {listed(larger('leaky stop', STOP))} its margin loss is a little larger",
    ]


def _of_length(sets: Mapping[str, Any]) -> list[str]:
    """Return what the rescaled arm and the leaky stop do beside stop."""
    rescaled = {
        name: paired_difference(one.errors["rescaled"], one.errors[STOP])
        for name, one in sets.items()
    }
    leaky = [paired_difference(one.errors["leaky stop"], one.errors[STOP]) for one in sets.values()]
    apart = sum(one.low > 0 or one.high < 0 for one in leaky)
    return [
        f"On USPS it makes as many errors as stop, {interval(rescaled['usps'], sign='+')} points,",
        f"on 1,000 images of MNIST, {interval(rescaled['mnist_1k'], sign='+')} points, at a third of its "
        "rate",
        f"On {NUMBERS[apart]} set can its error be distinguished from stop's",
    ]


def _of_iterations(sets: Mapping[str, Any]) -> list[str]:
    """Return what is said of two, three and five iterations."""
    of = {name: finding.read(f"{name}_iterations") for name in ("mnist_1k", "usps")}
    gaps = {
        name: {
            r: (
                one.errors[f"{STOP}, num_iters={r}"] - one.errors[f"{FULL}, num_iters={r}"]
                if r != finding.ROUTING_ITERATIONS
                else sets[name].errors[STOP] - sets[name].errors[FULL]
            )
            for r in (2, 3, 5)
        }
        for name, one in of.items()
    }
    more = paired_difference(gaps["mnist_1k"][3], gaps["mnist_1k"][2])
    two = of["mnist_1k"].errors[f"{FULL}, num_iters=2"], sets["mnist_1k"].errors[UNIFORM]
    means = {
        name: " and ".join(
            [f"{by_r[2].mean():.2f} points, {by_r[3].mean():.2f}", f"{by_r[5].mean():.2f}"]
        )
        for name, by_r in gaps.items()
    }
    five = [of["mnist_1k"].errors[f"{arm}, num_iters=5"].mean() for arm in (FULL, STOP)]
    return [
        f"{means['mnist_1k']} on 1,000 images of MNIST",
        f"{means['usps']} on USPS",
        f"by {interval(more, sign='+')}",
        f"full makes {interval(paired_difference(*two[::-1]))} points fewer errors than uniform coupling",
        f"full {five[0]:.2f} %, stop {five[1]:.2f}",
    ]


def _of_rates(planned: Mapping[str, Any]) -> list[str]:
    """Return what is said of both arms at one learning rate, from the rows of the table."""
    rows = [row.split(" | ") for row in finding.rates_table(planned)[2:]]
    points, more = (
        [re.sub(r",? ?p = .*", "", row[place]).strip(" |") for row in rows] for place in (5, 7)
    )
    return [
        f"stop makes {points[0]} points more errors where both have full's rate, and {points[1]} where both "
        "have stop's",
        f"full's rate makes the difference {more[0]} points smaller",
        f"Of the difference on new azimuths {more[2]} points go with the rates",
    ]


def _of_gradients(planned: Mapping[str, Any]) -> list[str]:
    """Return what is said of the gradients at the end of training, and of the entropy by r."""

    def ends(arm: str, key: str) -> list[float]:
        found = (gradients.read(finding.RESULTS, name) for name in SETS.split())
        return [[point for point in one if point["arm"] == arm][-1][key] for one in found]

    def last(name: str, arm: str) -> Any:
        points = gradients.law_points(finding.RESULTS, planned)
        return [point for point in points if (point.name, point.arm) == (name, arm)][-1]

    def by_r(name: str) -> list[Any]:
        grid = f"{name}{gradients.GRID}"
        return [
            last(grid, f"{FULL}, num_iters=2"),
            last(name, FULL),
            last(grid, f"{FULL}, num_iters=5"),
        ]

    def written(numbers: Any, digits: int) -> str:
        return listed([f"{x:.{digits}f}" for x in numbers])

    usps, few = by_r("usps"), by_r("mnist_1k")
    return [
        f"{span(ends(FULL, 'norm_ratio'))} of its length",
        f"cosine {span(ends(FULL, 'cosine'))}",
        f"{span(ends(FULL, 'example_cosine'))} in single examples",
        f"{span(ends(FULL, 'response_norm_ratio'))} as long, with a cosine of "
        f"{span(ends(FULL, 'response_cosine'))}",
        f"{span(ends(STOP, 'norm_ratio'))} of the full one's length",
        f"{span(ends(STOP, 'response_norm_ratio'))} as long as the full one's",
        f"couplings end {written((p.departure for p in usps), 3)} nats from uniform",
        f"1 − cosine at {written((p.gap for p in usps), 2)}, of single examples "
        f"{written((p.example_gap for p in usps), 3)}",
        f"on 1,000 images of MNIST 1 − cosine at {written((p.gap for p in few), 2)}",
    ]


def prose(page: Path) -> str:
    """Return the words of a page in one line, without its generated tables, its code and where links lead."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- (.+?): finding\.py -->.*?<!-- end of \1 -->", " ", text, flags=re.DOTALL)
    text = re.sub(
        r"```.*?```|`[^`]*`|\]\([^)]*\)|<img[^>]*>|<source[^>]*>", " ", text, flags=re.DOTALL
    )
    return " ".join(text.split())


def missing() -> list[str]:
    """Return what pages should say and do not."""
    return [
        f"{page.relative_to(ROOT)}: {fact}"
        for page, told in facts().items()
        for fact in told
        if fact not in prose(page)
    ]


def unfounded() -> list[str]:
    """Return the numbers of the chapter that no fact has, each with what stands around it."""
    words = prose(CHAPTER)
    for fact in sorted(facts()[CHAPTER], key=len, reverse=True):
        words = words.replace(fact, " ")
    words = re.sub(NAMES, " ", words)
    return [words[max(0, m.start() - 30) : m.end() + 30] for m in re.finditer(r"\d[\d.,]*", words)]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found = [*missing(), *(f"of no fact: {words}" for words in unfounded())]
    print(*found, sep="\n")
    sys.exit(bool(found))
