"""The page of a run shows wrong images first, and couplings iteration by iteration."""

import re
import shutil

import numpy as np
import pytest

import capsjax as cj
from capsjax.metrics.classification import Classification
from capsjax.reports import evaluations
from capsjax.reports.report import report_run
from capsjax.reports.shown import (
    _describe_order,
    coupling_records,
    couplings_table,
    gather_shown,
    wrong_first,
)
from tests.reports.pages import check_alone


@pytest.fixture(scope="module")
def run(compared):
    return cj.load(compared.folder / "runs" / "full-seed0")


@pytest.fixture(scope="module")
def shown(run):
    return gather_shown(run, None, evaluations.held(run)[0])


def test_the_most_confident_mistake_comes_first():
    lengths = np.float32([[0.9, 0.1, 0.2], [0.6, 0.5, 0.0], [0.1, 0.2, 0.8], [0.2, 0.9, 0.7]])
    found = Classification(np.array([0, 1, 2, 0]), lengths)
    assert wrong_first(found).tolist() == [3, 1, 0, 2]
    right = Classification(np.array([0, 0, 2, 1]), lengths)
    assert wrong_first(right).tolist() == [0, 1, 2, 3]


def test_of_two_labels_the_highest_score_of_another_class_counts():
    lengths = np.float32([[0.9, 0.8, 0.7], [0.9, 0.1, 0.5], [0.2, 0.6, 0.95]])
    found = Classification(np.array([[0, 1], [0, 1], [0, 1]]), lengths)
    assert found.right.tolist() == [True, False, False]
    assert wrong_first(found).tolist() == [2, 1, 0]


def test_wrong_images_are_shown_first_by_the_kept_predictions(run, shown):
    test = cj.data.Digits().load().test
    beliefs = run.lengths(test.images)
    taken = beliefs.argmax(-1)
    wrong = np.flatnonzero(taken != test.labels)
    expected = wrong[np.argsort(-beliefs[wrong, taken[wrong]], kind="stable")][:12]
    np.testing.assert_array_equal(shown.chosen.raw, test.images[expected])
    np.testing.assert_array_equal(shown.chosen.labels[:, 0], test.labels[expected])
    np.testing.assert_allclose(shown.chosen.seen, test.images[expected] / 16, atol=1e-6)
    np.testing.assert_allclose(shown.output.lengths, beliefs[expected], atol=1e-5)
    # What is averaged over images is of those that nothing chose.
    np.testing.assert_array_equal(shown.first.raw, test.images[:12])
    assert shown.order == (
        f"Of the 500 test images {len(wrong)} are wrong: these are the 12 with the highest scores of "
        "wrong classes, the highest first."
    )


def test_without_kept_predictions_images_are_predicted(run, shown, monkeypatch):
    np.testing.assert_array_equal(gather_shown(run, None, []).chosen.raw, shown.chosen.raw)
    monkeypatch.setattr("capsjax.reports.shown.PREDICTED", 20)
    few = gather_shown(run, None, [])
    assert few.order.startswith("Of the first 20 of 500 test images ")
    first = {image.tobytes() for image in cj.data.Digits().load().test.images[:20]}
    assert {image.tobytes() for image in few.chosen.raw} <= first


def test_predictions_of_other_images_do_not_choose(run, shown):
    (kept,) = evaluations.held(run)[0]
    other = type(kept)(**{**vars(kept), "lengths": kept.lengths[::-1], "fingerprint": "0" * 64})
    np.testing.assert_array_equal(gather_shown(run, None, [other]).chosen.raw, shown.chosen.raw)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (0, "None of the 500 test images is wrong: these are the first."),
        (1, "Of the 500 test images 1 is wrong, and stands first, "),
        (5, "Of the 500 test images 5 are wrong, and stand first, "),
    ],
)
def test_how_images_are_chosen_is_said(wrong, said):
    assert _describe_order(wrong, 500, 500).startswith(said)


def test_couplings_are_told_iteration_by_iteration(run, shown):
    trace = run.outputs(shown.first.raw, trace=True).trace
    table = couplings_table(coupling_records(shown.of_first), 12)
    assert [row[:2] for row in table.rows] == [("classes", str(k)) for k in (1, 2, 3)]
    told = [float(row[2]) for row in table.rows]
    np.testing.assert_allclose(told, np.asarray(trace.entropy).mean(-1), atol=1e-4)
    coupling = np.asarray(trace.coupling)
    apart = 0.5 * np.abs(coupling - coupling[:1]).sum(-1).mean((1, 2))
    np.testing.assert_allclose([float(row[4]) for row in table.rows], apart, atol=1e-4)


def test_a_network_that_neither_iterates_nor_draws_has_a_page(tmp_path):
    changes = {"model.routing": "uniform", "model.decoder": None, "training.epochs": 1}
    run = cj.train(cj.load_config("smoke", changes), out=tmp_path / "plain")
    page, tables = report_run(run.folder)
    check_alone(page, 7)  # no couplings by iteration
    assert not any("iteration" in table.title for table in tables)
    text = page.read_text("utf-8")
    assert re.search(r'alt="12 test images, wrong ones first; \d+ of them classified', text)
    assert (run.folder / "test_images.png").exists()
    shutil.rmtree(run.folder / "evaluations")
    assert "Of the 500 test images" in report_run(run.folder)[0].read_text("utf-8")
