"""The directory of a comparison is a ledger: what became of every run, and what is still to be done."""

import json
import os
import platform
import shutil

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Digits
from capsjax.reports.comparison import read_comparison
from capsjax.reports.report import report
from capsjax.reports.unfinished import report_unfinished
from capsjax.reports.verdict import comparison_verdicts
from capsjax.runs import directory
from capsjax.study.compare import compare, failures
from capsjax.study.design import design
from capsjax.study.ledger import read_ledger
from tests.runs.test_experiment import same_bits
from tests.study.test_resumed_comparison import results

pytestmark = pytest.mark.usefixtures("unpainted")
COMPARE = {
    "arms": {
        "held": {"model.routing.gradient": "stop"},
        "live": {},
        "fails": {"optimiser.schedule.rate": 1e30},
    },
    "reference": "live",
    "seeds": 1,
}
SHORT = {"training.epochs": None, "training.steps": 8}


def ledger(folder):
    config = directory.read_config(folder)
    return {str(e.trial): e for e in read_ledger(folder, config, design(config))}


@pytest.fixture(scope="module")
def arms(tmp_path_factory):
    """A comparison of which one arm fails."""
    config = cj.load_config("smoke", {**SHORT, "compare": COMPARE})
    with pytest.warns(UserWarning, match="1 of 3 runs failed"):
        return compare(config, out=tmp_path_factory.mktemp("arms") / "it")


def test_a_run_that_fails_is_written_down_and_the_others_go_on(arms):
    states = {name: entry.state for name, entry in ledger(arms).items()}
    assert states == {"held, seed 0": "done", "live, seed 0": "done", "fails, seed 0": "failed"}
    assert "got a loss of nan at step" in ledger(arms)["fails, seed 0"].why
    assert f"try them again: capsjax compare --resume {arms}" in failures(arms)
    raw = json.loads((arms / "comparison.json").read_text())
    assert raw["test_error"]["fails"] == [None]
    assert list(raw["cost"]) == ["held", "live"]
    assert {record["mode"] for record in raw["alignment"]} == {"held", "live", "fails"}
    found = read_comparison(arms)
    assert comparison_verdicts(found)[0].startswith("one seed cannot tell held from live")
    assert len(comparison_verdicts(found)) == 1
    page = report(arms).read_text("utf-8")
    assert "1 of 3 runs failed, and are left out: fails, seed 0" in page
    assert "What each arm changes" in page


def test_the_command_says_so_and_returns_1(arms, tmp_path, answer):
    folder = tmp_path / "copy"
    shutil.copytree(arms, folder)
    code, out, err = answer("compare", "--resume", folder)  # tries again what failed
    assert code == 1
    assert out[-1] == f"report: {folder / 'report.html'}"
    assert err[-2].startswith(f"capsjax compare: {folder}: 1 of 3 runs failed (fails, seed 0)")
    assert err[-1].endswith(f"capsjax compare --resume {folder}")


def test_seeds_and_arms_are_added_and_nothing_is_trained_again(arms, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(arms, folder)
    (folder / "comparison.json").unlink()
    shutil.rmtree(folder / "runs" / "fails-seed0")
    kept = {p: p.stat().st_mtime_ns for p in (folder / "runs").rglob("*/checkpoints/*")}
    more = {
        "compare.seeds": 2,
        "compare.arms": {"more": {"model.routing.gradient": {"kind": "truncated", "last": 1}}},
        "compare.arms.fails.optimiser.schedule.rate": 1e30,
    }
    with pytest.warns(UserWarning, match="2 of 8 runs failed"):
        assert cj.resume(folder, overrides=more) == folder
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    states = [entry.state for entry in ledger(folder).values()]
    assert states.count("done") == 6
    whole = cj.load_config("smoke", {**SHORT, "compare": {**COMPARE, "seeds": 2}, "seed": 1})
    alone = cj.train(design(whole).arms["held"].config, out=tmp_path / "alone")
    same_bits(cj.load(folder / "runs" / "held-seed1").params, alone.params)
    assert read_comparison(folder).seeds == [0, 1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"compare.seeds": 0}, "at least 1"),
        ({"compare.arms.held.model.routing.gradient": "full"}, "other settings of the arm 'held'"),
        ({"compare.grid": {"max_shift": [0, 1]}}, "without the arm 'held'"),
        ({"training.steps": 9}, "overrides: got training.steps, expected compare.arms, "),
        ({"compare.gradient_points": 3}, "got compare.gradient_points, expected"),
    ],
)
def test_what_was_trained_does_not_change(arms, overrides, message):
    with pytest.raises(UserError, match=message):
        cj.resume(arms, overrides=overrides)


def test_fewer_seeds_are_refused(compared):
    with pytest.raises(UserError, match=r"compare.seeds: got 1, expected at least the 2"):
        cj.resume(compared.folder, overrides={"compare.seeds": 1})


def test_every_state_is_read_off_the_directories(compared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    (folder / "comparison.json").unlink()
    runs = folder / "runs"
    for name in ("full-seed0", "full-seed1", "stop-seed1", "uniform-seed1"):
        (runs / name / "metrics.jsonl").unlink()
    (runs / "full-seed0" / ".lock").write_text(f"process {os.getpid()} on {platform.node()}")
    (runs / "stop-seed1" / ".lock").write_text(f"process 4194300 on {platform.node()}")
    directory.write_json(runs / "uniform-seed1" / "failure.json", {"why": "it did\nnot work"})
    shutil.rmtree(runs / "truncated-seed1")
    states = {name: entry.state for name, entry in ledger(folder).items()}
    assert states == {
        "uniform, seed 0": "done",
        "stop, seed 0": "done",
        "truncated, seed 0": "done",
        "full, seed 0": "running",
        "uniform, seed 1": "failed",
        "stop, seed 1": "pending",
        "truncated, seed 1": "pending",
        "full, seed 1": "pending",
    }
    _, (table,) = report_unfinished(folder)
    told = {row[:2]: row[2] for row in table.rows}
    assert told["full", "0"] == "running; checkpoint of step 24"
    assert told["uniform", "1"] == "failed; checkpoint of step 24: it did"
    assert told["stop", "1"] == "stopped; checkpoint of step 24"
    assert told["truncated", "1"] == "not begun"


def test_all_that_an_exception_says_is_kept(compared, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    shutil.rmtree(folder / "runs" / "stop-seed1")

    def broken(*_, **__):
        raise ZeroDivisionError("by nothing")

    with monkeypatch.context() as patch:
        patch.setattr("capsjax.runs.finish.fit", broken)
        with pytest.warns(UserWarning, match="ZeroDivisionError"):
            cj.resume(folder)
    (lost,) = [entry for entry in ledger(folder).values() if entry.state == "failed"]
    assert lost.why == "ZeroDivisionError: by nothing"
    kept = json.loads((lost.trial.path / "failure.json").read_text())
    assert "in broken" in kept["traceback"]
    assert np.isnan(read_comparison(folder).errors["stop"][1])
    cj.resume(folder)
    assert results(folder) == results(compared.folder)
    assert not (lost.trial.path / "failure.json").exists()


@pytest.mark.parametrize("key", ["data", "data.source"])
def test_data_that_are_elsewhere_now_are_found_again(key, tmp_path):
    """Those of a set that another is made from, too."""
    split, moved = Digits().load().train, tmp_path / "moved"
    moved.mkdir()
    np.save(tmp_path / "x.npy", (split.images * 15).astype(np.uint8))
    np.save(tmp_path / "y.npy", split.labels)
    data = {"kind": "arrays", "path": f"{tmp_path}/x.npy", "labels_path": f"{tmp_path}/y.npy"}
    data = data if key == "data" else {"kind": "perturbed", "source": data}
    settings = {**SHORT, "data": data, "compare": {"modes": ["full"], "seeds": 1}}
    folder = compare(cj.load_config("smoke", settings), out=tmp_path / "it")
    for name in ("x.npy", "y.npy"):
        (tmp_path / name).rename(moved / name)
    with pytest.raises(UserError, match="no such file"):
        cj.resume(folder, overrides={"compare.seeds": 2})
    now = {f"{key}.path": str(moved / "x.npy"), f"{key}.labels_path": str(moved / "y.npy")}
    cj.resume(folder, overrides=now | {"compare.seeds": 2})
    assert directory.read_config(folder).data.origin().labels_path == str(moved / "y.npy")
    assert len(read_comparison(folder).errors["full"]) == 2
