"""A trained run as a value: how it shows itself, its network, what it says of images."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from tests.runs.test_experiment import copy, dataset, run

__all__ = ["copy", "run"]


def test_a_run_shows_itself_in_one_line(run, copy):
    facts = "1,560 parameters, images [8, 8, 1] of 10 classes, step 24"
    error = f"test error {100 * run.test['error']:.2f} %"
    assert repr(run) == f"Run({str(run.folder)!r}, {facts}, {error})"
    assert f'<td style="text-align: left">{error}</td>' in run._repr_html_()
    untested = cj.load(copy)
    assert repr(untested) == f"Run({str(copy)!r}, {facts})"
    shutil.rmtree(copy)
    assert facts in repr(untested)


def test_predictions_are_classes_of_raw_images(run):
    test = dataset().test
    predicted = run.predict(test.images)
    assert predicted.shape == (500,)
    assert isinstance(predicted, np.ndarray)
    assert np.mean(predicted != test.labels) == pytest.approx(run.test["error"], abs=1e-6)
    np.testing.assert_array_equal(run.predict(test.images[..., 0]), predicted)
    for wrong in (test.images[0], test.images[0, ..., 0]):
        with pytest.raises(
            UserError, match=r"images: got \[8.*, expected \[n, 8, 8, 1\]; a single"
        ):
            run.predict(wrong)
        np.testing.assert_array_equal(run.predict(wrong[None]), predicted[:1])  # as it says
    for wrong in (test.images[:, :4], test.images[0, :, 0]):
        with pytest.raises(UserError, match=r"images: got \[.*, expected \[n, 8, 8, 1\]$"):
            run.predict(wrong)


def test_the_model_is_the_network_with_the_trained_parameters(run):
    images = dataset().test.images[:20]
    found = jax.jit(run.model)(jnp.asarray(images, jnp.float32) / 16)
    outputs = run.outputs(images, trace=True)
    np.testing.assert_allclose(found.lengths, outputs.lengths, rtol=1e-5)
    np.testing.assert_allclose(found.reconstruction, outputs.reconstruction, rtol=1e-4, atol=1e-6)
    assert outputs.trace.entropy.shape == (3, 20)
    assert run.outputs(images).trace is None
    assert run.model is run.model


def test_pixels_of_another_scale_than_the_data_s_are_refused(run):
    with pytest.raises(
        UserError, match=r"images: got float.* from 0 to 255, expected integers from 0 to 16"
    ):
        run.predict(np.full((2, 8, 8), 255.0, np.float32) * np.arange(2).reshape(2, 1, 1))


def test_an_earlier_checkpoint_is_loaded_by_its_step(run):
    """One run measured at several moments, without a word about the step that was tested."""
    assert run.directory.steps == [8, 16, 24]
    earlier = cj.load(run.folder, step=16)
    assert earlier.step == 16
    errors = {step: cj.evaluate(cj.load(run.folder, step=step))["error"] for step in (16, 24)}
    assert errors[24] == pytest.approx(run.test["error"], abs=1e-6)
    assert errors[16] == pytest.approx(
        np.mean(earlier.predict(dataset().test.images) != dataset().test.labels), abs=1e-6
    )
    with pytest.raises(UserError, match=r"got no checkpoint of step 7, expected one of: 8, 16, 24"):
        cj.load(run.folder, step=7)
