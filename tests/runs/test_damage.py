"""Runs whose checkpoints a disk or a person damaged: to the bit what they were, or said in words."""

import shutil

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.cli import main
from capsjax.progress import Silent
from capsjax.reports.report import report_run
from capsjax.runs import experiment
from capsjax.training import checkpoints
from tests.runs.test_experiment import measured, same_bits


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of 24 steps, trained once; tests that change its folder copy it."""
    return cj.train("smoke", out=tmp_path_factory.mktemp("run") / "first")


@pytest.fixture
def copy(run, tmp_path):
    """A copy of the run's folder as it was before the test split was measured."""
    folder = tmp_path / "copy"
    shutil.copytree(run.folder, folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(line for line in lines if '"test"' not in line))
    return folder


def break_newest(folder):
    """Flip a bit of the newest checkpoint, as a disk may."""
    newest = folder / "checkpoints" / str(checkpoints.steps(folder / "checkpoints")[-1])
    files = (path for path in newest.rglob("*") if path.is_file())
    path = max(files, key=lambda file: file.stat().st_size)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_damaged_newest_checkpoint_is_passed_over_and_written_anew_to_the_bit(run, copy):
    break_newest(copy)
    with pytest.warns(
        UserWarning, match="using the checkpoint of step 16, the newest that is whole"
    ):
        assert cj.load(copy).step == 16
    with pytest.warns(UserWarning, match="using the checkpoint of step 16"):
        resumed = experiment.resume(copy)
    same_bits(resumed.params, run.params)
    assert measured(copy) == measured(run.folder)
    assert checkpoints.steps(copy / "checkpoints") == [8, 16, 24]
    assert (copy / "checkpoints" / "24.damaged").is_dir()
    same_bits(cj.load(copy).params, run.params)


def test_where_every_checkpoint_is_damaged_a_run_starts_anew(run, copy):
    for step in (8, 16, 24):
        (copy / "checkpoints" / str(step) / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="no other checkpoint is whole"):
        cj.load(copy)
    with pytest.warns(UserWarning, match="starting from step 0, to the same bits"):
        resumed = experiment.resume(copy)
    same_bits(resumed.params, run.params)


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_finished_run_never_shows_one_step_s_error_with_another_s_parameters(run, tmp_path, how):
    folder = tmp_path / "finished"
    shutil.copytree(run.folder, folder)
    if how == "gone":
        shutil.rmtree(folder / "checkpoints" / "24")
    else:
        break_newest(folder)
    lines = []

    class ArmDescription(Silent):
        def say(self, line):
            lines.append(line)

    told = ArmDescription()
    found = (
        "got the parameters of step 16, expected those of step 24, after which the run was tested"
    )
    loaded = cj.load(folder, reporter=told)
    assert found in lines[-1]
    assert loaded.step == 16
    with pytest.raises(UserError, match=found):
        _ = loaded.test
    lines.clear()
    page, _ = report_run(folder, reporter=told)
    assert found in lines[-1]
    assert found in page.read_text()
    # What was advised gives them back.
    resumed = experiment.resume(folder, reporter=told)
    same_bits(resumed.params, run.params)
    loaded = cj.load(folder)
    same_bits(loaded.params, run.params)
    assert loaded.test == run.test


def test_quiet_silences_progress_and_not_what_is_wrong(copy, capsys):
    break_newest(copy)
    assert main(["evaluate", "--quiet", str(copy)]) == 0
    told = capsys.readouterr().err
    assert "using the checkpoint of step 16" in told
    assert "UserWarning" not in told
