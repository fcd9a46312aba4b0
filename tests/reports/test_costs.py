"""What a step costs, drawn data set by data set and against r, from times made up for it."""

import numpy as np
import pytest

from capsjax.bench.timing import Cost
from capsjax.reports.cost_panels import cost_panels
from capsjax.reports.figures import panel_figure
from capsjax.reports.themes import DARK, LIGHT
from tests.reports.test_arms import comparison

ARMS = {
    "uniform": {"model.routing": "uniform"},
    "stop": {"model.routing.gradient": "stop"},
    "full": {},
}
DATA = ["digits", {"kind": "mnist", "validation": 5000}]
SLOW = 10  # times as long on the second data set


def timed(**compare):
    """A comparison whose steps take r times what the mode does, and ten times that on the second set."""
    found = comparison({"arms": ARMS, "seeds": 3, **compare})
    costs = {}
    for name in found.modes:
        changes = dict(found.arms[name].changes)
        r = changes.get("model.routing.num_iters", 1)
        base = {"uniform": 1.0, "stop": 2.0, "full": 4.0}[found.arms[name].arm] * r
        base *= SLOW if found.arms[name].data == found.arms[found.modes[-1]].data else 1
        # The rounds of the reference too are unlike each other: ratios are of the same round.
        costs[name] = Cost((base, 1.5 * base, 3 * base), int(1000 * base))
    return found._replace(costs=costs)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_costs_are_drawn_against_r_on_each_data_set(theme):
    found = timed(grid={"data": DATA, "model.routing.num_iters": [2, 3, 5]})
    panels = cost_panels(found)
    assert [panel.name for panel in panels] == ["cost_data=digits", "cost_data=mnist"]
    for panel in panels:  # whatever a step takes on a set, its own reference is 1
        assert "stop 0.50 and 0.50 at r = 2, 0.75 and 0.75 at r = 3, 1.25 and 1.25 at" in panel.alt
        assert "full 1.00 and 1.00 at r = 2, 1.50" in panel.alt
        assert "those of full at r = 2" in panel.caption
        assert "quartile" in panel.caption
        (ax,) = panel_figure(panel, theme).axes
        assert [text.get_text() for text in ax.get_xticklabels()] == ["2", "3", "5"]
        assert ax.get_xlabel() == "iterations r"
        assert [box.get_label() for box in ax.figure.legends[0].legend_handles][:3] == [*ARMS]
        drawn = [np.asarray(line.get_ydata(), float) for line in ax.lines if len(line.get_xdata())]
        assert any(np.allclose(y, [0.5, 0.75, 1.25]) for y in drawn)


def test_nothing_is_divided_across_data_sets():
    for panel in cost_panels(timed(grid={"data": DATA})):
        assert "uniform 0.25 and 0.25; stop 0.50 and 0.50; full 1.00 and 1.00" in panel.alt
    arms = {**ARMS, "other": {"data": DATA[1]}}
    found = comparison({"arms": arms, "seeds": 3})
    (panel,) = cost_panels(found)
    assert panel.name == "cost"
    assert "other" not in panel.alt
    assert "full 1.00" in panel.alt
    without = {name: cost for name, cost in found.costs.items() if name != "full"}
    assert cost_panels(found._replace(costs=without)) == []


def test_whiskers_are_the_quartiles_of_the_table():
    found = timed()
    full, stop = (1.0, 2.0, 4.0), (1.0, 1.0, 3.0)
    costs = {"full": Cost(full, 4), "stop": Cost(stop, 2), "uniform": Cost(full, 1)}
    (panel,) = cost_panels(found._replace(costs=costs))
    (ax,) = panel_figure(panel).axes
    ratios = np.asarray(stop) / np.asarray(full)
    (bars,) = (c for c in ax.containers if type(c).__name__ == "ErrorbarContainer")
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[1][:, 1], np.quantile(ratios, [0.25, 0.75]))
    assert "plain" in panel.caption


def test_what_else_a_grid_varies_has_a_panel_each():
    grid = {"model.routing.num_iters": [2, 3], "model.decoder.hidden": [[4], [8]]}
    panels = cost_panels(timed(grid=grid))
    assert [panel.name for panel in panels] == ["cost_hidden=4", "cost_hidden=8"]
    (panel,) = cost_panels(timed(grid={"optimiser.schedule.rate": [0.001, 0.01]}))
    assert "shares of full, rate=0.001's" in panel.caption
