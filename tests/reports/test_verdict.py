"""A comparison's verdict in words, for every case that paired differences can be in."""

import numpy as np
import pytest
from scipy import stats

from capsjax.checks import UserError
from capsjax.reports.verdict import verdict

FULL = (0.02, 0.03, 0.04)


def bounds(values, reference):
    """The 95 % interval by SciPy, in points."""
    found = stats.ttest_rel(values, reference).confidence_interval(0.95)
    return f"{100 * found.low:+.2f} to {100 * found.high:+.2f} points"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.02, 0.03, 0.04), "stop and full have the same test error in all three seeds"),
        ((0.03, 0.02, 0.04), "three seeds cannot tell stop from full: {}; compare.seeds 10 may"),
        ((0.01, 0.021, 0.029), "stop has less test error than full in three seeds: {}"),
        ((0.03, 0.041, 0.049), "stop has more test error than full in three seeds: {}"),
        (
            (0.03, 0.04, 0.05),
            "stop differs from full by +1.00 points in all three seeds, an interval without width, "
            "which is no certainty; compare.seeds 10 may tell",
        ),
    ],
    ids=["equal", "undecided", "better", "worse", "without width"],
)
def test_a_mode_is_judged_by_the_interval_of_paired_differences(values, said):
    assert verdict("stop", values, FULL) == said.format(
        bounds(values, FULL) if "{}" in said else ""
    )


def test_two_seeds_are_both():
    equal = verdict("stop", FULL[:2], FULL[:2])
    assert equal == "stop and full have the same test error in both seeds"
    same = verdict("stop", [0.03, 0.04], [0.02, 0.03])
    assert same.startswith("stop differs from full by +1.00 points in both seeds, an interval")


def test_one_seed_decides_nothing():
    assert verdict("stop", [0.02], [0.01], option="--compare.seeds") == (
        "one seed cannot tell stop from full: +1.00 points; --compare.seeds 3 may"
    )
    assert verdict("stop", [0.01], [0.01]).startswith("one seed cannot tell")


@pytest.mark.parametrize(("count", "more"), [(2, 10), (5, 15), (20, 60)])
def test_more_seeds_are_more(count, more):
    values = 0.5 + 0.1 * (-1.0) ** np.arange(count)
    text = verdict("stop", values.tolist(), [0.5] * count)
    assert text.endswith(f"compare.seeds {more} may")
    assert text.startswith({2: "two", 5: "five"}.get(count, str(count)) + " seeds cannot tell")


def test_arms_of_other_numbers_of_seeds_are_not_judged():
    with pytest.raises(UserError):
        verdict("stop", [0.1], FULL)
