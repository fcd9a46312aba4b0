"""Signals that end a process: saved first, a code of their own, never a traceback."""

import os
import signal
import subprocess
import sys
import time

import jax
import pytest

import capsjax as cj
from capsjax import signals
from capsjax.progress import Silent
from capsjax.runs import experiment, finish
from capsjax.runs.metrics_file import read_metrics
from capsjax.training import checkpoints, loop

PATIENCE = 300  # seconds that a process is waited for, which a machine at work elsewhere needs
NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def environment():
    """The environment of a process that shares this one's compiled programs."""
    cache = jax.config.jax_compilation_cache_dir
    return os.environ | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})


def begin(*words, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen([sys.executable, *words], env=environment(), **options)


def wait_for(there, process):
    patience = time.monotonic() + PATIENCE
    while not there():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < patience
        time.sleep(0.05)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("gap", [0.0, 0.05])
def test_in_the_first_seconds_a_line_and_a_code_of_its_own(number, gap, tmp_path):
    """Twice within 50 ms, as wrappers do that pass on what the terminal sent to all."""
    out = tmp_path / "a 'run"
    process = begin("-m", "capsjax", "train", "smoke", "--out", str(out))
    # From when signals are watched, some tens of milliseconds after the process began.
    fields = f"/proc/{process.pid}/status"
    caught = f"{1 << number - 1:x}"[0]

    def watched():
        with open(fields) as file:
            line = next(line for line in file if line.startswith("SigCgt"))
        return int(line.split()[1], 16) >> (signal.SIGHUP - 1) & 1

    wait_for(watched, process)
    time.sleep({"2": 0.0, "4": 0.4, "1": 1.2}[caught])
    process.send_signal(number)
    time.sleep(gap)
    process.send_signal(number)
    out_text, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert out_text == ""
    assert error.count("\n") == 1
    assert "interrupted; what was written stays valid." in error
    assert not out.exists() or "--resume" in error


def test_a_run_saves_where_it_is_and_resumes_to_the_bit(tmp_path):
    """Its reader leaves first: what it says then goes nowhere."""
    folder = tmp_path / "it's here"
    words = ["train", "smoke", "--out", str(folder), "--training.epochs", "100000"]
    listening, writing = os.pipe()
    more = ["--training.checkpoint_every", "100000"]  # all that is saved is saved for the signal
    process = begin("-m", "capsjax", *words, *more, stderr=writing)
    os.close(writing)
    assert os.read(listening, 1)
    os.close(listening)
    metrics = folder / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 8, process)
    process.send_signal(signal.SIGTERM)
    with process:
        assert process.wait(timeout=PATIENCE) == 143
    (step,) = checkpoints.steps(folder / "checkpoints")
    assert step >= read_metrics(metrics)[-1]["step"]
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("epochs: 100000", f"epochs: {step // 8 + 1}", 1))
    resumed = experiment.resume(folder)
    whole = cj.train(cj.load_config(path), out=tmp_path / "whole")
    for name, value in whole.params.items():
        assert (value == resumed.params[name]).all(), name


@pytest.fixture
def short(tmp_path):
    """A configuration of three epochs of eight steps, and what trains it to a place that asks to end."""
    config = cj.load_config("smoke", {"training.log_every": 4})
    return config, tmp_path / "run"


@pytest.mark.parametrize("place", ["within an epoch", "while it validates", "at its end"])
def test_metrics_and_parameters_of_a_stopped_run_are_those_of_a_whole_one(
    place, short, tmp_path, monkeypatch
):
    config, folder = short
    whole = cj.train(config, out=tmp_path / "whole")
    calls, evaluate = [], finish.evaluate

    class Watching(Silent):
        def update(self, done, note=""):
            if place == "within an epoch" and done == 12:
                os.kill(os.getpid(), signal.SIGINT)

    def evaluating(*arguments, **options):
        calls.append("validation")
        if place == "while it validates" and calls.count("validation") == 2:
            os.kill(os.getpid(), signal.SIGINT)
        found = evaluate(*arguments, **options)
        if place == "at its end" and calls.count("validation") == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(finish, "evaluate", evaluating)
        patch.setattr(loop._Pace, "SECONDS", 0.0)
        with pytest.raises(signals.Interrupted) as caught:
            cj.train(config, out=folder, reporter=Watching())
    assert caught.value.number == signal.SIGINT
    assert not signals.asked()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "capsjax train --resume" in caught.value.__notes__[0]
    stopped = {"within an epoch": 12, "while it validates": 16, "at its end": 24}[place]
    assert checkpoints.steps(folder / "checkpoints")[-1] == stopped
    resumed = experiment.resume(folder)
    for name, value in whole.params.items():
        assert (value == resumed.params[name]).all(), name
    varying = {"images_per_second"}
    for one, other in zip(whole.metrics, resumed.metrics, strict=True):
        assert {k: v for k, v in one.items() if k not in varying} == {
            k: v for k, v in other.items() if k not in varying
        }


HELD = """
import sys, time
from capsjax import signals
if "patient" in sys.argv:
    signals.ONE = 60.0
signals.install()
signals.advise("Resume with: this", "it")
with signals.held():
    print("up", flush=True)
    while not signals.asked():
        time.sleep(0.01)
    print("asked", flush=True)
    while "deaf" in sys.argv:
        time.sleep(0.01)
    print("saved", flush=True)
"""


def test_a_second_signal_ends_at_once_and_twice_at_once_is_one():
    process = begin("-c", HELD, "deaf")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    time.sleep(2 * signals.ONE)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (143, "")
    assert error == "it: interrupted; what was written stays valid. Resume with: this\n"
    process = begin("-c", HELD, "patient")
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE)[0] == "asked\nsaved\n"


def test_what_a_process_is_started_to_ignore_stays_ignored():
    """As by nohup, or in the background of a script."""
    code = f"""
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
exec({HELD!r})
"""
    process = begin("-c", code)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE)[0] == "asked\nsaved\n"


def test_a_signal_that_comes_while_a_process_begins_anew_is_not_lost():
    code = """
import os, signal, sys
from capsjax import signals
if "again" not in sys.argv:
    with signals.kept():
        os.kill(os.getpid(), signal.SIGTERM)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], sys.argv[1], "again"])
signals.install()
signal.pause()
"""
    with begin("-c", code, code) as process:
        assert process.wait(timeout=PATIENCE) == 143


class TestInAScript:
    """Where nobody installed anything, SIGINT alone is held back, and once."""

    def test_who_asks_is_told(self, monkeypatch):
        monkeypatch.setattr(signals, "ONE", 60.0)  # however long this process may have to wait

        def ask():
            with signals.held():
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)  # the same one, passed on
                assert signals.asked()
                signals.check()

        with pytest.raises(signals.Interrupted):
            ask()
        signals.check()

    def test_a_second_one_is_an_interrupt(self, monkeypatch):
        monkeypatch.setattr(signals, "ONE", 0.0)

        def insist():
            with signals.held():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)

        with pytest.raises(KeyboardInterrupt) as caught:
            insist()
        assert not isinstance(caught.value, signals.Interrupted)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_one_that_nobody_asked_for_is_told_at_the_end(self):
        with pytest.raises(signals.Interrupted), signals.held():
            os.kill(os.getpid(), signal.SIGINT)

    def test_a_handler_of_one_s_own_stays(self, monkeypatch):
        seen = []
        before = signal.signal(signal.SIGINT, lambda *_: seen.append("mine"))
        try:
            with signals.held():
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)
        assert seen == ["mine"]


def test_a_whole_has_its_advice_and_its_parts_have_none():
    signals.advise("Start again", "it")
    signals.advise("Resume the whole", whole=True)
    signals.advise("Resume a part")
    assert signals.interrupted().endswith("Resume the whole")
    signals.advise("Start again", "another")
    signals.advise("Resume a part")
    assert signals.interrupted() == (
        "another: interrupted; what was written stays valid. Resume a part"
    )
