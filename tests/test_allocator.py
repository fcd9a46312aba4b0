"""Memory: freed blocks are kept; large pages are asked for once, where they can be had, and never twice."""

import ctypes
import os
import subprocess
import sys

import pytest

from capsjax import cli
from capsjax.memory import allocator

# Takes and gives back 100 MB five times, then counts the pages of it that were new the fifth time.
TOUCH = """
import ctypes, resource, {imported}
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
for _ in range(5):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(100_000_000)
    ctypes.memset(block, 1, 100_000_000)
    library.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


@pytest.mark.skipif(not GLIBC, reason="glibc alone keeps memory")
class TestKeepFreed:
    def new_pages(self, imported="capsjax", **more):
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MALLOC_", "GLIBC_", "CAPSJAX_KEEP"))
        }
        done = subprocess.run(
            [sys.executable, "-c", TOUCH.format(imported=imported)],
            env=env | more,
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    def test_a_block_comes_back_without_new_pages(self):
        assert self.new_pages() < 100
        assert self.new_pages(imported="sys") > 20_000

    @pytest.mark.parametrize(
        "more",
        [
            {"CAPSJAX_KEEP_MEMORY": "0"},
            {"MALLOC_ARENA_MAX": "2"},
            {"MALLOC_MMAP_THRESHOLD_": "1000000"},
            {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"},
        ],
    )
    def test_not_where_the_user_decided(self, more):
        assert self.new_pages(**more) > 20_000

    def test_beside_large_pages(self):
        assert self.new_pages(GLIBC_TUNABLES="glibc.malloc.hugetlb=1") < 100

    def test_nothing_happens_with_another_library(self, monkeypatch):
        monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
        assert not allocator.keep_freed()


def test_a_library_that_refuses_the_threshold_is_left_as_it_is(monkeypatch):
    """One of the others alone would freeze the threshold at 128 KB."""
    asked = []

    class Older:
        gnu_get_libc_version = None

        def mallopt(self, number, size):
            asked.append(number)
            return 0 if number == -3 else 1

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Older())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator, "_keeps", lambda env: True)
    assert not allocator.keep_freed()
    assert asked == [-3]


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """A machine that gives large pages to who asks."""
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    monkeypatch.setattr(allocator, "SETTING", path)
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    return path


class TestWanted:
    def test_where_they_can_be_had(self, setting):
        assert allocator.wanted({}, setting)
        assert allocator.wanted({"GLIBC_TUNABLES": "glibc.malloc.check=1"}, setting)

    def test_not_where_they_are_had_or_declined(self, setting):
        assert not allocator.wanted({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, setting)
        assert not allocator.wanted({"CAPSJAX_HUGE_PAGES": "0"}, setting)

    @pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]"])
    def test_not_where_asking_changes_nothing(self, setting, text):
        setting.write_text(text)
        assert not allocator.wanted({}, setting)
        setting.unlink()
        assert not allocator.wanted({}, setting)

    @pytest.mark.parametrize("library", [("", ""), ("glibc", "2.31"), ("musl", "1.2")])
    def test_not_with_another_library(self, setting, library, monkeypatch):
        monkeypatch.setattr("platform.libc_ver", lambda: library)
        assert not allocator.wanted({}, setting)


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
        allocator.restart_with_large_pages()
        assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
        assert started == [(sys.executable, [sys.executable, *sys.orig_argv[1:]])]
        allocator.restart_with_large_pages()
        assert len(started) == 1

    def test_the_same_command_with_the_same_words(self, setting):
        """A process that starts itself anew is given its own command line again, just once."""
        code = (
            "import sys, os; from capsjax.memory import allocator; from pathlib import Path\n"
            f"allocator.SETTING = Path({str(setting)!r})\n"
            "allocator.platform.libc_ver = lambda: ('glibc', '2.36')\n"
            "print(os.getpid(), 'begins', flush=True); allocator.restart_with_large_pages()\n"
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
