"""Runs in several processes: the same bits, one progress, and a ledger to resume from whatever ends them."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

import capsjax as cj
import capsjax.study.compare as compare
from capsjax.checks import UserError
from capsjax.data import Digits
from capsjax.progress import Silent
from capsjax.runs import directory
from capsjax.runs.lock import locked
from capsjax.study import pool, worker
from capsjax.study.compare import resume
from capsjax.study.design import design
from capsjax.study.ledger import read_ledger, trials_of
from capsjax.study.remaining import ParallelProgress
from capsjax.study.trial_runner import TrialRunner
from capsjax.study.wire import Worker
from tests.comparison import Record
from tests.runs.test_experiment import environment
from tests.study.test_resumed_comparison import check_same

THREE = ("stop-seed0", "truncated-seed1", "full-seed1")


def ledger(folder):
    config = directory.read_config(folder)
    return {e.trial.path.name: e for e in read_ledger(folder, config, design(config))}


@pytest.fixture
def unfinished(compared, tmp_path):
    """A comparison of which three runs are missing."""
    folder = tmp_path / "copy"
    shutil.copytree(compared.folder, folder)
    (folder / "comparison.json").unlink()
    for name in THREE:
        shutil.rmtree(folder / "runs" / name)
    return folder


def test_a_worker_that_is_killed_fails_its_run_and_the_results_are_those_of_one_process(
    compared, unfinished, monkeypatch
):
    listen, variables = Worker.listen, []

    def killing(worker):
        told = listen(worker)  # from here on: before, its environment may be empty
        trial = worker.trial
        if trial is not None and trial.path.name == "truncated-seed1" and not variables:
            variables.append(Path(f"/proc/{worker._process.pid}/environ").read_bytes().split(b"\0"))
            os.kill(worker._process.pid, signal.SIGKILL)
        return told

    record = Record()
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "listen", killing)
        resume(unfinished, reporter=record, jobs=2)
    assert f"NPROC={len(pool.available_cores())}".encode() in variables[0]
    entries = ledger(unfinished)
    assert entries["truncated-seed1"].state == "failed"
    assert entries["truncated-seed1"].why.startswith("its process was ended by SIGKILL")
    assert [entries[name].state for name in ("stop-seed0", "full-seed1")] == ["done", "done"]
    said = [line for line in record.told if isinstance(line, str)]
    assert len(said) == 3
    assert any("truncated, seed 1: failed: its process was ended" in line for line in said)
    assert record.told[0] == ("3 runs", 72, 0)
    resume(unfinished, jobs=2)  # a single run is left, so in this process
    check_same(unfinished, compared)


def test_an_interrupt_saves_what_every_process_trains(tmp_path):
    folder = tmp_path / "it"
    flags = ["--training.epochs", "2000", "--compare.modes", "[stop, full]", "--jobs", "2"]
    words = [sys.executable, "-m", "capsjax", "compare", "smoke", "--out", str(folder), *flags]
    written = [folder / "runs" / f"{arm}-seed0" / "metrics.jsonl" for arm in ("stop", "full")]
    with subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if all(path.exists() and path.stat().st_size for path in written):
                break  # both have taken steps; before, there is nothing to save
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait() == 130, (lines, rest)
    assert f"Resume with: capsjax compare --resume {folder}" in rest
    entries = ledger(folder)
    for name in ("stop-seed0", "full-seed0"):
        assert entries[name].state == "pending"
        assert entries[name].step > 0
        assert not (entries[name].trial.path / ".lock").exists()
    assert entries["stop-seed1"].step is None


@pytest.mark.parametrize(("busy", "named"), [("", r"copy"), ("runs/full-seed1", r"full-seed1")])
def test_what_another_process_trains_is_waited_for(unfinished, busy, named):
    """A second resumption, and one that comes before the processes of the first have saved and ended."""
    (unfinished / "runs" / "full-seed1").mkdir()
    with (
        locked(unfinished / busy, print),
        pytest.raises(
            UserError, match=rf"{named}: got a directory in which process {os.getpid()} "
        ),
    ):
        resume(unfinished)
    assert [ledger(unfinished)[name].state for name in THREE] == ["pending"] * 3


def test_a_worker_ends_when_the_process_that_asked_is_gone(monkeypatch):
    signals, asked = [], SimpleQueue()
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"seed": 0}\n'))  # which ends there
    monkeypatch.setattr(os, "kill", lambda *process_and_signal: signals.append(process_and_signal))
    worker._listen(asked)
    assert [asked.get(), asked.get()] == [{"seed": 0}, None]
    assert signals == [(os.getpid(), signal.SIGTERM)]


def test_cores_are_parted_among_processes():
    assert pool.partition_cores([0, 1], 2) == [[0], [1]]
    assert pool.partition_cores([2, 3, 5, 7, 8], 2) == [[2, 3], [5, 7, 8]]
    assert pool.partition_cores([4, 6], 3) == [[4], [6], [4]]
    if hasattr(os, "sched_getaffinity"):
        assert set(pool.available_cores()) == os.sched_getaffinity(0)


def test_jobs_are_refused_where_processes_cannot_do_them(monkeypatch):
    class Own(cj.GradientMode):
        pass

    Own.__module__ = "__main__"
    with pytest.raises(UserError, match="jobs: got 2 with Own, which this script or notebook"):
        pool.check_jobs(2)
    assert "__main__" in pool.check_jobs(1)
    Own.__module__ = "capsjax.own"
    with pytest.raises(UserError, match="jobs: got 0, expected at least 1"):
        pool.check_jobs(0)
    monkeypatch.setattr(pool.jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="jobs: got 2 on gpu, expected 1"):
        pool.check_jobs(2)


def test_as_many_processes_as_pay(unfinished, monkeypatch):
    config = directory.read_config(unfinished)
    runner = TrialRunner(config, design(config))
    trials = trials_of(unfinished, config, design(config))
    missing = [trial for trial in trials if trial.path.name in THREE]
    monkeypatch.setattr(pool, "available_cores", lambda: [0, 1, 4, 5])
    monkeypatch.setattr(pool.room, "available", lambda: 100e9)
    assert pool.jobs_that_pay(missing, runner) == 1  # 72 steps: no process is worth its start
    monkeypatch.setattr(pool, "FEWEST_STEPS", 72)
    assert pool.jobs_that_pay(missing, runner) == 2
    assert pool.jobs_that_pay(missing[:1], runner) == 1  # no more than there are runs
    assert pool.jobs_that_pay([], runner) == 1
    for memory in (7.9e9, np.inf):
        with monkeypatch.context() as patch:
            patch.setattr(pool.room, "available", lambda memory=memory: memory)
            assert pool.jobs_that_pay(missing, runner) == 1
    with monkeypatch.context() as patch:
        asked = []
        patch.setattr(compare, "in_processes", lambda *given: asked.append(given[2]))
        patch.setattr(compare, "write_results", lambda *given: None)
        resume(unfinished, jobs=None)
        assert asked == [2]
    # Two of the runs are done: their steps are not left.
    monkeypatch.setattr(pool, "FEWEST_STEPS", 73)
    done = [trial for trial in trials if trial.path.name not in THREE]
    assert pool.jobs_that_pay(missing + done[:2], runner) == 1
    monkeypatch.setattr(pool, "FEWEST_STEPS", 72)
    with monkeypatch.context() as patch:
        patch.setattr(pool, "LARGEST", 1000)
        assert pool.jobs_that_pay(missing, runner) == 1
    monkeypatch.setattr(pool.jax, "default_backend", lambda: "gpu")
    assert pool.jobs_that_pay(missing, runner) == 1


def test_own_arrays_are_handed_over_as_they_are(tmp_path):
    digits = Digits().load()
    config = cj.load_config("smoke")
    runner = TrialRunner(config, design(config), digits)
    assert TrialRunner(config, design(config)).own_data() is None
    found = pool.read_data(pool._hand_over(tmp_path, runner))
    assert found.fingerprint() == digits.fingerprint()
    assert found.name == digits.name
    np.testing.assert_array_equal(found.validation.images, digits.validation.images)


class Heard(Silent):
    """Keep what is told."""

    def __init__(self):
        self.told = []

    def start(self, label, total, done=0):
        self.told.append((label, total))

    def update(self, done, note=""):
        self.told.append((done, note))

    def say(self, line):
        self.told.append(line)


def test_runs_that_go_on_at_once_are_told_of_together():
    heard, now = Heard(), [0.0]
    progress = ParallelProgress(heard, {"a": 100, "b": 60}, clock=lambda: now[0])
    progress.start("a", "reading", 3, 0)
    progress.start("a", "a", 100, 0)
    progress.start("b", "b", 100, 40)  # resumed
    now[0] = 40.0
    progress.update("a", 30, "loss 1")
    progress.update("b", 50, "loss 2")
    progress.end("b", "1/2 b")
    progress.update("a", 100, "")
    progress.end("a", "2/2 a")
    assert heard.told == [
        ("2 runs", 160),
        (30, "a 30 % loss 1, b, 3 min left in all"),
        (40, "a 30 % loss 1, b 17 % loss 2, 2 min left in all"),
        "1/2 b, 31 s left in all",
        (90, "a 30 % loss 1, 31 s left in all"),
        (160, "a 100 %"),
        "2/2 a",
        (160, ""),
    ]


def test_a_worker_s_words_may_come_in_pieces():
    worker = Worker.__new__(Worker)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        worker._heard = b""
        worker._process = type("Process", (), {"stdout": stream})
        os.write(writing, b'{"event": "say"}\n{"eve')
        assert worker.listen() == [{"event": "say"}]
        os.write(writing, b'nt": "end"}\n')
        assert worker.listen() == [{"event": "end"}]
        os.close(writing)
        assert worker.listen() is None
