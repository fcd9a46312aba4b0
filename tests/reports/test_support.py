"""Where support comes from: sums by hand, the images that are chosen, the section of the page."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.reports import support, support_pictures
from capsjax.reports.comparison import read_comparison
from capsjax.reports.comparison_page import report_comparison
from capsjax.reports.support import added_lengths, chosen_images, gather_support
from capsjax.reports.themes import LIGHT
from capsjax.study.compare import compare

BRIEF = {
    "model.primary.kernel": 2,
    "model.primary.stride": 1,
    "training.epochs": None,
    "training.steps": 2,
    "compare.modes": ["uniform", "full"],
    "compare.seeds": 1,
    "compare.gradient_points": 2,
    "compare.timing_rounds": 3,
}


@pytest.fixture(scope="module")
def gridded(tmp_path_factory):
    """A comparison of two arms whose primary capsules stand at four positions."""
    return compare(cj.load_config("smoke", BRIEF), out=tmp_path_factory.mktemp("grid") / "one")


@pytest.fixture
def copy(gridded, tmp_path):
    shutil.copytree(gridded, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_children_add_is_the_length_of_the_sum():
    rng = np.random.default_rng(0)
    c, votes = rng.random((3, 2, 5, 4)), rng.normal(size=(2, 5, 4, 6))
    added = added_lengths(c, votes)
    for r, b, j in np.ndindex(3, 2, 4):
        s = sum(c[r, b, i, j] * votes[b, i, j] for i in range(5))
        length = np.sqrt(s @ s)
        assert added[r, b, :, j].sum() == pytest.approx(length)
        assert added[r, b, 2, j] == pytest.approx(c[r, b, 2, j] * votes[b, 2, j] @ s / length)
    assert np.isfinite(added_lengths(c, 0 * votes)).all()


def test_images_are_chosen_by_a_rule(compared):
    made = read_comparison(compared.folder)
    wrong = {"stop": [np.array([1, 1, 0, 0, 0], bool)], "full": [np.array([1, 0, 0, 1, 0], bool)]}
    made = made._replace(wrong=wrong)
    assert chosen_images(made, ["stop", "full"], 5) == [1, 2]
    assert chosen_images(made, ["stop"], 5) == [2, 0]  # one arm differs from none
    assert chosen_images(made, ["stop", "full"], 9) == [0, 1]  # of another test
    assert chosen_images(made._replace(wrong={}), ["stop", "full"], 1) == [0]


def test_the_page_shows_each_class_s_children_over_the_image(gridded):
    page, _ = report_comparison(gridded)
    text = page.read_text("utf-8")
    assert text.index(">Figures</h2>") < text.index(">Where support comes from</h2>")
    assert text.index(">Where support comes from</h2>") < text.index("What this does not show")
    names = ("support_0", "support_1", "support_classes", "poses")
    for name in names:
        for suffix in ("svg", "pdf", "png"):
            assert (gridded / "figures" / f"{name}.{suffix}").stat().st_size > 1000
        assert f"](figures/{name}.png)" in (gridded / "report.md").read_text("utf-8")
    found = gather_support(read_comparison(gridded), gridded)
    assert [(one.arm, one.maps.shape) for one in found.found] == [
        ("uniform", (1, 2, 2, 2, 10)),
        ("full", (3, 2, 2, 2, 10)),
    ]
    run = cj.load(gridded / "runs" / "full-seed0")
    output = run.outputs(cj.data.Digits().load().test.images[found.numbers])
    W, c = run.params["classes.weight"], output.coupling
    votes = np.einsum("bid,ijde->bije", output.children, W)
    s = np.einsum("bij,bije->bje", c, votes)
    # A map is of one position, row by row, whose two types have numbers beside each other.
    child = 2 * (2 * 1 + 0)
    here = np.einsum("bije,bje->bj", (c[..., None] * votes)[:, child : child + 2], s)
    expected = here / np.linalg.norm(s, axis=-1)
    np.testing.assert_allclose(found.found[1].maps[-1, :, 1, 0], expected, rtol=1e-3, atol=1e-6)
    check_moved(run, found)
    check_words(found, text)


def check_moved(run, found):
    """A component goes from its least to its largest value over the class, and no other draws more."""
    moved, label = found.found[1].moved, found.labels[0]
    test = cj.data.Digits().load().test
    same = np.flatnonzero(test.labels == label)
    others = same[same != found.numbers[0]][:29]
    poses = run.outputs(test.images[[found.numbers[0], *others]]).poses[:, label]
    assert moved.count == 30 == len(poses)
    k = moved.component
    expected = [poses[0, k], poses[:, k].min(), poses[:, k].max()]
    np.testing.assert_allclose([moved.own, moved.low, moved.high], expected, rtol=1e-4)
    mask = jnp.eye(10)[found.labels[:1]]

    def draw(component, value):
        pose = np.zeros((1, 10, poses.shape[1]), np.float32)
        pose[0, label] = poses[0]
        pose[0, label, component] = value
        return np.asarray(run.model.decoder(jnp.asarray(pose), mask))[0]

    drawn = [draw(k, value) for value in expected]
    np.testing.assert_allclose(moved.drawn, drawn, atol=1e-5)
    changes = [
        np.abs(draw(e, poses[:, e].max()) - draw(e, poses[:, e].min())).sum()
        for e in range(poses.shape[1])
    ]
    assert k == np.argmax(changes)


def check_words(found, text):
    """Those who see no picture are told its numbers; those who do, what its colours mean."""
    full, (label, _) = found.found[1], found.labels
    lengths = [f"{full.maps[k, 0, ..., label].sum():.2f}" for k in range(3)]
    assert f"full: {', '.join(lengths)}; the strongest other class" in text
    assert f"component {full.moved.component} from {full.moved.low:.2f}" in text
    figures = {
        name: draw(found, [str(n) for n in range(10)])
        for name, draw in (
            ("rows", lambda *a: support_pictures._rows(*a, 0, LIGHT)),
            ("classes", lambda *a: support_pictures._classes(*a, LIGHT)),
        )
    }
    for figure in figures.values():
        figure.draw_without_rendering()
        title = figure._suptitle.get_window_extent()
        assert 0 < title.x0 < title.x1 < figure.bbox.width  # not cut
        bar = figure.axes[-1]
        low, zero, high = (float(tick.get_text()) for tick in bar.get_xticklabels())
        assert -low == high > zero == 0
        assert bar.get_xlabel() == support_pictures.SCALE
    said = [[t.get_text() for t in ax.texts] + [ax.get_title()] for ax in figures["rows"].axes]
    # One readout of uniform coupling, three of the others: no panel is empty without a word.
    assert said[:5] == [
        ["uniform\n→ " + str(found.found[0].predicted[0])],
        [f"to class {label}\nreadout 1 of 1"],
        ["no more\nreadouts", ""],
        ["no more\nreadouts", ""],
        said[4],
    ]
    assert "readout 3 of 3" in said[8][0]
    drawn = figures["rows"].axes[8]
    assert drawn.get_xlabel() == f"{full.maps[2, 0, ..., label].sum():.2f}"
    np.testing.assert_allclose(drawn.images[0].get_array(), full.maps[2, 0, ..., label])


def test_of_parts_of_images_the_parts_are_shown(tmp_path):
    parts = {
        "data": {"kind": "perturbed", "canvas": 10, "source": "digits"},
        "augment": [{"kind": "crop_to", "size": 8}, "standardise"],
        "compare.arms": {
            "part": {"model.routing": "uniform"},
            "whole": {"model.routing": "uniform", "augment": []},
        },
    }
    folder = compare(cj.load_config("smoke", BRIEF | parts), out=tmp_path / "parts")
    found = gather_support(read_comparison(folder), folder)
    assert [(one.arm, one.maps.shape) for one in found.found] == [("part", (1, 2, 2, 2, 10))]
    assert found.missing == [f"Left out: whole, {support.OTHER_SIZE}."]
    there = cj.data.Digits().load().test.images[found.numbers]
    np.testing.assert_allclose(found.images, there / 16, atol=1e-6)


def test_what_cannot_be_shown_is_said(copy, compared, monkeypatch):
    text = compared.page.read_text("utf-8")
    assert "Left out: uniform, stop, truncated, full, without children at several positions" in text
    shutil.rmtree(copy / "runs" / "full-seed0")
    found = gather_support(read_comparison(copy), copy)
    assert [one.arm for one in found.found] == ["uniform"]
    assert found.missing == ["Left out: full, whose first run is not there."]

    def lost(*_):
        raise cj.checks.UserError("got no data, expected some")

    monkeypatch.setattr(support, "load_data", lost)
    found = gather_support(read_comparison(copy), copy)
    assert found.found == []
    assert "since the data cannot be had: got no data" in found.missing[0]
