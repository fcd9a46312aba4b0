"""How much memory there is, from what a system says, and what does not fit."""

import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from capsjax import cli
from capsjax.memory import room

GB = 10**9


@pytest.fixture
def root(tmp_path):
    memory = "MemTotal: 9000000 kB\nMemAvailable:  4000000 kB\nSwapFree: 1000000 kB\n"
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(memory)
    return tmp_path


def test_what_is_available_and_swap(root):
    assert room.available(root) == 1024 * 5_000_000


def test_nothing_is_known(tmp_path):
    assert room.available(tmp_path) == math.inf


@pytest.mark.parametrize(("limit", "left"), [("2000000000", 1.5 * GB + 1000), ("max", 1024 * 5e6)])
def test_a_control_group_allows_less(root, limit, left):
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("0::/a/b\n")
    group = root / "sys/fs/cgroup/a"
    (group / "b").mkdir(parents=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text("500000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 1000\n")
    (group / "b/memory.max").write_text("max\n")
    (group / "b/memory.current").write_text("5\n")
    assert room.available(root) == left


def test_one_of_the_old_kind(root):
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("9:name=systemd:/\n4:cpu,memory:/a\n")
    group = root / "sys/fs/cgroup/memory/a"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("1000\n")
    (group / "memory.usage_in_bytes").write_text("400\n")
    assert room.available(root) == 600


def test_an_address_space_that_is_limited(root, monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (GB, GB))
    (root / "proc/self").mkdir()
    (root / "proc/self/status").write_text("Name: x\nVmSize:   500 kB\n")
    assert room.available(root) == GB - 1024 * 500


def test_parameters_that_do_not_fit_are_named(monkeypatch):
    shapes = {
        "stem.bias": jax.ShapeDtypeStruct((8,), jnp.float32),
        "classes.W": jax.ShapeDtypeStruct((1000, 1000), jnp.float32),
    }
    monkeypatch.setattr(room, "available", lambda: 4_000_132.0)
    room.check_parameters(shapes, 100)
    with pytest.raises(room.TooLargeError) as caught:
        room.check_parameters(shapes, 101, "a byte")
    assert str(caught.value).count("\n") == 1
    assert "got 1e+06 parameters, which take 4 MB with a byte, expected" in str(caught.value)
    assert "the largest is classes.W, float32[1000, 1000]" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (2e9, "2 GB"), (3e15, "3e+03 TB")],
)
def test_sizes_in_words(size, text):
    assert room.written(size) == text


class TestPrograms:
    @pytest.fixture
    def compiled(self):
        """A program that holds a thousand copies of its argument."""
        return (
            jax.jit(lambda x: jnp.sin(jnp.cumsum(x[None] + jnp.arange(1000.0)[:, None], 0)).sum())
            .lower(jnp.ones(128))
            .compile()
        )

    def test_one_that_does_not_fit_is_refused_with_its_largest_array(self, compiled, monkeypatch):
        monkeypatch.setattr(room, "available", lambda: 1e12)
        room.check_program(compiled, "train step")
        monkeypatch.setattr(room, "available", lambda: 1000.0)
        with pytest.raises(room.TooLargeError) as caught:
            room.check_program(compiled, "train step")
        first, second = str(caught.value).splitlines()
        assert first.startswith("train step: got ")
        assert "at most the 1 KB that there are" in first
        assert second.startswith("  the largest array is f32[")
        assert second.endswith(" KB")

    def test_arguments_that_are_not_there_yet_are_counted(self, compiled, monkeypatch):
        needed = room.needed_by(compiled)
        assert room.needed_by(compiled, arguments=True) == needed + 4 * 128
        monkeypatch.setattr(room, "available", lambda: needed + 4 * 128 + 7)
        room.check_program(compiled, "train step", beside=7)
        with pytest.raises(room.TooLargeError):
            room.check_program(compiled, "train step", beside=8)

    def test_the_largest_array_of_a_text(self):
        text = "f32[10,10]{1,0} bf16[150]{0} pred[300]{0} f64[60]{0} s32[]"
        assert room.largest(text) == ("f64[60]", 480)
        assert room.largest("f32[10,13]") == ("f32[10,13]", 520)


def test_an_allocation_that_failed_is_told_in_two_lines(monkeypatch):
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 128000000000 bytes.")
    text = room.exhausted(error)
    assert text.count("\n") == 1
    assert "an array of 128 GB was refused" in text
    assert text.endswith("choose smaller sizes")
    for message in (str(error), "INTERNAL: something else"):
        with pytest.raises(RuntimeError) as caught, room.advising("lower x"):
            raise RuntimeError(message)
        found = room.exhausted(caught.value)
        assert found is None if "INTERNAL" in message else found.endswith("  lower x")
        assert hasattr(caught.value, "__notes__") == ("INTERNAL" not in message)


def test_a_command_that_runs_out_of_memory_says_what_to_lower(monkeypatch, capsys):
    def fail(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.")

    monkeypatch.setattr("capsjax.runs.experiment.train", fail)
    assert cli.main(["train", "smoke"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert err[0].startswith("capsjax train: out of memory: an array of 7 bytes was refused")


def resident():
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in x)
    return 1024 * int(line.split()[1])


@pytest.mark.skipif(
    sys.platform != "linux", reason="freed memory is given back to the system on Linux alone"
)
def test_what_was_freed_between_what_is_held_goes_back_before_a_program_is_judged():
    # The last of many small blocks holds the heap where it is, as a compiled program does.
    *blocks, last = [bytes(2000) for _ in range(50_000)]
    del blocks
    before = resident()
    room.check_program(jax.jit(jnp.sin).lower(1.0).compile(), "small")
    assert before - resident() > 5e7
    assert len(last) == 2000
