"""What the seeds of a comparison tell: the answer in a few sentences, and the tests behind it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from capsjax.reports.comparison import (
    SAME,
    Comparison,
    has_width,
    in_all,
    interval,
    paired,
    signed,
)
from capsjax.study.design import Group
from capsjax.study.statistics import (
    Difference,
    Equivalence,
    RetainedGain,
    TwoWayDifference,
    equivalence_test,
    holm,
    paired_difference,
    retained_gain,
    sign_flip_test,
    two_way_difference,
)

FEW = 6  # seeds: with fewer no choice of signs is rarer than 5 %
LEAST = 3  # seeds that an interval over images needs: of two it holds the truth too seldom
LIMITS = (
    "Intervals hold for other seeds and, where they say so, for other test images; not for other networks, "
    "data, schedules or learning rates than these.",
    "An interval that holds 0 does not show that there is no difference: how small a difference counts as "
    "none has to be said before the runs.",
    "What is looked at along training, gradients and couplings, goes with what is found; it does not show "
    "why.",
)


class Evidence(NamedTuple):
    """Hold what the seeds tell of an arm beside the reference.

    Attributes:
        name: of the arm.
        group: the arms that it stands among.
        count: how many seeds both have.
        error: the difference of test errors.
        p: of the sign-flip test.
        adjusted: the same after Holm, over the arms of the group.
        images: the difference of errors over seeds and test images; None where fewer than three seeds kept
            predictions.
        loss: the difference of the losses of the classes; None where they do not compare.
        retained: which part of what routing gains it retains; None where no arm has uniform coupling.
        equal: whether it is as good as the reference, to within the margin; None if none was stated.
    """

    name: str
    group: Group
    count: int
    error: Difference
    p: float
    adjusted: float
    images: TwoWayDifference | None
    loss: Difference | None
    retained: RetainedGain | None
    equal: Equivalence | None = None


def gather(comparison: Comparison) -> list[Evidence]:
    """Return what the seeds tell of every arm that can be compared with a reference.

    Args:
        comparison: its numbers; seeds of which a run failed are left out pair by pair.

    Returns:
        The evidence, group by group.
    """
    found = []
    for group in comparison.groups:
        of_group = list(_of_group(comparison, group))
        adjusted = holm([one.p for one in of_group])
        found += [one._replace(adjusted=p) for one, p in zip(of_group, adjusted, strict=True)]
    return found


def _of_group(comparison: Comparison, group: Group) -> Iterator[Evidence]:
    base = group.reference
    for name in group.names:
        ours, theirs = paired(comparison.errors[name], comparison.errors[base])
        if name == base or not ours or not comparison.comparable(name, group):
            continue
        p = sign_flip_test(ours, theirs)
        yield Evidence(
            name=name,
            group=group,
            count=len(ours),
            error=paired_difference(ours, theirs),
            p=p,
            adjusted=p,
            images=_over_images(comparison, name, base),
            loss=_of_losses(comparison, name, base),
            retained=retained(comparison, name, group),
            equal=None
            if comparison.margin is None
            else equivalence_test(ours, theirs, margin=comparison.margin),
        )


def _over_images(comparison: Comparison, name: str, base: str) -> TwoWayDifference | None:
    runs = zip(comparison.wrong.get(name, ()), comparison.wrong.get(base, ()), strict=False)
    pairs = [(a, b) for a, b in runs if a is not None and b is not None and a.shape == b.shape]
    if len(pairs) < LEAST:
        return None
    return two_way_difference(*(np.stack(arrays) for arrays in zip(*pairs, strict=True)))


def _of_losses(comparison: Comparison, name: str, base: str) -> Difference | None:
    if comparison.arms[name].loss != comparison.arms[base].loss:
        return None
    ours, theirs = paired(comparison.losses.get(name, ()), comparison.losses.get(base, ()))
    return paired_difference(ours, theirs) if ours else None


def retained(comparison: Comparison, name: str, group: Group) -> RetainedGain | None:
    """Return which part of what routing gains an arm retains.

    Args:
        comparison: its numbers.
        name: of the arm.
        group: that it stands in, whose reference is taken as the full gradient.

    Returns:
        rho; None where the group has no uniform coupling, or the arm is it.
    """
    uniform = next((n for n in group.names if comparison.arms[n].mode == "uniform"), None)
    if uniform is None or name in (uniform, group.reference) or uniform == group.reference:
        return None
    if not comparison.comparable(uniform, group) or not comparison.comparable(name, group):
        return None
    of_uniform, ours, of_full = paired(
        *(comparison.errors[n] for n in (uniform, name, group.reference))
    )
    return retained_gain(of_uniform, ours, of_full) if ours else None


def describe_undefined(found: Sequence[Evidence]) -> list[str]:
    """Say why there is no figure of what is retained, where it is undefined of every arm.

    Args:
        found: as `gather` gives it.

    Returns:
        A sentence; none where something is retained, or no arm has uniform coupling.
    """
    kept = [one.retained for one in found if one.retained is not None]
    if not kept or not all(one.why for one in kept):
        return []
    why = "; ".join(dict.fromkeys(one.why for one in kept))
    return [f"The retained gain is undefined of every arm, and is not drawn: {why}."]


def answer(comparison: Comparison, found: Sequence[Evidence]) -> list[str]:
    """Answer what a comparison asks: what differs, whether it is equal within a margin, what is retained.

    The arm that is asked about is the one with the stop gradient, where there is one, else the first.

    Args:
        comparison: its numbers.
        found: as `gather` gives it.

    Returns:
        The sentences, with interval and number of seeds; none where nothing can be compared.
    """
    asked = [e for e in found if comparison.arms[e.name].mode == "stop"] or found[:1]
    first = [e for e in asked if comparison.arms[e.name].arm == comparison.arms[asked[0].name].arm]
    if not first:
        return []
    if len(first) > 1:
        return [
            _differs_in_cells(comparison, first),
            *_equals_in_cells(comparison, first),
            *_retains_in_cells(first),
        ]
    one = first[0]
    return [_differs(comparison, one), *_equals(comparison, one), *_retains(one)]


def _names(comparison: Comparison, one: Evidence) -> tuple[str, str]:
    return comparison.arms[one.name].arm, comparison.arms[one.group.reference].arm


def _differs(comparison: Comparison, one: Evidence) -> str:
    arm, base = _names(comparison, one)
    if one.count == 1:
        return (
            f"One seed is too few to say whether {arm} differs from {base}: "
            f"{signed(one.error.mean)} points of test error."
        )
    if not has_width(one.error):
        every = in_all(one.count)
        if abs(one.error.mean) < SAME:
            return f"{arm} and {base} have the same test error {every}."
        return (
            f"{arm} differs from {base} by {signed(one.error.mean)} points of test error {every}, an "
            "interval without width, which is no certainty."
        )
    seeds = f"95 % interval {interval(one.error.low, one.error.high)}, {one.count} seeds"
    if one.error.low > 0 or one.error.high < 0:
        which = "more" if one.error.low > 0 else "less"
        return (
            f"{arm} has {which} test error than {base}: {signed(one.error.mean)} points, {seeds}."
        )
    if one.count < FEW:
        return (
            f"{one.count} seeds are too few to say whether {arm} differs from {base}: "
            f"{signed(one.error.mean)} points of test error, 95 % interval "
            f"{interval(one.error.low, one.error.high)}."
        )
    return (
        f"These seeds do not tell {arm} from {base}: {signed(one.error.mean)} points of test error, {seeds}; "
        "larger differences than that either way are not likely."
    )


def _equals(comparison: Comparison, one: Evidence) -> list[str]:
    if one.equal is None or one.count == 1:
        return []
    arm, base = _names(comparison, one)
    return [f"{arm} is {describe_equivalence(one.equal, base)}."]


def describe_equivalence(found: Equivalence, base: str) -> str:
    """Say whether an arm is equal to the reference within the margin that was stated.

    Args:
        found: what the two one-sided tests of two seeds or more found.
        base: the name of the reference.

    Returns:
        The end of a sentence that begins with the arm, such as "equal to full within 0.5 points (p = 0.01)".
    """
    within = f"equal to {base} within {100 * found.margin:g} points"
    if not has_width(found):
        return f"not shown to be {within}, since the difference is the same in all seeds"
    return f"{'' if found.shown else 'not shown to be '}{within} (p = {found.p:.2g})"


def _equals_in_cells(comparison: Comparison, found: Sequence[Evidence]) -> list[str]:
    tested = [e.equal for e in found if e.equal is not None and e.count > 1 and has_width(e.equal)]
    if not tested:
        return []
    _, base = _names(comparison, found[0])
    shown = sum(equal.shown for equal in tested)
    return [
        f"It is shown to be equal to {base} within {100 * tested[0].margin:g} points in {shown} of "
        f"{len(tested)} cells that can be tested."
    ]


def _retains(one: Evidence) -> list[str]:
    kept = one.retained
    if kept is None:
        return []
    gain = f"{signed(kept.gain.mean)} points, {interval(kept.gain.low, kept.gain.high)}"
    if kept.why:
        return [
            f"What it retains of routing's gain is undefined: {kept.why} (uniform minus full {gain})."
        ]
    return [
        f"It retains {100 * kept.value:.0f} % of what routing gains over uniform coupling (95 % interval "
        f"{100 * kept.low:.0f} to {100 * kept.high:.0f} %; the gain: {gain})."
    ]


def _differs_in_cells(comparison: Comparison, found: Sequence[Evidence]) -> str:
    arm, base = _names(comparison, found[0])
    more = [one for one in found if one.error.low > 0]
    less = [one for one in found if one.error.high < 0]
    few, many = min(one.count for one in found), max(one.count for one in found)
    seeds = f"{few}" if few == many else f"{few} to {many}"
    parts = [f"more in {len(more)}"] if more else []
    parts += [f"less in {len(less)}"] if less else []
    rest = len(found) - len(more) - len(less)
    parts += [f"and in {rest} {seeds} seeds cannot tell"] if rest else []
    return (
        f"Beside {base}, {arm} has, of {len(found)} cells of the grid, {', '.join(parts)} ("
        "test error, 95 % intervals"
        f", {seeds} seeds)."
    )


def _retains_in_cells(found: Sequence[Evidence]) -> list[str]:
    kept = [one.retained for one in found if one.retained is not None]
    defined = [one.value for one in kept if not one.why]
    if not kept:
        return []
    if not defined:
        return [
            "Nowhere do the seeds tell what routing gains from nothing, so there is no gain to retain."
        ]
    return [
        f"Where routing gains, in {len(defined)} of {len(kept)}, it retains "
        f"{100 * min(defined):.0f} to {100 * max(defined):.0f} % of the gain."
    ]
