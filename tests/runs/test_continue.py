"""Runs that begin with another's parameters, go on for longer, or leave layers as they are."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax import cli
from capsjax.checks import FieldError, UserError
from capsjax.runs.finetune import transfer
from capsjax.runs.metrics_file import read_metrics
from capsjax.training import checkpoints
from capsjax.training.config import TrainingConfig
from capsjax.training.optimisers import Adam, Constant, freeze


def short(steps, **more):
    """A run of so many steps, with the learning rate along a constant unless told otherwise."""
    training = {"epochs": None, "steps": steps, **more.pop("training", {})}
    return cj.load_config(
        "smoke", {"training": training, "optimiser.schedule": Constant(rate=0.01), **more}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of eight steps."""
    return cj.train(short(8), out=tmp_path_factory.mktemp("run") / "first")


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run.folder, tmp_path / "copy")


def same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert np.asarray(ours[name]).tobytes() == np.asarray(theirs[name]).tobytes(), name


def test_a_lengthened_run_is_the_longer_run_to_the_bit(run, copy, tmp_path):
    whole = cj.train(short(12), out=tmp_path / "whole")
    longer = cj.resume(copy, overrides={"training": {"steps": 12}})
    same_bits(longer.params, whole.params)
    assert longer.test == whole.test
    assert longer.config == whole.config == cj.load(copy).config  # written down
    tests = [
        line["step"] for line in read_metrics(copy / "metrics.jsonl") if line["split"] == "test"
    ]
    assert tests == [8, 12]
    with pytest.raises(UserError, match="got a run that is finished"):
        cj.resume(copy)


def test_a_lengthened_run_that_stops_resumes_to_its_new_end(run, copy):
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("steps: 8", "steps: 12"))
    assert cj.resume(copy).test["step"] == 12


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"training.steps": 4},
            r"training\.steps: got 4, expected more than 8, the steps that are trained",
        ),
        (
            {"seed": 1},
            r"overrides: got seed, expected training\.epochs, training\.steps, .*_size, training\.feed alone",
        ),
        (
            {"model": {"dim": 3}},
            r"overrides: got model, expected .* capsjax\.train\(config, start=",
        ),
        ({"training.batch_size": 3}, r"overrides: got training\.batch_size, expected"),
        ({"training.steps": 8}, "got a run that is finished"),
        ({"training.epochs": 8}, "the other null"),
    ],
)
def test_a_resumed_run_changes_in_its_length_alone(copy, overrides, message):
    before = (copy / "config.yaml").read_text()
    with pytest.raises(UserError, match=message):
        cj.resume(copy, overrides=overrides)
    assert (copy / "config.yaml").read_text() == before


def test_a_run_begins_with_given_parameters(run, tmp_path):
    began = []

    def observe(epoch, state):
        began.append(jax.tree.map(np.array, state))

    tuned = cj.train(short(1), out=tmp_path / "tuned", start=run, observe=observe)
    same_bits(began[0].params, run.params)
    assert began[0].step == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(began[0].opt_state))
    assert not np.array_equal(tuned.params["stem.kernel"], run.params["stem.kernel"])
    assert json.loads((tuned.folder / "environment.json").read_text())["start"] == {
        "folder": str(run.folder),
        "step": 8,
        "initialised": [],
    }
    same_bits(cj.load(run.folder).params, run.params)  # the donor keeps its arrays
    # What stopped in its first epoch resumes from the same beginning.
    (tuned.folder / "metrics.jsonl").write_text("")
    shutil.rmtree(tuned.folder / "checkpoints" / "1")
    assert checkpoints.steps(tuned.folder / "checkpoints") == [0]
    same_bits(cj.resume(tuned.folder).params, tuned.params)


def test_the_command_line_lengthens_a_run_and_begins_with_one(run, copy, tmp_path, capsys):
    def answer(*words):
        code = cli.main([str(word) for word in words])
        return code, capsys.readouterr()

    assert answer("train", "--resume", copy, "--training.steps", "9", "--quiet")[0] == 0
    assert cj.load(copy).test["step"] == 9
    out, steps = tmp_path / "tuned", ["--training.epochs", "null", "--training.steps", "1"]
    code, told = answer(
        "train", "smoke", "--from", copy, "--out", out, *steps, "--model.decoder", "null"
    )
    assert code == 0
    start = json.loads((out / "environment.json").read_text())["start"]
    assert start == {"folder": str(copy), "step": 9, "initialised": []}
    code, told = answer("train", "--resume", copy, "--seed", "3")
    assert code == 2
    assert (
        "got --resume with more beside it, expected it alone, or with --training.epochs" in told.err
    )
    code, told = answer("train", "--resume", copy, "--max_shift", "3")
    assert code == 2
    assert "overrides: got max_shift, expected training.epochs" in told.err


def few_classes():
    images = np.random.default_rng(0).random((300, 8, 8), np.float32)
    return images, np.arange(300) % 3


def test_layers_that_do_not_fit_are_named_and_initialised(run, tmp_path):
    config = short(1, training={"freeze": ("stem", "primary")})
    with pytest.warns(
        UserWarning, match=r"start: initialised, .*: classes \(classes.weight is \[\d+, 10"
    ):
        tuned = cj.train(config, few_classes(), out=tmp_path / "tuned", start=run.folder)
    initialised = json.loads((tuned.folder / "environment.json").read_text())["start"][
        "initialised"
    ]
    assert [line.partition(" ")[0] for line in initialised] == ["classes", "decoder.layers.0"]
    kept = {name for name in run.params if name.startswith(("stem", "primary"))}
    same_bits({n: tuned.params[n] for n in kept}, {n: run.params[n] for n in kept})
    narrow = cj.load_config(
        "smoke", {"model.stem.channels": 3, "model.dim": 5, "model.primary.dim": 3}
    )
    narrow = dataclasses.replace(narrow, model=dataclasses.replace(narrow.model, decoder=None))
    with pytest.raises(UserError, match="start: got a network of which no layer fits: classes"):
        cj.train(narrow, few_classes(), out=tmp_path / "none", start=run)
    assert not (tmp_path / "none").exists()


def test_frozen_groups_stay_to_the_bit_and_the_others_train(run, tmp_path):
    config = short(3, training={"freeze": ["stem", "classes"]})
    frozen = cj.train(config, out=tmp_path / "frozen", start=run)
    for name, value in run.params.items():
        same = np.asarray(value).tobytes() == np.asarray(frozen.params[name]).tobytes()
        assert same == name.startswith(("stem", "classes")), name
    same_bits(cj.load(frozen.folder).params, frozen.params)
    shutil.rmtree(frozen.folder / "checkpoints" / "3")
    (frozen.folder / "metrics.jsonl").write_text("")
    same_bits(cj.resume(frozen.folder).params, frozen.params)


def test_what_is_frozen_keeps_the_sign_of_zero_and_what_is_not_trains_as_alone():
    params = {"a.w": jnp.array([-0.0, 0.0, 1.0]), "b.w": jnp.array([1.0, 2.0])}
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 0.5), params)
    alone, both = Adam().make(10), freeze(Adam().make(10), ["a"])
    state, ours = both.init(params), dict(params)
    single, theirs = alone.init({"b.w": params["b.w"]}), {"b.w": params["b.w"]}
    for _ in range(3):
        updates, state = both.update(gradient, state, ours)
        ours = {name: ours[name] + updates[name] for name in ours}
        updates, single = alone.update({"b.w": gradient["b.w"]}, single, theirs)
        theirs = {"b.w": theirs["b.w"] + updates["b.w"]}
    assert np.asarray(ours["a.w"]).tobytes() == np.asarray(params["a.w"]).tobytes()
    same_bits({"b.w": ours["b.w"]}, theirs)
    assert freeze(alone, ()) is alone
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(single))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (("stm",), "training.freeze: got 'stm', expected groups .* primary.*did you mean 'stem'"),
        (("stem", "primary", "classes", "decoder"), "got every group .*to be left to train"),
    ],
)
def test_groups_that_cannot_be_frozen_are_named_before_anything_is_written(
    tmp_path, groups, message
):
    with pytest.raises(UserError, match=message):
        cj.train(short(1, training={"freeze": list(groups)}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("groups", [("stem", "stem"), ("",), (1,)])
def test_what_is_no_list_of_groups_is_refused(groups, as_installed):
    with pytest.raises(FieldError, match="a tuple of different groups"):
        TrainingConfig(epochs=1, freeze=groups)


def test_a_layer_is_taken_whole_or_not_at_all():
    given = {
        "stem.kernel": jnp.ones([2, 2]),
        "top.0.kernel": jnp.ones([4, 3]),
        "top.0.bias": jnp.ones([3]),
        "old.bias": jnp.ones([1]),
    }
    initial = {name: jnp.zeros(value.shape) for name, value in given.items() if name[:3] != "old"}
    initial |= {"top.0.kernel": jnp.zeros([5, 3]), "new.bias": jnp.zeros([2])}
    params, lines = transfer(given, initial)
    assert {name: float(value.sum()) for name, value in params.items()} == {
        **dict.fromkeys(initial, 0.0),
        "stem.kernel": 4.0,
    }
    assert lines == [
        "top.0 (top.0.kernel is [4, 3] there, [5, 3] here)",
        "new (new.bias is not there, [2] here)",
    ]
    params["stem.kernel"].delete()  # as a step of training does with what it takes over
    assert given["stem.kernel"].sum() == 4
