"""Images that show several classes: errors, losses and what predictions come to, against loops."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import UserError
from capsjax.losses import (
    BinaryLoss,
    CrossEntropyLoss,
    LikelihoodLoss,
    MarginLoss,
    SpreadLoss,
    binary_cross_entropy_loss,
    cross_entropy_loss,
    likelihood_loss,
    margin_loss,
    reconstruction_loss,
    spread_loss,
)
from capsjax.metrics import (
    Accuracy,
    CalibrationError,
    ErrorRate,
    LabelError,
    TopKError,
    correct,
)
from capsjax.metrics.classification import Classification, longest_classes
from tests.metrics.test_values import look, measured

RNG = np.random.RandomState(8)
PAIRS = np.array(list(itertools.combinations(range(5), 2)), np.int32)
LABELS = PAIRS[RNG.randint(0, 10, 40)]
LENGTHS = RNG.uniform(size=(40, 5)).astype(np.float32)
LENGTHS[np.arange(40)[:, None], LABELS] += 0.4 * RNG.uniform(size=(40, 2)).astype(np.float32)
LENGTHS = np.minimum(LENGTHS, 1)
LENGTHS[:3] = 0.5  # of equally long ones the first are taken
PRESENT = (LABELS[:, :, None] == np.arange(5)).any(1)
TAKEN = np.sort(np.argsort(-LENGTHS, axis=1, kind="stable")[:, :2], axis=1)
OUTPUT, BATCH = look(LENGTHS, LABELS)
EXACT = np.array([set(a) == set(b) for a, b in zip(LABELS.tolist(), TAKEN.tolist(), strict=True)])
HALF = np.array([len({*a} & {*b}) for a, b in zip(LABELS.tolist(), TAKEN.tolist(), strict=True)])


def test_right_is_who_has_both_and_half_credit_counts_each():
    np.testing.assert_array_equal(ErrorRate()(OUTPUT, BATCH), ~EXACT)
    np.testing.assert_array_equal(Accuracy()(OUTPUT, BATCH), EXACT)
    np.testing.assert_array_equal(LabelError()(OUTPUT, BATCH), 1 - HALF / 2)
    np.testing.assert_array_equal(TopKError(k=2)(OUTPUT, BATCH), ~EXACT)
    assert 0 < EXACT.mean() < HALF.mean() / 2 < 1
    output, batch = look(LENGTHS, LABELS[:, 0])  # of one label they are the same
    np.testing.assert_array_equal(LabelError()(output, batch), ErrorRate()(output, batch))
    np.testing.assert_array_equal(
        ErrorRate()(output, batch), ~correct(output.lengths, batch.labels)
    )


def test_top_k_asks_for_every_label():
    best = np.argsort(-LENGTHS, axis=1, kind="stable")[:, :3]
    missed = [not set(a) <= set(b) for a, b in zip(LABELS.tolist(), best.tolist(), strict=True)]
    np.testing.assert_array_equal(TopKError(k=3)(OUTPUT, BATCH), missed)
    with pytest.raises(UserError, match="k: got 5 for 5 class capsules"):
        TopKError(k=5)(OUTPUT, BATCH)


def test_losses_see_every_class_that_is_present():
    present = jnp.asarray(PRESENT, jnp.float32)
    pairs = {
        MarginLoss(): margin_loss(OUTPUT.lengths, present),
        CrossEntropyLoss(): cross_entropy_loss(OUTPUT.lengths, present),
        BinaryLoss(): binary_cross_entropy_loss(OUTPUT.lengths, present),
        LikelihoodLoss(): likelihood_loss(OUTPUT.lengths, present),
        SpreadLoss(margin=0.4): spread_loss(OUTPUT.lengths, present, margin=0.4),
    }
    for loss, expected in pairs.items():
        np.testing.assert_array_equal(loss.of_classes(OUTPUT, BATCH), expected)
        found = jax.jit(loss.of_classes)(OUTPUT, BATCH)  # where class numbers cannot be seen
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_reconstruction_is_the_sum_over_both_images():
    drawn, shown = jnp.asarray(RNG.uniform(size=(2, 40, 2, 3, 3, 1)), jnp.float32)
    output, batch = OUTPUT._replace(reconstruction=drawn), BATCH._replace(targets=shown)
    found = MarginLoss(reconstruction_weight=0.1)(output, batch)
    each = [reconstruction_loss(drawn[:, k], shown[:, k]) for k in range(2)]
    np.testing.assert_allclose(found["reconstruction"], each[0] + each[1], rtol=1e-6)
    expected = found["margin"] + 0.1 * found["reconstruction"]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-6)
    # Without class capsules one image is drawn, of both: what was shown.
    once = OUTPUT._replace(reconstruction=drawn[:, 0])
    seen = batch._replace(images=shown[:, 1])
    expected = reconstruction_loss(drawn[:, 0], shown[:, 1])
    np.testing.assert_array_equal(MarginLoss()(once, seen)["reconstruction"], expected)


def test_an_example_weighs_as_its_classes_do_on_average():
    weights = (0.5, 1.0, 1.5, 2.0, 0.0)
    loss = dataclasses.replace(MarginLoss(), class_weights=weights)
    expected = MarginLoss().of_classes(OUTPUT, BATCH) * np.array(weights)[LABELS].mean(1)
    np.testing.assert_allclose(loss(OUTPUT, BATCH)["margin"], expected, rtol=1e-6)


def test_what_predictions_come_to_is_that_of_the_metrics():
    of = Classification(LABELS, LENGTHS)
    np.testing.assert_array_equal(of.predicted, TAKEN)
    np.testing.assert_array_equal(of.right, EXACT)
    averages = of.averages()
    assert averages["error"] == pytest.approx(1 - EXACT.mean())
    assert averages["label_error"] == pytest.approx(1 - HALF.mean() / 2)
    assert of.calibration_error == pytest.approx(measured(CalibrationError(), OUTPUT, BATCH))
    assert of.reliability[2].sum() == 80  # of each example both that it is taken for
    single = Classification(LABELS[:, 0], LENGTHS)
    assert "label_error" not in single.averages()
    assert single.label_error == pytest.approx(single.error)


def test_a_label_that_is_missed_is_taken_for_what_is_found_beside():
    of, expected = Classification(LABELS, LENGTHS), np.zeros((5, 5), int)
    for label, taken in zip(LABELS.tolist(), TAKEN.tolist(), strict=True):
        for number in {*label} & {*taken}:
            expected[number, number] += 1
        missed, beside = sorted({*label} - {*taken}), sorted({*taken} - {*label})
        for a, b in zip(missed, beside, strict=True):
            expected[a, b] += 1
    np.testing.assert_array_equal(of.confusion, expected)
    np.testing.assert_array_equal(of.confusion.sum(1), of.support)
    assert of.support.sum() == 80
    for k in range(5):
        right = expected[k, k]
        assert of.recall[k] == pytest.approx(right / expected[k].sum())
        assert of.precision[k] == pytest.approx(right / expected[:, k].sum())
        pairs = itertools.product(LENGTHS[PRESENT[:, k], k], LENGTHS[~PRESENT[:, k], k])
        area = np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
        assert of.roc_auc[k] == pytest.approx(area)
    assert of.balanced_accuracy == pytest.approx(np.mean(of.recall))


def test_the_longest_classes_are_those_of_a_stable_order():
    lengths = np.array([[0.2, np.nan, 0.3, 0.3], [0.5, 0.5, 0.5, 0.5]])
    assert longest_classes(lengths, 2).tolist() == [[1, 2], [0, 1]]
    assert longest_classes(lengths).tolist() == lengths.argmax(-1).tolist() == [1, 0]
