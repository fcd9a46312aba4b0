"""A command that is interrupted says what stays, and how to resume."""

import os
import signal

from tests.cli.test_cli import _own_folder as _own_folder
from tests.cli.test_cli import answer


def test_a_run_that_is_interrupted_is_named(capsys, monkeypatch, tmp_path):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("capsjax.runs.finish.fit", interrupt)
    code, _, err = answer(capsys, "train", "smoke", "--out", tmp_path / "mine")
    assert code == 130
    assert err[-1].endswith(f"Resume with: capsjax train --resume {tmp_path / 'mine'}")


def test_a_comparison_that_is_interrupted_names_no_resume(capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("capsjax.cli.compare.read", interrupt)
    code, _, err = answer(capsys, "compare", "smoke", "--out", "it's", "--seed", "3")
    assert code == 130
    assert err[-1].endswith(
        "what was written stays valid. Start again with: capsjax compare smoke --seed 3"
    )


def test_a_command_leaves_signals_as_it_found_them(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)

    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.setattr("capsjax.cli.compare.read", interrupted)
    code, _, _ = answer(capsys, "compare", "smoke")
    assert code == 130
    assert [signal.getsignal(number) for number in numbers] == before
