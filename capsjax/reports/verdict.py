"""What a comparison says, in words: which arms its seeds can tell from the reference."""

from collections.abc import Sequence

from capsjax.reports.comparison import Comparison, has_width, interval, paired, signed
from capsjax.reports.evidence import describe_equivalence
from capsjax.study.statistics import equivalence_test, paired_difference

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def comparison_verdicts(
    comparison: Comparison, *, option: str = "compare.seeds"
) -> tuple[str, ...]:
    """Judge every arm of a comparison beside the reference of its cell of the grid.

    Args:
        comparison: its numbers; seeds of which a run failed are left out.
        option: what sets the number of seeds.

    Returns:
        A sentence for each arm that there is something to compare with, without a full stop.
    """
    said = []
    for group in comparison.groups:
        reference = comparison.arms[group.reference].arm
        for name in group.names:
            ours, theirs = paired(comparison.errors[name], comparison.errors[group.reference])
            # Errors on other data are not worse or better.
            if name == group.reference or not ours or not comparison.comparable(name, group):
                continue
            sentence = verdict(
                comparison.arms[name].arm, ours, theirs, option=option, beside=reference
            )
            if comparison.margin is not None and len(ours) > 1:
                equal = equivalence_test(ours, theirs, margin=comparison.margin)
                sentence += f"; {describe_equivalence(equal, reference)}"
            said.append(f"with {group.label}, {sentence}" if group.cell else sentence)
    return tuple(said)


def verdict(
    mode: str,
    values: Sequence[float],
    reference: Sequence[float],
    *,
    option: str = "compare.seeds",
    beside: str = "full",
) -> str:
    """Judge one arm beside the reference: equal, less error, more error, or more seeds to be trained.

    The 95 % interval of the paired differences decides. If all differences are the same, the interval has
    no width, which is not a certainty.

    Args:
        mode: its name.
        values: test errors of the arm, from 0 to 1, in the order of seeds.
        reference: the same of the reference.
        option: what sets the number of seeds.
        beside: the name of the reference.

    Returns:
        A sentence, without a full stop; differences in percentage points.

    Raises:
        UserError: If the numbers of values differ, or there is none.

    Example:
        >>> verdict("stop", [0.03, 0.02, 0.04], [0.02, 0.03, 0.03])
        'three seeds cannot tell stop from full: -2.54 to +3.20 points; compare.seeds 10 may'
    """
    found, count = paired_difference(values, reference), len(values)
    seeds = f"{_WORDS[count] if count < len(_WORDS) else count} seeds"
    every = "both seeds" if count == 2 else f"all {seeds}"
    more = f"{option} {3 if count == 1 else max(10, 3 * count)} may"
    if count == 1:
        return f"one seed cannot tell {mode} from {beside}: {signed(found.mean)} points; {more}"
    if tuple(values) == tuple(reference):
        return f"{mode} and {beside} have the same test error in {every}"
    if not has_width(found):
        got = f"{signed(found.mean)} points in {every}, an interval without width"
        return f"{mode} differs from {beside} by {got}, which is no certainty; {more} tell"
    # An interval that holds 0 does not show that there is no difference, and is not called so.
    bounds = interval(found.low, found.high)
    if found.low <= 0 <= found.high:
        return f"{seeds} cannot tell {mode} from {beside}: {bounds} points; {more}"
    which = "less" if found.high < 0 else "more"
    return f"{mode} has {which} test error than {beside} in {seeds}: {bounds} points"
