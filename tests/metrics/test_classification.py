"""What predictions come to, class by class, against loops over examples."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.metrics import CalibrationError
from capsjax.metrics.classification import Classification
from tests.metrics.test_values import look, measured

RNG = np.random.RandomState(3)
LABELS = RNG.randint(0, 3, 40).astype(np.int32)  # no example of the last class
LENGTHS = RNG.uniform(size=(40, 4)).astype(np.float32)
LENGTHS[np.arange(40), LABELS] += 0.2
LENGTHS[:, 3] *= RNG.uniform(size=40) < 0.3
FOUND = Classification(LABELS, LENGTHS)
TAKEN = LENGTHS.argmax(-1)


def counted(label, taken):
    return sum(a == label and b == taken for a, b in zip(LABELS, TAKEN, strict=True))


def test_the_matrix_counts_labels_down_and_predictions_across():
    expected = [[counted(a, b) for b in range(4)] for a in range(4)]
    np.testing.assert_array_equal(FOUND.confusion, expected)
    assert FOUND.error == pytest.approx(1 - np.trace(expected) / 40)


@pytest.mark.parametrize("k", range(4))
def test_precision_recall_and_f1_of_each_class(k):
    right, of, taken = counted(k, k), np.isin(LABELS, k).sum(), np.isin(TAKEN, k).sum()
    assert FOUND.support[k] == of
    assert taken  # in these data each class is taken for something
    assert FOUND.precision[k] == pytest.approx(right / taken)
    assert FOUND.f1[k] == pytest.approx(2 * right / (of + taken))
    if of:
        assert FOUND.recall[k] == pytest.approx(right / of)
    else:
        assert np.isnan(FOUND.recall[k])


@pytest.mark.parametrize("k", range(4))
def test_the_area_is_how_often_an_example_of_the_class_is_longer(k):
    is_k = np.isin(LABELS, k)
    of, others = LENGTHS[is_k, k], LENGTHS[~is_k, k]
    if not of.size:
        assert np.isnan(FOUND.roc_auc[k])
        return
    pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(of, others)]
    assert FOUND.roc_auc[k] == pytest.approx(np.mean(pairs))


def test_averages_are_of_what_is_defined():
    means = FOUND.averages()
    assert means["balanced_accuracy"] == pytest.approx(np.mean(FOUND.recall[:3]))
    assert means["recall"] == pytest.approx(means["balanced_accuracy"])
    assert means["precision"] == pytest.approx(np.mean(FOUND.precision))
    assert means["roc_auc"] == pytest.approx(np.mean(FOUND.roc_auc[:3]))


def test_calibration_is_that_of_the_metric():
    output, batch = look(np.minimum(LENGTHS, 1), LABELS)
    assert FOUND.calibration_error == pytest.approx(measured(CalibrationError(), output, batch))
    confidence, right, counts = FOUND.reliability
    assert counts.sum() == 40
    total = np.minimum(LENGTHS, 1).max(-1).astype(float).sum()
    assert (confidence * counts).sum() == pytest.approx(total)
    assert (right * counts).sum() == pytest.approx((LABELS == TAKEN).sum())


def test_what_is_not_finite_has_no_area_and_no_calibration():
    broken = Classification(
        LABELS, np.where(jnp.arange(4) == 1, np.nan, LENGTHS).astype(np.float32)
    )
    assert np.isnan(broken.roc_auc).all()
    assert np.isnan(broken.averages()["calibration_error"])


def test_one_class_alone_is_measured_without_a_word():
    found = Classification(np.zeros(3, np.int32), np.float32([[1, 0], [0.5, 0.2], [0.1, 0.3]]))
    assert found.averages()["balanced_accuracy"] == pytest.approx(2 / 3)
    assert np.isnan(found.averages()["roc_auc"])
