"""What does not fit into memory is refused before anything is made, and what is said to fit does."""

import dataclasses
import re

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data.trainable import check_geometry
from capsjax.memory import room
from capsjax.progress import Silent
from capsjax.runs import memory
from capsjax.runs.plan import plan
from capsjax.runs.sources import load_data
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.optimisers import SGD, Adam
from capsjax.training.slicing import batch_shapes, epoch_shapes

SMOKE = cj.load_config("smoke")
DIGITS = SMOKE.data.load()
CROPPED = {"augment": [{"kind": "crop_to", "size": 32}]}


def large(side, count=24):
    """Make few images of many pixels."""
    images = np.zeros((count, side, side, 1), np.uint8)
    images[::2] = 255
    return images, np.arange(count) % 2


def config_of(**changes):
    overrides = {"data": "arrays", "training.batch_size": 16, "max_shift": 0} | changes
    return cj.load_config("smoke", overrides)


def dataset_of(config, data):
    return config.data.build(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return cj.train(SMOKE, out=tmp_path_factory.mktemp("smoke") / "run")


@pytest.fixture
def with_memory(monkeypatch):
    def set_to(size):
        monkeypatch.setattr(room, "available", lambda: float(size))

    return set_to


def follow(text, config, data):
    """Do the first thing that an error says would fit."""
    advice = text.split("; ")[-1]
    first = re.search(r"set ([\w.]+) to (\w+)|(images\[[^\]]*\])", advice)
    assert first, text
    if first[3]:
        images = eval(first[3], {"images": data[0]})
        return config, (images, data[1])
    value = None if first[2] == "null" else int(first[2])
    return memory._with(config, first[1], value), data


def test_what_is_compiled_to_find_out_is_what_a_run_calls(tmp_path):
    memory.check(SMOKE, DIGITS)
    compiled = []

    def listen(event, duration, **named):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(named.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        cj.train(SMOKE, out=tmp_path / "run")
        jax.jit(lambda x: x * 7.25 + 0.5)(np.ones(3))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled  # the listener hears what is
    assert {"train_steps", "eval_step"} & {str(name) for name in compiled} == set()


def test_shapes_are_those_of_the_feeds():
    slicer = plan(SMOKE, DIGITS).slicer
    epoch, batch = (
        TrainFeed(DIGITS.train, slicer, 0).epoch(0),
        next(iter(EvalFeed(DIGITS.test, 1 / 16, batch_size=7))),
    )
    for found, described in (
        (epoch, epoch_shapes(DIGITS.train)),
        (batch, batch_shapes(DIGITS.test, 7)),
    ):
        assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
            lambda x: (x.shape, x.dtype), described
        )


@pytest.mark.parametrize(
    ("optimiser", "copies"), [(Adam(), 4), (SGD(momentum=0.9), 3), (SGD(momentum=0.0), 2)]
)
def test_the_optimiser_says_what_it_keeps(optimiser, copies, with_memory):
    planned = plan(dataclasses.replace(SMOKE, optimiser=optimiser), DIGITS)
    held = planned.state_bytes()
    assert held // room.size_of(planned.functions.shapes()) == copies
    with_memory(held)
    planned.check_parameters()
    with_memory(held - 1)
    with pytest.raises(room.TooLargeError, match="what the optimiser remembers"):
        planned.check_parameters()


def test_frozen_parameters_have_no_moments():
    frozen = cj.load_config("smoke", {"training.freeze": ["decoder"]})
    assert plan(frozen, DIGITS).state_bytes() < plan(SMOKE, DIGITS).state_bytes()


def linear(fixed, each):
    """Need so many bytes, and so many for each image of a batch and each 1600 pixels."""

    def needed(what, config, dataset):
        if what == "parameters":
            return plan(config, dataset).state_bytes()
        count = {
            "images": len(dataset.train),
            "training": config.training.batch_size,
            "evaluation": config.training.eval_batch_size,
        }[what]
        return (fixed + each * count) * np.prod(dataset.image_shape) / 1600

    return needed


@pytest.mark.parametrize(
    ("what", "changes", "needs", "key"),
    [
        ("training", {}, linear(500, 100), "set training.batch_size to"),
        ("evaluation", {}, linear(0, 100), "set training.eval_batch_size to"),
        ("training", {}, linear(5000, 1), "images[:, ::3, ::3]"),
        ("parameters", {}, linear(0, 0), "set model.decoder to null"),
        ("parameters", {"model.decoder": None}, linear(0, 0), "set model.stem.stride to"),
        ("images", {}, linear(0, 100), "images[:, ::2, ::2]"),
    ],
)
def test_what_is_said_to_fit_fits(what, changes, needs, key, with_memory, monkeypatch):
    config, data = config_of(**changes), large(40)
    monkeypatch.setattr(memory, "_needed", needs)
    dataset = dataset_of(config, data)
    there = {"parameters": 2 * needs(what, config, dataset) - 1}.get(what, 1000)
    with_memory(there)
    assert needs(what, config, dataset) > there / 2
    text, command = memory._way_out(what, config, dataset, None)
    assert key in text
    assert command == text
    config, data = follow(text, config, data)
    most = there if what in memory.BATCH else there / 2
    found = needs(what, config, dataset_of(config, data))
    assert found <= most
    if what in memory.BATCH and "batch" in key:
        assert found > 0.7 * there  # and nothing much smaller is advised


def test_a_measurement_that_does_not_fit_is_refused_with_what_fits(with_memory):
    needed = memory._needed("evaluation", SMOKE, DIGITS)
    with_memory(needed)
    memory.check_evaluation(SMOKE, DIGITS)
    with_memory(needed - 1)
    with pytest.raises(UserError, match="model: a step of evaluation: got ") as caught:
        memory.check_evaluation(SMOKE, DIGITS)
    config, _ = follow(str(caught.value), SMOKE, None)
    assert config.training.eval_batch_size < 64
    memory.check_evaluation(config, DIGITS)


def test_training_that_does_not_fit_is_refused(with_memory, monkeypatch):
    monkeypatch.setattr(memory, "_way_out", lambda *about: (about[0], "as a command"))
    with_memory(memory._needed("training", SMOKE, DIGITS) - 1)
    with pytest.raises(UserError, match=r"model: a training step: got .*\n.*; training$") as caught:
        memory.check(SMOKE, DIGITS)
    assert caught.value.on_command_line.endswith("; as a command")


def test_a_finished_run_needs_no_memory_to_be_called_finished(run, with_memory):
    with_memory(memory._needed("training", SMOKE, DIGITS) - 1)
    with pytest.raises(UserError, match="got a run that is finished"):
        cj.resume(run.folder)


def test_a_measurement_needs_no_memory_for_what_it_does_not_measure(run, with_memory):
    left = sum(split.images[1:].nbytes for split in (DIGITS.train, DIGITS.validation))
    left += DIGITS.validation.images[:1].nbytes
    needed = memory._needed("evaluation", SMOKE, DIGITS) - left
    with_memory(needed)
    assert cj.evaluate(run)["error"] == run.test["error"]
    with_memory(needed - 1)
    with pytest.raises(UserError, match="model: a step of evaluation: got "):
        cj.evaluate(run)


def test_a_resumed_run_is_told_to_train_anew(with_memory, tmp_path, monkeypatch):
    config = config_of()
    monkeypatch.setattr(memory, "_needed", linear(0, 100))
    with_memory(1000)
    dataset = dataset_of(config, large(40))
    call, command = memory._way_out("training", config, dataset, tmp_path)
    call = call.split("trained anew: ")[1]
    changed = r"\{\"training\.batch_size\": \d+\}"
    assert re.fullmatch(
        rf"capsjax\.train\(capsjax\.load_config\('.*config\.yaml', {changed}\), data\)", call
    )
    assert command.endswith(f"in Python, {call}")


@pytest.mark.parametrize("call", ["train", "compare"])
def test_nothing_is_written_of_what_does_not_fit(call, with_memory, tmp_path):
    with_memory(20_000)
    with pytest.raises(UserError, match=r"model: got 1.56e\+03 parameters, which take 25 KB"):
        getattr(cj, call)("smoke", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_compiling_is_announced_and_leaves_nothing_of_what_does_not_fit(tmp_path, monkeypatch):
    told = []

    class Telling(Silent):
        def start(self, label, total, done=0):
            told.append(label)

    def refuse(*_):
        told.append("refused")
        raise UserError("too large")

    monkeypatch.setattr(memory, "check", refuse)
    with pytest.raises(UserError, match="too large"):
        cj.train(SMOKE, out=tmp_path / "deep" / "run", reporter=Telling())
    assert told == ["compiling", "refused"]
    assert not any(tmp_path.iterdir())


def test_what_an_allocation_that_failed_says_to_lower():
    assert "lower training.batch_size, training.eval_batch_size, model.routing.num_iters or" in (
        memory.what_to_lower(SMOKE)
    )
    stop = cj.load_config("smoke", {"model.routing.gradient": "stop", "training.batch_size": 1})
    assert memory.what_to_lower(stop).startswith(
        "lower training.eval_batch_size or the size of the images,"
    )


@pytest.mark.parametrize(
    ("what", "there"), [("training", 2500), ("evaluation", 2500), ("images", 1000)]
)
def test_fewer_pixels_are_advised_only_where_a_part_can_be_cut_out_of_them(
    what, there, with_memory, monkeypatch
):
    """Of every second pixel 24 are left, of which no 32 can be."""
    config = config_of(**CROPPED)
    needs = linear(0, 100) if what == "images" else linear(5000, 1)
    monkeypatch.setattr(memory, "_needed", needs)
    with_memory(there)
    text, _ = memory._way_out(what, config, dataset_of(config, large(48)), None)
    assert "::" not in text
    if what == "images":
        with_memory(4000)
        data = large(96)
        text, _ = memory._way_out(what, config, dataset_of(config, data), None)
        assert "images[:, ::3, ::3]" in text
        check_geometry(dataset_of(*follow(text, config, data)), 0, config.augment)


def test_a_smaller_part_is_advised_where_the_size_of_images_makes_no_difference(with_memory):
    config = config_of(**CROPPED)
    dataset = dataset_of(config, large(200))
    needed = memory._needed("parameters", config, dataset)
    with_memory(needed)
    assert "::" not in memory._way_out("parameters", config, dataset, None)[0]
    with_memory(1)
    text, _ = memory._way_out("parameters", config, dataset, None)
    assert text == "choose a smaller size of what augment cuts out, or fewer classes"
    smaller = config_of(augment=[{"kind": "crop_to", "size": 16}])
    assert memory._needed("parameters", smaller, dataset) < needed / 2


def test_where_nothing_fits_smaller_images_are_named(with_memory, monkeypatch):
    config = config_of()
    monkeypatch.setattr(memory, "_needed", linear(1e9, 0))
    with_memory(1)
    text, _ = memory._way_out("images", config, dataset_of(config, large(40)), None)
    assert text == "choose smaller images or fewer classes"
    monkeypatch.setattr(memory, "_needed", linear(0, 0.01))
    assert "::" in memory._way_out("images", config, dataset_of(config, large(40)), None)[0]


ON_CANVAS = {"data": {"kind": "overlapping", "canvas": 40, "shift": 2, "source": "digits"}}


@pytest.mark.parametrize("shift", [2, 20])
def test_a_smaller_canvas_is_advised_where_images_are_put_on_one(shift, with_memory, monkeypatch):
    """Of digits of 8 pixels on 40; those moved by 20 pixels need more than 20."""
    config = cj.load_config("smoke", ON_CANVAS | {"data.shift": shift})
    data, needs = config.data.load(), linear(0, 100)
    monkeypatch.setattr(memory, "_needed", needs)
    with_memory(2 * needs("images", config, data) * (30 / 40) ** 2)
    text, command = memory._way_out("images", config, data, None)
    assert text == command == "what fits: set data.canvas to 24"
    config, _ = follow(text, config, None)
    assert config.data.load().image_shape == (24, 24, 1)
    assert needs("images", config, config.data.load()) <= room.available() / 2
    with_memory(2 * needs("images", config, data) * (18 / 40) ** 2)
    text, _ = memory._way_out("images", config, data, None)
    expected = {2: "what fits: set data.canvas to 16", 20: "choose smaller images or fewer classes"}
    assert text == expected[shift]


def test_of_arrays_on_a_canvas_fewer_pixels_and_a_smaller_canvas_are_advised(
    with_memory, monkeypatch
):
    """What no file gives again has any size: a smaller canvas alone might be smaller than that."""
    config = config_of(data={"kind": "perturbed", "canvas": 48, "source": "arrays"})
    data, needs = large(45), linear(0, 100)
    dataset = load_data(config, data, Silent())
    monkeypatch.setattr(memory, "_needed", needs)
    with_memory(needs("images", config, dataset))
    text, _ = memory._way_out("images", config, dataset, None)
    code = "images[:, ::2, ::2]"
    assert text == f"what fits: images of 24 x 24 pixels, {code} and set data.canvas to 24"
    smaller = load_data(
        memory._with(config, "data.canvas", 24), (data[0][:, ::2, ::2], data[1]), Silent()
    )
    assert smaller.image_shape == (24, 24, 1)
    assert needs("images", config, smaller) <= room.available() / 2
