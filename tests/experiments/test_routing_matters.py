"""The experiment on whether routing matters: its arms, their size, and its tables."""

import functools
import importlib
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml
from flax import nnx

import capsjax as cj
from capsjax.layers import CapsNet, count_parameters
from capsjax.study.design import design
from capsjax.study.outcomes import pack

HERE = Path(__file__).resolve().parents[2] / "experiments" / "routing_matters"


@pytest.fixture(scope="module")
def tables():
    """The module that makes the tables, and with it the program of gradient_modes."""
    sys.path.insert(0, str(HERE))
    return importlib.import_module("tables")


@pytest.fixture(scope="module")
def program(tables):
    del tables  # which says where it is
    return importlib.import_module("run")


def test_random_couplings_do_not_look(program):
    routing = program.modes.RandomRouting()
    u = jax.random.normal(jax.random.key(0), (2, 6, 3))
    W = jax.random.normal(jax.random.key(1), (6, 5, 3, 4))
    found = routing(cj.predict(u, W))
    coupling = np.asarray(found.coupling)
    np.testing.assert_array_equal(coupling, np.asarray(routing(cj.predict(2 * u, W)).coupling))
    np.testing.assert_array_equal(coupling[0], coupling[1])
    np.testing.assert_allclose(coupling.sum(-1), 1, rtol=1e-6)
    assert coupling.std() > 0.1
    votes = np.einsum("bid,ijde->bije", u, W)
    s = np.einsum("bij,bije->bje", coupling, votes)
    np.testing.assert_allclose(found.pose, cj.squash(jnp.asarray(s)), rtol=1e-4, atol=1e-6)
    dense = routing(jnp.asarray(votes)).coupling
    np.testing.assert_allclose(dense, coupling, rtol=1e-6)


def _size(model, shape, classes):
    make = functools.partial(CapsNet, shape, classes, config=model)
    return count_parameters(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(0))))


def test_every_set_has_the_planned_arms_of_equal_size(program):
    shapes = {"multimnist": (36, 36, 1), "affine": (40, 40, 1)}
    for name, entry in program.read_sets(HERE).items():
        config = program.study_config(entry, dict.fromkeys(entry["own_arms"], 0.009))
        arms = design(config).arms
        assert set(arms) == set(entry["own_arms"]), name
        beside = set() if "beside" not in entry else {"uniform", "full"}
        assert set(arms) | beside == {"uniform", "random", "full", "full, shorter", "cnn"}
        assert set(program.selection_config(entry).compare.arms) == set(entry["own_arms"])
        ratio = config.training.steps / arms["full, shorter"].config.training.steps
        assert ratio == pytest.approx(1.9 if name.startswith("eth80") else 1.4, abs=0.02)
        shape = shapes.get(name, (32, 32, 1))
        classes = 8 if name.startswith("eth80") else 10
        sizes = [_size(arms[arm].config.model, shape, classes) for arm in ("random", "cnn")]
        assert abs(sizes[1] / sizes[0] - 1) < 0.005, (name, sizes)


def _write(folder, errors, seeds):
    folder.mkdir(parents=True)
    runs = []
    for arm, error in errors.items():
        for seed in seeds:
            wrong = np.arange(1000) < error + seed % 3
            test = {"error": wrong.mean(), "margin": 0.1, "examples": 1000.0}
            record = {"arm": arm, "seed": seed, "state": "done", "test": test, "wrong": pack(wrong)}
            runs.append(record)
    (folder / "runs.json").write_text(json.dumps(runs))


def test_the_tables_say_what_the_raw_results_say(tables, tmp_path):
    home, modes = tmp_path / "home", tmp_path / "modes"
    own = {"random": 40, "cnn": 10, "full, shorter": 35}
    _write(home / "multimnist", own, range(100, 104))
    assert tables.tables(home, modes) == "Nothing has been measured yet."  # of full, nothing
    _write(modes / "multimnist", {"uniform": 35, "full": 20}, range(101, 106))
    _write(home / "affine", own | {"uniform": 30, "full": 30}, range(100, 103))
    said = tables.tables(home, modes)
    assert "### MultiMNIST, 3 of 10 seeds" in said
    assert "| 3.60 ± 0.10 | 4.10 ± 0.10 | 2.10 ± 0.10 | 3.60 ± 0.10 | 1.10 ± 0.10 |" in said
    assert "| full minus uniform | -1.50" in said
    assert "| full, shorter minus uniform | +0.00" in said
    assert "| full minus cnn | +1.00" in said
    assert "### MNIST, moved; tested on affine changes, 3 of 10 seeds" in said
    assert "Margin of equivalence: 0.40 points." in said
    assert "| random minus uniform | +0.50" in said
    assert "points. Failed runs: 0." in said
    # With what selection chose, its own before the other study's; and failed runs counted.
    for folder, rates in ((home, {"random": 0.1, "full": 0.2}), (modes, {"full": 0.3})):
        (folder / "multimnist" / "selection.json").write_text(json.dumps({"rates": rates}))
    runs = json.loads((home / "affine" / "runs.json").read_text())
    runs[-1] = {"arm": runs[-1]["arm"], "seed": runs[-1]["seed"], "state": "failed"}
    (home / "affine" / "runs.json").write_text(json.dumps(runs))
    said = tables.tables(home, modes)
    assert "Learning rates: random 0.1, full 0.2. Failed runs: 0." in said
    assert "affine changes, 2 of 10 seeds" in said
    assert "Failed runs: 1." in said


def test_the_sentences_say_what_the_raw_results_say(tables):
    sets = yaml.safe_load((HERE / "sets.yaml").read_text(encoding="utf-8"))
    found = {
        name: tables.read(name, entry, HERE / "results", tables.MODES / "results").errors
        for name, entry in sets.items()
    }

    def apart(name, one, other, digits=1):
        return f"{(found[name][one] - found[name][other]).mean():.{digits}f}"

    def words(path):
        return " ".join(path.read_text(encoding="utf-8").split())

    here, front = words(tables.README), words(HERE.parents[1] / "README.md")
    overlap = found["multimnist"]
    random = {name: apart(name, "random", "uniform") for name in found}
    assert float(random.pop("eth80_elevation")) < 0
    for fact in (
        f"routing makes {apart('multimnist', 'uniform', 'full')} points fewer errors than uniform coupling, "
        f"{apart('multimnist', 'random', 'full')} fewer than random couplings and "
        f"{apart('multimnist', 'cnn', 'full')} fewer than the convolutional network",
        f"it makes {apart('multimnist', 'full, shorter', 'uniform')} points more than uniform coupling",
        f"routing makes {apart('affine', 'full', 'uniform')} points more at equal steps and "
        f"{apart('affine', 'full, shorter', 'uniform')} at equal time",
        f"on elevations {apart('eth80_elevation', 'full', 'full, shorter')} points fewer",
        f"make {min(random.values())} to {max(random.values())} points more errors than uniform ones",
    ):
        assert fact in here
    rates = {arm: f"{errors.mean():.1f}" for arm, errors in overlap.items()}
    for fact in (
        f"{rates['full']} % of the pairs are wrong with routing, {rates['uniform']} with uniform couplings, "
        f"{rates['cnn']} with a convolutional network",
        f"At equal time it does not: {rates['full, shorter']}.",
    ):
        assert fact in front


def test_the_readme_has_the_tables_of_the_raw_results(tables):
    text = tables.README.read_text(encoding="utf-8")
    assert tables.finding.written(text, tables.tables()) == text
