"""Runs on images that show two classes, from the first step to the report."""

import csv
import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax.bench.step import random_dataset
from capsjax.checks import UserError
from capsjax.data import Overlap, Overlapping
from capsjax.reports.report import report_run
from capsjax.runs import description, predictions
from capsjax.runs.plan import plan
from capsjax.study.design import design
from capsjax.study.pool import _hand_over, read_data
from capsjax.study.trial_runner import TrialRunner
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import batch_shapes, epoch_shapes

DATA = {"kind": "overlapping", "canvas": 10, "shift": 2}
CONFIG = cj.load_config(
    "smoke", {"data": DATA, "training.epochs": 2, "metrics": ["label_error", "calibration_error"]}
)
DATASET = CONFIG.data.load()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cj.train(CONFIG, out=tmp_path_factory.mktemp("run") / "one")


@pytest.fixture
def copy(run, tmp_path):
    """The run in a directory of its own, to be changed."""
    shutil.copytree(run.folder, tmp_path / "copy")
    return cj.load(tmp_path / "copy")


def judged(split="test"):
    """The pairs that judge, as one batch."""
    of = DATASET.splits()[split]
    return next(iter(EvalFeed(of, DATASET.scale, batch_size=len(of), overlap=DATASET.overlap)))


def test_an_error_is_a_pair_of_which_not_both_are_found(run):
    batch = judged()
    lengths = run.lengths(np.asarray(batch.images))
    taken = np.sort(np.argsort(-lengths, axis=1)[:, :2], axis=1)
    labels = np.asarray(batch.labels)
    half = (labels[:, :, None] == taken[:, None]).any(-1).mean()
    assert run.test["error"] == pytest.approx((labels != taken).any(1).mean())
    assert run.test["label_error"] == pytest.approx(1 - half, rel=1e-6)
    assert 0 < run.test["label_error"] < run.test["error"]
    found = run.outputs(np.asarray(batch.images))
    apart = np.square(np.asarray(found.reconstruction) - np.asarray(batch.targets))
    assert run.test["reconstruction"] == pytest.approx(apart.sum((1, 2, 3, 4)).mean(), rel=1e-4)
    np.testing.assert_array_equal(run.predict(np.asarray(batch.images)), taken)


def test_predictions_are_kept_with_both_labels(copy):
    held = predictions.load(copy.folder / "evaluations" / f"test-step{copy.step}.npz")
    np.testing.assert_array_equal(held.labels, judged().labels)
    assert held.classification.error == pytest.approx(copy.test["error"])
    told = json.loads((copy.folder / "evaluations" / f"test-step{copy.step}.json").read_text())
    assert told["label_error"] == pytest.approx(copy.test["label_error"])
    assert sum(count for *_, count in told["confusion"]) == 2 * told["examples"] == 1000
    assert cj.evaluate(copy) == {
        key: copy.test[key] for key in copy.test if key not in ("split", "step")
    }
    farther = dataclasses.replace(CONFIG.data, shift=1)
    found = cj.evaluate(copy, farther)
    assert found["error"] != copy.test["error"]
    names = {path.name for path in (copy.folder / "evaluations").glob("*.npz")}
    assert names == {
        f"test-step{copy.step}.npz",
        f"overlapping_digits_shift_1-test-step{copy.step}.npz",
    }
    # Images that show one class are measured too, by the longest capsule.
    single = cj.evaluate(copy, dataclasses.replace(DATASET, overlap=None))
    assert single["label_error"] == single["error"]


def test_a_report_draws_both_images(copy):
    _, tables = report_run(copy.folder)
    assert (copy.folder / "reconstructions.png").exists()
    page = (copy.folder / "report.html").read_text()
    assert "each capsule of the 2 classes predicted" in page
    assert "these are the 12 with the highest scores of wrong classes, the highest first." in page
    assert {"Evaluations", "Confused most often"} <= {table.title for table in tables}
    (evaluated,) = (table for table in tables if table.title == "Evaluations")
    row = dict(zip(evaluated.headings, evaluated.rows[0], strict=True))
    for name, heading in (("error", "error, %"), ("label_error", "label error, %")):
        assert row[heading] == f"{100 * copy.test[name]:.2f}"
    assert "Share of images of which not all labels are found" in page
    assert "Share of labels that are not found" in page


def test_both_errors_are_printed(copy, answer):
    code, out, _ = answer("evaluate", copy.folder)
    both = (100 * copy.test[name] for name in ("error", "label_error"))
    assert code == 0
    assert out[0].startswith(
        "test error {:.2f} % of images, label error {:.2f} %, on 500".format(*both)
    )


def test_files_are_classified_with_both_classes(copy, tmp_path, answer):
    images = np.asarray(judged().images)[:5]
    np.save(tmp_path / "x.npy", images)
    code, out, _ = answer("predict", copy.folder, tmp_path / "x.npy", "--quiet")
    head, *rows = csv.reader(io.StringIO("\n".join(out)))
    assert code == 0
    assert head[:4] == ["file", "index", "class_1", "class_2"]
    expected = copy.predict(images)
    assert [[int(x) for x in row[2:4]] for row in rows] == expected.tolist()
    code, out, _ = answer("predict", copy.folder, tmp_path / "x.npy", "--json", "--quiet")
    assert [line["class"] for line in json.loads("\n".join(out))] == expected.tolist()


def test_a_run_that_stopped_is_resumed_to_the_bit(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "stopped")
    kept = sorted((tmp_path / "stopped" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(kept[-1])
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text(
        "".join(line for line in lines if json.loads(line)["step"] <= int(kept[-2].name))
    )
    again = cj.resume(tmp_path / "stopped")
    assert again.test == run.test
    assert again.labels_per_image == cj.load(again.folder).labels_per_image == 2
    for name, value in run.params.items():
        np.testing.assert_array_equal(again.params[name], value)


def test_pmap_sees_the_pairs_that_jit_does(run, tmp_path):
    training = dataclasses.replace(CONFIG.training, parallel="pmap")
    other = cj.train(dataclasses.replace(CONFIG, training=training), out=tmp_path / "pmap")
    for ours, theirs in zip(run.metrics, other.metrics, strict=True):
        assert ours["reconstruction"] == pytest.approx(theirs["reconstruction"], rel=1e-3)
        assert ours["error"] == pytest.approx(theirs["error"], abs=0.02)


def test_other_processes_are_handed_pairs(tmp_path):
    config = cj.load_config("smoke", {"data": {"kind": "arrays"}})
    read = read_data(_hand_over(tmp_path, TrialRunner(config, design(config), DATASET)))
    assert read.overlap == DATASET.overlap
    assert read.fingerprint() == DATASET.fingerprint()


def test_shapes_and_random_images_are_those_of_pairs():
    slicer = plan(CONFIG, DATASET).slicer
    epoch = TrainFeed(DATASET.train, slicer, 0).epoch(0)
    batch = next(iter(EvalFeed(DATASET.test, 1 / 16, batch_size=7, overlap=DATASET.overlap)))
    for found, described in (
        (epoch, epoch_shapes(DATASET.train, DATASET.overlap)),
        (batch, batch_shapes(DATASET.test, 7, DATASET.overlap)),
    ):
        shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), of) for of in (found, described)]
        assert shapes[0] == shapes[1]
    random = random_dataset(CONFIG, 12)
    assert random.overlap == Overlap(shift=2)
    assert random.image_shape == (10, 10, 1)


def test_a_run_says_how_many_classes_an_image_shows(copy, as_installed):
    path = copy.folder / "environment.json"
    told = json.loads(path.read_text())
    assert told["data"]["labels_per_image"] == 2
    assert "labels_per_image" not in description.describe_data(
        dataclasses.replace(DATASET, overlap=None)
    )
    for wrong in (0, 10, "two"):
        told["data"]["labels_per_image"] = wrong
        path.write_text(json.dumps(told))
        with pytest.raises(UserError, match=r"data\.labels_per_image: got .* expected fewer than"):
            cj.load(copy.folder)


def test_the_estimator_has_no_pairs_to_learn():
    assert isinstance(CONFIG.data, Overlapping)
    images = DATASET.test.images[:40, ..., 0] / 16
    config = dataclasses.replace(CONFIG, metrics=())
    with pytest.raises(UserError, match=r"data\.kind: got overlapping, .* set data to 'arrays'"):
        cj.CapsNetClassifier(config=config).fit(images, DATASET.test.labels[:40])
    found = cj.CapsNetClassifier(config=config, data="arrays")
    assert found.fit(images, DATASET.test.labels[:40]).predict(images).shape == (40,)
