"""Data and settings that would train without an error and to no purpose: refused before a run begins."""

import dataclasses
import re

import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax import cli
from capsjax.checks import UserError
from capsjax.data import Arrays, Dataset
from capsjax.data.trainable import channels_first, check_geometry, check_pixels
from capsjax.layers import CapsNet, CapsNetConfig, ConvConfig, PrimaryConfig
from capsjax.progress import Silent
from capsjax.study.compare import compare

SMOKE = cj.load_config("smoke", {"training.batch_size": 64, "training.epochs": 1})
LABELS = np.arange(120) % 3
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (120, 8, 8)).astype(np.uint8)


def build(images, labels=LABELS):
    return Arrays().build((images, labels))


def refused(tmp_path, data, config=SMOKE):
    """Return what train and compare say, who must say the same and write nothing."""
    with pytest.raises(UserError) as caught:
        cj.train(config, data, out=tmp_path / "run")
    with pytest.raises(UserError) as compared:
        compare(config, data, out=tmp_path / "run", reporter=Silent())
    assert str(compared.value) == str(caught.value)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("images", "message", "right"),
    [
        (BYTES % 2, "got uint8 from 0 to 1, expected some above 25.5, as 255 is white", BYTES % 2),
        (BYTES // 15, "got uint8 from 0 to 17, expected some above 25.5", BYTES // 15 / 17),
        (BYTES / 255**2, "got float32 from 0 to 0.0039.*, expected some above 0.1", BYTES / 255),
    ],
)
def test_pixels_that_do_not_use_their_scale(tmp_path, images, message, right):
    said = refused(tmp_path, (images, LABELS))
    start, _, end = message.partition(".*")
    assert start in said
    assert end in said
    followed = eval(said.rsplit(": ", 1)[1], {"images": images})
    np.testing.assert_allclose(followed, right, rtol=1e-6)
    dataset = build(followed)
    check_pixels(dataset)
    assert dataset.scale == 1


def test_images_that_are_all_the_same(tmp_path):
    said = refused(tmp_path, (BYTES * 0 + 7, LABELS))
    assert said == "images: got uint8 whose pixels are all 7, expected images that differ"


def test_a_stated_scale_is_taken(tmp_path):
    made = build(BYTES % 2)
    stated = Dataset("masks", made.train, made.validation, made.test, 3, scale=1.0)
    run = cj.train(SMOKE, stated, out=tmp_path / "run")
    right = build((BYTES % 2) * np.uint8(255))
    other = cj.train(SMOKE, right, out=tmp_path / "other")
    assert run.test["loss"] == pytest.approx(other.test["loss"], rel=1e-4)
    np.testing.assert_array_equal(
        run.outputs(BYTES % 2).lengths, run.outputs((BYTES % 2).astype(float)).lengths
    )
    # Evaluation reads others in the run's unit, whatever the type alone would say.
    floats = {"train": ((BYTES % 2) / 1.0, LABELS), "test": ((BYTES % 2) / 1.0, LABELS)}
    whole = dict.fromkeys(floats, (BYTES % 2, LABELS))
    assert cj.evaluate(run, whole)["loss"] == pytest.approx(cj.evaluate(run, floats)["loss"])
    with pytest.raises(UserError, match=r"got uint8 from 0 to 1, .*trained on uint8 from 0 to 255"):
        cj.evaluate(other, whole)


FIRST = RNG.random((120, 3, 24, 24))
CONFIG = dataclasses.replace(
    SMOKE,
    model=CapsNetConfig(
        stem=ConvConfig(channels=4, kernel=3),
        primary=PrimaryConfig(types=2, dim=4, kernel=1),
        decoder=None,
    ),
)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 28, 28), (4, 20, 30), (2, 9, 5)])
def test_channels_that_come_first(tmp_path, shape):
    images = RNG.random((120, *shape))
    said = refused(tmp_path, (images, LABELS), CONFIG)
    assert f"reads as height {shape[0]}, width {shape[1]} and {shape[2]} channels" in said
    moved, turned = (part.split(": ")[-1] for part in said.split("; ")[:2]), said.split(": ")[-1]
    followed = eval(list(moved)[1], {"images": images, "np": np})
    assert followed.shape == (120, *shape[1:], shape[0])
    np.testing.assert_array_equal(followed[5, :, :, -1], images[5, -1])
    check_geometry(build(followed), 0)
    flat = eval(turned, {"images": images, "np": np})
    check_geometry(build(flat), 0)
    np.testing.assert_array_equal(flat[5, :, -1], images[5, -1])


@pytest.mark.parametrize(
    "shape", [(24, 24, 3), (8, 8, 1), (28, 28, 1), (24, 24, 24), (2, 9, 1), (4, 4, 8), (5, 24, 24)]
)
def test_channels_that_come_last(shape):
    assert not channels_first(shape)


def test_a_network_too_small_for_channels_that_come_first_says_how_to_move_them():
    with pytest.raises(UserError) as caught:
        CapsNet((3, 24, 24), 10, config=SMOKE.model, rngs=nnx.Rngs(0))
    said = str(caught.value)
    assert "padding" not in said
    moved = eval(said.split("images are ")[1].split(", and ")[0], {"images": FIRST, "np": np})
    shape = eval(said.split("image_shape is ")[1])
    assert moved.shape[1:] == shape == (24, 24, 3)
    CapsNet(shape, 10, config=SMOKE.model, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("which", ["kernel", "padding"])
def test_a_kernel_larger_than_the_image_can_be_made_to_fit_as_the_error_says(which):
    config = CapsNetConfig(decoder=None)
    for _ in range(2):  # the stem, then the primary capsules
        with pytest.raises(UserError) as caught:
            CapsNet((5, 7, 1), 3, config=config, rngs=nnx.Rngs(0))
        said = str(caught.value)
        advice = dict(re.findall(r"(kernel|padding) (\d+|SAME)", said.split("choose ")[1]))
        part = said.split(".")[1]
        change = {which: int(advice[which]) if which == "kernel" else advice[which]}
        changed = dataclasses.replace(getattr(config, part), **change)
        config = dataclasses.replace(config, **{part: changed})
    CapsNet((5, 7, 1), 3, config=config, rngs=nnx.Rngs(0))


def test_examples_that_come_last():
    images = np.moveaxis(RNG.random((120, 8, 8, 3)), 0, -1)
    for given in (images, images[:, :, 0]):
        with pytest.raises(UserError, match=r"for 120 labels, .*the examples come last") as caught:
            build(given)
        followed = eval(str(caught.value).rsplit(": ", 1)[1], {"images": given, "np": np})
        np.testing.assert_array_equal(followed[7], given[..., 7])
        build(followed)


@pytest.mark.parametrize(
    ("shape", "shift", "said"),
    [
        ((1, 8), 1, "max_shift: got 1 for images of height 1, expected at most 0"),
        ((8, 2), 5, "max_shift: got 5 for images of width 2, expected at most 1"),
    ],
)
def test_a_shift_by_the_whole_image(tmp_path, shape, shift, said):
    config = dataclasses.replace(CONFIG, max_shift=shift)
    images = RNG.random((120, *shape))
    assert refused(tmp_path, (images, LABELS), config).startswith(said)
    check_geometry(build(images), int(said[-1]))


def test_a_shift_by_the_whole_image_names_its_flag_on_the_command_line(capsys, tmp_path):
    assert cli.main(["train", "smoke", "--max_shift", "8", "--out", str(tmp_path / "run")]) == 2
    assert (
        "--max_shift: got 8 for images of height 8, expected at most 7" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_can_be_made_to_fit_as_the_error_says():
    training = dataclasses.replace(SMOKE.training, batch_size=200)
    with pytest.raises(UserError) as caught:
        training.total_steps(96)
    most = int(str(caught.value).split("at most ")[1].split(":")[0])
    assert dataclasses.replace(training, batch_size=most, epochs=3).total_steps(96) == 3
    words = caught.value.on_command_line.split()
    advised = int(words[words.index("--training.batch_size") + 1])
    assert dataclasses.replace(training, batch_size=advised, epochs=3).total_steps(96) == 12
    assert str(caught.value).endswith(f"such as training.batch_size {advised}")
    with pytest.raises(UserError, match=r"such as training\.batch_size 1$"):
        training.total_steps(2)
