"""Metrics as values: what each measures, whatever the number of batches."""

import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.metrics import (
    ALWAYS,
    Accuracy,
    CalibrationError,
    DeadCapsules,
    Metric,
    TopKError,
    accuracy,
    correct,
    coupling_entropy,
    dead_capsules,
    top_k_error,
)
from capsjax.types import Batch, NetworkOutput

RNG = np.random.RandomState(6)
LENGTHS = RNG.uniform(size=(12, 5)).astype(np.float32)
LABELS = RNG.randint(0, 5, 12)


def look(lengths=LENGTHS, labels=LABELS, children=None):
    n, j = lengths.shape
    coupling = RNG.dirichlet(np.ones(j), size=(n, 3)).astype(np.float32)
    children = np.zeros((n, 3, 2), np.float32) if children is None else children
    arrays = [lengths, np.zeros((n, j, 2), np.float32), coupling, children]
    output = NetworkOutput(*map(jnp.asarray, arrays), None, None)
    return output, Batch(jnp.zeros((n, 1, 1, 1)), jnp.asarray(labels), jnp.ones(n))


def measured(metric, output, batch):
    mean = np.asarray(metric(output, batch), np.float64).mean(0)
    return metric.result(np.asarray(mean))


def test_every_run_measures_errors_and_the_entropy_of_the_coupling():
    output, batch = look()
    error, entropy = ALWAYS
    assert (error.name, entropy.name) == ("error", "entropy")
    np.testing.assert_array_equal(error(output, batch), ~correct(output.lengths, batch.labels))
    np.testing.assert_array_equal(entropy(output, batch), coupling_entropy(output.coupling))


def test_accuracy_is_the_share_that_is_right():
    output, batch = look()
    assert measured(Accuracy(), output, batch) == pytest.approx(
        float(accuracy(output.lengths, batch.labels))
    )


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k_counts_labels_that_are_not_among_the_longest(k):
    lengths = np.concatenate([LENGTHS, np.full((5, 5), 0.5)]).astype(np.float32)
    labels = np.concatenate([LABELS, np.arange(5)])  # of equals the first come first
    order = np.argsort(-lengths, axis=-1, kind="stable")[:, :k]
    expected = [label not in best for label, best in zip(labels, order, strict=True)]
    output, batch = look(lengths, labels)
    np.testing.assert_array_equal(TopKError(k=k)(output, batch), expected)
    assert TopKError(k=k).name == f"top_{k}_error"


def test_top_1_is_the_error_also_where_nothing_is_a_number():
    lengths = np.where(RNG.uniform(size=(12, 5)) < 0.3, np.nan, LENGTHS)
    error = top_k_error(jnp.asarray(lengths), jnp.asarray(LABELS), 1)
    np.testing.assert_array_equal(error, ~correct(jnp.asarray(lengths), jnp.asarray(LABELS)))


def test_among_all_classes_every_label_is_found():
    with pytest.raises(UserError, match=r"k: got 5 for 5 class capsules, .* from 1 to 4"):
        top_k_error(jnp.asarray(LENGTHS), jnp.asarray(LABELS), 5)


def test_calibration_is_the_gap_between_confidence_and_correctness_in_each_bin():
    output, batch = look()
    confidence, right = LENGTHS.max(-1), LENGTHS.argmax(-1) == LABELS
    expected = 0.0
    for n in range(4):
        inside = (confidence > n / 4) & (confidence <= (n + 1) / 4)
        expected += abs(confidence[inside].sum() - right[inside].sum()) / len(LABELS)
    assert measured(CalibrationError(bins=4), output, batch) == pytest.approx(expected, rel=1e-5)


def test_the_ends_of_bins_belong_to_the_lower_and_0_to_the_first():
    output, batch = look(np.asarray([[0.0, 0.0], [0.25, 0.1], [1.0, 0.2]], np.float32), [0, 0, 0])
    found = CalibrationError(bins=4)(output, batch)
    np.testing.assert_allclose(found, [[-1, 0, 0, 0], [-0.75, 0, 0, 0], [0, 0, 0, 0]])
    assert found[2, 3] == 0  # 1.0 is right, and in the last


def test_a_dead_capsule_is_one_that_no_example_of_any_batch_activates():
    children = np.zeros((12, 3, 2), np.float32)
    children[:, 0, 1], children[11, 1, 0], children[:, 2, 0] = 0.5, 0.2, 0.05
    output, batch = look(children=children)
    assert measured(DeadCapsules(), output, batch) == pytest.approx(1 / 3)
    assert measured(DeadCapsules(threshold=0.3), output, batch) == pytest.approx(2 / 3)
    lengths = jnp.linalg.norm(output.children, axis=-1)
    assert float(dead_capsules(lengths)) == pytest.approx(1 / 3)
    # Half of them at a time, as two batches of evaluation are measured.
    halves = [look(children=part)[0] for part in (children[:6], children[6:])]
    parts = [np.asarray(DeadCapsules()(half, batch)).sum(0) for half in halves[:1]]
    parts += [
        np.asarray(DeadCapsules()(look(LENGTHS[6:], LABELS[6:], children[6:])[0], batch)).sum(0)
    ]
    assert DeadCapsules().result(sum(parts) / 12) == pytest.approx(1 / 3)


def test_dead_class_capsules_are_counted_too():
    lengths = np.asarray([[0.05, 0.4, 0.0], [0.0, 0.0, 0.01]], np.float32)
    output, batch = look(lengths, [1, 1])
    assert measured(DeadCapsules(of="classes"), output, batch) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("metric", "field", "value"),
    [
        (TopKError, "k", 0),
        (CalibrationError, "bins", 0),
        (DeadCapsules, "of", "parents"),
        (DeadCapsules, "threshold", 0.0),
    ],
)
def test_values_out_of_range_are_refused(metric, field, value, as_installed):
    with pytest.raises(FieldError, match=rf"{metric.__name__}\.{field}: got"):
        metric(**{field: value})


def test_no_two_metrics_have_one_kind():
    kinds = [metric.kind for metric in Metric.variants()]
    assert len(set(kinds)) == len(kinds) >= 6
