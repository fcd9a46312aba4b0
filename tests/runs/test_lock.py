"""Two processes never train in one directory; one that is killed keeps nobody out."""

import os
import signal
import subprocess
import sys

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.runs import lock
from capsjax.runs.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from capsjax.runs.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def nothing(line):
    raise AssertionError(line)


def test_a_second_is_refused_until_the_first_is_killed(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(
                UserError, match=rf"process {holder.pid} on .* is training, expected one"
            ),
            locked(tmp_path, nothing),
        ):
            pass
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / ".lock").exists()
    with locked(tmp_path, nothing):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_run_that_trains_is_not_resumed_and_is_read_whole(tmp_path):
    seen = []

    def observe(epoch, state):
        if epoch == 2:
            with pytest.raises(UserError, match="is training, expected one that no other process"):
                cj.resume(tmp_path / "run")
            with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
                file.write('{"split": "train", "step": 16, "lo')  # a line that is being written
                file.flush()
                run = cj.load(tmp_path / "run")
                seen.append((run.step, run.metrics[-1]["step"]))
                file.write('ss": 1.0}\n')

    run = cj.train("smoke", out=tmp_path / "run", observe=observe)
    assert seen == [(16, 16)]
    assert run.test["step"] == 24


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(37, "No locks available")

    told = []
    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path, told.append):
        pass
    assert "this file system has no locks" in told[0]
    monkeypatch.setattr(lock, "fcntl", None)
    with locked(tmp_path, told.append):
        pass
    assert len(told) == 2


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    real, opened = lock._lock, []

    def removed(file, folder):
        opened.append(file)
        if len(opened) == 1:
            (folder / ".lock").unlink()
        return real(file, folder)

    monkeypatch.setattr(lock, "_lock", removed)
    with locked(tmp_path, nothing):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert len(opened) == 2
