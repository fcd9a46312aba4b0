"""How much memory there is, from what a system says, and what does not fit."""

import math

import jax
import jax.numpy as jnp
import pytest

from capsjax import room
from capsjax.checks import UserError

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
    monkeypatch.setattr(room, "available", lambda: 16_000_128.0)
    room.check_parameters(shapes)
    monkeypatch.setattr(room, "available", lambda: 16_000_127.0)
    with pytest.raises(UserError) as caught:
        room.check_parameters(shapes)
    assert str(caught.value).count("\n") == 1
    assert "got 1e+06 parameters, which take 16 MB" in str(caught.value)
    assert "the largest is classes.W, float32[1000, 1000]" in str(caught.value)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 KB"), (2e9, "2 GB"), (3e15, "3e+03 TB")],
)
def test_sizes_in_words(size, text):
    assert room.written(size) == text
