"""Large pages of memory: asked for once, where they can be had, and never twice."""

import os
import subprocess
import sys

import pytest

from capsjax import cli
from capsjax.cli import memory


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """A machine that gives large pages to who asks."""
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    monkeypatch.setattr(memory, "SETTING", path)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    return path


class TestWanted:
    def test_where_they_can_be_had(self, setting):
        assert memory.wanted({}, setting)
        assert memory.wanted({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, setting)

    def test_not_where_they_are_had_or_declined(self, setting):
        assert not memory.wanted({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, setting)
        assert not memory.wanted({"CAPSJAX_HUGE_PAGES": "0"}, setting)

    @pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
    def test_not_where_asking_changes_nothing(self, setting, text):
        setting.write_text(text)
        assert not memory.wanted({}, setting)
        setting.unlink()
        assert not memory.wanted({}, setting)

    @pytest.mark.parametrize("library", [("", ""), ("glibc", "2.31"), ("musl", "1.2")])
    def test_not_with_another_library(self, setting, library, monkeypatch):
        monkeypatch.setattr("platform.libc_ver", lambda: library)
        assert not memory.wanted({}, setting)


class TestRestart:
    @pytest.fixture
    def started(self, setting, monkeypatch):
        """What would have been started, in the place of this process."""
        calls = []
        monkeypatch.setattr(os, "execv", lambda *arguments: calls.append(arguments))
        monkeypatch.setattr(cli, "main", lambda: 0)
        # Set before it is deleted, so that what the test leaves behind is undone.
        monkeypatch.setenv("GLIBC_TUNABLES", "")
        monkeypatch.delenv("GLIBC_TUNABLES")
        monkeypatch.delenv("CAPSJAX_HUGE_PAGES", raising=False)
        return calls

    @pytest.mark.parametrize(
        ("words", "times"),
        [
            (["train", "digits"], 1),
            (["bench", "routing"], 1),
            (["train", "--help"], 0),
            (["info", "digits"], 0),
            ([], 0),
        ],
    )
    def test_only_commands_that_compute(self, words, times, started, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["capsjax", *words])
        assert cli.run() == 0
        assert len(started) == times

    def test_what_the_user_set_stays(self, started, monkeypatch):
        monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
        memory.restart_with_large_pages()
        assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
        assert started == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
        memory.restart_with_large_pages()
        assert len(started) == 1

    def test_the_same_command_with_the_same_words(self, setting):
        """A process that starts itself anew is given its own command line again, just once."""
        code = (
            "import sys, os; from capsjax.cli import memory; from pathlib import Path\n"
            f"memory.SETTING = Path({str(setting)!r})\n"
            "memory.platform.libc_ver = lambda: ('glibc', '2.36')\n"
            "print(os.getpid(), 'begins', flush=True); memory.restart_with_large_pages()\n"
            "print(os.getpid(), sys.argv[1:], os.environ['GLIBC_TUNABLES'])\n"
        )
        env = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
        done = subprocess.run(
            [sys.executable, "-c", code, "a b", "--c"],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        first, second, last = done.stdout.splitlines()
        assert first == second
        assert last == first.replace("begins", "['a b', '--c'] glibc.malloc.hugetlb=1")
