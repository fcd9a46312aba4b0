"""Runs of a network of layers by name: trained, resumed, loaded and evaluated with running statistics."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.cli.evaluate import read_iterations

TEXT = """
data: {kind: arrays}
model:
  kind: network
  layers:
    stem: {kind: conv, channels: 3, kernel: 3, normalisation: batch}
    primary: {kind: primary_capsules, types: 2, dim: 3, kernel: 2, stride: 2}
    hidden: {kind: dense_capsules, types: 4, dim: 3, routing: {gradient: stop}}
    classes: {kind: dense_capsules, dim: 3}
  routing: {kind: dynamic, num_iters: 2, gradient: full}
training: {batch_size: 8, epochs: 2, eval_batch_size: 16, log_every: 2}
optimiser: {kind: adam, schedule: {kind: constant, rate: 1.0e-2}}
"""
RNG = np.random.default_rng(0)
DATA = RNG.random((60, 6, 6)).astype(np.float32), np.arange(60) % 3


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "net.yaml"
    path.write_text(TEXT)
    return cj.load_config(path)


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    return cj.train(config, DATA, out=tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_is_loaded_and_evaluated_as_it_ended(run):
    loaded = cj.load(run.folder)
    assert loaded.config == run.config
    assert set(loaded.statistics) == {"stem.norm.mean", "stem.norm.var"}
    assert np.abs(loaded.statistics["stem.norm.mean"]).max() > 1e-3
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, run.variables)
    assert cj.evaluate(loaded, DATA)["loss"] == run.test["loss"]


def test_the_network_and_its_outputs_use_the_running_statistics(run):
    images = DATA[0][:5]
    found = run.outputs(images, trace=True)
    assert list(found.layers) == ["hidden", "classes"]
    np.testing.assert_array_equal(found.coupling, found.layers["classes"].coupling)
    assert found.layers["hidden"].trace.coupling.shape == (2, 5, 8, 4)
    assert found.trace.coupling.shape == (2, 5, 4, 3)
    by_module = run.model(jnp.asarray(images[..., None]))
    np.testing.assert_allclose(found.lengths, by_module.lengths, rtol=1e-5)
    assert (run.predict(images) == np.asarray(found.lengths).argmax(-1)).all()
    for ours, theirs in zip(run.outputs(images[:1])[:4], found[:4], strict=True):
        np.testing.assert_allclose(ours, theirs[:1], rtol=1e-5)


def test_a_run_is_measured_by_other_iterations_of_any_layer(run):
    kept = sorted((run.folder / "evaluations").iterdir())
    own, first, none = (
        cj.evaluate(run, DATA, iterations=given) for given in (None, {"classes": 1}, 1)
    )
    assert own["entropy.classes"] < np.log(3) - 1e-6
    assert first["entropy.classes"] == pytest.approx(np.log(3), abs=1e-6)
    assert first["entropy.hidden"] == pytest.approx(own["entropy.hidden"], abs=1e-6)
    assert none["entropy.hidden"] == pytest.approx(np.log(4), abs=1e-6)
    assert cj.evaluate(run, DATA, iterations={"hidden": 2})["loss"] == pytest.approx(own["loss"])
    assert sorted((run.folder / "evaluations").iterdir()) == kept
    with pytest.raises(
        UserError, match=r"got 'class', expected layers that iterate: hidden, cl.*mean"
    ):
        cj.evaluate(run, DATA, iterations={"class": 1})
    with pytest.raises(UserError, match=r"^iterations: got 0, expected an integer of at least 1"):
        cj.evaluate(run, DATA, iterations=0)


def test_a_network_in_which_nothing_iterates_has_no_iterations():
    model = cj.load_config("digits", {"model.routing": "uniform"}).model
    with pytest.raises(UserError, match="iterations: got 5, expected none: no layer"):
        cj.layers.with_iterations(model, 5)
    short = cj.load_config("digits").model
    by_name = cj.layers.with_iterations(short, {"classes": 5})
    assert by_name.layers["classes"].routing.num_iters == 5
    assert cj.layers.with_iterations(short, 5).routing == by_name.layers["classes"].routing


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), (["5"], 5), (["a=1", "b=2"], {"a": 1, "b": 2}), (["a=3"], {"a": 3})],
)
def test_iterations_on_the_command_line(given, expected):
    assert read_iterations(given) == expected


@pytest.mark.parametrize(
    "given", [["x"], ["5", "6"], ["a="], ["a=1", "2"], ["-1"], ["=5"], ["5" * 5000], ["\u0665"]]
)
def test_iterations_that_are_none_say_both_forms(given):
    with pytest.raises(
        UserError, match=r"such as 5, or LAYER=N for each layer, such as --it.*=5"
    ) as caught:
        read_iterations(given)
    assert len(str(caught.value)) < 400


def test_iterations_of_a_layer_are_given_once():
    with pytest.raises(UserError, match="got a=1 b=3 a=2, expected every layer once"):
        read_iterations(["a=1", "b=3", "a=2"])


def test_each_layer_s_entropy_is_measured(run):
    line = run.test
    assert line["entropy"] == line["entropy.classes"] != line["entropy.hidden"]
    assert 0 < line["entropy.hidden"] <= np.log(4) + 1e-6


def test_a_run_that_stopped_ends_to_the_bit_where_it_would_have(run, tmp_path):
    stopped = tmp_path / "stopped"
    shutil.copytree(run.folder, stopped)
    last = max(int(path.name) for path in (stopped / "checkpoints").iterdir())
    shutil.rmtree(stopped / "checkpoints" / str(last))
    lines = (stopped / "metrics.jsonl").read_text().splitlines()
    kept = [
        line for line in lines if f'"step": {last}' not in line and '"split": "test"' not in line
    ]
    (stopped / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    resumed = cj.resume(stopped, DATA)
    assert resumed.step == run.step == last
    jax.tree.map(np.testing.assert_array_equal, resumed.variables, run.variables)
    assert resumed.test["loss"] == run.test["loss"]


def test_another_run_begins_with_statistics_too(run, tmp_path):
    seen = []
    other = cj.load_config(
        run.folder / "config.yaml", {"training.epochs": None, "training.steps": 1}
    )
    cj.train(
        other,
        DATA,
        out=tmp_path / "next",
        start=run,
        observe=lambda _, state: seen.append(state),
    )
    jax.tree.map(np.testing.assert_array_equal, seen[0].statistics, run.statistics)
    jax.tree.map(np.testing.assert_array_equal, seen[0].params, run.params)


def test_layers_are_frozen_by_name(config, run, tmp_path):
    overrides = {
        "training.freeze": ["hidden", "stem"],
        "training.steps": 2,
        "training.epochs": None,
    }
    changed = cj.load_config(run.folder / "config.yaml", overrides)
    found = cj.train(changed, DATA, out=tmp_path / "frozen", start=run)
    for name, value in found.params.items():
        same = np.array_equal(value, run.params[name])
        assert same == (name.split(".")[0] in ("hidden", "stem")), name
    with pytest.raises(UserError, match=r"got .conv1., expected groups .*: .*hidden"):
        cj.train(
            cj.load_config(run.folder / "config.yaml", {"training.freeze": ["conv1"]}),
            DATA,
            out=tmp_path / "none",
        )
