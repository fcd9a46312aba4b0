"""The command line: what it says, where, and with which exit code."""

import contextlib
import errno
import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax import cli
from capsjax.checks import UserError
from capsjax.runs import evaluation, experiment
from capsjax.runs.metrics_file import read_metrics
from capsjax.signals import Interrupted
from capsjax.training import checkpoints

QUICK = ["--compare.modes", "[stop, full]", "--compare.seeds", "1"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Work in an empty folder, and leave the user's caches alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("CAPSJAX_DATA", raising=False)


def environment():
    """The environment of a process that shares this one's compiled programs."""
    cache = jax.config.jax_compilation_cache_dir
    return os.environ | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`capsjax train smoke` as a process in an empty folder, its output piped."""
    place = tmp_path_factory.mktemp("empty")
    command = [sys.executable, "-m", "capsjax.cli", "train", "smoke"]
    options = {"env": environment(), "capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, cwd=place, **options)
    (folder,) = (place / "runs").iterdir()
    return done, folder


def answer(capsys, *argv):
    """Run a command in this process; return its exit code, output lines and error lines."""
    try:
        code = cli.main([str(word) for word in argv])
    except SystemExit as stopped:
        code = stopped.code
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def test_a_process_trains_and_says_where(trained):
    done, folder = trained
    assert done.returncode == 0, done.stderr
    test = read_metrics(folder / "metrics.jsonl")[-1]
    assert done.stdout.splitlines() == [
        f"test error {100 * test['error']:.2f} % on 500 images",
        f"run: runs/{folder.name}",
    ]
    assert re.fullmatch(r"smoke-\d{8}T\d{6}Z", folder.name)
    command = json.loads((folder / "environment.json").read_text())["command"]
    assert command[-2:] == ["train", "smoke"]


def test_in_a_pipe_progress_is_plain_lines(trained):
    lines = trained[0].stderr.splitlines()
    name = trained[1].name
    assert lines[:2] == ["compiling", f"{name} 0/24"]
    assert re.fullmatch(rf"{name} 24/24 loss [\d.]+, validation error [\d.]+ %", lines[-1])
    assert len(lines) < 20
    assert "\x1b" not in trained[0].stderr


def test_the_process_is_the_same_run_as_the_call(trained, tmp_path):
    one_device = json.loads((trained[1] / "environment.json").read_text())["devices"]
    assert len(one_device) == 4
    run = cj.train("smoke", out=tmp_path / "run")
    for name, value in cj.load(trained[1]).params.items():
        assert (value == run.params[name]).all()


def read_all(main):
    """Return what the far side of a pseudo-terminal sees until it is closed."""
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(main, 65536):
            shown += part
    return shown.decode()


def through(kind, monkeypatch, argv):
    """Run a command in this process with standard error on a terminal or a pipe; return what it got."""
    reading, writing = pty.openpty() if kind == "terminal" else os.pipe()
    shown = []
    reader = threading.Thread(target=lambda: shown.append(read_all(reading)))
    reader.start()
    with os.fdopen(writing, "w") as stream, monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stderr", stream)
        code = cli.main([str(word) for word in argv])
    reader.join()
    os.close(reading)
    assert code == 0, shown
    return shown[0]


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (["train", "smoke", "--out", "run"], ["run", "24/24", "validation error"]),
        (["evaluate", "RUN"], ["evaluating", "8/8"]),
        (
            ["compare", "smoke", "--out", "out", *QUICK],
            ["2/2 full, seed 0: test error", "timing a step", "3/3"],
        ),
    ],
    ids=["train", "evaluate", "compare"],
)
@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_progress_is_a_bar_on_a_terminal_and_lines_in_a_pipe(
    kind, command, parts, trained, monkeypatch, capsys
):
    command = [trained[1] if word == "RUN" else word for word in command]
    shown = through(kind, monkeypatch, command)
    for part in parts:
        assert part in shown
    assert ("━" in shown) == (kind == "terminal")
    assert ("\x1b[?25l" in shown) == (kind == "terminal")
    if kind == "terminal":
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back
    else:
        assert re.search(r"^(run|evaluating|stop-seed0) 0/(24|8)$", shown, re.M)
    out = capsys.readouterr().out
    if command[0] == "compare":
        assert "out/report.html" in out
        assert re.search(r"full\s+│", out)
    else:
        assert "test error" in out


TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "capsjax.cli", *sys.argv[1:]])
"""


def test_ctrl_c_ends_a_run_that_can_be_resumed(tmp_path):
    folder = tmp_path / "run"
    argv = ["train", "smoke", "--out", str(folder), "--training.epochs", "100000"]
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *argv],
        stdin=side,
        stdout=side,
        stderr=side,
        env=environment() | {"TERM": "xterm"},
    )
    os.close(side)
    shown = []
    reader = threading.Thread(target=lambda: shown.append(read_all(main)))
    reader.start()
    patience = time.monotonic() + 300
    while not checkpoints.steps(folder / "checkpoints"):
        assert process.poll() is None, shown
        assert time.monotonic() < patience
        time.sleep(0.1)
    os.write(main, b"\x03")
    assert process.wait(timeout=300) == 130
    reader.join()
    os.close(main)
    text = shown[0].replace("\r\n", "\n")
    assert "Traceback" not in text
    assert "━" in text
    last = text.replace("\x1b[?25h", "").strip().splitlines()[-1]
    assert last.endswith(
        "capsjax train: interrupted; what was written stays valid. "
        f"Resume with: capsjax train --resume {folder}"
    )
    assert "preparing" in text
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 4
    newest = checkpoints.steps(folder / "checkpoints")[-1]
    assert cj.load(folder).params.keys() == evaluation.load(folder).params.keys()
    # The epoch that was cut off, whose state an interrupt saves too, ends the run.
    path = folder / "config.yaml"
    epochs = newest // 8 + 1
    path.write_text(path.read_text().replace("epochs: 100000", f"epochs: {epochs}"))
    assert experiment.resume(folder).test["step"] == 8 * epochs


def test_a_full_disk_is_said_in_a_line_and_spoils_nothing(capsys, tmp_path):
    folder, before = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        code, out, err = answer(capsys, "train", "smoke", "--out", folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert out == []
    assert err[-1] == (
        f"capsjax train: {folder}/checkpoints: {os.strerror(errno.EFBIG)}; what was written before "
        f"stays valid. Make room or choose another place. Resume with: capsjax train --resume {folder}"
    )
    assert "Traceback" not in "\n".join(err)
    assert [line["step"] for line in read_metrics(folder / "metrics.jsonl")] == [4, 8, 8]
    assert checkpoints.steps(folder / "checkpoints") == []
    code, out, _ = answer(capsys, "train", "--resume", folder)
    assert code == 0
    assert out[-1] == f"run: {folder}"


def test_a_place_that_cannot_be_written(capsys):
    code, out, err = answer(capsys, "train", "smoke", "--out", "/proc/run")
    assert (code, out, len(err)) == (2, [], 1)
    assert "--out: got '/proc/run', which cannot be made" in err[0]


def test_evaluate_repeats_the_run_s_own_test(trained, capsys):
    done, folder = trained
    code, out, _ = answer(capsys, "evaluate", folder)
    assert code == 0
    assert out[0].startswith(done.stdout.splitlines()[0] + ", loss ")
    assert answer(capsys, "evaluate", folder, "--step", "24")[1] == out
    assert answer(capsys, "evaluate", folder, "--step", "16")[1][0].endswith("after step 16")


def test_resume_ends_a_run_and_refuses_a_finished_one(trained, capsys, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained[1], folder)
    shutil.rmtree(folder / "checkpoints" / "24")
    path = folder / "metrics.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if '"step": 24' not in line]
    path.write_text("".join(kept))
    code, out, err = answer(capsys, "train", "--resume", folder)
    assert code == 0
    assert out == [trained[0].stdout.splitlines()[0], f"run: {folder}"]
    assert err[:2] == ["compiling", "copy 16/24"]
    code, _, err = answer(capsys, "train", "--resume", folder)
    assert code == 2
    assert "got a run that is finished" in err[0]


@pytest.mark.usefixtures("unpainted")
def test_a_file_of_arrays_serves_every_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("x.npz", images=rng.random((500, 8, 8), np.float32), labels=np.arange(500) % 10)
    data = ["--data.kind", "arrays", "--data.path", "x.npz"]
    brief = ["--training.epochs", "null", "--training.steps", "1", *data]
    code, out, _ = answer(capsys, "train", "smoke", "--out", "run", *brief)
    assert code == 0
    test, _ = out
    Path("x.npz").rename("moved.npz")
    code, _, err = answer(capsys, "evaluate", "run")
    assert code == 2
    assert err[0].startswith(f"capsjax evaluate: data.path: got '{tmp_path}/x.npz', no such file")
    code, out, _ = answer(capsys, "evaluate", "run", "--data.path", "moved.npz")
    assert (code, out[0].partition(", loss")[0]) == (0, test)
    code, out, _ = answer(capsys, "evaluate", "run", "--data", "moved.npz")
    assert (code, out[0].partition(", loss")[0]) == (0, test)
    code, out, _ = answer(capsys, "evaluate", "run", "--data", "moved.npz", "--split", "all")
    assert (code, " on 500 images" in out[0]) == (0, True)
    code, _, err = answer(capsys, "evaluate", "run", "--data", "gone.npz")
    assert code == 2
    assert "got 'gone.npz', no such file or folder, expected a folder with" in err[0]
    assert answer(capsys, "report", "run", "--data.path", "moved.npz")[0] == 0
    code, _, err = answer(capsys, "evaluate", "run", "--training.epochs", "3")
    assert code == 2
    assert err[0].startswith(
        "capsjax evaluate: --training.epochs: got it beside a run, expected flags"
    )
    assert answer(capsys, "info", "smoke", *data[:2], "--data.path", "moved.npz")[0] == 0
    quick = [*brief[:4], *data[:2], "--data.path", "moved.npz", *QUICK]
    assert answer(capsys, "compare", "smoke", "--out", "compared", *quick)[0] == 0


def test_report_draws_a_run(trained, capsys):
    code, out, _ = answer(capsys, "report", trained[1])
    assert code == 0
    assert out[-1] == f"report: {trained[1]}/report.html"
    assert (trained[1] / "report.html").exists()
    assert any("validation" in line for line in out)


def test_report_of_several_is_one_page(trained, capsys, tmp_path, monkeypatch):
    shutil.copytree(trained[1], tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    code, out, _ = answer(capsys, "report", trained[1], "copy")
    assert code == 0
    (page,) = (tmp_path / "runs").glob("report-*/report.html")
    assert out[-1] == f"report: {page.relative_to(tmp_path)}"
    assert out[0].startswith("Last errors of every arm")
    code, out, _ = answer(capsys, "report", trained[1], "copy", "--out", "both")
    assert (code, out[-1]) == (0, "report: both/report.html")
    code, out, err = answer(capsys, "report", "copy", "--out", "one")
    assert (code, out) == (2, [])
    assert "got --out with one directory, whose report goes into it: copy" in err[0]
    code, out, err = answer(capsys, "report", "copy", "copy")
    assert (code, out) == (2, [])
    assert "expected at least two" in err[0]


def test_info_shows_versions_devices_and_configurations(capsys, monkeypatch):
    monkeypatch.setenv("CAPSJAX_DATA", "/somewhere")
    code, out, _ = answer(capsys, "info")
    text = "\n".join(out)
    assert code == 0
    for part in (
        f"capsjax {cj.__version__}",
        f"jax {jax.__version__}",
        "devices: cpu",
        "/somewhere",
    ):
        assert part in text
    for name in ("digits", "mnist_sabour2017", "mnist_small", "smoke"):
        (says,) = re.findall(rf"^  {name} +(\w.*)$", text, re.M)
        assert says.endswith("."), says  # a whole sentence
        assert len(says) <= 100, says


def test_info_shows_what_a_configuration_comes_to(capsys):
    code, out, _ = answer(capsys, "info", "smoke", "--seed", "3", "--model.decoder", "null")
    assert code == 0
    assert "seed: 3" in out
    assert "parameters: 656" in out
    told = [line.split(maxsplit=2) for line in out[out.index("parameters: 656") + 1 :]]
    assert told == [
        ["stem", "40", "features [3, 3, 4]"],
        ["primary", "296", "capsules [2, 4]"],
        ["classes", "320", "capsules [10, 4]"],
    ]


def test_the_version(capsys):
    assert answer(capsys, "--version") == (0, [f"capsjax {cj.__version__}"], [])


def test_a_mistake_in_a_process(tmp_path):
    (tmp_path / "mine.yaml").write_text("data: digits\ntraining: {epochs: 1}\nsed: 3\n")
    command = [sys.executable, "-m", "capsjax", "train", "mine.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "capsjax train: mine.yaml: sed: unknown key, with value 3\n"
        "  expected one of data, training, model, seed, max_shift, augment, loss, "
        "metrics, optimiser, compare; "
        "did you mean 'seed'?\n"
    )


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/here"),
            1,
            "/here: No space left on device",
        ),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), 1, "Read-only file system"),
        (KeyboardInterrupt(), 130, "interrupted; what was written stays valid"),
        (Interrupted(15), 143, "interrupted; what was written stays valid"),
        (UserError("got a, expected b"), 2, "got a, expected b"),
    ],
    ids=["full", "read-only", "interrupted", "ended", "mistake"],
)
def test_errors_have_their_exit_codes(error, code, said, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(experiment, "train", fail)
    found, out, err = answer(capsys, "train", "smoke")
    assert (found, out) == (code, [])
    assert said in "\n".join(err)
    assert len(err) == 1


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(experiment, "train", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "smoke"])


CACHE = """
import gc, os, jax
from capsjax.cli import steps
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
steps.start_jax()
print(jax.config.jax_compilation_cache_dir)
del os.environ["JAX_ENABLE_COMPILATION_CACHE"]
steps.start_jax()
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_compilation_cache_dir", "mine")
steps.start_jax()
print(jax.config.jax_compilation_cache_dir)
print(gc.get_freeze_count())
"""


def test_programs_are_kept_in_the_user_s_cache_and_imports_out_of_the_garbage(tmp_path):
    known = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    known.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", CACHE], env=known, capture_output=True, text=True, check=True
    )
    first, second, third, frozen = done.stdout.split()
    assert first == "None"
    assert second.startswith(str(tmp_path))
    assert second.endswith("capsjax/compiled")
    assert third == "mine"
    assert int(frozen) > 50_000
