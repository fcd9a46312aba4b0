"""The tables of what the seeds of a comparison tell, and how they are read."""

import math
from collections.abc import Sequence

from capsjax.reports.comparison import (
    SAME,
    Comparison,
    format_interval,
    has_width,
    interval,
    signed,
)
from capsjax.reports.evidence import Evidence
from capsjax.study.statistics import (
    Difference,
    Equivalence,
    RetainedGain,
    TwoWayDifference,
    seeds_needed,
)
from capsjax.tables import Table

MANY = 10_000  # seeds that nobody trains
ALIKE = "the same in all seeds"  # of what has no spread, which is no certainty
READING = (
    "What the seeds tell, of every arm beside the reference: p is the share of all choices of signs of the "
    "paired differences whose mean is as large, and beside it the same by Holm, for all arms that stand "
    "together. The interval over images takes the test images as a sample too, from three seeds on. With few "
    "seeds it can be the narrower one, since what images add is known from many of them, and what seeds add "
    "from a few, for which an interval has to be wide. The loss is that of the classes in the test, without "
    "reconstruction: it moves where no image changes sides. What the seeds can show: retained is the part of "
    "what routing gains over uniform coupling, with Fieller's interval. Seeds for 80 %: as many tell a "
    "difference as large as this one from 0 four times in five, if it is the true one and seeds vary like "
    "these."
)


def difference_table(comparison: Comparison, found: Sequence[Evidence]) -> Table:
    """Make the table of what the seeds tell beside means: tests, over images too, and losses.

    Args:
        comparison: its numbers.
        found: as `gather` gives it.

    Returns:
        The table: a row for each arm that is compared with a reference.
    """
    rows = tuple(
        (
            _arm(comparison, one),
            str(one.count),
            f"{signed(one.error.mean)}, {format_interval(one.error, one.count)}",
            "—" if one.images is None else _over_images(one.images),
            *(("—", "—") if one.count < 2 else (f"{one.p:.2g}", f"{one.adjusted:.2g}")),
            "—" if one.loss is None else _loss(one.loss),
        )
        for one in found
    )
    headings = (
        "arm", "seeds", "test error, points", "over images too", "p", "p by Holm", "test loss",
    )  # fmt: skip
    return Table(f"What the seeds tell, beside {_references(comparison)}", headings, rows)


def showing_table(comparison: Comparison, found: Sequence[Evidence]) -> Table:
    """Make the table of what the seeds can show: the retained gain, seeds needed, equality to a margin.

    Args:
        comparison: its numbers.
        found: as `gather` gives it.

    Returns:
        The table: a row for each arm that is compared with a reference; none if there is nothing to say of
        any, as of a single seed.
    """
    rows = tuple(
        (
            _arm(comparison, one),
            _retained(one.retained),
            _needed(one),
            *([] if one.equal is None else [_equal(one.equal)]),
        )
        for one in found
    )
    if all({*row[1:]} <= {"—", "undefined"} for row in rows):
        rows = ()
    margin = comparison.margin
    headings = (
        "arm",
        "retained gain",
        "seeds for 80 %",
        *([] if margin is None else [f"equal to {100 * margin:g} points, p"]),
    )
    return Table(f"What the seeds can show, beside {_references(comparison)}", headings, rows)


def describe_margin(comparison: Comparison) -> list[str]:
    """Say what the margin of equivalence is and how it decides, where one was stated."""
    if comparison.margin is None:
        return []
    return [
        f"Arms are equal to within the margin of {100 * comparison.margin:g} points that the configuration "
        "states (compare.margin) where two one-sided tests at 5 % say so: the 90 % interval lies within it. "
        "Where the difference is the same in all seeds there is no spread to test by."
    ]


def _arm(comparison: Comparison, one: Evidence) -> str:
    return comparison.arms[one.name].arm + (f", {one.group.label}" if one.group.cell else "")


def _references(comparison: Comparison) -> str:
    return " or ".join(dict.fromkeys(comparison.arms[g.reference].arm for g in comparison.groups))


def _over_images(found: TwoWayDifference) -> str:
    return interval(found.low, found.high) if has_width(found) else ALIKE


def _loss(found: Difference) -> str:
    if math.isnan(found.low):
        return f"{found.mean:+.4f}"
    bounds = f"{found.low:+.4f} to {found.high:+.4f}" if has_width(found) else ALIKE
    return f"{found.mean:+.4f}, {bounds}"


def _needed(one: Evidence) -> str:
    """Write how many seeds see a difference as large as the one found, with a probability of 80 %."""
    if not one.error.standard_error > 0 or abs(one.error.mean) < SAME:  # NaN: of a single seed
        return "—"
    count = seeds_needed(one.error.mean, one.error.standard_error * math.sqrt(one.count))
    return f"{count:,}" if count < MANY else f"over {MANY:,}"


def _equal(found: Equivalence) -> str:
    if math.isnan(found.p):
        return "—"
    if not has_width(found):  # whatever p is
        return ALIKE
    return f"{'yes' if found.shown else 'not shown'}, {found.p:.2g}"


def _retained(found: RetainedGain | None) -> str:
    if found is None:
        return "—"
    if found.why:
        return "undefined"
    return f"{found.value:.2f}, {found.low:.2f} to {found.high:.2f}"
