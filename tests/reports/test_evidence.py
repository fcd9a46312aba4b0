"""What a comparison's seeds tell, in sentences, tables and a forest plot, from numbers made up for it."""

import numpy as np
import pytest

import capsjax as cj
from capsjax.reports.comparison import ArmDescription, Comparison
from capsjax.reports.comparison_page import describe_alignment
from capsjax.reports.evidence import answer, describe_undefined, gather
from capsjax.reports.evidence_tables import (
    READING,
    describe_margin,
    difference_table,
    showing_table,
)
from capsjax.reports.figures import panel_figure
from capsjax.reports.forest_panels import forest_panels, mean_over_data
from capsjax.reports.gradient_panels import coupling_panels, law_panel, optimiser_panels
from capsjax.reports.themes import DARK
from capsjax.reports.verdict import comparison_verdicts
from capsjax.study.arms import mode_of, routing_kind
from capsjax.study.design import design
from capsjax.study.statistics import (
    equivalence_test,
    holm,
    paired_difference,
    random_effects,
    retained_gain,
    seeds_needed,
    sign_flip_test,
    two_way_difference,
)

MODES = {"compare.modes": ["uniform", "stop", "truncated", "full"]}
DATA = {
    "compare": {
        "arms": {
            "uniform": {"model.routing": "uniform"},
            "stop": {"model.routing.gradient": "stop"},
            "full": {},
        },
        "grid": {"data": ["digits", {"kind": "mnist", "validation": 5000}]},
    }
}


def comparison(errors, settings=MODES, **others):
    """A comparison whose arms have these errors, in the order of their names."""
    designed = design(cj.load_config("smoke", settings))
    told = {
        name: ArmDescription(
            a.arm, mode_of(a.config), routing_kind(a.config), a.config.data, a.changes, 1
        )
        for name, a in designed.arms.items()
    }
    found = dict(zip(designed.arms, errors, strict=True))
    seeds = list(range(len(errors[0])))
    known = [list(found), seeds, "3", found, {}, [], designed.groups, told, {}]
    return Comparison(*known, short=settings is MODES, **others)


def drawn(seeds=10, gain=0.02, kept=0.7, seed=0):
    """Errors of uniform, stop, truncated and full coupling that share what is easy in a seed."""
    rng = np.random.default_rng(seed)
    shared = 0.05 + rng.normal(0, 0.004, seeds)
    cost = np.asarray([gain, (1 - kept) * gain, 0.0, 0.0])[:, None]
    return (shared + cost + rng.normal(0, 0.001, (4, seeds))).tolist()


def test_the_answer_has_interval_seeds_and_what_is_retained():
    errors = drawn()
    made = comparison(errors)
    first, second = answer(made, gather(made))
    found = paired_difference(errors[1], errors[3])
    bounds = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    mean = f"{100 * found.mean:+.2f} points"
    assert first == f"stop has more test error than full: {mean}, 95 % interval {bounds}, 10 seeds."
    kept = retained_gain(*(errors[n] for n in (0, 1, 3)))
    assert second.startswith(f"It retains {100 * kept.value:.0f} % of what routing gains")
    assert f"{100 * kept.low:.0f} to {100 * kept.high:.0f} %" in second


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (drawn(kept=1.3), "stop has less test error than full"),
        (drawn(kept=1.0, seed=2), "These seeds do not tell stop from full"),
        (drawn(seeds=1), "One seed is too few to say"),
        (drawn(seeds=3, gain=0.001), "3 seeds are too few to say whether stop differs from full"),
    ],
)
def test_what_seeds_cannot_tell_is_said(errors, said):
    made = comparison(errors)
    assert answer(made, gather(made))[0].startswith(said)


def test_where_routing_gains_nothing_that_is_the_finding():
    made = comparison(drawn(gain=0.0, seed=2))
    first, second = answer(made, gather(made))
    assert "do not tell stop from full" in first
    assert "undefined: 10 seeds do not tell what routing gains from nothing" in second
    assert [row[1] for row in showing_table(made, gather(made)).rows] == [
        "—",
        "undefined",
        "undefined",
    ]
    assert forest_panels(made, gather(made)) == []
    assert describe_undefined(gather(made)) == [
        "The retained gain is undefined of every arm, and is not drawn: 10 seeds do not tell what routing "
        "gains from nothing."
    ]
    assert describe_undefined(gather(comparison(drawn()))) == []


def test_equal_differences_are_said_to_be_equal():
    full = [0.02, 0.03, 0.04]
    more = [x + 0.01 for x in full]
    made = comparison([full, full, more, full], losses=dict.fromkeys(MODES["compare.modes"], full))
    first, *_ = answer(made, gather(made))
    assert first == "stop and full have the same test error in all 3 seeds."
    cells = [row[2] for row in difference_table(made, gather(made)).rows]
    assert cells[1:] == ["+0.00, equal in all 3 seeds", "+1.00, +1.00 in all 3 seeds"]
    assert difference_table(made, gather(made)).rows[1][6] == "+0.0000, the same in all seeds"
    made = comparison([full, more, full, full])
    assert answer(made, gather(made))[0] == (
        "stop differs from full by +1.00 points of test error in all 3 seeds, an interval without width, "
        "which is no certainty."
    )


def test_equivalence_and_the_seeds_that_a_difference_needs():
    errors = drawn()
    made = comparison(errors, margin=0.002)
    table = showing_table(made, gather(made))
    assert table.headings[-2:] == ("seeds for 80 %", "equal to 0.2 points, p")
    for row, ours in zip(table.rows, errors[:3], strict=True):
        apart = np.asarray(ours) - np.asarray(errors[3])
        assert row[2] == f"{seeds_needed(apart.mean(), apart.std(ddof=1)):,}"
        found = equivalence_test(ours, errors[3], margin=0.002)
        assert row[3] == f"{'yes' if found.shown else 'not shown'}, {found.p:.2g}"
    assert [row[3].split(",")[0] for row in table.rows] == ["not shown", "not shown", "yes"]
    assert "margin of 0.2 points" in describe_margin(made)[0]
    one_seed = comparison(drawn(seeds=1), margin=0.002)
    assert showing_table(one_seed, gather(one_seed)).rows == ()
    assert len(answer(one_seed, gather(one_seed))) == 2  # of one seed nothing is tested
    without = comparison(errors)
    assert describe_margin(without) == []
    assert showing_table(without, gather(without)).headings[-1] == "seeds for 80 %"


def test_the_answer_says_whether_arms_are_equal_within_the_margin():
    errors = drawn()
    for margin, said in ((0.002, "not shown to be equal"), (0.02, "equal")):
        made = comparison(errors, margin=margin)
        p = equivalence_test(errors[1], errors[3], margin=margin).p
        expected = f"{said} to full within {100 * margin:g} points (p = {p:.2g})"
        assert answer(made, gather(made))[1] == f"stop is {expected}."
        assert comparison_verdicts(made)[1].endswith(f"; {expected}")
    assert len(answer(comparison(errors), gather(comparison(errors)))) == 2
    cells = [drawn(kept=0.6, seed=3), drawn(kept=0.9, seed=4)]
    made = comparison([cell[n] for cell in cells for n in (0, 1, 3)], DATA, margin=0.005)
    assert answer(made, gather(made))[1] == (
        "It is shown to be equal to full within 0.5 points in 1 of 2 cells that can be tested."
    )


def test_differences_without_spread_are_called_no_certainty():
    full = [0.02, 0.03, 0.04]
    wrong = {n: [np.arange(50) % 7 == k for k in range(3)] for n in ("stop", "full")}
    for away in (0.0, 0.01):
        stop = [x + away for x in full]
        made = comparison([full, stop, full, full], margin=0.005, wrong=wrong)
        found = gather(made)
        assert showing_table(made, found).rows[1][3] == "the same in all seeds"
        assert difference_table(made, found).rows[1][3] == "the same in all seeds"
        assert answer(made, found)[1] == (
            "stop is not shown to be equal to full within 0.5 points, since the difference is the same in "
            "all seeds."
        )


def test_over_images_two_seeds_are_too_few():
    wrong = {n: [np.arange(50) % 7 == k for k in range(3)] for n in ("stop", "full")}
    wrong["stop"] = [w[::-1] for w in wrong["stop"]]
    for seeds, there in ((2, False), (3, True)):
        errors = np.asarray(drawn(seeds=seeds)).tolist()
        made = comparison(errors, wrong={n: found[:seeds] for n, found in wrong.items()})
        assert (difference_table(made, gather(made)).rows[1][3] != "—") is there
    assert "it can be the narrower one" in READING


def test_a_layer_held_alone_is_explained():
    made = comparison(drawn())
    assert describe_alignment(made) == []
    record = {"mode": "full", "seed": 0, "epoch": 0, "group": "stop in hidden"}
    (said,) = describe_alignment(made._replace(alignment=[record]))
    assert said.startswith('"stop in hidden" is the gradient of all parameters')
    assert "layer hidden alone held constant" in said


def test_the_table_of_evidence_is_the_statistics_of_raw_numbers():
    errors, rng = drawn(), np.random.default_rng(1)
    names = ("uniform", "stop", "truncated", "full")
    wrong = {n: [rng.random(50) < 0.2 for _ in range(10)] for n in names}
    wrong["stop"][3] = None  # a run whose predictions are gone
    losses = {n: rng.random(10).tolist() for n in names}
    made = comparison(errors, losses=losses, wrong=wrong)
    found = gather(made)
    p = [sign_flip_test(errors[n], errors[3]) for n in range(3)]
    rows = difference_table(made, found).rows
    assert [row[0] for row in rows] == list(names[:3])
    for n, (row, adjusted) in enumerate(zip(rows, holm(p), strict=True)):
        assert row[4:6] == (f"{p[n]:.2g}", f"{adjusted:.2g}")
        loss = paired_difference(losses[names[n]], losses["full"])
        assert row[6] == f"{loss.mean:+.4f}, {loss.low:+.4f} to {loss.high:+.4f}"
    there = [k for k in range(10) if k != 3]
    both = two_way_difference(*(np.stack([wrong[n][k] for k in there]) for n in ("stop", "full")))
    assert rows[1][3] == f"{100 * both.low:+.2f} to {100 * both.high:+.2f}"
    # Losses of other kinds are not subtracted.
    arms = made.arms | {"stop": made.arms["stop"]._replace(loss=2)}
    assert difference_table(made, gather(made._replace(arms=arms))).rows[1][6] == "—"


def test_data_sets_are_averaged_by_random_effects():
    cells = [drawn(kept=0.6, seed=3), drawn(kept=0.9, seed=4)]
    errors = [cell[n] for cell in cells for n in (0, 1, 3)]
    made = comparison(errors, DATA)
    found = gather(made)
    stops = [one for one in found if made.arms[one.name].arm == "stop"]
    kept = [retained_gain(cell[0], cell[1], cell[3]) for cell in cells]
    pooled = random_effects([k.value for k in kept], [k.standard_error for k in kept])
    assert mean_over_data(made, stops) == pooled
    assert mean_over_data(made, stops[:1]) is None
    assert mean_over_data(made, stops[:1] * 2) is None  # the same data twice are one data set
    (panel,) = forest_panels(made, found)
    assert f"stop, mean of 2 sets {pooled.mean:.2f}" in panel.alt
    assert panel.caption.endswith(
        "Hollow: the mean over the 2 data sets, on all of which routing gains, by random effects."
    )
    panel_figure(panel, DARK)
    first, second = answer(made, found)
    assert "of 2 cells of the grid, more in" in first
    assert second.startswith("Where routing gains, in 2 of 2, it retains")


def test_a_mean_says_of_how_many_sets_it_is():
    """What is retained is undefined where routing gains nothing: the mean is over the other sets."""
    cells = [drawn(kept=0.6, seed=3), drawn(kept=0.9, seed=4), drawn(gain=0.0, seed=2)]
    three = {"compare": DATA["compare"] | {"grid": {"data": ["digits", "usps", "mnist"]}}}
    made = comparison([cell[n] for cell in cells for n in (0, 1, 3)], three)
    (panel,) = forest_panels(made, gather(made))
    assert "stop, mean of 2 sets" in panel.alt
    assert panel.caption.endswith(
        "Hollow: the mean over the 2 of 3 data sets where routing gains, by random effects."
    )
    (alone,) = forest_panels(comparison(drawn()), gather(comparison(drawn())))
    assert "ollow" not in alone.caption  # where no mark is


def test_what_was_seen_is_drawn():
    made = comparison(drawn())
    pairs = [(mode, epoch) for mode in ("stop", "full") for epoch in (0, 2)]
    stages = {
        f"{s}{n}": 0.5 for s in ("", "update_", "response_") for n in ("cosine", "norm_ratio")
    }
    known = [{"mode": m, "seed": 0, "epoch": e} for m, e in pairs]
    gradients = [r | {"group": "all"} | stages for r in known]
    panels = optimiser_panels(made, gradients)
    assert [panel.name for panel in panels] == ["optimiser_cosine", "optimiser_norm_ratio"]
    assert "along stop, update, with momentum: 0.500 at the end" in panels[0].alt
    assert optimiser_panels(made, [r | {"group": "all"} for r in known]) == []  # from before
    rng = np.random.default_rng(0)
    examples = [
        r | {"example": n, "entropy": 2 + x, "share": 1 - x}
        for r in known
        for n, x in enumerate(rng.random(4))
    ]
    panels += law_panel(made, examples)
    assert "rank correlation -1.00" in panels[-1].alt
    distances = {"from_uniform": 0.25, "from_random": 0.5}
    couplings = [
        r | {"layer": "classes", "iteration": k} | distances for r in known for k in (1, 2)
    ]
    panels += coupling_panels(made, couplings)
    assert "full ends 0.250 from the first" in panels[-1].alt
    for panel in panels:
        panel_figure(panel, DARK)
    assert law_panel(made, examples[:4]) == coupling_panels(made, []) == []
