"""The one loop that times: everyone has a turn in each round, and what warms up does not count."""

import ast
from functools import partial
from pathlib import Path

import capsjax
from capsjax.bench.timing import alternating_rounds, time_interleaved

PACKAGE = Path(capsjax.__file__).parent


def test_the_order_is_turned_around_in_every_second_round():
    assert list(alternating_rounds("abc", 2)) == [
        (0, ["c", "b", "a"]),
        (1, ["a", "b", "c"]),
        (2, ["c", "b", "a"]),
    ]
    assert [number for number, _ in alternating_rounds("a", 3, warm_up=2)] == [-1, 0, 1, 2, 3]
    assert [number for number, _ in alternating_rounds("a", 1, warm_up=0)] == [1]


def test_only_rounds_that_count_are_kept_and_every_round_is_told(monkeypatch):
    now, called, told = [0.0], [], []
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def call(name):
        called.append(name)
        now[0] += {"fast": 1.0, "slow": 5.0}[name] + 100 * (len(called) < 3)

    calls = {name: partial(call, name) for name in ("fast", "slow")}
    found = time_interleaved(calls, 3, tell=told.append)
    assert found == {"fast": [1.0, 1.0, 1.0], "slow": [5.0, 5.0, 5.0]}
    assert called == ["slow", "fast", "fast", "slow", "slow", "fast", "fast", "slow"]
    assert told == [0, 1, 2, 3]


def times_in_a_loop(source):
    """Whether a clock is read in a loop."""
    loops = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.For | ast.While)]
    return any("perf_counter" in ast.unparse(loop) for loop in loops)


def test_nothing_else_that_measures_times_in_a_loop_of_its_own():
    """`worker.py` is a process that is told when to go; its rounds are those of `alternating_rounds`."""
    root = PACKAGE.parent
    folders = [PACKAGE / "bench", PACKAGE / "study", root / "benchmarks", root / "experiments"]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    found = {file.name for file in files if times_in_a_loop(file.read_text("utf-8"))}
    assert found == {"timing.py", "worker.py"}
