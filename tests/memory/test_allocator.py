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


@pytest.mark.skipif(
    not allocator.recent_glibc(), reason="memory is kept with glibc 2.35 or later alone"
)
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


class Library:
    """A C library that notes what is asked of it; None for one that is not glibc."""

    def __init__(self, version):
        self.asked = []
        if version is not None:
            self.gnu_get_libc_version = self.version = lambda: version.encode()

    def mallopt(self, number, size):
        self.asked.append(number)
        return 1


@pytest.mark.parametrize(
    ("version", "asked"), [("2.41", [-3, -1, -8]), ("2.35", [-3, -1, -8]), ("2.34", []), (None, [])]
)
def test_an_older_library_or_another_is_left_as_it_is(version, asked, monkeypatch):
    """It refuses the threshold, which one of the others alone would freeze at 128 KB."""
    library = Library(version)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(allocator, "_keeps", lambda env: True)
    assert allocator.recent_glibc() is allocator.keep_freed() is bool(asked)
    assert library.asked == asked
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocator.recent_glibc()


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """A machine that gives large pages to who asks."""
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    monkeypatch.setattr(allocator, "SETTING", path)
    monkeypatch.setattr(allocator, "recent_glibc", lambda: True)
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

    def test_not_with_another_library(self, setting, monkeypatch):
        monkeypatch.setattr(allocator, "recent_glibc", lambda: False)
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
            "allocator.recent_glibc = lambda: True\n"
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
