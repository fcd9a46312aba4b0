"""What prepares images that judge too: standardising, and parts of a fixed size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.data import Brightness, Contrast, CropTo, Perturbed, Shift, Standardise
from capsjax.data.augment.base import augment, augmented, judged, prepared_shape
from capsjax.data.dataset import Split
from capsjax.progress import Silent
from capsjax.runs.crops import by_crops, check_crops
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.loop import Measured
from capsjax.training.slicing import BatchSlicer

RNG = np.random.RandomState(0)
IMAGES = RNG.uniform(0.2, 0.8, size=(6, 8, 8, 2)).astype(np.float32)
KEY = jax.random.key(3)
JITTER = (Brightness(delta=0.1), Contrast(delta=0.2))


def standardised(images):
    """Each image by itself, in loops: the formula of the released code."""
    found = []
    for image in np.asarray(images, np.float64):
        std = max(image.std(), 1 / np.sqrt(image.size))
        found.append((image - image.mean()) / std)
    return np.stack(found)


def test_each_image_is_standardised_over_all_its_pixels_and_channels():
    found = Standardise()(KEY, jnp.asarray(IMAGES))
    np.testing.assert_allclose(found, standardised(IMAGES), atol=1e-5)
    grey = np.full((1, 8, 8, 2), 0.5, np.float32)
    assert np.abs(Standardise().at_evaluation(jnp.asarray(grey))).max() == 0
    # Of hardly any contrast, the least deviation: noise is not blown up.
    faint = grey + 1e-3 * RNG.normal(size=(1, 8, 8, 2)).astype(np.float32)
    found = Standardise()(KEY, jnp.asarray(faint))
    np.testing.assert_allclose(found, standardised(faint), atol=1e-4)
    assert np.abs(found).max() < 0.1


def test_light_before_standardising_has_no_effect_and_after_it_has():
    grey = jnp.asarray(IMAGES[..., :1])
    authors = augment((*JITTER, Standardise()), KEY, grey, 1.0)
    effective = augment((Standardise(), *JITTER), KEY, grey, 1.0)
    np.testing.assert_allclose(authors, standardised(grey), atol=1e-4)
    assert np.abs(np.asarray(effective) - standardised(grey)).max() > 0.1
    # Nothing is cut off at 0 or at 1.
    assert effective.min() < -1
    assert effective.max() > 1


def test_what_is_drawn_is_the_image_before_it_was_standardised():
    raw = jnp.asarray((255 * IMAGES).astype(np.uint8))
    light = augmented((Brightness(delta=0.2),), KEY, raw, 1 / 255)
    found = augmented((Brightness(delta=0.2), Standardise(), Contrast()), KEY, raw, 1 / 255)
    np.testing.assert_array_equal(found.targets, light.images)
    assert light.targets is None
    judging = judged((*JITTER, CropTo(size=4), Standardise()), jnp.asarray(IMAGES))
    np.testing.assert_array_equal(judging.targets, IMAGES[:, 2:6, 2:6])
    np.testing.assert_allclose(judging.images, standardised(IMAGES[:, 2:6, 2:6]), atol=1e-5)


def test_parts_are_from_everywhere_in_training_and_from_the_middle_elsewhere():
    places = jnp.arange(64, dtype=jnp.uint8).reshape(1, 8, 8, 1).repeat(500, 0)
    found = np.asarray(CropTo(size=5)(KEY, places))
    assert (found.shape, found.dtype) == ((500, 5, 5, 1), np.uint8)
    first = found[:, 0, 0, 0]
    assert {*first.tolist()} == {8 * row + column for row in range(4) for column in range(4)}
    np.testing.assert_array_equal(found[:, 4, 4, 0], first + 4 * 8 + 4)
    places = places.astype(jnp.float32)
    middle = CropTo(size=4).at_evaluation(places[:1])
    np.testing.assert_array_equal(middle, places[:1, 2:6, 2:6])
    beside = CropTo(size=4).at_evaluation(places[:1], (-1, 2))
    np.testing.assert_array_equal(beside, places[:1, 1:5, 4:8])
    assert prepared_shape((Shift(pixels=1), CropTo(size=5), Standardise()), (8, 7, 2)) == (5, 5, 2)


def test_feeds_prepare_what_trains_and_what_judges():
    split = Split(IMAGES, np.arange(6) % 2)
    changes = (CropTo(size=4), Standardise())
    batch = TrainFeed(split, BatchSlicer(3, changes, 1.0), seed=0).batch(0)
    assert batch.images.shape == batch.targets.shape == (3, 4, 4, 2)
    np.testing.assert_allclose(batch.images, standardised(batch.targets), atol=1e-5)
    feed = EvalFeed(split, 1.0, batch_size=4, augmentations=changes)
    cut = IMAGES[:, 2:6, 2:6]
    found = np.concatenate([one.images for one in feed])[:6]
    np.testing.assert_allclose(found, standardised(cut), atol=1e-5)
    moved = EvalFeed(split, 1.0, batch_size=6, augmentations=changes, offset=(1, -1))
    np.testing.assert_array_equal(next(iter(moved)).targets, IMAGES[:, 3:7, 1:5])


@pytest.mark.parametrize("late", ["shift", {"kind": "crop_to", "size": 4}, "flip", "standardise"])
def test_nothing_moves_after_standardising(late):
    with pytest.raises(UserError, match=r"(?s)augment\.1\.kind: got .* move it before standardise"):
        cj.load_config("smoke", {"augment": ["standardise", late]})
    if late != "standardise":
        assert len(cj.load_config("smoke", {"augment": [late, "standardise"]}).augment) == 2
    assert cj.load_config("smoke", {"augment": ["standardise"]})


def test_a_set_that_is_changed_once_keeps_its_range_and_size():
    for change in (Standardise(), CropTo(size=4)):
        with pytest.raises(FieldError, match="what prepares images belongs into augment"):
            Perturbed(changes=(change,))


OVERRIDES = {
    "augment": [
        {"kind": "crop_to", "size": 6},
        "standardise",
        {"kind": "brightness", "delta": 0.3},
    ],
    "training": {"epochs": None, "steps": 6, "batch_size": 32, "eval_batch_size": 250},
    "model.primary.kernel": 2,
    "model.decoder": {"hidden": [8, 8]},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "run"
    return cj.train(cj.load_config("smoke", OVERRIDES), out=out)


def test_a_run_prepares_what_it_is_asked_of(run):
    """Evaluation, prediction and a run that is read again see the same images, from bytes or floats."""
    images, labels = run_data(run)
    assert run.image_shape == (8, 8, 1)
    assert run.model.image_shape == (6, 6, 1)
    middle = standardised(images[:, 1:7, 1:7] / 16).astype(np.float32)
    found = run.lengths(images)
    apply = jax.jit(lambda given: run.model(given).lengths)
    np.testing.assert_allclose(found, apply(middle), atol=1e-5)
    wrong = float((found.argmax(-1) != labels).mean())
    assert run.test["error"] == pytest.approx(wrong)
    again = cj.load(run.folder)
    np.testing.assert_array_equal(again.lengths(images), found)
    assert cj.evaluate(again)["error"] == pytest.approx(wrong)
    drawn = run.outputs(images[:2]).reconstruction
    assert drawn.shape == (2, 6, 6, 1)
    assert cj.report(run.folder).is_file()


class Bars(Silent):
    """Keep what is begun, and how far it came."""

    def __init__(self):
        self.begun, self.done = [], []

    def start(self, label, total, done=0):
        self.begun.append((label, total))

    def update(self, done, note=""):
        self.done.append(done)


def test_of_a_run_without_parts_that_is_said():
    with pytest.raises(
        UserError, match=r"got 13 for a run without crop_to in augment, .* crops to 1"
    ):
        check_crops(cj.load_config("smoke"), (8, 8, 1), 13)


def test_thirteen_parts_are_averaged(run):
    images, labels = run_data(run)
    with pytest.raises(UserError, match=r"crops: got 13 .* 1 pixels around its part.* at least 3"):
        cj.evaluate(run, crops=13)
    assert cj.evaluate(run, crops=1)["examples"] == 500
    with pytest.raises(UserError, match="crops: got 5, expected 1, the middle alone, or 13"):
        cj.evaluate(run, crops=5)
    larger = {**OVERRIDES, "data": {"kind": "perturbed", "canvas": 12, "source": "digits"}}
    wide = cj.train(cj.load_config("smoke", larger), out=run.folder.parent / "wide")
    bars = Bars()
    found = cj.evaluate(wide, crops=13, overrides={"training.eval_batch_size": 250}, reporter=bars)
    assert ("evaluating", 26) in bars.begun  # one bar: 13 parts of two batches
    assert len([label for label, _ in bars.begun if label == "evaluating"]) == 1
    assert bars.done[-26:] == list(range(1, 27))
    assert found.keys() == {"error", "examples"}
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    total, seen = 0.0, 0
    for away in (0, 1, 2, 3):
        for y, x in {(away * a, away * b) for a in (-1, 1) for b in (-1, 1)}:
            moved = np.roll(padded, (-y, -x), (1, 2))[:, 3:9, 3:9]
            lengths = jax.jit(lambda given: wide.model(given).lengths)(
                standardised(moved / 16).astype(np.float32)
            )
            total, seen = total + lengths / lengths.sum(-1, keepdims=True), seen + 1
    assert seen == 13
    assert found["error"] == pytest.approx(float((total.argmax(-1) != labels).mean()), abs=0.005)


def test_each_part_has_an_equal_say():
    """One part that is sure of one class, against twelve whose short capsules say another."""
    asked = []

    def measure(part, offset):
        assert part == len(asked)
        asked.append(offset)
        sure, faint = [[0.9, 0.1], [0.0, 0.0]], [[0.01, 0.02], [0.1, 0.2]]
        return Measured({}, np.array(sure if offset == (0, 0) else faint, np.float32))

    assert by_crops(measure, np.array([1, 1])) == {"error": 0.0, "examples": 2.0}
    asked.clear()
    assert by_crops(measure, np.array([0, 1]))["error"] == 0.5
    assert len({*asked}) == 13
    assert max(map(abs, np.ravel(asked))) == 3


def test_an_estimator_prepares_what_it_classifies(run):
    images, _ = run_data(run)
    names = {name.replace(".", "__"): value for name, value in OVERRIDES.items()}
    found = cj.CapsNetClassifier("smoke", **names, data={"kind": "arrays", "range": (0, 16)})
    X, y = images[:64, ..., 0], np.arange(64) % 2
    found.fit(X, y)
    assert found.run_.model.image_shape == (6, 6, 1)
    assert found.predict(X).shape == (64,)


def run_data(run):
    test = run.config.data.load().test
    return test.images, test.labels
