"""Panels show the numbers that they are given, with colours that mean modes."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from capsjax.reports import panels
from capsjax.reports.figures import panel_figure, reconstruction_figure, together
from capsjax.reports.themes import DARK, LIGHT
from capsjax.study.arms import Arm


def validated(scale, steps=(10, 20, 30)):
    return [
        {
            "split": "validation",
            "step": s,
            "error": scale / s,
            "loss": scale / s,
            "entropy": 1 + scale / s,
        }
        for s in steps
    ]


ARMS = [
    Arm("a", "stop", (validated(1), validated(3))),
    Arm("b", "stop", (validated(4),)),
    Arm("c", "full", (validated(6),)),
]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_curves_over_each_other(theme):
    error, loss, entropy = panels.course_panels(ARMS, bound=10)
    (ax,) = panel_figure(error, theme).axes
    drawn = ax.lines
    assert [line.get_label() for line in drawn] == ["a", "b", "c"]
    assert np.allclose(drawn[0].get_ydata(), [20, 10, 200 / 30])  # the mean, in percent
    colours = [to_hex(line.get_color()) for line in drawn]
    assert colours == [theme.modes["stop"], theme.modes["stop"], theme.modes["full"]]
    styles = [line.get_linestyle() for line in drawn]
    assert styles[0] != styles[1]  # of one mode, so told apart by their lines
    assert styles[0] == styles[2] == "-"
    assert to_hex(ax.get_facecolor()) == theme.page
    assert "a ends at 6.667" in error.alt
    (ax,) = panel_figure(loss, theme).axes
    assert ax.get_yscale() == "log"
    (ax,) = panel_figure(entropy, theme).axes
    bound = ax.lines[-1]
    assert bound.get_label() == "uniform coupling, log 10 = 2.303"
    assert np.allclose(bound.get_ydata(), np.log(10))
    assert ax.get_ylim()[1] > np.log(10)


@pytest.mark.parametrize("count", [2, 3, 9])
def test_no_legend_lies_on_its_curves(count):
    """Below the axes, of every panel by itself and of several together, however long its names are."""
    arms = [
        Arm(f"arm {n} " + "x" * (12 * n % 40), "full", (validated(n + 1),)) for n in range(count)
    ]
    drawn = panels.course_panels(arms, bound=10)
    for figure, parts in (
        *((one, [one]) for one in map(panel_figure, drawn)),
        ((several := together(drawn, columns=2)), list(several.subfigs)[: len(drawn)]),
    ):
        figure.draw_without_rendering()
        for part in parts:
            (ax,), (legend,) = part.get_axes(), part.legends
            assert ax.get_legend() is None
            box, whole = legend.get_window_extent(), ax.get_tightbbox()
            assert box.y1 <= whole.y0 + 1
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert ax.bbox.height > 60
            assert len(legend.texts) == count + ax.get_title().startswith("entropy")


def test_one_mode_of_two_routings_is_told_apart():
    arms = [Arm("a", "stop", (validated(1),)), Arm("b", "stop", (validated(2),), "em")]
    (ax,) = panel_figure(panels.course_panels(arms, bound=None)[0]).axes
    by_agreement, em = ax.lines
    assert em.get_label() == "b (em)"
    assert em.get_linestyle() != by_agreement.get_linestyle()
    assert to_hex(em.get_markerfacecolor()) == LIGHT.page  # hollow
    assert to_hex(by_agreement.get_markerfacecolor()) == LIGHT.modes["stop"]


def test_without_a_known_number_of_classes_no_bound_is_drawn():
    *_, entropy = panels.course_panels(ARMS, bound=None)
    (ax,) = panel_figure(entropy).axes
    assert len(ax.lines) == 3


def test_what_nothing_is_known_of_is_not_drawn():
    arms = [Arm("a", "stop", ()), Arm("b", "full", ([{"split": "test", "step": 1, "error": 0.1}],))]
    assert panels.course_panels(arms, bound=10) == []


def test_a_run_has_the_colour_of_its_mode():
    lines = [
        *validated(2),
        {"split": "test", "step": 30, "error": 0.1, "loss": 0.3, "entropy": 1.1},
    ]
    _, error, _ = panels.run_panels(lines, "truncated", 10)
    (ax,) = panel_figure(error).axes
    assert to_hex(ax.lines[0].get_color()) == LIGHT.modes["truncated"]
    assert ax.lines[-1].get_label() == "test 10"


@pytest.mark.parametrize(
    ("errors", "scale"),
    [((0.9, 0.8, 0.7), "linear"), ((0.9, 0.1, 0.01), "symlog"), ((0, 0, 0), "linear")],
)
def test_errors_have_room_above_and_a_logarithm_only_where_they_are_small(errors, scale):
    lines = [
        {"split": "validation", "step": step, "error": error, "loss": 1.0, "entropy": 1.0}
        for step, error in enumerate(errors, start=1)
    ]
    course, *_ = panels.course_panels([Arm("a", "stop", (lines,))], bound=10)
    run = panels.run_panels(lines, "stop", 10)[1]
    tests = panels.tests_panel({"a": ("stop", [0.0, *errors])}, paired=False)
    for panel in (course, run, tests):
        (ax,) = panel_figure(panel).axes
        assert ax.get_ylim()[0] == 0
        assert ax.get_ylim()[1] >= max(1, 1.1 * 100 * max(errors))
    for panel in (course, run):
        (ax,) = panel_figure(panel).axes
        assert ax.get_yscale() == scale
        assert all(tick == int(tick) for tick in ax.get_xticks())


def test_errors_that_are_near_each_other_fill_the_panel():
    near = {"x": ("stop", [0.30, 0.32]), "y": ("full", [0.31, 0.33])}
    panel = panels.tests_panel(near, paired=True)
    (ax,) = panel_figure(panel).axes
    np.testing.assert_allclose(ax.get_ylim(), (29.7, 33.3))
    assert panel.caption.endswith(
        "A line joins the runs of one seed. The scale does not begin at 0."
    )
    far = panels.tests_panel({**near, "z": ("full", [0.1, 0.2])}, paired=True)
    assert panel_figure(far).axes[0].get_ylim()[0] == 0
    assert "begin" not in far.caption


def test_what_was_measured_once_has_no_curve():
    lines = [{"split": "validation", "step": 30, "error": 0.1, "loss": 0.3, "entropy": 1.1}]
    assert panels.course_panels([Arm("a", "stop", (lines,))], bound=10) == []


def test_every_test_error_is_a_mark():
    panel = panels.tests_panel({"x": ("stop", [0.1, 0.2]), "y": ("full", [0.3])}, paired=False)
    (ax,) = panel_figure(panel).axes
    marks = [list(line.get_ydata()) for line in ax.lines]
    assert [np.round(y, 6).tolist() for y in marks] == [[10, 20], [15], [30]]
    assert panel.alt == "Mean test error in percent: x 15.00, y 30.00."


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.6), (-3.0, 2.0)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_drawn_as_light_as_they_are(low, high, channels):
    """A photograph is not its negative; of standardised images the least is black and the largest white."""
    images = np.full((1, 2, 2, channels), low)
    images[0, 0, 0] = high
    figure = reconstruction_figure(images, images[:, None] + 9, ["a"], ["b"])
    drawn, above = (
        np.asarray(ax.images[0].to_rgba(ax.images[0].get_array()))[..., :3] for ax in figure.axes
    )
    expected = (1, 0) if low < 0 else (high, low)
    np.testing.assert_allclose(drawn[0, 0], expected[0], atol=0.01)
    np.testing.assert_allclose(drawn[1, 1], expected[1], atol=0.01)
    assert (above == 1).all()  # a reconstruction beyond white is white
