"""Predictions of every evaluation are kept with the run, and nothing of what is there is lost."""

import json
import re
import shutil

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Arrays
from capsjax.reports.report import report_run
from capsjax.runs import predictions

BRIEF = {"training.epochs": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cj.train(cj.load_config("smoke", BRIEF), out=tmp_path_factory.mktemp("run") / "one")


@pytest.fixture
def copy(run, tmp_path):
    """The run in a directory of its own, to be changed."""
    shutil.copytree(run.folder, tmp_path / "copy")
    return cj.load(tmp_path / "copy")


def test_the_test_of_a_run_is_kept(run):
    held = predictions.load(run.folder / "evaluations" / "test-step8.npz")
    test = run.config.data.load().test
    np.testing.assert_array_equal(held.labels, test.labels)
    np.testing.assert_allclose(held.lengths, run.lengths(test.images), rtol=2e-5)
    assert held.classification.error == pytest.approx(run.test["error"])
    with np.load(run.folder / "evaluations" / "test-step8.npz") as file:
        np.testing.assert_array_equal(file["index"], np.arange(500))
    told = json.loads((run.folder / "evaluations" / "test-step8.json").read_text())
    assert told["error"] == pytest.approx(run.test["error"])
    assert sum(count for _, _, count in told["confusion"]) == told["examples"] == 500
    wrong = sum(count for label, taken, count in told["confusion"] if label != taken)
    assert wrong == round(500 * told["error"])
    assert [line["examples"] for line in told["classes"]] == np.bincount(test.labels).tolist()


def test_other_data_have_files_of_their_own(copy, tmp_path):
    rng, (images, labels) = np.random.default_rng(0), (np.zeros((30, 8, 8)), np.arange(30) % 10)
    found = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        place = tmp_path / str(number) / "other set.npz"
        np.savez(place, images=rng.random(images.shape).astype(np.float32), labels=labels)
        found += [cj.evaluate(copy, place, split="all") for _ in range(2)]
    assert found[0] == found[1] != found[2]
    names = {path.name for path in (copy.folder / "evaluations").glob("*.npz")}
    assert names == {"test-step8.npz", "other_set-all-step8.npz", "other_set-all-step8-2.npz"}
    for name, numbers in (("other_set-all-step8", found[0]), ("other_set-all-step8-2", found[2])):
        held = predictions.load(copy.folder / "evaluations" / f"{name}.npz")
        assert (held.data, held.split, len(held.labels)) == ("other set", "all", 30)
        assert held.classification.error == pytest.approx(numbers["error"])


@pytest.mark.parametrize("split", ["train", "validation", "all"])
def test_any_split_is_measured(copy, split):
    data = copy.config.data.load()
    parts = data.splits().values() if split == "all" else [data.splits()[split]]
    found = cj.evaluate(copy, split=split)
    assert found["examples"] == sum(map(len, parts))
    images, labels = (np.concatenate([getattr(p, n) for p in parts]) for n in ("images", "labels"))
    assert found["error"] == pytest.approx(np.mean(copy.predict(images) != labels))


def test_a_split_that_is_none(run):
    with pytest.raises(UserError, match=r"split: got 'tests', expected one of train.*mean 'test'"):
        cj.evaluate(run, split="tests")
    images = np.zeros((12, 8, 8), np.float32)
    images[:, 0, 0] = 1
    pair = images, np.arange(12) % 4
    data = Arrays(validation_fraction=0.0).build({"train": pair, "test": pair})
    with pytest.raises(UserError, match="split: got 'validation', which these data do not have"):
        cj.evaluate(run, data, split="validation")


def test_a_directory_that_cannot_be_written_is_measured_all_the_same(copy, answer):
    shutil.rmtree(copy.folder / "evaluations")
    (copy.folder / "evaluations").write_text("in the way")
    code, out, err = answer("evaluate", copy.folder)
    assert (code, out[0].partition(" %")[0]) == (0, f"test error {100 * copy.test['error']:.2f}")
    assert any(line.startswith("predictions are not kept: ") for line in err)
    assert (copy.folder / "evaluations").read_text() == "in the way"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes()[:900]),
        lambda path: path.write_text("no arrays"),
        lambda path: np.savez(path, label=np.arange(3)),
        lambda path: np.savez(path, **(dict(np.load(path)) | {"label": np.arange(500)})),
        lambda path: np.savez(path, **(dict(np.load(path)) | {"lengths": np.array([None])})),
    ],
)
def test_a_damaged_file_is_named_and_evaluated_anew(copy, change):
    path = copy.folder / "evaluations" / "test-step8.npz"
    change(path)
    with pytest.raises(
        UserError, match=r"test-step8.npz.*expected the predictions of an evaluation"
    ):
        predictions.load(path)
    cj.evaluate(copy)  # beside it: what is there stays
    assert {held.name for held in path.parent.glob("*.npz")} == {path.name, "test-step8-2.npz"}
    (path.parent / "test-step8-2.npz").unlink()
    path.unlink()  # as it says
    cj.evaluate(copy)
    assert predictions.load(path).classification.error == pytest.approx(copy.test["error"])


def test_a_report_shows_what_was_evaluated(copy):
    cj.evaluate(copy, split="validation")
    (copy.folder / "evaluations" / "broken.npz").write_bytes(b"PK")
    page, tables = report_run(copy.folder)
    made = {table.title: table for table in tables}
    held = predictions.load(copy.folder / "evaluations" / "test-step8.npz").classification
    rows = {row[0]: row for row in made["Evaluations"].rows}
    assert [*rows] == ["test split", "validation split"]
    assert rows["test split"][2:5] == (
        "500", f"{100 * held.error:.2f}", f"{100 * held.balanced_accuracy:.2f}",
    )  # fmt: skip
    classes = made["By class, test split"].rows
    assert [row[1] for row in classes] == [str(count) for count in held.support]
    seen = [cell for row in classes for cell in row]
    assert "—" in seen or not np.isnan(held.precision).any()
    label, taken, count = made["Confused most often"].rows[0]
    assert int(count) == held.confusion[int(label), int(taken)]
    off = held.confusion - np.diag(np.diag(held.confusion))
    assert int(count) == off.max()
    for name in ("confusion", "calibration", "confusion_1", "calibration_1"):
        assert (copy.folder / "figures" / f"{name}.png").exists()
    assert re.search(r"An evaluation is left out: .*broken.npz", page.read_text("utf-8"))
    assert f"Confusion matrix of 500 images; most often {label} was taken for {taken}" in (
        page.read_text("utf-8")
    )
