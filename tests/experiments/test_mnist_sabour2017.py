"""The runs of the paper's ablation: every one that was started is listed, and goes on where it stopped."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import capsjax as cj
from capsjax.cli.flags import parse_overrides

EXPERIMENT = Path(__file__).resolve().parents[2] / "experiments" / "mnist_sabour2017"


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENT))
    import run

    yield run
    sys.modules.pop("run")


def finished(out, driver, row, seed, error, config="mnist_sabour2017"):
    driver.settle(out, config, [])
    folder = driver.folder_of(out, row, seed)
    folder.mkdir(parents=True)
    lines = [{"split": "train", "error": 0.5}, {"split": "test", "error": error}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    driver.note(out, row, seed, "finished")


def test_every_row_is_a_configuration_of_its_own(driver):
    plain = cj.load_config("mnist_sabour2017")
    found = []
    for row in driver.ROWS:
        words = driver.command("mnist_sabour2017", Path("nowhere"), row, 7, [])
        flags = words[words.index("nowhere") + 1 :]
        found.append(cj.load_config("mnist_sabour2017", parse_overrides(flags)))
    assert found[0] == plain
    assert len(set(found)) == len(driver.ROWS)


def test_runs_go_seed_by_seed_and_finished_ones_are_not_repeated(driver, tmp_path):
    finished(tmp_path, driver, "full", 0, 0.0025)
    assert list(driver.pending(tmp_path, ["full", "stop"], [0, 1])) == [
        ("stop", 0),
        ("full", 1),
        ("stop", 1),
    ]
    begun = driver.folder_of(tmp_path, "stop", 0)
    assert "--resume" not in driver.command("x", begun, "stop", 0, ["--training.steps", "5"])
    begun.mkdir()
    assert driver.command("x", begun, "stop", 0, [])[-2:] == ["--resume", str(begun)]


def test_the_table_lists_every_run_that_was_started(driver, tmp_path):
    for seed, (full, stop) in enumerate([(0.0025, 0.0029), (0.0027, 0.0033)]):
        finished(tmp_path, driver, "full", seed, full)
        finished(tmp_path, driver, "stop", seed, stop)
    driver.note(tmp_path, "full", 2, "started")
    driver.note(tmp_path, "r=1", 0, "stopped")
    rows = {row[0]: row[1:] for row in driver.table(tmp_path).rows}
    assert rows["full"] == (
        "0: 0.25, 1: 0.27, 2: not finished",
        "0.260 ± 0.014",
        "",
        "0.25 ± 0.005",
    )
    assert rows["stop"][1] == "0.310 ± 0.028"
    assert rows["stop"][2].startswith("+0.050 (-0.077 to +0.177, 2 seeds)")
    assert rows["r=1"][0] == "0: not finished"


def test_a_run_that_takes_too_long_is_stopped_and_one_that_fails_is_told_apart(driver):
    wait = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: raise SystemExit(1)"
    assert driver.carry_out([sys.executable, "-c", wait], 1.0) == "stopped"
    assert driver.carry_out([sys.executable, "-c", "raise SystemExit(2)"], 60) == "failed"


def test_the_paper_stands_beside_its_own_configuration_only(driver, tmp_path):
    finished(tmp_path, driver, "full", 0, 0.0025, "smoke")
    table = driver.table(tmp_path)
    assert table.title.startswith("--config smoke: last parameters")
    assert "paper" not in table.headings
    assert table.rows == (("full", "0: 0.25", "0.250", ""),)


def test_other_flags_than_a_directory_began_with_are_refused(driver, tmp_path):
    driver.settle(tmp_path, "smoke", ["--training.epochs", "1"])
    driver.settle(tmp_path, "smoke", ["--training.epochs", "1"])
    message = "got --config smoke --training.epochs 2, expected --config smoke --training.epochs 1"
    with pytest.raises(SystemExit, match=message):
        driver.settle(tmp_path, "smoke", ["--training.epochs", "2"])


INTERRUPTED = """
import sys
sys.path.insert(0, sys.argv[1])
import run
child = "import signal, time\\ntry: print('up', flush=True), time.sleep(60)\\n"
child += "except KeyboardInterrupt: print('down', flush=True)"
print(run.carry_out([sys.executable, "-c", child], 60.0), flush=True)
"""


def test_an_interrupt_of_the_script_alone_ends_what_it_runs():
    words = [sys.executable, "-c", INTERRUPTED, str(EXPERIMENT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().split() == ["down", "interrupted"]


def test_a_run_from_its_start_to_the_table(driver, tmp_path, monkeypatch, capsys):
    out = tmp_path / "runs"
    words = ["run.py", "--out", str(out), "--config", "smoke", "--rows", "stop", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", [*words, "--training.epochs", "1"])
    driver.main()
    driver.main()  # nothing is left to do
    events = [line["event"] for line in driver.ledger_of(out)]
    assert events == ["started", "finished"]
    config = cj.load_config(out / "stop-seed3" / "config.yaml")
    assert (config.seed, config.training.epochs) == (3, 1)
    assert config.model.routing.gradient == cj.StopGradient()
    assert "3: " in capsys.readouterr().out
    assert "| stop | 3: " in (out / "table.md").read_text()
