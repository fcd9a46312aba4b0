"""Losses, metrics, augmentations and data of a configuration: values that are chosen by kind."""

import copy

import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.data import Cutout, Dataset, Digits, Flip, Shift, Split
from capsjax.gradients import FullGradient
from capsjax.layers import ActivationHead, BatchNorm
from capsjax.losses import (
    CrossEntropyLoss,
    LinearMargin,
    LogisticMargin,
    MarginLoss,
    SpreadLoss,
)
from capsjax.metrics import Accuracy, CalibrationError, DeadCapsules, ErrorRate, TopKError
from capsjax.routing import DynamicRouting, EMRouting
from capsjax.runs.config import Config
from capsjax.runs.sources import check_overrides
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build
from capsjax.training.config import TrainingConfig
from capsjax.training.optimisers import SGD
from capsjax.training.schedules import Exponential
from capsjax.types import Batch

LINES = "data: digits\ntraining: {epochs: 1}\n"


def read(text):
    return build(Config, read_yaml(LINES + text, "x"), source="x")


@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("", MarginLoss()),
        (
            "loss: {margin: released, reconstruction_weight: 0.1}",
            MarginLoss(margin="released", reconstruction_weight=0.1),
        ),
        ("loss: {positive_margin: 0.8}", MarginLoss(positive_margin=0.8)),
        ("loss: {kind: margin, margin: released}", MarginLoss(margin="released")),
        ("loss: spread", SpreadLoss(margin=LinearMargin(start=0.2, end=0.9))),
        ("loss: {kind: spread, margin: 0.5}", SpreadLoss(margin=0.5)),
        ("loss: {kind: spread, margin: 1}", SpreadLoss(margin=1.0)),
        ("loss: {kind: spread, margin: linear}", SpreadLoss()),
        (
            "loss: {kind: spread, margin: {kind: linear, until: 0.5}}",
            SpreadLoss(margin=LinearMargin(until=0.5)),
        ),
        ("loss: {kind: spread, margin: logistic}", SpreadLoss(margin=LogisticMargin())),
        ("loss: {kind: cross_entropy, scale: 10}", CrossEntropyLoss(scale=10.0)),
    ],
)
def test_a_loss_is_chosen_by_kind_and_without_one_it_is_the_margin_loss(text, loss):
    config = read(text)
    assert config.loss == loss
    assert build(Config, read_yaml(dump(config), "x"), source="x") == config


def test_lists_of_values_are_read_and_written():
    config = read(
        "metrics: [accuracy, {kind: top_k_error, k: 3}]\naugment: [flip, {kind: cutout, size: 2}]"
    )
    assert config.metrics == (Accuracy(), TopKError(k=3))
    assert config.augment == (Flip(), Cutout(size=2))
    assert build(Config, read_yaml(dump(config), "x"), source="x") == config


def test_a_shift_by_max_shift_comes_before_the_others():
    assert read("max_shift: 2\naugment: [flip]").augmentations == (Shift(pixels=2), Flip())
    assert read("augment: [flip]").augmentations == (Flip(),)
    assert (
        read("max_shift: 1").augmentations
        == read("augment: [{kind: shift, pixels: 1}]").augmentations
    )


def test_a_flag_that_changes_a_kind_leaves_nothing_of_one_that_was_assumed():
    text = "loss: {margin: released, reconstruction_weight: 0.1}\noptimiser: {beta1: 0.5}\n"
    tree = read_yaml(LINES + text, "x")
    config = build(Config, tree, source="x", overrides={"loss.kind": "spread", "optimiser": "sgd"})
    assert config.loss == SpreadLoss()
    assert config.optimiser.momentum == 0.9
    kept = build(Config, tree, source="x", overrides={"loss": {"positive_margin": 0.8}})
    assert kept.loss == MarginLoss(
        margin="released", reconstruction_weight=0.1, positive_margin=0.8
    )


def test_a_flag_that_reaches_into_what_a_file_leaves_out_changes_what_stands_there():
    primary = "{kind: primary_capsules, types: 2, dim: 4, kernel: 3}"
    layers = f"{{primary: {primary}, last: {{kind: dense_capsules, dim: 4}}}}"
    tree = read_yaml(f"{LINES}model: {{kind: network, layers: {layers}}}\n", "x")
    before = copy.deepcopy(tree)
    flags = {"model.head.output": "softmax", "model.routing": {"num_iters": 2}}
    config = build(Config, tree, source="x", overrides=flags)
    assert config.model.head == ActivationHead(output="softmax")
    assert config.model.routing == DynamicRouting(num_iters=2)
    assert tree == before
    other = build(Config, tree, source="x", overrides={"model.routing.kind": "em"})
    assert other.model.routing == EMRouting()
    # What a flag's own kind leaves out, too, and what a short form in the file does.
    flags = {"optimiser": "sgd", "optimiser.schedule.rate": 0.1, "optimiser.schedule.decay": 0.5}
    assert build(Config, tree, source="x", overrides=flags).optimiser == SGD(
        schedule=Exponential(rate=0.1, decay=0.5)
    )
    short = build(
        Config, tree | {"optimiser": "sgd"}, source="x", overrides={"optimiser.clip_norm": 2}
    )
    assert short.optimiser == SGD(clip_norm=2.0)
    mapped = {"optimiser": {"kind": "sgd", "schedule": {"rate": 0.1}}}
    assert build(Config, tree, source="x", overrides=mapped).optimiser.schedule.rate == 0.1
    flags = {"model": "capsnet", "model.routing.gradient": "full"}
    deeper = build(
        Config, tree, source="x", overrides=flags | {"model.routing.gradient.remat": True}
    )
    assert deeper.model.routing == DynamicRouting(gradient=FullGradient(remat=True))
    # Layers stay in the order in which they are given, whether a kind is all that one says or not.
    layers = {"pool": "pool", "first": {"kind": "conv", "channels": 2, "kernel": 1}}
    layers |= {"primary": {"kind": "primary_capsules", "types": 2, "dim": 4, "kernel": 3}}
    layers |= {"last": {"kind": "dense_capsules", "dim": 4}}
    given = {"model": {"kind": "network", "layers": layers, "head": {"output": "softmax"}}}
    ordered = build(Config, read_yaml(LINES, "x"), source="x", overrides=given).model
    assert list(ordered.layers) == ["pool", "first", "primary", "last"]
    assert ordered.head == ActivationHead(output="softmax")
    # A default that is not its class's own, within a layer.
    named = {"primary": {"kind": "primary_capsules", "types": 2, "dim": 4, "kernel": 3}}
    named["last"] = {"kind": "homogeneous_capsules"}
    deep = tree | {"model": {"kind": "network", "layers": named}}
    flags = {"model.layers.last.normalisation.momentum": 0.5}
    found = build(Config, deep, source="x", overrides=flags).model.layers["last"].normalisation
    assert found == BatchNorm(scale=False, momentum=0.5)
    with pytest.raises(
        UserError, match=r"(?s)model\.head\.shared: unknown key.*belongs to kind linear"
    ):
        build(Config, tree, source="x", overrides={"model.head.shared": True})
    # A file says its kinds: what it leaves out may be another one than its author thinks.
    text = dump(config).replace("kind: activation", "")
    with pytest.raises(UserError, match=r"model\.head\.kind: missing"):
        build(Config, read_yaml(text, "x"), source="x")


def test_a_string_for_a_kind_is_named_once():
    tree = read_yaml(f"{LINES}loss: {{kind: spread}}\n", "x")
    with pytest.raises(UserError, match=r"^loss: got 'mse'\n  expected one of binary"):
        build(Config, tree, source="x", overrides={"loss": "mse"})


@pytest.mark.parametrize(
    ("text", "came", "expected"),
    [
        ("loss: sprad", "loss: got 'sprad'", "did you mean 'spread'?"),
        ("loss: {scale: 2}", "loss.scale: unknown key", "scale belongs to kind cross_entropy"),
        ("loss: {kind: spread, margin: x}", "loss.margin: got 'x'", "a number or one of linear"),
        ("loss: {kind: spread, margin: 2}", "loss.margin: got 2", "at most 1"),
        ("loss: {kind: spread, margin: {kind: line}}", "loss.margin.kind: got 'line'", "'linear'?"),
        ("loss: {kind: spread, margin: {strat: 1}}", "loss.margin.strat: unknown key", "'start'?"),
        ("loss: {kind: spread, margin: {end: 2}}", "loss.margin.end: got 2", "at most 1"),
        ("metrics: [acuracy]", "metrics.0: got 'acuracy'", "did you mean 'accuracy'?"),
        ("metrics: [{kind: top_k_error, k: 0}]", "metrics.0.k: got 0", "an integer of at least 1"),
        ("metrics: [accuracy, accuracy]", "metrics.1: got 'accuracy'", "has 'accuracy' without it"),
        ("metrics: [error_rate]", "metrics.0: got 'error_rate'", "has 'error' without it already"),
        ("augment: flip", "augment: got 'flip'", "a list, such as [flip]"),
        ("augment: [3]", "augment.0: got 3", "a mapping with kind one of "),
        ("augment: [{kind: shift, pixels: 0}]", "augment.0.pixels: got 0", "of at least 1"),
    ],
)
def test_a_mistake_names_its_place_and_the_remedy(text, came, expected):
    with pytest.raises(UserError) as caught:
        read(text)
    first, second = str(caught.value).splitlines()
    assert first == f"x: {came}" or first.startswith(f"x: {came}")
    assert expected in second


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data", "digits"),
        ("loss", "margin"),
        ("metrics", [Accuracy()]),
        ("metrics", (Flip(),)),
        ("augment", (Accuracy(),)),
        ("metrics", (ErrorRate(),)),
    ],
)
def test_from_python_values_of_another_class_are_refused(field, value, as_installed):
    given = {"data": Digits(), "training": TrainingConfig(epochs=1)} | {field: value}
    with pytest.raises(FieldError, match=rf"Config\.{field}"):
        Config(**given)


@pytest.mark.parametrize(("kind", "place"), [("mnist", "folder"), ("arrays", "path")])
def test_a_resumed_run_may_have_its_files_elsewhere_and_no_other_data(kind, place):
    before, moved, other = (
        cj.load_config("smoke", {"data": {"kind": kind, **fields}})
        for fields in ({place: "a"}, {place: "b"}, {place: "b", **OTHER[kind]})
    )
    check_overrides(before, moved, {f"data.{place}": "b"})
    with pytest.raises(UserError, match=rf"expected .*, data\.{place}.* alone"):
        check_overrides(before, other, OTHER[kind])


OTHER = {"mnist": {"validation": 5}, "arrays": {"seed": 5}}


def images(n=24):
    rng = np.random.RandomState(0)
    return Split(rng.randint(0, 17, (n, 8, 8, 1)).astype(np.uint8), np.arange(n) % 10)


DATASET = Dataset("few", images(), images(20), images(20), 10, 1 / 16)


def test_what_leaves_nothing_of_the_images_is_refused_before_anything_starts(tmp_path):
    config = cj.load_config("smoke", {"augment": ["flip", {"kind": "cutout", "size": 8}]})
    with pytest.raises(UserError, match=r"^augment\.1\.size: got 8, expected less than 8"):
        cj.train(config, DATASET, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# A run with everything that a step can depend on: a margin that grows, augmentations, metrics.
OVERRIDES = {
    "training": {"epochs": 4, "batch_size": 8, "log_every": 1},
    "max_shift": 0,
    "augment": [{"kind": "shift", "pixels": 1}, "flip", {"kind": "affine", "scale": 0.1}],
    "loss": {"kind": "spread", "margin": {"kind": "linear", "start": 0.0, "end": 0.9}},
    "metrics": [{"kind": "top_k_error", "k": 3}, "dead_capsules", {"kind": "calibration_error"}],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = cj.load_config("smoke", OVERRIDES)
    return cj.train(config, DATASET, out=tmp_path_factory.mktemp("values") / "run")


def test_its_lines_hold_what_was_asked_for(run):
    always = {"split", "step", "loss", "spread", "reconstruction", "error", "entropy"}
    asked = {"top_3_error", "dead_capsules", "calibration_error"}
    for line in run.metrics:
        assert always | asked == set(line) - {"examples", "images_per_second"}
    assert run.test["top_3_error"] <= run.test["error"]


def test_the_numbers_of_a_split_are_those_of_its_outputs(run):
    test = DATASET.test
    output = run.outputs(test.images)
    lengths, active = np.asarray(output.lengths), np.linalg.norm(output.children, axis=-1) >= 0.1
    own = lengths[np.arange(20), test.labels]
    top = [(row > one).sum() >= 3 for row, one in zip(lengths, own, strict=True)]
    assert run.test["top_3_error"] == pytest.approx(np.mean(top))
    assert run.test["dead_capsules"] == pytest.approx(1 - active.any(0).mean())
    batch = Batch(jnp.zeros((20, 8, 8, 1)), jnp.asarray(test.labels), jnp.ones(20))
    gaps = np.asarray(CalibrationError()(output, batch))
    assert run.test["calibration_error"] == pytest.approx(np.abs(gaps.mean(0)).sum(), rel=1e-4)


def test_the_margin_begins_where_it_should_and_ends_there_at_evaluation(run):
    spread = [line["spread"] for line in run.metrics if line["split"] == "train"]
    assert 5 * spread[0] < spread[3] < spread[-1] < run.test["spread"]
    lengths = run.outputs(DATASET.test.images).lengths
    expected = cj.spread_loss(lengths, jnp.asarray(DATASET.test.labels), margin=0.9)
    assert run.test["spread"] == pytest.approx(float(expected.mean()), rel=1e-5)


def test_resumed_it_gives_the_same_bits(run, tmp_path):
    stopped = cj.load_config("smoke", OVERRIDES)

    def observe(epoch, state):
        if epoch == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        cj.train(stopped, DATASET, out=tmp_path / "run", observe=observe)
    resumed = cj.resume(tmp_path / "run", DATASET)
    for name, value in run.params.items():
        np.testing.assert_array_equal(value, resumed.params[name])
    assert resumed.test == run.test


def test_dead_capsules_of_a_run_are_asked_for_by_name():
    assert cj.load_config("smoke", {"metrics": ["dead_capsules"]}).metrics == (DeadCapsules(),)
