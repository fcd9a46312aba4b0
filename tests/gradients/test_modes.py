"""The gradient modes on a recurrence of numbers, whose derivatives are known in closed form.

One update is s' = s x + t. Nothing here is a capsule: a mode knows of states and inputs only.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.checks import FieldError
from capsjax.gradients import (
    ClosedForm,
    FullGradient,
    ImplicitGradient,
    StopGradient,
    TruncatedGradient,
    iterate,
)


class Recurrence:
    """s_0 = x, s_{t+1} = s_t x + t; the coupling is 3 s x."""

    def init(self, inputs):
        return inputs

    def update(self, t, state, inputs):
        return state * inputs + t

    def couple(self, state, inputs):
        return 3 * state * inputs


X = 1.5
ROUTING = Recurrence()


def coupling(mode, x, num_updates=3):
    result, _ = mode(ROUTING, jnp.full((1, 1), x), num_updates)
    return result[0, 0]


def state_of(mode, x, num_updates=3):
    _, state = mode(ROUTING, jnp.full((1, 1), x), num_updates)
    return state[0, 0]


# s_1 = x^2, s_2 = x^3 + 1, s_3 = x^4 + x + 2; with the first frozen, s_2 = a x + 1, s_3 = a x^2 + x + 2.
A, S2, S3 = X**2, X**3 + 1, X**4 + X + 2
DERIVATIVES = {
    StopGradient(): 0.0,
    TruncatedGradient(last=0): 0.0,
    TruncatedGradient(last=1): 3 * (S3 + X * S2),
    TruncatedGradient(last=2): 3 * (S3 + X * (2 * A * X + 1)),
    TruncatedGradient(last=3): 3 * (S3 + X * (4 * X**3 + 1)),
    FullGradient(): 3 * (S3 + X * (4 * X**3 + 1)),
    FullGradient(remat=True): 3 * (S3 + X * (4 * X**3 + 1)),
}
ALL = [pytest.param(mode, id=repr(mode)) for mode in DERIVATIVES]


@pytest.mark.parametrize("mode", ALL)
def test_the_coupling_is_that_after_all_updates_in_order(mode, x64):
    np.testing.assert_allclose(coupling(mode, X), 3 * S3 * X, rtol=1e-14)
    np.testing.assert_allclose(state_of(mode, X), S3, rtol=1e-14)


@pytest.mark.parametrize("mode", ALL)
def test_the_gradient_passes_through_the_updates_that_the_mode_says(mode, x64):
    derivative = jax.grad(lambda x: coupling(mode, x))(X)
    np.testing.assert_allclose(derivative, DERIVATIVES[mode], rtol=1e-14)


@pytest.mark.parametrize("mode", [StopGradient(), TruncatedGradient(last=0)])
def test_a_constant_coupling_comes_from_a_constant_state(mode):
    assert jax.grad(lambda x: state_of(mode, x))(X) == 0


@pytest.mark.parametrize("mode", ALL)
def test_no_update_gives_the_first_coupling(mode):
    if isinstance(mode, TruncatedGradient) and mode.last > 0:
        with pytest.raises(FieldError, match="makes 0 updates of the logits"):
            coupling(mode, X, num_updates=0)
        return
    np.testing.assert_allclose(coupling(mode, X, num_updates=0), 3 * X * X, rtol=1e-6)
    live = isinstance(mode, FullGradient)
    expected = 6 * X if live else 0
    np.testing.assert_allclose(
        jax.grad(lambda x: coupling(mode, x, num_updates=0))(X), expected, rtol=1e-6
    )


def test_iterate_numbers_its_updates_from_start():
    state = iterate(ROUTING, jnp.full((1, 1), 10.0), jnp.zeros((1, 1)), 2, 5)
    assert state[0, 0] == 234  # ((0 * 10 + 2) * 10 + 3) * 10 + 4


def test_remat_keeps_less_for_the_backward_pass():
    """Of an update with much inside, only the state is kept: by the size of what `vjp` saves."""

    class Deep(Recurrence):
        def update(self, t, state, inputs):
            for _ in range(6):
                state = jnp.sin(state * inputs) + jnp.cos(state)
            return state

    def saved(remat):
        mode = FullGradient(remat=remat)
        pull = jax.eval_shape(
            lambda x: jax.vjp(lambda x: mode(Deep(), x, 5)[0], x)[1], jnp.ones((8, 8))
        )
        return sum(leaf.size for leaf in jax.tree.leaves(pull))

    assert saved(True) < saved(False) / 3


def test_modes_are_values():
    assert StopGradient() == StopGradient()
    assert hash(TruncatedGradient(last=1)) == hash(TruncatedGradient(last=1))
    distinct = {StopGradient(), FullGradient(), FullGradient(remat=True), *DERIVATIVES}
    assert len(distinct) == 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        TruncatedGradient(last=1).last = 2


@pytest.mark.parametrize("last", [-1, True, 1.5, "1", None])
def test_truncated_refuses_what_is_no_count(last, as_installed):
    with pytest.raises(FieldError) as caught:
        TruncatedGradient(last=last)
    assert str(caught.value) == (
        f"TruncatedGradient.last: got {last!r}, expected an integer of at least 0"
    )


@pytest.mark.parametrize("remat", ["no", 1, None])
def test_full_refuses_what_is_no_truth_value(remat, as_installed):
    with pytest.raises(FieldError, match=r"FullGradient\.remat: got .*, expected"):
        FullGradient(remat=remat)


@pytest.mark.parametrize(
    ("num_updates", "text"), [(1, "makes 1 update of"), (3, "makes 3 updates of")]
)
def test_truncated_refuses_more_updates_than_there_are(num_updates, text):
    TruncatedGradient(last=num_updates).check(ROUTING, num_updates)
    with pytest.raises(FieldError, match=f"expected at most {num_updates}: .* {text} the logits"):
        TruncatedGradient(last=num_updates + 1).check(ROUTING, num_updates)


def test_closed_form_refuses_a_routing_without_a_backward_pass():
    for use in (lambda: ClosedForm().check(ROUTING, 3), lambda: coupling(ClosedForm(), X)):
        with pytest.raises(FieldError) as caught:
            use()
        assert "Recurrence.gradient: got ClosedForm(" in str(caught.value)
        assert "such as FullGradient()" in str(caught.value)


def test_closed_form_is_the_backward_pass_that_the_routing_supplies(x64):
    """Here one that is wrong on purpose: what it returns is what comes out."""

    class Supplied(Recurrence):
        def forward(self, inputs, num_updates):
            state = iterate(self, inputs, self.init(inputs), 0, num_updates)
            return self.couple(state, inputs), state, 7 * inputs

        def adjoint(self, saved, inputs, cotangents):
            coupling_bar, state_bar = cotangents
            return saved * coupling_bar + 100 * state_bar + inputs

    def total(x):
        found, state = ClosedForm()(Supplied(), jnp.full((1, 1), x), 3)
        return (2 * found + 3 * state)[0, 0]

    value, derivative = jax.value_and_grad(total)(X)
    np.testing.assert_allclose(value, 2 * 3 * S3 * X + 3 * S3)
    np.testing.assert_allclose(derivative, 7 * X * 2 + 100 * 3 + X)


def test_stop_and_full_suit_any_number_of_updates():
    for num_updates in (0, 1, 100):
        StopGradient().check(ROUTING, num_updates)
        FullGradient().check(ROUTING, num_updates)


class Relaxation(Recurrence):
    """Goes to b = x c, c = sigmoid(b + x): both equations depend on the input."""

    def init(self, inputs):
        return jnp.zeros_like(inputs)

    def couple(self, state, inputs):
        return jax.nn.sigmoid(state + inputs)

    def target(self, coupling, inputs):
        return inputs * coupling

    def update(self, t, state, inputs):
        return self.target(self.couple(state, inputs), inputs)

    def pairs(self, inputs):
        return Columns()


class Columns:
    """One number for each example, [b, 1]."""

    def max_abs(self, x):
        return jnp.max(jnp.abs(x), axis=-1)

    def sum(self, x):
        return jnp.sum(x, axis=-1)

    def broadcast(self, x):
        return x[:, None]


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_implicit_is_the_derivative_of_the_fixed_point(solver, x64):
    """b = x c and c = sigmoid(b + x) give dc = k (x dc + c dx + dx), with k = c (1 - c)."""
    mode = ImplicitGradient(solver=solver, tolerance=1e-13)

    def total(x):
        found, state = mode(Relaxation(), jnp.full((1, 1), x), 60)
        return (2 * found + 3 * state)[0, 0], found[0, 0]

    derivative, c = jax.grad(total, has_aux=True)(X)
    k = c * (1 - c)
    by_c = k * (c + 1) / (1 - k * X)
    np.testing.assert_allclose(c, jax.nn.sigmoid(X * c + X), rtol=1e-14)
    np.testing.assert_allclose(derivative, 2 * by_c + 3 * (X * by_c + c), rtol=1e-11)


def test_implicit_refuses_a_routing_without_a_fixed_point():
    for use in (
        lambda: ImplicitGradient().check(ROUTING, 3),
        lambda: coupling(ImplicitGradient(), X),
    ):
        with pytest.raises(FieldError) as caught:
            use()
        assert "Recurrence.gradient: got ImplicitGradient(" in str(caught.value)
        assert "such as FullGradient()" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "given", "expected"),
    [
        ("solver", "gmres", "one of cg, neumann"),
        ("tolerance", 0.0, "a number greater than 0"),
        ("max_steps", 0, "an integer of at least 1"),
    ],
)
def test_implicit_refuses_what_is_no_option(option, given, expected, as_installed):
    with pytest.raises(FieldError) as caught:
        ImplicitGradient(**{option: given})
    assert f"ImplicitGradient.{option}: got {given!r}, expected {expected}" in str(caught.value)


def test_modes_say_whether_they_go_back_through_the_updates():
    through = {
        FullGradient(): True,
        ClosedForm(): True,
        TruncatedGradient(last=1): True,
        TruncatedGradient(last=0): False,
        StopGradient(): False,
        ImplicitGradient(): False,
    }
    for mode, expected in through.items():
        assert mode.differentiates_updates == expected, mode
