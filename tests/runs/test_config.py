"""The configurations that ship, and the fields that a run has."""

import dataclasses
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.cli.flags import parse_overrides
from capsjax.data import Arrays, Digits, Mnist
from capsjax.data.source import Source
from capsjax.gradients import GradientMode
from capsjax.layers import CapsNetConfig, DecoderConfig
from capsjax.losses import Loss
from capsjax.routing import Routing
from capsjax.runs import config as config_module
from capsjax.runs.config import CompareConfig, Config, find_config, shipped_configs
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build
from capsjax.training.config import TrainingConfig
from capsjax.training.optimisers import Adam, Constant, Exponential, Optimiser, Piecewise
from capsjax.training.schedules import Schedule

NAMES = [
    "attention_resnet",
    "attention_simple",
    "capsnet2017",
    "cnn_average_pool",
    "cnn_multimnist2017",
    "cnn_sabour2017",
    "deepcaps",
    "digits",
    "digits_attention",
    "digits_cnn",
    "digits_deepcaps",
    "digits_efficient",
    "digits_em",
    "digits_hvc",
    "digits_residual",
    "digits_self",
    "efficient_capsnet",
    "em2018",
    "em2018_small",
    "eth80",
    "eth80_cnn",
    "fashion",
    "fashion_cnn",
    "hvc",
    "images",
    "images_cnn",
    "mnist_sabour2017",
    "mnist_small",
    "mnist_small_cnn",
    "multimnist",
    "multimnist_cnn",
    "self_routing",
    "smoke",
    "usps",
    "usps_cnn",
    "vectors",
    "vectors_mlp",
]


def test_these_configurations_ship():
    assert sorted(shipped_configs()) == NAMES


def test_the_page_lists_what_ships_as_info_does():
    page = (Path(__file__).parents[2] / "docs/configs.md").read_text("utf-8")
    told = [path.read_text("utf-8").split("\n")[0][2:] for path in shipped_configs().values()]
    rows = [f"  {name:18} {text}" for name, text in zip(shipped_configs(), told, strict=True)]
    assert "\nconfigurations:\n" + "\n".join(rows) + "\n```\n" in page


def test_the_page_names_every_kind_that_a_field_may_be():
    """A routing that is missing there is one that nobody finds."""
    page = (Path(__file__).parents[2] / "docs/configs.md").read_text("utf-8")
    (told,) = re.findall(r"\n(Where a field can be one of several things, .*?)\n\n", page, re.S)
    for family in (Routing, GradientMode, Optimiser, Schedule, Loss, Source):
        kinds = {one.kind for one in family.variants() if one.__module__.startswith("capsjax.")}
        assert not {kind for kind in kinds if f"`{kind}`" not in told}, family


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_configuration_opens_with_what_it_is(name):
    text = shipped_configs()[name].read_text("utf-8")
    comment = text[: re.search(r"^[^#]", text, re.M).start()]
    assert f"capsjax train {name}" in comment
    assert re.search(r"Expect: .*(seconds|hour|accelerator|error)", comment, re.S)
    assert re.search(r"core|accelerator|GPU", comment)
    assert len(comment.splitlines()) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_configuration_is_whole_and_comes_back(name):
    config = cj.load_config(name)
    text = dump(config)
    assert build(Config, read_yaml(text, "dump"), source="dump") == config
    assert hash(config) == hash(cj.load_config(name))


def test_the_2017_configuration_is_the_authors():
    config = cj.load_config("mnist_sabour2017")
    assert config.data == Mnist(validation=0)
    assert config.training.steps == 300_000
    assert config.training.batch_size == 128
    assert config.optimiser == Adam(schedule=Exponential())
    assert config.loss.margin == "released"
    assert config.loss.reconstruction_weight == 0.0005
    assert config.model.routing == cj.DynamicRouting(num_iters=3, gradient=cj.FullGradient())
    assert config.model.routing_bias
    assert config.max_shift == 2


def test_the_smoke_configuration_is_small():
    config = cj.load_config("smoke")
    assert config.data == Digits()
    assert config.optimiser.schedule == Constant(rate=1e-2)
    assert config.training.epochs <= 3


def test_flags_reach_every_part():
    flags = {
        "--seed": "4",
        "--max_shift": "0",
        "--data": "arrays",
        "--data.test_fraction": "0.2",
        "--model.decoder": "null",
        "--model.routing.gradient": "{kind: truncated, last: 1}",
        "--model.routing.leaky": "true",
        "--training.epochs": "null",
        "--training.steps": "5",
        "--training.parallel": "pmap",
        "--training.feed": "grain",
        "--loss.margin": "released",
        "--optimiser.schedule.rate": "1e-3",
        "--compare.modes": "[stop, full]",
    }
    words = [word for flag in flags.items() for word in flag]
    config = cj.load_config("smoke", parse_overrides(words))
    assert (config.seed, config.max_shift, config.data) == (4, 0, Arrays(test_fraction=0.2))
    assert config.model.decoder is None
    gradient = cj.TruncatedGradient(last=1)
    assert config.model.routing == cj.DynamicRouting(num_iters=3, gradient=gradient, leaky=True)
    assert (config.training.epochs, config.training.steps) == (None, 5)
    assert (config.training.parallel, config.training.feed) == ("pmap", "grain")
    assert config.loss.margin == "released"
    assert config.optimiser.schedule == Constant(rate=1e-3)
    assert config.compare.modes == ("stop", "full")


def test_a_path_to_a_file_works_like_a_name(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    shutil.copy(shipped_configs()["smoke"], path)
    assert cj.load_config(path) == cj.load_config(str(path)) == cj.load_config("smoke")
    monkeypatch.chdir(tmp_path)
    assert find_config("mine.yaml") == Path("mine.yaml")
    Path("digits").mkdir()
    assert cj.load_config("digits").data == Digits()


def test_configurations_are_found_inside_a_wheel_too(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    shutil.copy(shipped_configs()["smoke"], tmp_path / "configs" / "inside.yaml")
    monkeypatch.setattr(config_module.resources, "files", lambda package: tmp_path)
    assert list(shipped_configs()) == ["inside"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("digit", "'digits'"), ("mnist-small", "'mnist_small'"), ("smok", "'smoke'")],
)
def test_a_missing_file_is_answered_with_the_nearest(name, hint):
    with pytest.raises(UserError) as caught:
        cj.load_config(name)
    message = str(caught.value)
    assert message.startswith(
        f"{name}: got no such file, expected a path to a YAML file or one of "
    )
    assert ", ".join(NAMES) in message
    assert message.endswith(f"; did you mean {hint}?")
    told = caught.value.on_command_line  # which takes data in its place
    assert told.startswith(f"{name}: got no such file or folder, expected data: a folder with a ")
    assert told.endswith("; or a configuration: a YAML file or " + message.partition("file or ")[2])


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "image.yaml"
    path.write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(
        UserError,
        match=r"image.yaml: got bytes that are not UTF-8 text, .*expected a configuration, YAML",
    ):
        cj.load_config(path)


@pytest.mark.parametrize(
    ("overrides", "came", "expected"),
    [
        ({"modle.dim": 3}, "modle.dim: modle: unknown key", "did you mean 'model'?"),
        ({"training.epoch": 3}, "training.epoch: unknown key", "did you mean 'epochs'?"),
        ({"seed": "x"}, "seed: got 'x'", "an integer"),
        ({"seed": 1.5}, "seed: got 1.5", "an integer"),
        ({"seed": -1}, "seed: got -1", "from 0 to 2147483647"),
        ({"max_shift": -1}, "max_shift: got -1", "of at least 0"),
        ({"training.batch_size": 0}, "training.batch_size: got 0", "of at least 1"),
        ({"training.steps": 3}, "training.epochs: got 3", "one of epochs and steps"),
        ({"training.parallel": "pmpa"}, "training.parallel: got 'pmpa'", "did you mean 'pmap'?"),
        ({"training.feed": "grian"}, "training.feed: got 'grian'", "did you mean 'grain'?"),
        (
            {"model.routing": "dynamc"},
            "model.routing: got 'dynamc'",
            "did you mean 'dynamic'?",
        ),
        ({"model.routing.num_iters": 0}, "model.routing.num_iters: got 0", "at least 1"),
        (
            {"model.routing.gradient": "ful"},
            "model.routing.gradient: got 'ful'",
            "did you mean 'full'?",
        ),
        (
            {"model.routing.gradient": "unrolled"},
            "model.routing.gradient: got 'unrolled'",
            "one of ",
        ),
        (
            {"model.routing.gradient": {"kind": "truncated", "last": 3}},
            "last: got 3",
            "at most 2",
        ),
        ({"model.stem.kernel": 0}, "model.stem.kernel: got 0", "at least 1"),
        ({"model.decoder.hidden": []}, "model.decoder.hidden: got []", "at least one size"),
        ({"optimiser.schedule": "cosin"}, "schedule: got 'cosin'", "did you mean 'cosine'?"),
        ({"optimiser.schedule.rate": 0}, "optimiser.schedule.rate: got 0", "greater than 0"),
        ({"loss.margin": "papper"}, "loss.margin: got 'papper'", "did you mean 'paper'?"),
        ({"data": "digit"}, "data: got 'digit'", "did you mean 'digits'?"),
        ({"compare.modes": ["stop"]}, 'compare.modes: got ["stop"]', "full among them"),
        (
            {"compare.modes": ["ful"]},
            "compare.modes: got 'ful'",
            "did you mean 'full'?",
        ),
        ({"compare.seeds": 0}, "compare.seeds: got 0", "at least 1"),
    ],
)
def test_a_mistake_is_answered_in_two_lines(overrides, came, expected):
    with pytest.raises(UserError) as caught:
        cj.load_config("smoke", overrides)
    first, second = str(caught.value).splitlines()
    assert came in first
    assert second.startswith("  expected ")
    assert expected in second


def test_a_mistake_in_a_file_names_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    text = shipped_configs()["smoke"].read_text("utf-8")
    path.write_text(text.replace("batch_size: 128", "batch_size: many"))
    with pytest.raises(
        UserError, match=rf"^{path}: training.batch_size: got 'many'\n  expected an in"
    ):
        cj.load_config(path)


@pytest.mark.parametrize(
    ("build", "field"),
    [
        (lambda: Config(data=Digits(), training=TrainingConfig(epochs=1), seed=-1), "seed"),
        (
            lambda: Config(data=Digits(), training=TrainingConfig(epochs=1), max_shift=-1),
            "max_shift",
        ),
        (lambda: CompareConfig(seeds=0), "seeds"),
        (lambda: CompareConfig(gradient_points=1), "gradient_points"),
        (lambda: CompareConfig(timing_rounds=2), "timing_rounds"),
        (lambda: CompareConfig(margin=0.0), "margin"),
        (lambda: CompareConfig(modes=("stop", "uniform")), "modes"),
        (lambda: CompareConfig(modes=("full", "full")), "modes"),
    ],
)
def test_python_gets_the_same_answer(build, field):
    with pytest.raises(FieldError) as caught:
        build()
    assert caught.value.field == field


def test_the_defaults_of_a_comparison():
    assert CompareConfig() == CompareConfig(
        modes=("uniform", "stop", "truncated", "full"), seeds=3, gradient_points=4, timing_rounds=15
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DecoderConfig(hidden=(1.5,)), "DecoderConfig.hidden: got (1.5,)"),
        (lambda: DecoderConfig(hidden=64), "DecoderConfig.hidden: got 64"),
        (lambda: CapsNetConfig(stem="x"), "CapsNetConfig.stem: got 'x'"),
        (lambda: CapsNetConfig(primary=None), "CapsNetConfig.primary: got None"),
        (lambda: CapsNetConfig(decoder=True), "CapsNetConfig.decoder: got True"),
        (lambda: CapsNetConfig(routing_bias="yes"), "CapsNetConfig.routing_bias: got 'yes'"),
        (lambda: Piecewise(boundaries=(1.5, 2.5)), "Piecewise.boundaries: got (1.5, 2.5)"),
        (lambda: Adam(schedule=1e-3), "Adam.schedule: got 0.001"),
        (lambda: CompareConfig(modes=("full", "x")), "CompareConfig.modes: got 'x'"),
        (lambda: dataclasses.replace(cj.load_config("smoke"), data="digits"), "Config.data: got"),
        (lambda: dataclasses.replace(cj.load_config("smoke"), loss="paper"), "Config.loss: got"),
    ],
)
def test_python_is_held_to_the_types_that_yaml_is(make, message, as_installed):
    with pytest.raises(UserError, match=re.escape(message)):
        make()


ENDLESS: list = []
ENDLESS.append(ENDLESS)


def test_an_override_may_hold_parts_of_a_configuration():
    schedule = Exponential(rate=0.25)
    found = cj.load_config("smoke", {"optimiser": {"schedule": schedule}})
    assert found.optimiser.schedule == schedule


def test_overrides_from_python_may_be_parts_of_a_configuration_and_numpy_s_numbers():
    routing = cj.FixedPointRouting(num_iters=7, gradient=cj.ImplicitGradient(max_steps=9))
    found = cj.load_config(
        "smoke",
        {
            "model.routing": routing,
            "seed": np.int64(4),
            "optimiser.schedule.rate": jnp.float32(0.5),
        },
    )
    assert (found.model.routing, found.seed, found.optimiser.schedule.rate) == (routing, 4, 0.5)
    assert type(found.seed) is int


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"seed": object()}, ["seed: got <object", "expected a number, a string"]),
        ({"seed": np.arange(2)}, ["seed: got array([0, 1])", "expected a number, a string"]),
        ({"model": {"routing": {1, 2}}}, ["model: got {'routing': {1, 2}}", "a list or mapping"]),
        ({"model..dim": 1}, ["got 'model..dim' as the key", "a dotted name"]),
        ({3: 4}, ["got 3 as the key", "a dotted name"]),
        ({"seed": 10**5000}, ["seed: got a int too long to be written"]),
        ({"model.routing": cj.DynamicRouting}, ["got <class", "or a part of a configuration"]),
        ({"model.routing.gradient": cj.TruncatedGradient}, ["got <class", "a part of a config"]),
        ({"seed": ENDLESS}, ["seed: got [[...]]", "a list or mapping"]),
    ],
)
def test_an_override_that_is_no_value_is_refused(overrides, parts, as_installed):
    with pytest.raises(UserError) as caught:
        cj.load_config("smoke", overrides)
    for part in parts:
        assert part in str(caught.value)
