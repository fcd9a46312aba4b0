"""Tables, verdicts and figures of arms and grids, from numbers made up for it."""

import math

import numpy as np
import pytest
from scipy import stats

import capsjax as cj
from capsjax.bench.timing import Cost
from capsjax.reports.comparison import (
    ArmDescription,
    Comparison,
    alignment_table,
    arms_table,
    paired,
    results_table,
)
from capsjax.reports.comparison_page import reading_of
from capsjax.reports.figures import panel_figure
from capsjax.reports.grid_panels import grid_panels, in_cell
from capsjax.reports.panels import tests_panel as panel_of_tests
from capsjax.reports.themes import DARK, LIGHT, marker_of
from capsjax.reports.verdict import comparison_verdicts
from capsjax.study.arms import mode_of, routing_kind
from capsjax.study.design import design

COMPARE = {
    "arms": {
        "uniform": {"model.routing": "uniform"},
        "stop": {"model.routing.gradient": "stop"},
        "plain": {"model.decoder": None},
        "full": {},
    },
    "grid": {"model.routing.num_iters": [2, 3]},
    "seeds": 3,
}
NAN = math.nan


def comparison(compare=COMPARE, errors=(), costs=True):
    """A comparison of a configuration, whose errors are these in turn."""
    designed = design(cj.load_config("smoke", {"compare": compare}))
    names = list(designed.arms)
    found = dict(zip(names, errors, strict=False)) or {n: [0.1, 0.2, 0.3] for n in names}
    told = {
        name: ArmDescription(
            a.arm, mode_of(a.config), routing_kind(a.config), a.config.data, a.changes
        )
        for name, a in designed.arms.items()
    }
    cost = {name: Cost((1.0 + place, 2.0), 10) for place, name in enumerate(names) if costs}
    own = {names[1]: {"parameters": ["classes"], "batches": False}}
    return Comparison(
        names, [0, 1, 2], "3", found, cost, [], designed.groups, told, own, short=False
    )


ERRORS = (
    [0.50, 0.60, 0.70],
    [0.30, NAN, 0.50],
    [NAN, NAN, NAN],
    [0.20, 0.30, 0.10],
    [0.25, 0.35, 0.45],
    [0.15, 0.25, 0.30],
    [0.10, 0.20, 0.30],
)


def test_every_cell_of_a_grid_has_its_own_reference():
    found = comparison(errors=ERRORS)
    table = results_table(found)
    assert table.title == "Arms, 3 seeds: mean ± standard deviation"
    assert table.headings[:4] == ("arm", "num_iters", "minus full, points", "95 % interval")
    rows = {row[:2]: row[2:] for row in table.rows}
    assert list(rows) == [
        (arm, r) for r in ("2", "3") for arm in ("uniform", "stop", "plain", "full")
    ]
    assert (rows["uniform", "2"][0], rows["uniform", "2"][2]) == ("+40.00", "60.00 ± 10.00")
    assert (rows["uniform", "3"][0], rows["uniform", "3"][2]) == ("+40.00", "60.00 ± 10.00")
    assert rows["full", "2"][:2] == ("—", "—")
    low, high = stats.ttest_rel([0.5, 0.6, 0.7], [0.2, 0.3, 0.1]).confidence_interval(0.95)
    assert rows["uniform", "2"][1] == f"{100 * low:+.2f} to {100 * high:+.2f}"
    assert rows["stop", "3"][:2] == ("+15.00", "+15.00 in all 3 seeds")


def test_seeds_that_failed_are_left_out_in_pairs():
    rows = {row[:2]: row[2:] for row in results_table(comparison(errors=ERRORS)).rows}
    assert (rows["stop", "2"][0], rows["stop", "2"][2]) == ("+25.00", "40.00 ± 14.14 (2 of 3)")
    assert rows["plain", "2"][:3] == ("—", "—", "—")
    assert paired([0.1, NAN, 0.3], [NAN, 0.5, 0.2]) == ([0.3], [0.2])
    assert paired([0.1, 0.2, 0.3], [NAN, 0.5, 0.2], [0.4, 0.5, NAN]) == ([0.2], [0.5], [0.5])
    assert paired([NAN], [0.1], [0.2]) == ([], [], [])
    said = comparison_verdicts(comparison(errors=ERRORS))
    assert len(said) == 5  # neither the references nor what has no pair
    assert said[1].startswith("with num_iters=2, two seeds cannot tell stop from full")


def test_errors_on_different_data_are_not_compared():
    arms = {"one": {}, "two": {"data": "mnist"}, "three": {"max_shift": 0}}
    found = comparison({"arms": arms, "seeds": 3}, ERRORS)
    rows = {row[0]: row[1:] for row in results_table(found).rows}
    assert rows["two"][:2] == ("—", "—")
    assert rows["two"][4] == "—"
    assert [text.split(" ")[0] for text in comparison_verdicts(found)] == []  # three never ended
    assert rows["one"][4] == "1"


def test_an_arm_without_a_cost_is_told_without_one():
    rows = results_table(comparison(costs=False)).rows
    assert {row[-3:] for row in rows} == {("—", "—", "—")}


def test_what_arms_change_and_how_they_begin_is_told():
    found = comparison()
    rows = {row[0]: row[1:] for row in arms_table(found).rows}
    assert rows["uniform"] == ("model.routing: uniform", "none", "same")
    assert rows["stop, num_iters=2"] == (
        "model.routing.gradient: stop, model.routing.num_iters: 2",
        "classes",
        "others",
    )
    assert rows["plain, num_iters=3"][0] == "model.decoder: null, model.routing.num_iters: 3"
    assert "parameters of their own have stop, num_iters=2 (classes), and other" in reading_of(
        found
    )
    assert alignment_table(found).rows == ()


def test_a_colour_stands_for_an_arm_in_every_cell():
    keys = comparison().colours()
    assert keys["uniform"] == "uniform"
    assert keys["stop, num_iters=2"] == keys["stop, num_iters=3"] == "stop"
    assert keys["full, num_iters=2"] == "full"
    assert keys["plain, num_iters=2"] == "#3"  # the first colour that no mode here has
    for theme in (LIGHT, DARK):
        assert len({theme.of(key) for key in keys.values()}) == 4
        assert theme.of("#0") == theme.of("#9")
    assert marker_of("#3") == marker_of("truncated")
    modes = {"modes": ["stop", "full", "uniform"], "grid": COMPARE["grid"]}
    assert set(comparison(modes).colours().values()) == {"stop", "full", "uniform"}


@pytest.mark.parametrize("values", [[2, 3], [2, 3, 100]])
def test_errors_are_drawn_against_the_axis_of_a_grid(values):
    (panel,) = grid_panels(comparison({**COMPARE, "grid": {"model.routing.num_iters": values}}))
    assert panel.name == "grid_num_iters"
    assert "stop 20.00 at 2, 20.00 at 3" in panel.alt
    for theme in (LIGHT, DARK):
        (ax,) = panel_figure(panel, theme).axes
        assert [text.get_text() for text in ax.get_xticklabels()] == [str(v) for v in values]
        assert ax.get_xscale() == ("log" if 100 in values else "linear")
        assert np.asarray(ax.containers[1][0].get_xdata(), float).tolist() == values


def test_other_axes_have_a_panel_each_and_cells_are_titled():
    grid = {"model.routing.num_iters": [2, 3], "model.decoder.hidden": [[4], [8, 8]]}
    arms = {"stop": {"model.routing.gradient": "stop"}, "full": {}}
    found = comparison({"arms": arms, "grid": grid})
    assert [panel.name for panel in grid_panels(found)] == [
        "grid_num_iters_hidden=4",
        "grid_num_iters_hidden=8-8",
    ]
    group = found.groups[0]
    panel = in_cell(panel_of_tests({"a": ("stop", [0.1])}, paired=False), group)
    assert panel.name == "test_error_num_iters=2-hidden=4"
    (ax,) = panel_figure(panel).axes
    assert ax.get_title() == "test error, %\nnum_iters=2, hidden=4"
    assert grid_panels(comparison({"arms": arms})) == []
