"""Runs: the same to the bit, whatever happens on the way; and mistakes that are said in words."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Arrays
from capsjax.progress import Silent
from capsjax.reports.comparison import read_comparison
from capsjax.reports.comparison_panels import comparison_panels, comparison_runs
from capsjax.reports.evidence import gather
from capsjax.reports.figures import together
from capsjax.reports.report import report_run
from capsjax.runs import description, directory, experiment
from capsjax.runs.metrics_file import read_metrics
from capsjax.training import checkpoints

SMOKE = cj.load_config("smoke")
STEPS = 24  # three epochs of eight


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run, trained once; tests that change its folder copy it."""
    return cj.train("smoke", out=tmp_path_factory.mktemp("run") / "first")


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run's folder as it was before the test split was measured."""
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    return stopped_at(folder)


def measured(folder):
    """Every measured number but for the clock's."""
    return [
        {name: value for name, value in line.items() if name != "images_per_second"}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes(), name


def dataset():
    return experiment.load_data(SMOKE, None, Silent())


def test_a_run_writes_what_it_should(run):
    names = {path.name for path in run.folder.iterdir()}
    files = {"config.yaml", "environment.json", "metrics.jsonl"}
    assert names == files | {"checkpoints", "evaluations"}
    counts = {"train": 0, "validation": 0, "test": 0}
    for line in run.metrics:
        counts[line["split"]] += 1
    assert counts == {"train": STEPS // 4, "validation": 3, "test": 1}
    assert run.test == run.metrics[-1]
    assert run.test["step"] == STEPS
    assert run.test["examples"] == 500
    assert {line["examples"] for line in run.metrics if line["split"] == "validation"} == {200}
    assert checkpoints.steps(run.folder / "checkpoints") == [8, 16, 24]
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["capsjax"] == cj.__version__
    assert environment["packages"]["jax"] == jax.__version__
    assert len(environment["devices"]) == jax.local_device_count()
    assert environment["data"]["examples"] == {"train": 1097, "validation": 200, "test": 500}


def test_it_learned_something(run):
    losses = [line["loss"] for line in run.metrics if line["split"] == "validation"]
    assert losses == sorted(losses, reverse=True)
    assert run.test["error"] < 0.85


def test_a_run_s_own_configuration_trains_the_same_run_to_the_bit(run, tmp_path):
    config = cj.load_config(run.folder / "config.yaml")
    assert config == run.config == SMOKE
    again = cj.train(config, out=tmp_path / "again")
    same_bits(again.params, run.params)
    assert measured(again.folder) == measured(run.folder)
    ours, theirs = ((r.folder / "config.yaml").read_text() for r in (again, run))
    assert ours == theirs


def test_another_seed_is_another_run(run, tmp_path):
    other = cj.train(dataclasses.replace(SMOKE, seed=1), out=tmp_path / "other")
    for name in run.params:
        assert not np.array_equal(other.params[name], run.params[name])
    assert measured(other.folder)[0] != measured(run.folder)[0]


class DownError(Exception):
    """Stand for a machine that goes down."""


def test_a_run_that_stopped_goes_on_to_the_bit(run, tmp_path):
    folder = tmp_path / "stopped"

    def stop(epoch, state):
        if epoch == 2:
            raise DownError

    with pytest.raises(DownError):
        cj.train(SMOKE, out=folder, observe=stop)
    assert checkpoints.steps(folder / "checkpoints") == [8, 16]
    resumed = cj.resume(folder)
    same_bits(resumed.params, run.params)
    assert measured(folder) == measured(run.folder)


KILLED = """
import os, signal, sys
import capsjax as cj

def kill(epoch, state):
    if epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

config = cj.load_config("smoke", {"training.checkpoint_every": 2})
cj.train(config, out=sys.argv[1], observe=kill)
"""


def environment():
    """The environment of a process that shares this one's compiled programs."""
    cache = jax.config.jax_compilation_cache_dir
    return os.environ | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})


def test_a_run_that_was_killed_goes_on_to_the_bit(run, tmp_path):
    folder = tmp_path / "killed"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, folder], env=environment(), capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # The last step always writes a checkpoint; without it the last epoch has to be trained again.
    assert checkpoints.steps(folder / "checkpoints") == [16, 24]
    shutil.rmtree(folder / "checkpoints" / "24")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"split": "train", "step": 28, "lo')
    resumed = cj.resume(folder)
    same_bits(resumed.params, run.params)
    assert measured(folder) == measured(run.folder)


def test_a_run_without_any_checkpoint_begins_anew(run, copy):
    shutil.rmtree(copy / "checkpoints")
    same_bits(cj.resume(copy).params, run.params)


def test_a_run_that_stopped_before_its_test_is_tested(run, copy):
    with pytest.raises(UserError, match=r"got no test line .*resume it: capsjax.resume\("):
        _ = cj.load(copy).test
    resumed = cj.resume(copy)
    assert resumed.test == run.test
    assert measured(copy) == measured(run.folder)


def test_a_finished_run_is_not_resumed(run):
    before = (run.folder / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"(?s)got a run that is finished.*capsjax.evaluate\("):
        cj.resume(run.folder)
    assert (run.folder / "metrics.jsonl").read_bytes() == before


def test_an_existing_directory_is_refused_and_left_alone(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    with pytest.raises(UserError, match=r"^out: got .*first', which exists.*choose another"):
        cj.train("smoke", out=run.folder)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


@pytest.mark.parametrize("place", ["file", "proc"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "run" if place == "file" else "/proc/run"
    with pytest.raises(UserError, match=r"^out: got .*, which cannot be made \("):
        cj.train("smoke", out=out)


def test_a_loaded_run_is_the_trained_one(run):
    loaded = cj.load(run.folder)
    same_bits(loaded.params, run.params)
    assert max(float(abs(loaded.params[n] - run.params[n]).max()) for n in run.params) == 0
    assert (loaded.config, loaded.scale, loaded.image_shape) == (run.config, 1 / 16, (8, 8, 1))
    images = dataset().test.images[:50]
    np.testing.assert_array_equal(loaded.predict(images), run.predict(images))
    assert loaded.test == run.test


def loss_of(run, split):
    """Loss and error of a split, from poses, by the formulas."""
    output = run.outputs(split.images)
    lengths = np.linalg.norm(np.asarray(output.poses, np.float64), axis=-1)
    present = np.eye(10)[split.labels]
    margin = present * np.maximum(0, 0.9 - lengths) ** 2
    margin += 0.5 * (1 - present) * np.maximum(0, lengths - 0.1) ** 2
    drawn = (np.asarray(output.reconstruction, np.float64) - split.images / 16) ** 2
    loss = margin.sum(-1) + 0.0005 * drawn.sum((1, 2, 3))
    return {"loss": loss.mean(), "error": np.mean(lengths.argmax(-1) != split.labels)}


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_split_is_measured_whole_unshifted_and_by_itself(run, name):
    # 200 and 500 examples in batches of 64: the last ones are ragged.
    expected = loss_of(run, dataset().splits()[name])
    last = [line for line in run.metrics if line["split"] == name][-1]
    assert last["step"] == STEPS
    assert last["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert last["error"] == pytest.approx(expected["error"], abs=1e-6)


def test_measuring_again_gives_the_same_and_keeps_it_once(run):
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    found = cj.evaluate(run.folder)
    for name in ("loss", "error", "examples", "entropy"):
        assert found[name] == pytest.approx(run.test[name], rel=1e-6)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def arrays(n=1300):
    rng = np.random.default_rng(0)
    return rng.random((n, 8, 8)).astype(np.float32), np.arange(n) % 10


def test_the_user_s_own_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = arrays()
    run = cj.train(SMOKE, data=(images, labels))
    assert run.folder.parent.name == "runs"
    assert run.folder.name.startswith("arrays-")
    assert run.config.data == Arrays()
    assert (run.image_shape, run.num_classes, run.scale) == ((8, 8, 1), 10, 1.0)
    assert run.predict(images[:5]).shape == (5,)
    assert run.test["examples"] == 130
    assert cj.evaluate(run, (images, labels))["loss"] == pytest.approx(run.test["loss"])
    same_bits(cj.load(run.folder).params, run.params)
    with pytest.raises(UserError, match=r"data: got none, .*: data=\(images, labels\), or a file"):
        cj.evaluate(run)
    lines = (run.folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:-1]
    (run.folder / "metrics.jsonl").write_text("".join(lines))
    with pytest.raises(
        UserError, match=r"got data whose SHA-256 is .*, that of the data the run began"
    ):
        cj.resume(run.folder, (images * 0.5, labels))
    same_bits(cj.resume(run.folder, (images, labels)).params, run.params)


def test_a_run_is_evaluated_on_other_arrays_of_its_classes(run):
    digits = dataset()
    raw, labels = digits.test.images[:60], digits.test.labels[:60]
    few = labels < 4  # these classes of the run's ten
    split = (raw[few] / 16, labels[few])
    found = cj.evaluate(run, {"train": split, "test": split})
    wrong = run.predict(raw[few]) != labels[few]
    assert found["error"] == pytest.approx(wrong.mean())
    assert found["examples"] == few.sum()
    for bad, message in (
        ((raw[:, :6] / 16, labels), r"data: got images \[6, 8, 1\], expected \[8, 8, 1\]"),
        (
            (raw / 16, labels + 3),
            r"data: got labels up to 12, .*the run knows 10 classes, these data have 13",
        ),
    ):
        with pytest.raises(UserError, match=message):
            cj.evaluate(run, bad)


def stopped_at(folder):
    """Forget a run's test, as if it had stopped before."""
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"test"' not in line))
    return folder


@pytest.mark.usefixtures("unpainted")
def test_nothing_is_validated_where_nothing_is_held_out(tmp_path):
    overrides = {"data": {"kind": "arrays", "validation_fraction": 0.0}, "compare.seeds": 1}
    config = cj.load_config("smoke", overrides | {"compare.modes": ["stop", "full"]})
    run = cj.train(config, arrays(), out=tmp_path / "run")
    assert {line["split"] for line in run.metrics} == {"train", "test"}
    assert "validation" not in description.read_data(run.folder)["examples"]
    assert run.metrics[-1]["step"] == run.metrics[-2]["step"]  # tested after the last step
    page, tables = report_run(run.folder, arrays())
    assert page.exists()
    assert [row[0] for row in tables[0].rows] == ["train", "test"]
    folder = cj.compare(config, arrays(), out=tmp_path / "compared")
    assert cj.report(folder) == folder / "report.html"
    found = read_comparison(folder)
    figure = together(
        comparison_panels(found, folder, comparison_runs(found, folder), gather(found))
    )
    titles = [ax.get_title() for ax in figure.axes]
    assert "error, % (training)" in titles  # of one seed, so without a range
    assert len(figure.axes[0].lines[0].get_xdata()) > 1


def test_labels_out_of_range_are_refused_before_anything_is_written(tmp_path):
    images, labels = arrays()
    config = cj.load_config("smoke", {"data": "arrays", "data.num_classes": 10})
    for wrong in (-1, 10):
        bad = labels.copy()
        bad[7] = wrong
        message = rf"label 7 is {wrong}, expected an integer from 0 to 9 \(1 of 1300"
        with pytest.raises(UserError, match=message):
            cj.train(config, data=(images, bad), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="got 128 for 77 training examples, expected at most 77"):
        cj.train(SMOKE, data=arrays(97), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("call", [cj.load, cj.resume])
def test_what_is_no_run_is_refused(tmp_path, call):
    with pytest.raises(UserError, match="got no directory, expected a run's directory"):
        call(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"got a directory without config.yaml, expected a run's"):
        call(tmp_path)


def test_a_run_whose_files_are_broken_is_refused(copy):
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="got no checkpoint"):
        cj.load(copy)
    (copy / "environment.json").write_text('{"data": ')
    for call in (cj.load, cj.resume):
        with pytest.raises(UserError, match=r"environment.json: got a broken file"):
            call(copy)
    (copy / "environment.json").unlink()
    with pytest.raises(UserError, match=r"environment.json: got no such file"):
        cj.load(copy)
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("seed: 0", "sed: 0"))
    with pytest.raises(UserError, match=r"config.yaml: sed: unknown key.*\n.*did you mean 'seed'"):
        cj.load(copy)


def test_a_run_trains_with_pmap_as_with_jit(run, tmp_path):
    config = cj.load_config("smoke", {"training.parallel": "pmap"})
    other = cj.train(config, out=tmp_path / "pmap")
    for ours, theirs in zip(measured(other.folder), measured(run.folder), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
    assert json.loads((other.folder / "environment.json").read_text())["parallel"] == "pmap"
    assert {value.shape for value in other.params.values()} == {
        value.shape for value in run.params.values()
    }


def test_a_configuration_s_name_names_its_run(tmp_path, monkeypatch, as_installed):
    monkeypatch.chdir(tmp_path)

    def finish(config, dataset, planned, folder, *rest):
        return cj.Run(config, folder, {}, dataset.scale, dataset.image_shape, 10, 0)

    monkeypatch.setattr(experiment, "finish", finish)
    folders = [cj.train("smoke").folder, cj.train("smoke").folder, cj.train(SMOKE).folder]
    assert [folder.parent.name for folder in folders] == ["runs"] * 3
    assert [folder.name.split("-")[0] for folder in folders] == ["smoke", "smoke", "digits"]
    assert len(set(folders)) == 3


def test_a_comparison_is_not_gone_on_with_as_a_run(tmp_path):
    directory.write_config(tmp_path, cj.load_config("smoke"))
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="got a comparison, expected a single run"):
        experiment.resume(tmp_path)


IMPLICIT = {
    "model.routing": {
        "kind": "fixed_point",
        "num_iters": 1000,
        "tolerance": 1e-5,
        "gradient": "implicit",
    },
    "training.epochs": 1,
}


def test_a_network_trains_through_the_fixed_point_where_routing_arrives(tmp_path):
    """In float32, on digits: every example of every batch is solved."""
    trained = cj.train(cj.load_config("smoke", IMPLICIT), out=tmp_path / "run")
    losses = [line["loss"] for line in trained.metrics if line["split"] == "train"]
    assert losses[-1] < losses[0]


def test_where_routing_does_not_arrive_what_to_change_is_said(tmp_path):
    """After 30 iterations some digits are still on their way past a point that updates leave."""
    early = {**IMPLICIT, "model.routing": {**IMPLICIT["model.routing"], "num_iters": 30}}
    expected = r"finite.*model\.routing\.tolerance to 1e-5.*num_iters to 1000.*max_steps to 1000"
    with pytest.raises(UserError, match=expected):
        cj.train(cj.load_config("smoke", early), out=tmp_path / "run")


def test_a_run_is_measured_on_a_test_split_alone_and_in_smaller_batches(run):
    test = run.config.data.load().test
    data = {"test": (np.float32(test.images / 16), test.labels)}
    for found in (
        cj.evaluate(run, data),
        cj.evaluate(run, overrides={"training.eval_batch_size": 50}),
    ):
        assert found["examples"] == len(test)
        assert found["error"] == run.test["error"]
    with pytest.raises(UserError, match=r"overrides: got seed, expected training\.eval_batch_size"):
        cj.evaluate(run, overrides={"seed": 1})


def test_images_of_the_run_s_size_are_measured(run):
    test = run.config.data.load().test
    with pytest.raises(UserError, match="bring all images to that size"):
        cj.evaluate(run, {"test": (np.float32(test.images[:, ::2, ::2] / 16), test.labels)})
    found = cj.evaluate(run, {"test": (np.float32(test.images / 16), test.labels)})
    assert found["error"] == run.test["error"]


def test_classes_of_the_run_are_measured(run):
    test = run.config.data.load().test
    images = np.float32(test.images / 16)
    with pytest.raises(UserError, match="number the classes as the run's data do, and leave out"):
        cj.evaluate(run, {"test": (images, test.labels + 3)})
    known = test.labels + 3 < 10
    found = cj.evaluate(run, {"test": (images[known], test.labels[known])})
    assert found["examples"] == known.sum()
