"""The experiment on fixed points: its command at its smallest, and what it must find however small."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "fixed_points"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("measure", FOLDER / "measure.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure", module)
    spec.loader.exec_module(module)
    return module


def test_the_command_at_its_smallest(script, tmp_path):
    script.main(["--smallest", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "measurements.json").read_text("utf-8"))
    assert list(found["groups"]) == ["digits, fixed point"]
    group = found["groups"]["digits, fixed point"]
    few, more = group["gradients"]["rows"]
    assert max(more["residual"]) < min(few["residual"])
    assert np.median(more["implicit_to_end"]) < np.median(few["implicit_to_end"])
    assert group["forward"]["iterations_to_1e-6"]["fall_0.0"] > -1e-9
    assert {line["mode"] for line in found["costs"]} == set(script.MODES)
    assert all(line["time_of_full"][0] > 0 < line["temp_bytes"] for line in found["costs"])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["forward.png", "gradients.png"]


def test_the_results_that_are_kept_are_drawn_from_the_measurements(script, tmp_path):
    """Every figure that the README shows comes from the numbers beside it."""
    kept = FOLDER / "results" / "measurements.json"
    (tmp_path / kept.name).write_bytes(kept.read_bytes())
    script.main(["--draw", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {
        path.name for path in kept.parent.iterdir()
    }


def test_random_votes_grow_with_the_scale_and_differ_by_seed(script):
    one, two = script.random_votes(0.5, 2), script.random_votes(1.0, 2)
    assert one.shape == (8, 12, 5, 6)
    np.testing.assert_allclose(two, 2 * one)
    assert not np.allclose(one[:4], one[4:])


def test_the_rate_is_that_of_a_geometric_sequence(script):
    residual = np.stack([0.8 ** np.arange(200), np.ones(200)], axis=1)
    found = script.rates(residual)
    assert found[0] == pytest.approx(0.8)
    assert np.isnan(found[1])
