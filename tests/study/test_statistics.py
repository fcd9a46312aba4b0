"""Statistics over paired seeds, each against its definition and against simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from capsjax.checks import UserError
from capsjax.study.statistics import (
    equivalence_test,
    holm,
    paired_difference,
    power,
    random_effects,
    retained_gain,
    seeds_needed,
    sign_flip_test,
    summarise,
    two_way_difference,
)


def within_error(count, trials, share):
    """Whether a count of so many trials is within four standard errors of the share expected."""
    return abs(count / trials - share) < 4 * math.sqrt(share * (1 - share) / trials)


def holds(found, truth):
    """Whether an interval holds the truth."""
    return bool(found.low <= truth <= found.high)


def test_mean_and_sample_deviation():
    found = summarise([0.1, 0.4, 0.2])
    assert found.mean == pytest.approx(np.mean([0.1, 0.4, 0.2]))
    assert found.sd == pytest.approx(np.std([0.1, 0.4, 0.2], ddof=1))
    assert found.values == (0.1, 0.4, 0.2)
    assert np.isnan(summarise([0.3]).sd)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_student_s(count):
    rng = np.random.default_rng(count)
    ours, theirs = rng.random(count), rng.random(count)
    for confidence in (0.95, 0.9):
        found = paired_difference(list(ours), list(theirs), confidence=confidence)
        low, high = stats.ttest_rel(ours, theirs).confidence_interval(confidence)
        assert found.mean == pytest.approx(np.mean(ours - theirs))
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
        assert found.standard_error == pytest.approx(stats.sem(ours - theirs))


def test_student_s_interval_holds_the_truth_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(0.3, 1.0, (2000, 5))
    count = sum(holds(paired_difference(x, np.zeros(5)), 0.3) for x in draws)
    assert within_error(count, 2000, 0.95)


def test_one_seed_has_a_difference_without_interval():
    found = paired_difference([0.5], [0.2])
    assert found.mean == pytest.approx(0.3)
    assert np.isnan([found.low, found.high, found.standard_error]).all()


def test_series_that_do_not_pair_are_refused():
    with pytest.raises(UserError, match="paired_difference: got 1 and 2 values, expected one of"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(UserError, match="sign_flip_test: got 0 and 0 values"):
        sign_flip_test([], [])
    with pytest.raises(UserError, match="got no values"):
        summarise([])


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_every_sign_is_tried(count):
    rng = np.random.default_rng(count)
    d = rng.normal(0.5, 1.0, count)
    sums = [abs(np.dot(signs, d)) for signs in itertools.product((-1, 1), repeat=count)]
    expected = np.mean(np.asarray(sums) >= abs(d.sum()) - 1e-12)
    assert sign_flip_test(d, np.zeros(count)) == expected
    # Shares of a few images: many sums are equal, and equal ones count.
    k = rng.integers(-3, 4, count)
    sums = [abs(np.dot(signs, k)) for signs in itertools.product((-1, 1), repeat=count)]
    found = sign_flip_test(k / 500 + 0.02, np.full(count, 0.02))
    assert found == np.mean(np.asarray(sums) >= abs(k.sum()))


def test_flipped_signs_at_their_ends():
    assert sign_flip_test([2.0] * 5, [1.0] * 5) == 2 / 32  # only all alike are as far
    assert sign_flip_test([1.0] * 7, [1.0] * 7) == 1.0
    assert sign_flip_test([2.0] * 30, [1.0] * 30) == 2.0**-29
    # Drawn signs for many seeds: near the normal distribution's, and the same again.
    d = np.random.default_rng(3).normal(0.25, 1.0, 60)
    found = sign_flip_test(d, np.zeros(60))
    assert found == sign_flip_test(d, np.zeros(60)) > 0
    assert found == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)
    assert sign_flip_test([2.0] * 60, [1.0] * 60) == 1 / 100_001


def test_flipped_signs_keep_their_level_whatever_the_distribution():
    draws = np.random.default_rng(1).standard_t(1, (2000, 8))  # symmetric, without even a mean
    p = np.asarray([sign_flip_test(x, np.zeros(8)) for x in draws])
    assert within_error(np.sum(p <= 12 / 256), 2000, 12 / 256)  # p has steps of 2 / 256


def test_holm_by_hand_and_by_its_error():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert holm([0.6, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()
    # Of five arms two are none of chance: a false finding among the others is made as often as said.
    rng = np.random.default_rng(2)
    p = rng.random((2000, 5))
    p[:, 3:] *= 1e-6
    false = sum(min(holm(row)[:3]) <= 0.05 for row in p)
    assert within_error(false, 2000, 1 - (1 - 0.05 / 3) ** 3)


def test_equivalence_is_the_interval_within_the_margin():
    rng = np.random.default_rng(4)
    for margin in (0.3, 0.6, 1.2):
        d = rng.normal(0.1, 0.6, 10)
        found = equivalence_test(d, np.zeros(10), margin=margin)
        one = stats.ttest_1samp(d, -margin, alternative="greater").pvalue
        other = stats.ttest_1samp(d, margin, alternative="less").pvalue
        assert found.p == pytest.approx(max(one, other))
        low, high = stats.ttest_1samp(d, 0).confidence_interval(0.9)
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
        assert found.shown == (-margin < low and high < margin) == (found.p < 0.05)


def test_equivalence_at_its_ends():
    assert equivalence_test([1.0, 1.0], [1.0, 1.0], margin=0.1).shown
    assert not equivalence_test([1.0, 1.0], [0.5, 0.5], margin=0.1).shown
    alone = equivalence_test([1.0], [1.0], margin=0.1)
    assert not alone.shown
    assert math.isnan(alone.p)
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match=r"margin .*, expected a number above 0"):
            equivalence_test([1.0, 2.0], [1.0, 1.0], margin=margin)


def test_arms_that_differ_by_the_margin_are_called_equivalent_at_the_level():
    draws = np.random.default_rng(5).normal(1.0, 0.5, (2000, 10))
    count = sum(equivalence_test(x, np.zeros(10), margin=1.0).shown for x in draws)
    assert within_error(count, 2000, 0.05)


def simulated_arms(rng, trials, seeds, gain, rho):
    """Errors of uniform, arm and full coupling whose gains share seeds: [trials, seeds] each."""
    shared = rng.normal(0.0, 0.6, (trials, seeds))
    uniform = 5 + shared + rng.normal(0.0, 0.4, (trials, seeds))
    arm = 5 - rho * gain + shared + rng.normal(0.0, 0.4, (trials, seeds))
    full = 5 - gain + shared + rng.normal(0.0, 0.4, (trials, seeds))
    return zip(uniform, arm, full, strict=True)


def test_fieller_s_interval_holds_the_retained_gain_as_often_as_it_says():
    found = [
        retained_gain(*x) for x in simulated_arms(np.random.default_rng(6), 2000, 10, 1.5, 0.7)
    ]
    assert all(one.why == "" for one in found)
    assert within_error(sum(holds(one, 0.7) for one in found), 2000, 0.95)
    # The interval is where |mean(a - rho b)| is t standard errors, by definition.
    uniform, arm, full = next(iter(simulated_arms(np.random.default_rng(7), 1, 10, 1.5, 0.7)))
    one = retained_gain(uniform, arm, full)
    for rho in (one.low, one.high):
        away = paired_difference(uniform - arm, rho * (uniform - full))
        assert min(abs(away.low), abs(away.high)) == pytest.approx(0, abs=1e-9)
    assert one.value == pytest.approx(np.mean(uniform - arm) / np.mean(uniform - full))
    assert one.gain == paired_difference(uniform, full)


def test_the_delta_method_s_error_is_that_of_the_ratio():
    found = [
        retained_gain(*x) for x in simulated_arms(np.random.default_rng(8), 1000, 20, 3.0, 0.7)
    ]
    spread = np.std([one.value for one in found])
    assert np.mean([one.standard_error for one in found]) == pytest.approx(spread, rel=0.1)


def test_where_routing_gains_nothing_there_is_nothing_to_retain():
    found = [
        retained_gain(*x) for x in simulated_arms(np.random.default_rng(9), 2000, 10, 0.0, 0.7)
    ]
    lost = [one for one in found if one.why]
    assert within_error(len(found) - len(lost), 2000, 0.025)  # gains that chance makes seem real
    assert all(np.isnan([one.value, one.low, one.high]).all() for one in lost)
    said = {one.why for one in lost}
    assert said == {
        "10 seeds do not tell what routing gains from nothing",
        "routing loses instead of gaining",
    }
    assert "one seed does not tell" in retained_gain([3.0], [2.0], [1.0]).why
    nothing = retained_gain([1.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    assert "do not tell" in nothing.why


def test_full_and_uniform_are_the_ends_of_the_scale():
    uniform, full = [3.0, 4.0, 3.5], [1.0, 1.5, 1.2]
    assert retained_gain(uniform, full, full)[:3] == pytest.approx((1.0, 1.0, 1.0))
    assert retained_gain(uniform, uniform, full)[:3] == pytest.approx((0.0, 0.0, 0.0))


def two_way(rng, counts, sds, mean):
    """Differences with random seeds, random images and a rest: [seeds, images]."""
    seeds, images = counts
    rest = rng.normal(0.0, sds[2], (seeds, images))
    return mean + rng.normal(0.0, sds[0], (seeds, 1)) + rng.normal(0.0, sds[1], (1, images)) + rest


@pytest.mark.parametrize("sds", [(0.1, 1.0, 1.0), (0.0, 2.0, 1.0), (0.3, 0.3, 3.0)])
def test_the_interval_over_seeds_and_images_holds_the_truth(sds):
    rng = np.random.default_rng(10)
    found = []
    for _ in range(800):
        d = two_way(rng, (6, 120), sds, 0.2)
        found.append(
            (two_way_difference(d, np.zeros_like(d)), paired_difference(d.mean(1), np.zeros(6)))
        )
    held = sum(holds(both, 0.2) for both, _ in found)
    assert held / 800 > 0.93  # it is somewhat wide where images add little, never narrow
    narrow = sum(holds(seeds, 0.2) for _, seeds in found)
    assert (narrow < 0.9 * held) == (sds[1] > 0.5)  # over seeds alone, where images matter
    components = np.mean([[both.seeds, both.images, both.rest] for both, _ in found], axis=0)
    assert components[2] == pytest.approx(sds[2] ** 2, rel=0.05)
    assert components[1] == pytest.approx(sds[1] ** 2, rel=0.1, abs=0.1)
    assert components[0] == pytest.approx(sds[0] ** 2, rel=0.2, abs=0.02)


def test_with_few_seeds_the_interval_over_images_may_be_narrower_and_holds_the_truth():
    rng = np.random.default_rng(13)
    pairs = []
    for _ in range(600):
        d = two_way(rng, (3, 120), (0.1, 1.0, 1.0), 0.2)
        pairs.append(
            (two_way_difference(d, np.zeros_like(d)), paired_difference(d.mean(1), np.zeros(3)))
        )
    narrow = [both for both, seeds in pairs if both.high - both.low < seeds.high - seeds.low]
    assert len(narrow) > 300
    assert all(both.standard_error >= seeds.standard_error for both, seeds in pairs)
    assert sum(holds(both, 0.2) for both in narrow) / len(narrow) > 0.93
    assert sum(holds(both, 0.2) for both, _ in pairs) / 600 > 0.92


def test_without_a_share_of_images_it_is_student_s():
    seeds = np.asarray([0.1, 0.3, 0.2, 0.25])
    balanced = np.tile([1.0, -1.0], (4, 5)) * np.asarray([1, -1, 1, -1])[:, None]
    d = seeds[:, None] + balanced  # every image's mean over seeds is the same
    found, student = two_way_difference(d, np.zeros_like(d)), paired_difference(seeds, np.zeros(4))
    assert found[:4] == pytest.approx(tuple(student))
    assert found.images == 0
    same = two_way_difference(np.ones((3, 4)), np.ones((3, 4)))
    assert (same.mean, same.low, same.high) == (0, 0, 0)
    assert np.isnan(two_way_difference(np.ones((1, 4)), np.zeros((1, 4)))[1:]).all()
    with pytest.raises(UserError, match=r"\[3, 4\] and \[3, 5\], expected two of the same shape"):
        two_way_difference(np.ones((3, 4)), np.ones((3, 5)))


@pytest.mark.parametrize(("count", "difference"), [(5, 1.5), (10, 1.0), (30, 0.4)])
def test_power_is_how_often_a_difference_is_seen(count, difference):
    draws = np.random.default_rng(11).normal(difference, 1.0, (20_000, count))
    seen = np.sum(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert within_error(seen, 20_000, power(count, difference, 1.0))
    assert power(count, -difference, 1.0) == power(count, difference, 1.0)


def test_seeds_that_a_difference_needs():
    for difference in (2.0, 1.0, 0.5, 0.1):
        count = seeds_needed(difference, 1.0)
        assert power(count, difference, 1.0) >= 0.8
        assert count == 2 or power(count - 1, difference, 1.0) < 0.8
    assert seeds_needed(1.0, 1.0) == 10  # as tables of Student's test have it
    assert seeds_needed(0.5, 1.0) == seeds_needed(-0.5, 1.0) == 34
    assert seeds_needed(0.5, 1.0, wanted=0.9) == 44
    assert seeds_needed(0.1, 0.0) == 2
    assert seeds_needed(1e-9, 1.0) == 1_000_000
    assert power(50, 0.0, 1.0) == pytest.approx(0.05)
    assert power(1000, 5.0, 1.0) == 1.0
    with pytest.raises(UserError, match=r"got a difference of 0\.0"):
        seeds_needed(0.0, 1.0)


@pytest.mark.parametrize("between", [0.0, 0.5])
def test_the_mean_over_data_sets_is_held_as_often_as_it_says(between):
    """Six sets whose standard errors are estimated from ten or thirty seeds, as ours are."""
    rng, held = np.random.default_rng(12), 0
    counts, sds = np.asarray([30, 30, 30, 10, 10, 10]), np.asarray([0.5, 1.0, 2.0, 0.5, 1.0, 2.0])
    for _ in range(500):
        truths = rng.normal(0.3, between, 6)
        effects = rng.normal(truths, sds / np.sqrt(counts))
        errors = sds * np.sqrt(rng.chisquare(counts - 1) / (counts - 1) / counts)
        held += holds(random_effects(effects, errors), 0.3)
    # It may be wide where sets do not differ: q is at least 1.
    assert 0.93 < held / 500 < 0.97 if between else held / 500 > 0.93


def test_the_mean_over_data_sets_by_its_definition():
    effects, errors = [0.1, 0.9, 0.4, 0.6], [0.1, 0.2, 0.15, 0.1]
    found = random_effects(effects, errors)
    w = 1 / (found.between**2 + np.square(errors))
    assert found.mean == pytest.approx(np.average(effects, weights=w))
    assert np.sum(w * np.square(np.asarray(effects) - found.mean)) == pytest.approx(3)  # K - 1
    assert found.standard_error == pytest.approx(np.sum(w) ** -0.5)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 3) * found.standard_error)
    alike = random_effects([0.5, 0.5, 0.5], errors[:3])
    assert (alike.mean, alike.between) == (pytest.approx(0.5), 0)
    assert np.isnan(random_effects([0.5], [0.1]).low)
    for wrong in ([], [0.1, 0.0, 0.1]):
        with pytest.raises(UserError, match="leave out data sets without one"):
            random_effects([0.5] * len(wrong), wrong)
    assert random_effects([0.5] * 2, [0.1, 0.1]).mean == pytest.approx(0.5)  # as it says
