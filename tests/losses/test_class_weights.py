"""Weights of classes: what they are, and that training alone has them."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

import capsjax as cj
from capsjax.checks import FieldError, UserError
from capsjax.data import Arrays
from capsjax.losses import CrossEntropyLoss, MarginLoss, SpreadLoss
from capsjax.runs.plan import plan
from capsjax.types import Batch
from tests.metrics.test_values import LABELS, look

COUNTS = np.array([5, 0, 12, 1, 2])


def test_balanced_weights_are_those_of_scikit_learn():
    found = MarginLoss(class_weights="balanced").for_classes(COUNTS).class_weights
    labels = np.repeat(np.arange(5), COUNTS)
    there = np.flatnonzero(COUNTS)
    expected = compute_class_weight("balanced", classes=there, y=labels)
    np.testing.assert_allclose(np.array(found)[there], expected)
    assert np.mean(np.array(found)[labels]) == pytest.approx(1)


@pytest.mark.parametrize("kind", [MarginLoss, SpreadLoss, CrossEntropyLoss])
def test_a_class_counts_as_often_as_its_weight(kind):
    output, batch = look()
    weights = (0.5, 2.0, 1.0, 0.0, 3.0)
    ours, plain = (
        kind(class_weights=given).for_classes(COUNTS)(output, batch) for given in (weights, None)
    )
    for name in ("loss", kind.__dataclass_fields__["kind"].default):
        np.testing.assert_allclose(ours[name], np.array(weights)[LABELS] * plain[name], rtol=1e-6)


def test_training_is_weighted_and_what_is_measured_is_not():
    config = cj.load_config("smoke", {"loss.class_weights": "balanced", "training.batch_size": 8})
    images = np.random.default_rng(0).random((40, 8, 8, 1)).astype(np.float32)
    labels = np.repeat(np.arange(10), [13, *[3] * 9])
    pair = images, labels
    made, plain = (
        plan(of, Arrays(validation_fraction=0.0).build({"train": pair, "test": pair})).functions
        for of in (config, cj.load_config("smoke", {"training.batch_size": 8}))
    )
    params = made.initial(0)
    batch = Batch(jnp.asarray(images[:16]), jnp.asarray(labels[:16]), jnp.ones(16))
    weights = 40 / (10 * np.bincount(labels))[labels[:16]]
    ours, theirs = made.loss(params, batch), plain.loss(params, batch)
    np.testing.assert_allclose(ours["margin"], weights * theirs["margin"], rtol=1e-5)
    np.testing.assert_allclose(ours["reconstruction"], theirs["reconstruction"], rtol=1e-5)
    ours, theirs = made.score(params, batch), plain.score(params, batch)
    np.testing.assert_array_equal(ours.values["loss"], theirs.values["loss"])


@pytest.mark.parametrize("given", ["balance", (1.0, -1.0), (0.0, 0.0), (1.0, np.inf), 2.0])
def test_weights_that_are_none(given, as_installed):
    with pytest.raises(
        FieldError, match=r"class_weights: got .*expected balanced, or a finite number"
    ):
        MarginLoss(class_weights=given)


def test_weights_of_another_number_of_classes():
    with pytest.raises(
        UserError, match=r"loss.class_weights: got 2 for 5 classes, expected one for each"
    ):
        MarginLoss(class_weights=(1.0, 2.0)).for_classes(COUNTS)


def test_balanced_by_itself_says_where_weights_come_from():
    loss, (output, batch) = MarginLoss(class_weights="balanced"), look()
    with pytest.raises(
        UserError, match=r"take them from .*loss.for_classes\(np.bincount\(labels\)\)"
    ):
        loss(output, batch)
    labels = LABELS
    assert np.isfinite(loss.for_classes(np.bincount(labels))(output, batch)["loss"]).all()
