"""Runs and networks that are asked in another unit than they were trained in: converted, or refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data.pixels import Pixels
from capsjax.layers import CapsNet
from capsjax.runs import description
from capsjax.runs.plan import network_functions
from capsjax.runs.run import Run

SMOKE = cj.load_config("smoke")
SHAPE = (8, 8, 1)
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, *SHAPE)).astype(np.uint8)
FLOATS = BYTES / np.float32(255)


def untrained(tmp_path, pixels):
    params = network_functions(SMOKE.model, SMOKE.loss, SHAPE, 10).initial(0)
    return Run(SMOKE, tmp_path, params, pixels.scale, SHAPE, 10, 0, pixels)


@pytest.fixture(params=["uint8", "float32"])
def run(request, tmp_path):
    on_bytes = Pixels("uint8", 0, 255, 1 / 255)
    return untrained(tmp_path, on_bytes if request.param == "uint8" else Pixels("float32", 0, 1, 1))


def test_bytes_and_their_floats_are_the_same_images(run):
    asked = [run.outputs(images) for images in (BYTES, FLOATS, FLOATS[..., 0].astype(np.float64))]
    for other in asked[1:]:
        np.testing.assert_allclose(other.lengths, asked[0].lengths, rtol=1e-4)
        np.testing.assert_allclose(other.reconstruction, asked[0].reconstruction, rtol=1e-3)
    np.testing.assert_array_equal(run.predict(FLOATS), run.predict(BYTES))
    dark = run.outputs(FLOATS / 255).lengths
    assert np.abs(dark - asked[0].lengths).max() > 1e-3  # the comparison can tell


def test_images_of_unequal_sizes_are_refused(run, as_installed):
    with pytest.raises(UserError, match=r"images: got lists of unequal lengths .*\[n, 8, 8, 1\]"):
        run.predict([[[1.0]], [[1.0, 2.0]]])


@pytest.mark.parametrize("call", ["predict", "outputs"])
def test_what_training_refuses_is_refused(run, call):
    broken = FLOATS.copy()
    broken[4, 3, 3] = np.nan
    for images, message in (
        (broken, r"image 4 has a pixel that is NaN or infinite \(1 of 6"),
        (np.where(broken > 2, broken, np.inf), "NaN or infinite"),
        (BYTES % 2, r"from 0 to 1, .*images\.astype\(np\.float32\)"),
        (BYTES > 9, "got type bool"),
        (FLOATS * 2 - 1, "from -1 to 1"),
    ):
        with pytest.raises(UserError, match=message):
            getattr(run, call)(images)


def test_a_run_remembers_its_unit_and_runs_of_before_tell_it_by_their_scale(tmp_path):
    images = RNG.integers(0, 256, (90, *SHAPE)).astype(np.uint8)
    config = dataclasses.replace(SMOKE, training=dataclasses.replace(SMOKE.training, batch_size=64))
    run = cj.train(config, (images, np.arange(90) % 10), out=tmp_path / "run")
    found = description.read_data(run.folder)["pixels"]
    train = run.pixels
    assert found == {"type": "uint8", "low": train.low, "high": train.high}
    assert train.high > 250
    expected = run.outputs(BYTES).lengths
    path = run.folder / "environment.json"
    written = json.loads(path.read_text())
    for pixels in (written["data"]["pixels"], None):
        written["data"]["pixels"] = pixels
        if pixels is None:
            del written["data"]["pixels"]
            path.write_text(json.dumps(written))
        loaded = cj.load(run.folder)
        np.testing.assert_array_equal(loaded.outputs(BYTES).lengths, expected)
        np.testing.assert_allclose(loaded.outputs(FLOATS).lengths, expected, rtol=1e-4)


@pytest.fixture(scope="module")
def network():
    return CapsNet(SHAPE, 10, config=SMOKE.model, rngs=nnx.Rngs(0))


IMAGES = jnp.asarray(FLOATS)
LABELS = jnp.arange(6)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (jnp.asarray(BYTES), None, "got images of type uint8, expected floats from 0 to 1"),
        (jnp.asarray(BYTES > 9), None, "got images of type bool"),
        (IMAGES * 255, None, "pixels run from 0 to 255, expected 0 to 1.*images / 255"),
        (IMAGES - 1, None, "pixels run from -1 to 0, expected 0 to 1"),
        (IMAGES.at[2, 0, 0].set(jnp.nan), None, "image 2 has a pixel that is NaN or infinite"),
        (IMAGES.at[2, 0, 0].set(-jnp.inf), None, "image 2 has a pixel that is NaN or infinite"),
        (IMAGES, LABELS + 5, "label 5 is 10, expected an integer from 0 to 9"),
        (IMAGES, LABELS - 1, "label 0 is -1, expected an integer from 0 to 9"),
        (IMAGES, LABELS[:5], "labels: got 5 labels for 6 images"),
        (IMAGES, LABELS * 1.0, r"labels: got type float32, .*use labels\.astype\(np\.int32\)"),
    ],
)
def test_a_network_refuses_what_training_refuses(network, images, labels, message, as_installed):
    with pytest.raises(UserError, match=message):
        network(images, labels)


def test_a_traced_network_refuses_what_it_can_see(network, as_installed):
    graph, state = nnx.split(network)

    def apply(images, labels=None):
        return nnx.merge(graph, state)(images, labels).lengths

    for images, labels, message in (
        (jnp.asarray(BYTES), None, "got images of type uint8, expected floats .*images / 255"),
        (IMAGES, LABELS * 1.0, "got labels float32"),
        (IMAGES[:, :5], None, r"expected \[batch, 8, 8, 1\]"),
    ):
        with pytest.raises(UserError, match=message):
            jax.eval_shape(apply, images, labels)
    assert jax.eval_shape(apply, IMAGES * 255, LABELS + 99).shape == (6, 10)  # values are unknown


@pytest.mark.parametrize(
    ("images", "right"),
    [
        (BYTES, FLOATS),
        (BYTES // 16, BYTES // 16 / 15),
        (BYTES > 9, BYTES > 9),
        (BYTES % 2, BYTES % 2),
        (BYTES * np.uint16(257), FLOATS),
        (FLOATS * 255, FLOATS),
    ],
)
def test_the_advice_of_a_network_loses_nothing(network, images, right, as_installed):
    with pytest.raises(UserError) as caught:
        network(jnp.asarray(images))
    advice = str(caught.value).split("use ")[-1].split(": ")[-1]
    followed = eval(advice, {"images": jnp.asarray(images), "np": np})
    np.testing.assert_allclose(followed, right, rtol=1e-6)
    assert network(followed).lengths.shape == (6, 10)


@pytest.mark.parametrize(
    "labels", [LABELS.astype(bool), LABELS * 1.0, LABELS[:, None], jnp.eye(6)[LABELS]]
)
def test_the_advice_of_a_network_about_labels_loses_nothing(network, labels, as_installed):
    with pytest.raises(UserError) as caught:
        network(IMAGES, labels)
    advice = str(caught.value).split("use ")[-1].split("take ")[-1]
    followed = eval(advice, {"labels": labels, "np": np})
    expected = LABELS.astype(bool) if labels.dtype == bool else LABELS
    np.testing.assert_array_equal(followed, expected)
    assert network(IMAGES, followed).lengths.shape == (6, 10)
