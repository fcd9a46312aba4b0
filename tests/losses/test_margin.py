"""The margin loss against the oracle, in both presets, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.losses import LossConfig, MarginLoss, margin_loss
from capsjax.losses.margin import PRESETS
from tests.oracles import losses as oracle
from tests.oracles.routing import finite_differences

RNG = np.random.RandomState(2)
LENGTHS = RNG.uniform(size=(6, 10))
LABELS = np.array([0, 3, 9, 3, 5, 1])
PRESENT = np.eye(10)[LABELS]


class TestMarginLoss:
    @pytest.mark.parametrize("preset", PRESETS)
    def test_it_is_that_of_the_oracle(self, preset, x64):
        found = margin_loss(jnp.asarray(LENGTHS), jnp.asarray(LABELS), preset=preset)
        expected = oracle.margin_loss(LENGTHS, PRESENT, preset)
        np.testing.assert_allclose(found, expected, rtol=1e-14)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_its_gradient_is_that_of_the_oracle(self, preset, x64):
        (expected,) = finite_differences(
            lambda lengths: sum(oracle.margin_loss(lengths, PRESENT, preset)), (LENGTHS,)
        )
        found = jax.grad(
            lambda lengths: jnp.sum(margin_loss(lengths, jnp.asarray(LABELS), preset=preset))
        )(jnp.asarray(LENGTHS))
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)

    def test_margins_and_weight_are_used(self, x64):
        options = {"positive_margin": 0.8, "negative_margin": 0.3, "down_weight": 0.25}
        for used in [{name: value} for name, value in options.items()] + [options]:
            found = margin_loss(jnp.asarray(LENGTHS), jnp.asarray(LABELS), **used)
            expected = oracle.margin_loss(LENGTHS, PRESENT, **used)
            np.testing.assert_allclose(found, expected, rtol=1e-14)
            assert np.all(np.abs(found - oracle.margin_loss(LENGTHS, PRESENT)) > 1e-4)

    @pytest.mark.parametrize("classes", [2, 10])
    def test_the_presets_differ_by_twice_the_number_of_classes(self, classes):
        """A factor of 20 for ten classes, which weighs the reconstruction 20 times as much."""
        lengths, labels = (
            jnp.asarray(LENGTHS[:, :classes], jnp.float32),
            jnp.asarray(LABELS) % classes,
        )
        paper = margin_loss(lengths, labels, preset="paper")
        released = margin_loss(lengths, labels, preset="released")
        np.testing.assert_allclose(paper / released, 2 * classes, rtol=1e-6)

    def test_several_classes_may_be_present(self, x64):
        present = np.maximum(PRESENT, np.eye(10)[LABELS[::-1]])
        expected = oracle.margin_loss(LENGTHS, present)
        for labels in (jnp.asarray(present), jnp.asarray(present, jnp.int32)):
            np.testing.assert_allclose(
                margin_loss(jnp.asarray(LENGTHS), labels), expected, rtol=1e-14
            )

    def test_leading_axes_are_batch(self):
        lengths, labels = jnp.asarray(LENGTHS, jnp.float32), jnp.asarray(LABELS)
        flat = margin_loss(lengths, labels)
        assert margin_loss(lengths[0], labels[0]).shape == ()
        np.testing.assert_allclose(margin_loss(lengths[0], labels[0]), flat[0], rtol=1e-6)
        square = margin_loss(lengths.reshape(2, 3, 10), labels.reshape(2, 3))
        np.testing.assert_allclose(square, flat.reshape(2, 3), rtol=1e-6)

    def test_bfloat16_stays_bfloat16(self):
        lengths = jnp.asarray(LENGTHS, jnp.bfloat16)
        assert margin_loss(lengths, jnp.asarray(LABELS)).dtype == jnp.bfloat16

    def test_an_unknown_preset_is_refused(self, as_installed):
        with pytest.raises(UserError) as caught:
            margin_loss(jnp.asarray(LENGTHS), jnp.asarray(LABELS), preset="papers")
        assert str(caught.value) == (
            "margin_loss: got preset 'papers', expected 'paper' or 'released'; did you mean 'paper'?"
        )

    @pytest.mark.parametrize(
        ("labels", "text"),
        [
            (
                jnp.zeros(5, jnp.int32),
                r"int32\[5\] for lengths \[6, 10\], expected integers \[6\] or",
            ),
            (jnp.zeros(6), r"float32\[6\] for lengths \[6, 10\]"),
            (jnp.zeros((6, 9)), r"float32\[6, 9\] .* zeros and ones \[6, 10\]"),
        ],
    )
    def test_labels_that_do_not_fit_are_refused(self, labels, text):
        with pytest.raises(UserError, match=text):
            margin_loss(jnp.asarray(LENGTHS), labels)


class TestMarginLossOfAConfiguration:
    def test_its_old_name_stays(self):
        assert LossConfig is MarginLoss

    def test_its_defaults_are_the_papers(self):
        config = MarginLoss()
        assert (config.positive_margin, config.negative_margin, config.down_weight) == (
            0.9,
            0.1,
            0.5,
        )
        assert (config.margin, config.reconstruction_weight) == ("paper", 0.0005)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("margin", "papers"),
            ("positive_margin", 1.5),
            ("negative_margin", -0.1),
            ("down_weight", float("nan")),
            ("reconstruction_weight", -1.0),
        ],
    )
    def test_values_out_of_range_are_refused(self, field, value, as_installed):
        with pytest.raises(FieldError, match=rf"MarginLoss\.{field}: got .*, expected"):
            MarginLoss(**{field: value})
