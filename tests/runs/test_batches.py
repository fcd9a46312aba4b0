"""Any number of images, batch by batch: the same numbers, from two programs."""

from pathlib import Path

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.memory import room
from capsjax.runs import batches
from capsjax.runs.plan import network_functions

SMOKE = cj.load_config("smoke")
IMAGES = SMOKE.data.load().test.images


@pytest.fixture(scope="module")
def run():
    """A network as it is initialised, which takes 64 images at once."""
    params = network_functions(SMOKE.model, SMOKE.loss, (8, 8, 1), 10).initial(0)
    return cj.Run(SMOKE, Path("nowhere"), params, 1 / 16, (8, 8, 1), 10, 0)


def compiled(work):
    """The programs that a function has compiled in this process."""
    return {"outputs": batches._outputs, "classes": batches._lengths}[work]._cache_size()


def test_any_number_of_images_goes_batch_by_batch_through_two_programs(run):
    images = IMAGES
    whole, traced = run.outputs(images), run.outputs(images, trace=True)
    few, classes = run.outputs(images[:3], trace=True), run.predict(images)
    run.predict(images[:1])
    run.outputs(images[:1])
    programs = compiled("outputs"), compiled("classes")
    for count in (0, 1, 15, 16, 17, 63, 64, 65, 200, 500):  # 64 at once
        some = run.outputs(images[:count], trace=count % 2 == 1)
        for name in ("lengths", "poses", "coupling", "children", "reconstruction"):
            ours, theirs = getattr(some, name), getattr(whole, name)[:count]
            assert isinstance(ours, jax.Array)
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        if some.trace is not None:
            for ours, theirs in zip(some.trace, traced.trace, strict=True):
                np.testing.assert_allclose(ours, theirs[:, :count], rtol=1e-5, atol=1e-6)
        predicted = run.predict(images[:count])
        assert (predicted == classes[:count]).all()
        assert predicted.shape == (count,)
    assert few.trace.coupling.shape[:2] == (3, 3)
    assert (compiled("outputs"), compiled("classes")) == programs


def test_no_images_are_no_classes(run):
    for none in (np.zeros([0, 8, 8, 1]), np.zeros([0, 8, 8], np.uint8)):
        assert run.predict(none).shape == (0,)
        assert run.outputs(none).reconstruction.shape == (0, 8, 8, 1)


def test_a_batch_that_does_not_fit_is_refused_and_fewer_at_a_time_pass(run, monkeypatch):
    monkeypatch.setattr(batches, "_FITTING", set())
    whole = run.predict(IMAGES[:64])
    apply = network_functions(SMOKE.model, SMOKE.loss, (8, 8, 1), 10).apply
    wide = batches._lengths.lower(apply, run.variables, np.zeros((64, 8, 8, 1), np.float32))
    needed = room.needed_by(wide.compile())
    monkeypatch.setattr(batches, "_FITTING", set())
    monkeypatch.setattr(room, "available", lambda: needed - 1)
    with pytest.raises(UserError, match=r"^images: the network on 64 at once: got ") as caught:
        run.predict(IMAGES[:64])
    assert "\n  the largest array is " in str(caught.value)
    assert str(caught.value).endswith("; pass at most 16 at a time, images[:16]")
    parts = [run.predict(IMAGES[start : start + 16]) for start in range(0, 64, 16)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    monkeypatch.setattr(room, "available", lambda: 10.0)
    monkeypatch.setattr(batches, "_FITTING", set())
    with pytest.raises(UserError, match="train a smaller network"):
        run.outputs(IMAGES[:1])
