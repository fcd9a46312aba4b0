"""A comparison really trains each mode, from the same beginning, on the same batches."""

import dataclasses
import itertools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Digits
from capsjax.progress import Silent
from capsjax.reports.comparison import read_comparison
from capsjax.runs.metrics_file import read_metrics
from capsjax.runs.plan import network_functions
from capsjax.study.compare import compare, routing_of, variant
from capsjax.study.outcomes import pack, unpack, wrong_by_seed
from capsjax.study.seen import COUPLINGS, EXAMPLES, GRADIENTS, read_seen
from capsjax.training.feed import EvalFeed

MODES = ("uniform", "stop", "truncated", "full")
ROUTINGS = {
    "uniform": cj.UniformRouting(),
    "stop": cj.DynamicRouting(num_iters=3, gradient=cj.StopGradient()),
    "truncated": cj.DynamicRouting(num_iters=3, gradient=cj.TruncatedGradient(last=1)),
    "full": cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient()),
}


@pytest.fixture(scope="module")
def runs(compared):
    names = itertools.product(MODES, (0, 1))
    return {name: cj.load(compared.folder / "runs" / "{}-seed{}".format(*name)) for name in names}


@pytest.fixture(scope="module")
def raw(compared):
    return json.loads((compared.folder / "comparison.json").read_text())


def test_every_mode_is_trained_with_its_own_routing(compared, runs):
    assert {run.folder for run in runs.values()} == set((compared.folder / "runs").iterdir())
    for (mode, seed), run in runs.items():
        assert run.config.model.routing == ROUTINGS[mode] == routing_of(mode, ROUTINGS["full"])
        expected = dataclasses.replace(compared.config.model, routing=ROUTINGS[mode])
        assert run.config == dataclasses.replace(compared.config, model=expected, seed=seed)


def test_within_a_seed_every_mode_begins_alike(compared):
    for seed in (0, 1):
        for mode in MODES:
            for name, value in compared.began["full", seed].items():
                np.testing.assert_array_equal(compared.began[mode, seed][name], value)
    weight = "classes.weight"
    assert not np.array_equal(compared.began["full", 0][weight], compared.began["full", 1][weight])


def test_within_a_seed_every_mode_sees_the_same_batches(compared):
    for seed in (0, 1):
        expected = compared.saw["uniform", seed]
        assert [step for step, _ in expected] == list(range(24))
        for mode in MODES[1:]:
            for ours, theirs in zip(compared.saw[mode, seed], expected, strict=True):
                jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    first = [compared.saw["full", seed][0][1] for seed in (0, 1)]
    assert not np.array_equal(first[0].labels, first[1].labels)


def test_the_modes_end_with_different_parameters(compared, runs):
    for seed in (0, 1):
        for one, other in itertools.combinations(MODES, 2):
            ours, theirs = runs[one, seed].params, runs[other, seed].params
            assert ours.keys() == theirs.keys()
            for name in ours:
                assert np.abs(ours[name] - theirs[name]).max() > 1e-5, (one, other, name)
        for mode in MODES:
            for name, value in runs[mode, seed].params.items():
                assert np.abs(value - compared.began[mode, seed][name]).max() > 1e-3, (mode, name)


def test_a_run_of_a_comparison_is_the_run_trained_alone(compared, runs, tmp_path):
    alone = cj.train(variant(compared.config, "full", 0), out=tmp_path / "alone")
    for name, value in runs["full", 0].params.items():
        np.testing.assert_array_equal(alone.params[name], value)


def test_uniform_coupling_has_the_entropy_of_ten_classes(runs):
    for seed in (0, 1):
        found = [line["entropy"] for line in runs["uniform", seed].metrics]
        np.testing.assert_allclose(found, np.log(10), rtol=1e-5)
        for mode in MODES[1:]:
            assert max(line["entropy"] for line in runs[mode, seed].metrics) < np.log(10) - 1e-3


def test_what_is_written_is_what_the_runs_measured(compared, raw, runs):
    assert raw["modes"] == list(MODES)
    assert raw["seeds"] == [0, 1]
    assert raw["iterations"] == 3
    for mode in MODES:
        found = [
            read_metrics(runs[mode, seed].folder / "metrics.jsonl")[-1]["error"] for seed in (0, 1)
        ]
        assert raw["test_error"][mode] == found
        lines = [read_metrics(runs[mode, seed].folder / "metrics.jsonl")[-1] for seed in (0, 1)]
        # Of the classes alone: what is minimised is that and a little of the reconstruction.
        assert raw["test_loss"][mode] == [line["margin"] for line in lines]
        assert all(line["margin"] < line["loss"] for line in lines)
    names = {path.name for path in compared.folder.iterdir()}
    written = {"config.yaml", "environment.json", "comparison.json", "runs"}
    written |= {"gradients.csv", "examples.csv", "couplings.csv"}
    drawn = {"report.html", "report.md", "comparison.png", "figures", "tables", "metrics.csv"}
    assert names == written | drawn


def test_it_says_of_every_seed_which_test_images_were_wrong(raw, runs):
    test = Digits().load().test
    for (mode, seed), run in runs.items():
        found = wrong_by_seed(raw["test_wrong"][mode])[seed]
        predicted = run.predict(test.images)
        np.testing.assert_array_equal(found, predicted != test.labels)
        assert found.mean() == pytest.approx(raw["test_error"][mode][seed])


def test_what_a_comparison_from_before_lacks_is_read_off_its_runs(compared, raw, tmp_path):
    known = read_comparison(compared.folder)
    old = {key: value for key, value in raw.items() if key not in ("test_loss", "test_wrong")}
    folder = tmp_path / "old"
    shutil.copytree(compared.folder, folder)
    (folder / "comparison.json").write_text(json.dumps(old))
    found = read_comparison(folder)
    assert found.losses == known.losses == raw["test_loss"]
    jax.tree.map(np.testing.assert_array_equal, found.wrong, known.wrong)
    shutil.rmtree(folder / "runs")  # and nothing is said of what is gone
    found = read_comparison(folder)
    assert found.errors == known.errors
    assert found.wrong == {}
    assert np.isnan([*found.losses.values()]).all()


def test_bits_of_images_are_packed_and_unpacked():
    wrong = np.random.default_rng(0).random(500) < 0.1
    np.testing.assert_array_equal(unpack(pack(wrong), 500), wrong)
    for text, count in ((pack(wrong), 600), ("AAA", 8), ("é", 8)):
        with pytest.raises(ValueError, match=r"of 600 images|padding|ASCII"):
            unpack(text, count)


def test_every_cost_is_measured_in_turn(raw):
    assert list(raw["cost"]) == list(MODES)
    for cost in raw["cost"].values():
        assert len(cost["seconds"]) == 3
        assert min(cost["seconds"]) > 0
    memory = {mode: cost["temp_bytes"] for mode, cost in raw["cost"].items()}
    assert 0 < memory["uniform"] <= memory["stop"] < memory["full"]


def test_the_gradients_are_compared_at_the_points_asked_for(raw):
    groups = ["all", "classes", "decoder", "primary", "stem"]
    keys = [(r["seed"], r["mode"], r["epoch"], r["group"]) for r in raw["alignment"]]
    assert sorted(keys) == sorted(itertools.product((0, 1), ("stop", "full"), (0, 3), groups))


def flat(gradient, group):
    names = [name for name in sorted(gradient) if group in ("all", name.split(".")[0])]
    return np.concatenate([np.asarray(gradient[name], np.float64).ravel() for name in names])


@pytest.fixture(scope="module")
def gradients(compared):
    """From parameters to the stop and the full gradient of the mean loss on the same examples."""
    dataset = Digits().load()
    batch = next(iter(EvalFeed(dataset.train, dataset.scale, batch_size=256)))

    def gradient(mode):
        model, loss = variant(compared.config, mode, 0).model, compared.config.loss
        made = network_functions(model, loss, (8, 8, 1), 10)
        return jax.jit(jax.grad(lambda params: jnp.mean(made.loss(params, batch)["loss"])))

    return gradient("stop"), gradient("full")


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("mode", ["stop", "full"])
def test_alignment_is_the_cosine_of_the_two_gradients(compared, raw, runs, gradients, mode, epoch):
    params = compared.began[mode, 1] if epoch == 0 else runs[mode, 1].params
    stop, full = (gradient(params) for gradient in gradients)
    for group in ("all", "classes", "decoder", "primary", "stem"):
        ours, theirs = flat(stop, group), flat(full, group)
        lengths = np.linalg.norm(ours), np.linalg.norm(theirs)
        (found,) = (
            r
            for r in raw["alignment"]
            if (r["mode"], r["seed"], r["epoch"], r["group"]) == (mode, 1, epoch, group)
        )
        assert found["cosine"] == pytest.approx(ours @ theirs / np.prod(lengths), abs=1e-4)
        assert found["norm_ratio"] == pytest.approx(lengths[0] / lengths[1], rel=1e-4)


def test_the_first_update_of_adam_forgets_lengths(compared, gradients):
    """From nothing Adam moves every parameter by the sign of its gradient, in a warm-up too."""
    table = read_seen(compared.folder, GRADIENTS)
    stop, full = (gradient(compared.began["full", 1]) for gradient in gradients)
    for group in ("all", "classes", "decoder", "primary", "stem"):
        ours, theirs = (np.sign(flat(x, group)) for x in (stop, full))
        (found,) = (
            r
            for r in table
            if (r["mode"], r["seed"], r["epoch"], r["group"]) == ("full", 1, 0, group)
        )
        cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
        # But for gradients so small that epsilon counts.
        assert found["update_cosine"] == pytest.approx(cosine, abs=0.02)
        assert found["response_cosine"] == pytest.approx(found["update_cosine"], abs=1e-4)
        assert found["update_norm_ratio"] == pytest.approx(1, abs=0.02)
        assert found["share"] == pytest.approx(1 - found["cosine"] * found["norm_ratio"], abs=1e-5)


def test_single_examples_have_a_gradient_each(compared):
    table = read_seen(compared.folder, EXAMPLES)
    keys = {(r["seed"], r["mode"], r["epoch"], r["example"]) for r in table}
    assert keys == set(itertools.product((0, 1), ("stop", "full"), (0, 3), range(16)))
    means = [r for r in read_seen(compared.folder, GRADIENTS) if r["group"] == "all"]
    for record in means:
        of = [r for r in table if all(r[k] == record[k] for k in ("seed", "mode", "epoch"))]
        assert record["example_cosine"] == pytest.approx(np.mean([r["cosine"] for r in of]))
        assert all(2 < r["entropy"] < np.log(10) for r in of)


def test_couplings_are_measured_at_each_iteration(compared, runs):
    table = read_seen(compared.folder, COUPLINGS)
    keys = [(r["seed"], r["mode"], r["epoch"], r["layer"], r["iteration"]) for r in table]
    expected = itertools.product((0, 1), MODES[1:], (0, 3), ["classes"], (1, 2, 3))
    assert sorted(keys) == sorted(expected)
    for record in table:
        if record["iteration"] == 1:
            assert record["entropy"] == pytest.approx(np.log(10), rel=1e-5)
            assert record["from_uniform"] == 0
        else:
            assert 0 < record["from_uniform"] < 0.5
            assert 0 < record["from_random"] < 0.5
    # Of the last iteration they are those that the network routes by.
    output = runs["full", 1].outputs(Digits().load().train.images[:256])
    (last,) = (
        r for r in table if (r["seed"], r["mode"], r["epoch"], r["iteration"]) == (1, "full", 3, 3)
    )
    c = np.asarray(output.coupling)
    assert last["entropy"] == pytest.approx(-(c * np.log(c)).sum(-1).mean(), rel=1e-4)
    assert last["from_uniform"] == pytest.approx(np.abs(c - 0.1).sum(-1).mean() / 2, rel=1e-4)


def test_the_decoder_s_gradient_does_not_care(raw):
    for record in raw["alignment"]:
        alike = record["group"] == "decoder"
        assert (record["cosine"] == pytest.approx(1, abs=1e-5)) == alike
        assert (record["norm_ratio"] == pytest.approx(1, abs=1e-5)) == alike


def test_progress_is_told_run_by_run(compared, raw):
    said = [line for line in compared.told if isinstance(line, str)]
    # But for the time that is left.
    assert [line.split("%")[0] + "%" for line in said] == [
        f"{number + 1}/8 {mode}, seed {seed}: test error {100 * raw['test_error'][mode][seed]:.2f} %"
        for number, (seed, mode) in enumerate(itertools.product((0, 1), MODES))
    ]
    started = [call for call in compared.told if len(call) == 3]
    assert ("full-seed1", 24, 0) in started
    assert started[-1] == ("timing a step", 3, 0)


def test_a_routing_without_iterations_is_refused_before_anything_is_written(compared, tmp_path):
    model = dataclasses.replace(compared.config.model, routing=cj.UniformRouting())
    config = dataclasses.replace(compared.config, model=model)
    message = "got a UniformRouting, expected an iterative routing.*model.routing.kind to dynamic"
    with pytest.raises(UserError, match=message):
        compare(config, out=tmp_path / "out", reporter=Silent())
    assert not (tmp_path / "out").exists()


def test_a_tolerance_is_refused_where_a_mode_goes_back_through_the_updates():
    routing = cj.DynamicRouting(num_iters=5, gradient=cj.StopGradient(), tolerance=0.01)
    assert routing_of("stop", routing) == routing
    message = r"got model.routing.tolerance 0.01 with mode full, expected null"
    with pytest.raises(UserError, match=message):
        routing_of("full", routing)


def test_an_existing_directory_is_refused(compared):
    with pytest.raises(UserError, match="which exists, expected a new directory"):
        compare(compared.config, out=compared.folder, reporter=Silent())


def test_other_options_of_the_routing_stay():
    routing = cj.DynamicRouting(num_iters=5, gradient=cj.FullGradient(remat=True), leaky=True)
    expected = cj.DynamicRouting(num_iters=5, gradient=cj.StopGradient(), leaky=True)
    assert routing_of("stop", routing) == expected


def test_a_last_seed_out_of_range_is_refused_before_anything_is_written(tmp_path):
    config = cj.load_config("smoke", {"seed": 2**31 - 1})
    with pytest.raises(UserError, match="seed: got 2147483648"):
        compare(config, out=tmp_path / "new", reporter=Silent())
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("unpainted")
def test_networks_without_routing_are_compared(tmp_path):
    arms = {"one": {}, "slow": {"optimiser.schedule.rate": 1e-5}}
    changes = {"training": {"epochs": None, "steps": 2}, "compare.seeds": 1}
    changes |= {"compare.timing_rounds": 3, "compare.arms": arms, "optimiser.schedule.warmup": 0}
    folder = compare(cj.load_config("digits_cnn", changes), out=tmp_path / "it")
    found = json.loads((folder / "comparison.json").read_text())
    assert found["iterations"] == 1
    assert list(found["test_error"]) == ["one", "slow"]
    cj.report(folder)
    assert (folder / "report.html").exists()
