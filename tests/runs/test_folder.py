"""A directory answers for itself: who reports asks it alone, and nothing is loaded for that."""

import contextlib
import dataclasses
from pathlib import Path

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.runs import directory
from capsjax.runs.folder import Folder
from capsjax.runs.metrics_file import MetricsWriter
from tests.rooms import imports_of

SMOKE = cj.load_config("smoke")
PACKAGE = Path(cj.__file__).parent


@pytest.fixture
def made(tmp_path):
    """What a run of 24 steps leaves that was tested after step 16, and lengthened."""
    directory.write_config(tmp_path, SMOKE)
    data = {"name": "digits", "num_classes": 10}
    directory.write_json(tmp_path / "environment.json", {"python": "3.11", "data": data})
    with contextlib.closing(MetricsWriter(tmp_path / "metrics.jsonl")) as writer:
        writer.write("test", 8, {"loss": 2.0, "error": 0.9})
        writer.write("test", 16, {"loss": 1.0, "error": 0.8})
    (tmp_path / "checkpoints" / "16").mkdir(parents=True)
    return Folder(tmp_path)


def test_it_says_what_was_run_on_what_and_how_far(made):
    assert made.config == SMOKE
    assert made.settings == (made.path / "config.yaml").read_text()
    assert (made.environment["python"], made.data_name, made.num_classes) == ("3.11", "digits", 10)
    assert [line["step"] for line in made.metrics] == [8, 16]
    assert (made.tested["error"], made.step) == (0.8, 16)
    assert (made.is_comparison, made.is_finished_comparison) == (False, False)


def test_metrics_are_those_of_the_moment(made):
    assert made.tested["step"] == 16
    with contextlib.closing(MetricsWriter(made.path / "metrics.jsonl")) as writer:
        writer.write("test", 24, {"loss": 0.5, "error": 0.7})
    assert made.tested["step"] == 24


def test_it_says_how_it_is_resumed(made):
    call, command = made.how_to_resume()
    assert call == f"capsjax.resume({str(made.path)!r})"
    assert command == f"capsjax train --resume {made.path}"
    assert made.how_to_resume({"training.epochs": 9})[1] == f"{command} --training.epochs 9"


def test_of_an_empty_directory_there_is_nothing_to_say(tmp_path):
    nothing = Folder(tmp_path)
    assert (nothing.environment, nothing.metrics) == ({}, [])
    assert (nothing.tested, nothing.step, nothing.stopped, nothing.num_classes) == (None,) * 4
    with pytest.raises(UserError, match=r"a directory without config\.yaml"):
        _ = nothing.config


def test_a_comparison_is_told_by_what_lies_in_it(made):
    (made.path / "runs").mkdir()
    assert (made.is_comparison, made.is_finished_comparison, made.stopped) == (True, False, None)
    (made.path / "comparison.json").write_text("{}")
    assert made.is_finished_comparison


def test_a_run_says_what_its_directory_does(made):
    run = cj.Run(SMOKE, made.path, {}, 1 / 255, (8, 8, 1), 10, 16)
    assert run.directory == made
    assert run.metrics == made.metrics
    assert run.test == made.tested
    assert dataclasses.replace(run, step=8).mismatch() is not None


def test_reports_read_no_file_of_a_run_themselves():
    closed = {"directory", "description", "advice", "lock"}
    for file in (PACKAGE / "reports").glob("*.py"):
        inside, _ = imports_of(PACKAGE, file)
        assert not inside & {f"runs.{name}" for name in closed}, file
        text = file.read_text("utf-8")
        # A link to a file is none of its contents.
        read = ('/ "metrics.jsonl"', '/ "config.yaml"', "read_json", "read_metrics")
        assert not any(name in text for name in read), file
