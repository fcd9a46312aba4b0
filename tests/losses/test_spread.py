"""The spread loss against the oracle, its gradient, its margins, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError, UserError
from capsjax.losses import LinearMargin, LogisticMargin, SpreadLoss, spread_loss
from capsjax.types import Batch, NetworkOutput
from tests.oracles import losses as oracle
from tests.oracles.routing import finite_differences

RNG = np.random.RandomState(3)
ACTIVATION = RNG.uniform(size=(6, 4))
LABELS = np.array([0, 3, 2, 3, 1, 1])
PRESENT = np.eye(4)[LABELS]
SEVERAL = np.array(
    [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 1, 1]]
)
SOFT = RNG.dirichlet(np.ones(4), size=6)


def of(activation, batch):
    """What a network says that has these activations, and nothing else that a loss looks at."""
    shape = activation.shape
    return NetworkOutput(
        activation,
        jnp.zeros((*shape, 2)),
        jnp.zeros((shape[0], 3, shape[1])),
        jnp.zeros((shape[0], 3, 2)),
        None,
        None,
    ), batch


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.9])
def test_it_is_that_of_the_oracle(margin, x64):
    found = spread_loss(jnp.asarray(ACTIVATION), jnp.asarray(LABELS), margin=margin)
    expected = oracle.spread_loss(ACTIVATION, PRESENT, [margin] * 6)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_port_that_counts_the_right_class_among_the_others(x64):
    """SR-CapsNet's sum goes over all classes: m^2 too much, of which no gradient tells."""

    def wrong(activation, margin):
        right = jnp.sum(activation * PRESENT, axis=-1, keepdims=True)
        return jnp.sum(jnp.maximum(0, margin - (right - activation)) ** 2, axis=-1)

    def ours(activation, margin):
        return spread_loss(activation, jnp.asarray(LABELS), margin=margin)

    activation = jnp.asarray(ACTIVATION)
    np.testing.assert_allclose(
        ours(activation, 0.9), oracle.spread_loss(ACTIVATION, PRESENT, [0.9] * 6), rtol=1e-13
    )
    np.testing.assert_allclose(wrong(activation, 0.9), ours(activation, 0.9) + 0.81, rtol=1e-12)
    bars = [jax.grad(lambda a, f=f: jnp.sum(f(a, 0.9)))(activation) for f in (wrong, ours)]
    np.testing.assert_allclose(*bars, atol=1e-12)
    sure = jnp.asarray([[0.9, 0.0, 0.0]])
    assert spread_loss(sure, jnp.asarray([0]), margin=0.5).tolist() == [0.0]


@pytest.mark.parametrize("labels", [PRESENT, SEVERAL, SOFT])
def test_labels_may_be_one_several_or_soft(labels, x64):
    found = spread_loss(jnp.asarray(ACTIVATION), jnp.asarray(labels), margin=0.6)
    expected = oracle.spread_loss(ACTIVATION, labels, [0.6] * 6)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("labels", [PRESENT, SOFT])
def test_its_gradient_is_that_of_differences(labels, x64):
    (expected,) = finite_differences(
        lambda a: sum(oracle.spread_loss(a, labels, [0.7] * 6)), (ACTIVATION,)
    )
    found = jax.grad(lambda a: spread_loss(a, jnp.asarray(labels), margin=0.7).sum())(
        jnp.asarray(ACTIVATION)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)


def test_the_margin_may_be_each_example_s_own_and_traced(x64):
    margins = np.linspace(0.2, 0.9, 6)
    found = jax.jit(lambda m: spread_loss(jnp.asarray(ACTIVATION), jnp.asarray(LABELS), margin=m))
    expected = oracle.spread_loss(ACTIVATION, PRESENT, margins)
    np.testing.assert_allclose(found(jnp.asarray(margins)), expected, rtol=1e-13)


def test_leading_axes_are_batch():
    activation, labels = jnp.asarray(ACTIVATION, jnp.float32), jnp.asarray(LABELS)
    flat = spread_loss(activation, labels, margin=0.5)
    np.testing.assert_allclose(
        spread_loss(activation[0], labels[0], margin=0.5), flat[0], rtol=1e-6
    )
    square = spread_loss(activation.reshape(2, 3, 4), labels.reshape(2, 3), margin=0.5)
    np.testing.assert_allclose(square, flat.reshape(2, 3), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_narrow_type_stays_and_is_added_up_in_float32(dtype):
    activation = jnp.asarray(ACTIVATION, dtype)
    found = spread_loss(activation, jnp.asarray(LABELS), margin=0.5)
    assert found.dtype == dtype
    wide = spread_loss(activation.astype(jnp.float32), jnp.asarray(LABELS), margin=0.5)
    np.testing.assert_array_equal(found, wide.astype(dtype))


def test_huge_activations_of_what_does_not_count_give_no_nan():
    activation = jnp.asarray([[3e38, 0.0], [0.0, -3e38]], jnp.float32)

    def loss(a):
        return spread_loss(a, jnp.asarray([0, 0]), margin=0.5)

    assert loss(activation).tolist() == [0.0, 0.0]
    assert jax.grad(lambda a: loss(a).sum())(activation).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            (jnp.ones(()), jnp.asarray(0)),
            r"spread_loss: activation: got .* expected an array \[\*b",
        ),
        ((jnp.ones((2, 3)), jnp.zeros(3, jnp.int32)), r"spread_loss: got labels int32\[3\]"),
        ((jnp.ones((2, 3)), jnp.asarray([0, 3])), "label 1 is 3, expected an integer from 0 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, text, as_installed):
    with pytest.raises(UserError, match=text):
        spread_loss(*arguments, margin=0.5)


def test_a_margin_of_another_shape_is_refused(as_installed):
    with pytest.raises(UserError, match=r"margin: got shape \[3\] .* one for each example, \[2\]"):
        spread_loss(jnp.ones((2, 3)), jnp.asarray([0, 1]), margin=jnp.ones(3))


def test_a_margin_moves_along_a_line_in_training_and_is_the_last_at_evaluation():
    loss = SpreadLoss(margin=LinearMargin(start=0.2, end=0.8, until=0.5))
    activation, labels = jnp.asarray(ACTIVATION, jnp.float32), jnp.asarray(LABELS)
    for progress, margin in ((0.0, 0.2), (0.25, 0.5), (0.5, 0.8), (0.75, 0.8), (None, 0.8)):
        done = None if progress is None else jnp.full(6, progress)
        batch = Batch(jnp.zeros((6, 1, 1, 1)), labels, jnp.ones(6), done)
        values = loss(*of(activation, batch))
        assert values.keys() == {"loss", "spread", "reconstruction"}
        np.testing.assert_allclose(
            values["spread"], spread_loss(activation, labels, margin=margin), rtol=1e-6
        )


def test_a_margin_moves_along_the_curve_of_the_released_code():
    """Theirs counts steps: 0.2 + 0.79 logistic(step / 50,000 - 4)."""
    steps = np.array([0, 100_000, 200_000, 250_000, 400_000])
    released = 0.2 + 0.79 / (1 + np.exp(4 - steps / 50_000))
    np.testing.assert_allclose(LogisticMargin()(jnp.asarray(steps / 400_000)), released, rtol=1e-6)
    other = LogisticMargin(start=0.1, end=0.5, middle=0.25, width=0.5)
    np.testing.assert_allclose(
        other(jnp.asarray([0.25, 0.75])), [0.3, 0.1 + 0.4 / (1 + np.exp(-1))]
    )


@pytest.mark.parametrize(
    ("field", "value"), [("start", -0.1), ("end", 1.1), ("middle", 1.1), ("width", 0.0)]
)
def test_numbers_of_a_logistic_margin_are_checked(field, value, as_installed):
    with pytest.raises(
        FieldError, match=rf"LogisticMargin\.{field}: got {value}, expected a number"
    ):
        LogisticMargin(**{field: value})


@pytest.mark.parametrize("margin", [-0.1, 1.5, "0.5", None, True, float("nan")])
def test_a_margin_that_is_none_is_refused(margin, as_installed):
    with pytest.raises(FieldError, match=r"SpreadLoss\.margin: got .*, expected a number"):
        SpreadLoss(margin=margin)


@pytest.mark.parametrize("field", ["start", "end", "until"])
def test_numbers_of_a_line_are_checked(field, as_installed):
    with pytest.raises(FieldError, match=rf"LinearMargin\.{field}: got 1.1, expected a number"):
        LinearMargin(**{field: 1.1})
