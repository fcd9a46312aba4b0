"""The benchmark scripts: rounds that interleave processes, and tables that divide the right numbers."""

import os
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch):
    """Import from the folder, as the scripts do from each other."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in ("interleave", "report", "run", "figures"):
        sys.modules.pop(name, None)


def test_rounds_go_through_every_contender_in_turn(scripts, tmp_path):
    import interleave

    sizes = {"batch": 2, "children": 4, "parents": 2, "in_dim": 2, "out_dim": 2}
    job = {"who": "ours", "work": "routing", "sizes": sizes}
    jobs = {"stop": {**job, "gradient": "stop"}, "full": {**job, "gradient": "closed_form"}}
    env = interleave.environment(str(tmp_path))
    # Flags for several fake devices would let a worker be another machine than a user's.
    env.pop("XLA_FLAGS", None)
    found = interleave.interleave(jobs, 3, env, seldom=("full",))
    assert [len(found[name]["seconds"]) for name in jobs] == [3, 2]
    assert all(seconds > 0 for name in jobs for seconds in found[name]["seconds"])
    assert found["stop"]["peak_rss_bytes"] > 1e7
    assert found["full"]["job"]["gradient"] == "closed_form"


def test_a_worker_that_fails_is_named(scripts, tmp_path):
    import interleave

    env = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    with pytest.raises(RuntimeError, match="nobody: the worker ended with 1"):
        interleave.interleave({"nobody": {"who": "nobody"}}, 1, env)


def test_the_table_divides_medians_and_shows_the_worst_round(scripts):
    import report

    def group(**seconds):
        return {
            name.replace("_", " "): {"seconds": list(values), "peak_rss_bytes": 10 * len(name)}
            for name, values in seconds.items()
        }

    run = {"groups": {"step, stop": group(ours=(1.0, 2.0, 9.0), pytorch=(4.0, 4.0, 10.0))}}
    assert report.ratio(run, report.TARGETS[0]) == (0.5, 0.9)
    memory = report.Target("m", "step, stop", "ours", "pytorch", None, None, "peak_rss_bytes")
    assert report.ratio(run, memory)[0] == pytest.approx(4 / 7)
    seldom = {"groups": {"step, stop": group(ours=(1.0, 2.0, 3.0), naive_flax=(40.0, 50.0))}}
    assert report.ratio(seldom, report.TARGETS[2]) == (1.5 / 45, 2 / 50)


def test_every_target_is_measured(scripts):
    import report
    import run

    groups = run.groups()
    for target in report.TARGETS:
        assert {target.ours, target.other} <= set(groups[target.group])


def test_the_matrix_rate_is_that_of_the_faster_library(scripts):
    import report

    def product(seconds):
        return {"job": {"who": "matrix product", "size": 1000}, "seconds": seconds}

    copy = {"job": {"who": "copy", "size": 1000}, "seconds": [2.0]}
    machine = {"a": product([1.0, 2.0, 3.0]), "b": product([4.0]), "copy": copy}
    run = {"groups": {"machine": machine}}
    assert report.matrix_rate(run) == 1e9
    assert report.bandwidth(run) == 4000
