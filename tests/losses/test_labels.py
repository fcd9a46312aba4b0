"""Labels that are not what they should be are named, and the advice leads to the right number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.metrics import accuracy, correct

RNG = np.random.default_rng(3)
LENGTHS = RNG.uniform(size=(4, 4)).astype(np.float32)  # as many examples as classes
LABELS = np.array([0, 2, 3, 1])
ONE_HOT = np.eye(4, dtype=np.int32)[LABELS]
RIGHT = float(np.mean(LENGTHS.argmax(-1) == LABELS))
COSTS = np.asarray(cj.margin_loss(jnp.asarray(LENGTHS), jnp.asarray(LABELS)))


def test_one_hot_labels_of_as_many_examples_as_classes_are_not_broadcast(as_installed):
    """They gave the share of ones that meet an index of the longest, whatever was right."""
    for labels in (ONE_HOT, ONE_HOT.astype(np.float32), ONE_HOT.tolist()):
        with pytest.raises(
            UserError, match=r"expected integers \[4\], a class number for each; from"
        ):
            accuracy(jnp.asarray(LENGTHS), labels)
    assert accuracy(LENGTHS, ONE_HOT.argmax(-1)) == RIGHT
    np.testing.assert_allclose(cj.margin_loss(LENGTHS, ONE_HOT), COSTS)


@pytest.mark.parametrize(
    ("labels", "advice", "mended"),
    [
        (LABELS[:, None], "of a column take labels[..., 0]", LABELS[:, None][..., 0]),
        (LABELS[:, None] * 1.0, "labels[..., 0].astype(int)", LABELS),
        (LABELS.astype(np.float32), "of whole numbers take labels.astype(int)", LABELS),
        (LABELS > 0, "of whole numbers take labels.astype(int)", None),
    ],
)
def test_advice_on_class_numbers_is_right(labels, advice, mended, as_installed):
    for function in (accuracy, correct, cj.margin_loss):
        with pytest.raises(UserError) as caught:
            function(jnp.asarray(LENGTHS), labels)
        assert advice in str(caught.value)
    if mended is not None:
        assert accuracy(LENGTHS, mended) == RIGHT
        np.testing.assert_allclose(cj.margin_loss(LENGTHS, mended), COSTS)


@pytest.mark.parametrize(
    "labels",
    [LABELS[:3], np.zeros((4, 3), int), LABELS + 0.5, 2, None, np.array(list("abcd")), "abcd"],
    ids=["too few", "too few classes", "fractions", "one", "none", "names", "a string"],
)
def test_labels_that_nothing_helps_get_no_advice_that_would_harm(labels, as_installed):
    for function in (accuracy, correct, cj.margin_loss):
        with pytest.raises(UserError, match=r"labels: got|got labels") as caught:
            function(jnp.asarray(LENGTHS), labels)
        assert "argmax" not in str(caught.value)
        assert "astype" not in str(caught.value)


def test_labels_of_several_classes_are_not_reduced_to_one(as_installed):
    several = np.maximum(ONE_HOT, ONE_HOT[::-1])
    with pytest.raises(UserError, match=r"integers \[4\], a class number for each$"):
        accuracy(LENGTHS, several)
    assert cj.margin_loss(LENGTHS, several).shape == (4,)


def test_lists_and_numpy_s_integers_are_labels(as_installed):
    for labels in (LABELS.tolist(), LABELS.astype(np.uint8), LABELS.astype(np.int64)):
        assert accuracy(LENGTHS, labels) == RIGHT
        np.testing.assert_allclose(cj.margin_loss(LENGTHS, labels), COSTS)
        np.testing.assert_array_equal(cj.margin_loss(LENGTHS.tolist(), labels), COSTS)
    assert correct(LENGTHS[1], 2) == (LENGTHS[1].argmax() == 2)


@pytest.mark.parametrize("wrong", [-1, 4, 2**40])
def test_a_number_that_no_class_has_is_refused_where_it_can_be_seen(wrong, as_installed):
    labels = LABELS.copy()
    labels[2] = wrong
    message = rf"label 2 is {wrong}, expected an integer from 0 to 3 for 4 class capsules \(1 of 4"
    for function in (accuracy, correct, cj.margin_loss):
        with pytest.raises(UserError, match=message):
            function(LENGTHS, labels)
    with pytest.raises(UserError, match=message):
        jax.grad(lambda lengths: cj.margin_loss(lengths, labels).sum())(jnp.asarray(LENGTHS))


def test_inside_traced_functions_a_number_that_no_class_has_is_no_class():
    labels = jnp.asarray([0, -1, 4, 1])
    found = jax.jit(cj.margin_loss)(jnp.asarray(LENGTHS), labels)
    absent = np.eye(5, dtype=np.int32)[[0, 4, 4, 1]][:, :4]
    np.testing.assert_allclose(found, cj.margin_loss(jnp.asarray(LENGTHS), jnp.asarray(absent)))


@pytest.mark.parametrize("wrong", [ONE_HOT * 255, ONE_HOT - 1, ONE_HOT * np.nan])
def test_what_is_not_from_zero_to_one_is_no_presence(wrong, as_installed):
    with pytest.raises(UserError, match="expected 1 for each class that is present and 0 for the"):
        cj.margin_loss(LENGTHS, wrong)


def test_shapes_are_checked_inside_traced_functions_too(as_installed):
    with pytest.raises(UserError, match="from one-hot labels take"):
        jax.jit(accuracy)(LENGTHS, ONE_HOT)
    with pytest.raises(UserError, match=r"lengths: got float32\[\], expected .* \[\*batch, j\]"):
        accuracy(jnp.asarray(0.5), 0)
