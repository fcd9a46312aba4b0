"""The experiment on depth: what it must find of ten layers, and that its figure is drawn from its numbers."""

import importlib.util
import json
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "depth"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("measure", FOLDER / "measure.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gradient", [cj.StopGradient(), cj.FullGradient()], ids=["stop", "full"])
def test_ten_residual_layers_begin_alive(script, gradient):
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)), jnp.float32)
    found = script.measure(
        cj.DynamicRouting(gradient=gradient), residual=True, layers=10, images=images, seed=0
    )
    assert min(found["lengths"]) > 0.1
    assert max(found["lengths"]) < 2
    for name, factor in {"by_poses": 20, "by_weights": 10}.items():
        first, *_, last = found[name]
        assert 1 / factor < first / last < factor, found[name]


def test_what_the_readme_says_of_the_stacks_is_measured(script, tmp_path):
    found = json.loads((FOLDER / "results" / "measurements.json").read_text("utf-8"))
    ratios = {
        name: one["by_poses"][0] / one["by_poses"][-1]
        for name, one in found["stacks"].items()
        if one["by_poses"][-1]
    }
    assert ratios["dynamic, full"] > 5e4
    assert ratios["dynamic, stop"] < 0.05
    assert all(0.5 < ratios[name] < 6 for name in ratios if name.endswith("residual"))
    script.draw(found, tmp_path)
    assert (tmp_path / "depth.png").stat().st_size > 10_000
