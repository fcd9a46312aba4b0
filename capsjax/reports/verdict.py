"""What a comparison says, in words: which modes its seeds can tell from full."""

from collections.abc import Mapping, Sequence

from capsjax.reports.comparison import interval, signed
from capsjax.study.statistics import paired_difference

REFERENCE = "full"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def verdicts(
    errors: Mapping[str, Sequence[float]], *, option: str = "compare.seeds"
) -> tuple[str, ...]:
    """Judge every mode beside full by its paired differences of the test error.

    Args:
        errors: test errors by mode, from 0 to 1, in the order of seeds; full is among them.
        option: what sets the number of seeds.

    Returns:
        A sentence for each mode but full, without a full stop.

    Raises:
        UserError: If the modes have different numbers of seeds.
    """
    full = errors[REFERENCE]
    others = {mode: values for mode, values in errors.items() if mode != REFERENCE}
    return tuple(verdict(mode, values, full, option=option) for mode, values in others.items())


def verdict(
    mode: str, values: Sequence[float], reference: Sequence[float], *, option: str = "compare.seeds"
) -> str:
    """Judge one mode beside full: equal, less error, more error, or more seeds to be trained.

    Decided is what the 95 % interval of the paired differences decides. Where all differences are the same
    the interval has no width, which is no certainty.

    Args:
        mode: its name.
        values: test errors of the mode, from 0 to 1, in the order of seeds.
        reference: the same of full.
        option: what sets the number of seeds.

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
    more = f"{option} {3 if count == 1 else max(10, 3 * count)} may"
    if count == 1:
        return f"one seed cannot tell {mode} from full: {signed(found.mean)} points; {more}"
    if tuple(values) == tuple(reference):
        return f"{mode} and full have the same test error in all {seeds}"
    if found.high - found.low < 1e-9:  # of shares: rounding apart, all differences are one
        came = f"{signed(found.mean)} points in each of {seeds}, an interval without width"
        return f"{mode} differs from full by {came}, which is no certainty; {more} tell"
    bounds = interval(found.low, found.high)
    if found.low <= 0 <= found.high:
        return f"{seeds} cannot tell {mode} from full: {bounds} points; {more}"
    which = "less" if found.high < 0 else "more"
    return f"{mode} has {which} test error than full in {seeds}: {bounds} points"
