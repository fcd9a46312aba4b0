"""A comparison that stopped, anywhere, ends as one that never did, to the bit."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.progress import Silent
from capsjax.reports.report import report
from capsjax.reports.unfinished import report_unfinished
from capsjax.runs import advice, directory, experiment
from capsjax.study import compare as comparing
from capsjax.study.design import design
from tests.runs.test_experiment import environment, measured, same_bits

KILLED = """
import os, signal, sys
import capsjax as cj
from capsjax.runs import experiment
from capsjax.study.compare import compare

place, at = int(sys.argv[2]), int(sys.argv[3])
finish, count = experiment.finish, [0]

def counted(*args):
    *args, observe = args
    count[0] += 1
    def killing(epoch, state):
        if observe is not None and sys.argv[4] == "after":
            observe(epoch, state)
        if count[0] == place and epoch == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if observe is not None and sys.argv[4] == "before":
            observe(epoch, state)
    return finish(*args, killing)

experiment.finish = counted
compare("smoke", out=sys.argv[1])
"""


def results(folder):
    """What a comparison found, but for the clock's."""
    raw = json.loads((folder / "comparison.json").read_text())
    del raw["cost"]
    return raw


def check_same(folder, compared):
    assert results(compared.folder)["alignment"]
    assert results(folder) == results(compared.folder)
    for path in (compared.folder / "runs").iterdir():
        same_bits(cj.load(folder / "runs" / path.name).params, cj.load(path).params)
        assert measured(folder / "runs" / path.name) == measured(path)


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(("place", "epoch", "when"), [(4, 2, "before"), (6, 3, "after")])
def test_a_comparison_that_was_killed_is_resumed_to_the_bit(compared, tmp_path, place, epoch, when):
    folder = tmp_path / "killed"
    words = [sys.executable, "-c", KILLED, folder, str(place), str(epoch), when]
    killed = subprocess.run(words, env=environment(), capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _, (table,) = report_unfinished(folder)
    assert table.title == f"Unfinished comparison: {place - 1} of 8 runs are finished"
    assert "unfinished" in report(folder).read_text()
    finished = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("checkpoints/*")}
    comparing.resume(folder)
    for path, time in list(finished.items())[: 3 * (place - 1)]:
        assert not path.exists() or path.stat().st_mtime_ns == time
    check_same(folder, compared)


def test_runs_that_are_gone_or_hardly_begun_are_trained_again(compared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    with pytest.raises(UserError, match=r"got a comparison that is finished.*capsjax.report"):
        comparing.resume(folder)
    shutil.rmtree(folder / "runs" / "full-seed1")
    shutil.rmtree(folder / "runs" / "stop-seed0")
    (folder / "runs" / "stop-seed0").mkdir()  # killed before its first file
    page = report(folder).read_text()
    assert "full-seed1" in page
    assert "compare --resume" in page
    comparing.resume(folder)
    check_same(folder, compared)


def test_what_does_not_belong_to_a_comparison_is_named(compared, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    (folder / "comparison.json").unlink()
    path = folder / "runs" / "full-seed1"
    (path / "metrics.jsonl").unlink()
    directory.write_config(path, cj.load_config("smoke", {"seed": 7}))
    with pytest.raises(
        UserError, match="full-seed1: got another configuration than the comparison's"
    ):
        comparing.resume(folder)
    with pytest.raises(UserError, match="expected a comparison; resume the comparison that it"):
        comparing.resume(path)
    with pytest.raises(UserError, match="got a comparison, expected a single run; resume the comp"):
        experiment.resume(folder, reporter=Silent())
    data = json.loads((folder / "environment.json").read_text())
    data["data"]["fingerprint"] = "0" * 64
    directory.write_json(folder / "environment.json", data)
    with pytest.raises(UserError, match=r"expected 0{12}\.\.\., that of the data the comparison"):
        comparing.resume(folder)
    assert os.listdir(folder / "runs") == os.listdir(compared.folder / "runs")


def test_a_comparison_on_arrays_of_python_is_resumed_in_python(tmp_path):
    """The command line does not have them, so a command would not be advice."""
    (tmp_path / "runs").mkdir()
    config = cj.load_config("smoke", {"data": {"kind": "arrays"}})
    call, command = advice.how_to_resume(tmp_path, config)
    assert call.startswith("capsjax.resume(")
    assert command == f"in Python, {call}"
    on_digits = advice.how_to_resume(tmp_path, cj.load_config("smoke"))[1]
    assert on_digits == f"capsjax compare --resume {tmp_path}"


def test_what_no_number_depends_on_may_change_while_seeds_are_added():
    before = cj.load_config("smoke")
    given = {"compare.seeds": 3, "training.feed": "grain", "training.eval_batch_size": 7}
    after = cj.load_config("smoke", given)
    comparing._check_grown(before, after, design(after), given)
    other = {**given, "training.batch_size": 7}
    with pytest.raises(UserError, match=r"training\.eval_batch_size, training\.feed alone"):
        comparing._check_grown(before, cj.load_config("smoke", other), design(after), other)
