"""Lengths, squash and coupling: values and gradients from zero to overflow, against the oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax.numerics import (
    compute_dtype,
    couple,
    couple_adjoint,
    safe_norm,
    squash,
    squash_jacobian,
)
from tests.oracles import numerics as oracle

RNG = np.random.RandomState(11)
DIRECTIONS = RNG.normal(size=(6, 5))
DIRECTIONS[1, 2:] = 0
DIRECTIONS[2] = [0, 0, 1, 0, 0]
SCALES = [10.0**power for power in range(-20, 21, 2)]
TYPES = [jnp.float32, jnp.bfloat16]


@jax.jit
def squash_and_jacobian(s):
    return jax.vmap(lambda s: (squash(s), jax.jacrev(squash)(s), jax.jacfwd(squash)(s)))(s)


def expected_at(s):
    s = np.asarray(s, np.float64)
    return (
        np.stack([oracle.squash(one) for one in s]),
        np.stack([oracle.squash_jacobian(one) for one in s]),
    )


def relative(found, expected):
    """The largest error of each vector or matrix, beside its largest number."""
    axes = tuple(range(1, found.ndim))
    error = np.max(np.abs(np.asarray(found, np.float64) - expected), axis=axes)
    return error / np.max(np.abs(expected), axis=axes)


class TestSquash:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
    def test_value_and_jacobian_are_right_over_forty_powers_of_ten(self, dtype, tolerance):
        with jax.enable_x64(dtype == np.float64):
            for scale in SCALES:
                s = jnp.asarray(DIRECTIONS * scale, dtype)
                found, reverse, forward = squash_and_jacobian(s)
                value, jacobian = expected_at(s)
                # The square of 1e-20 is no float32 of full precision; its Jacobian is one.
                if dtype == np.float64 or scale > 1e-18:
                    assert np.all(relative(found, value) < tolerance), scale
                else:
                    np.testing.assert_allclose(found, value, rtol=0, atol=1e-37)
                assert np.all(relative(reverse, jacobian) < tolerance), scale
                assert np.all(relative(forward, jacobian) < tolerance), scale

    @pytest.mark.parametrize("dtype", TYPES)
    def test_nothing_overflows_at_the_largest_numbers(self, dtype):
        for scale in (1e30, 3e38):
            s = jnp.asarray(np.sign(DIRECTIONS) * scale, dtype)
            value, jacobian, _ = squash_and_jacobian(s)
            assert value.dtype == dtype
            lengths = np.linalg.norm(np.asarray(value, np.float64), axis=-1)
            np.testing.assert_allclose(lengths, 1, rtol=1e-2)
            assert np.all(np.sign(np.asarray(value, np.float64)) == np.sign(DIRECTIONS))
            assert np.all(np.isfinite(np.asarray(jacobian, np.float64)))

    @pytest.mark.parametrize("dtype", TYPES)
    def test_zero_gives_zero_and_a_jacobian_of_zero(self, dtype):
        value, reverse, forward = squash_and_jacobian(jnp.zeros((1, 5), dtype))
        for leaf in (value, reverse, forward):
            assert leaf.dtype == dtype
            assert not np.any(np.asarray(leaf, np.float32))

    def test_second_derivatives_are_finite_at_zero_and_right_elsewhere(self, x64):
        def total(s):
            return jnp.sum(squash(s) * jnp.arange(1.0, 4.0))

        hessian, gradient = jax.jit(jax.hessian(total)), jax.jit(jax.grad(total))
        assert np.all(np.isfinite(hessian(jnp.zeros(3))))
        s, step = np.asarray([0.5, -0.3, 0.8]), 1e-6
        for a, row in enumerate(hessian(jnp.asarray(s))):
            ends = [gradient(jnp.asarray(s + sign * step * np.eye(3)[a])) for sign in (1, -1)]
            np.testing.assert_allclose(row, (ends[0] - ends[1]) / (2 * step), rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("scale", [0.0, 1e-18, 1.0, 1e18])
    def test_the_jacobian_times_vectors(self, scale, x64):
        s, x = jnp.asarray(DIRECTIONS * scale), RNG.normal(size=DIRECTIONS.shape)
        _, jacobian = expected_at(s)
        expected = np.einsum("nab,nb->na", jacobian, x)
        found = np.asarray(squash_jacobian(s, jnp.asarray(x)))
        assert np.all(np.abs(found - expected) <= 1e-12 * np.max(np.abs(jacobian), (1, 2))[:, None])

    def test_any_axis(self, x64):
        s = jnp.asarray(RNG.normal(size=(2, 3, 4)))
        for axis in (0, 1, 2, -1, -2):
            found = np.moveaxis(squash(s, axis=axis), axis, -1)
            for at in np.ndindex(found.shape[:-1]):
                expected = oracle.squash(np.moveaxis(np.asarray(s), axis, -1)[at])
                np.testing.assert_allclose(found[at], expected, rtol=1e-13)

    def test_an_axis_that_is_not_there_is_refused(self):
        with pytest.raises(ValueError, match="axis"):
            squash(jnp.ones((2, 3)), axis=2)

    def test_bfloat16_is_computed_in_float32(self):
        s = jnp.asarray(DIRECTIONS, jnp.bfloat16)
        expected = squash(s.astype(jnp.float32)).astype(jnp.bfloat16)
        np.testing.assert_array_equal(squash(s), expected)


class TestSafeNorm:
    @pytest.mark.parametrize("scale", [1e-30, 1e-19, 1.0, 1e19, 1e30])
    def test_it_is_the_length(self, scale):
        x = jnp.asarray(DIRECTIONS * scale, jnp.float32)
        expected = [oracle.length(one) for one in np.asarray(x, np.float64)]
        np.testing.assert_allclose(safe_norm(x), expected, rtol=1e-6)

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    def test_its_gradient_is_the_unit_vector(self, scale):
        x = jnp.asarray(DIRECTIONS * scale, jnp.float32)
        unit = DIRECTIONS / np.linalg.norm(DIRECTIONS, axis=-1, keepdims=True)
        found = jax.jit(jax.grad(lambda x: jnp.sum(safe_norm(x))))(x)
        np.testing.assert_allclose(found, unit, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("dtype", TYPES)
    def test_zero_has_length_and_gradient_zero(self, dtype):
        x = jnp.zeros((2, 3), dtype)
        length, gradient = safe_norm(x), jax.jit(jax.grad(lambda x: jnp.sum(safe_norm(x))))(x)
        assert length.dtype == gradient.dtype == dtype
        assert not np.any(np.asarray(length, np.float32))
        assert not np.any(np.asarray(gradient, np.float32))

    @pytest.mark.parametrize("dtype", TYPES)
    def test_huge_numbers_stay_finite(self, dtype):
        x = jnp.full((4,), 1e30, dtype)
        np.testing.assert_allclose(np.asarray(safe_norm(x), np.float32), 2e30, rtol=1e-2)
        gradient = np.asarray(jax.jit(jax.grad(safe_norm))(x), np.float32)
        np.testing.assert_allclose(gradient, 0.5, rtol=1e-2)

    def test_axis_and_keepdims(self):
        x = np.arange(1.0, 25.0, dtype=np.float32).reshape(2, 3, 4)
        for axis in (0, 1, -1):
            expected = np.linalg.norm(x, axis=axis, keepdims=True)
            np.testing.assert_allclose(
                safe_norm(jnp.asarray(x), axis, keepdims=True), expected, rtol=1e-6
            )
            np.testing.assert_allclose(
                safe_norm(jnp.asarray(x), axis), expected.squeeze(axis), rtol=1e-6
            )


class TestCouple:
    @pytest.mark.parametrize("leaky", [False, True])
    def test_it_is_the_softmax_of_the_oracle(self, leaky, x64):
        logits = RNG.normal(size=(2, 4, 3)) * 5
        expected = np.stack([oracle.softmax_over_parents(one, leaky) for one in logits])
        np.testing.assert_allclose(couple(jnp.asarray(logits), leaky), expected, rtol=1e-13)

    @pytest.mark.parametrize("leaky", [False, True])
    def test_its_adjoint_is_that_of_the_softmax(self, leaky, x64):
        logits, bar = (
            jnp.asarray(RNG.normal(size=(2, 4, 3))),
            jnp.asarray(RNG.normal(size=(2, 4, 3))),
        )
        coupling, pull = jax.vjp(lambda logits: couple(logits, leaky), logits)
        found = couple_adjoint(coupling, bar)
        np.testing.assert_allclose(found, pull(bar)[0], rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("leaky", [False, True])
    def test_huge_logits_choose_one_parent(self, leaky):
        logits = jnp.asarray([[1e30, 0.0, -1e30], [-1e30, -1e30, -1e30]])
        coupling = couple(logits, leaky)
        np.testing.assert_array_equal(coupling[0], [1, 0, 0])
        # Without a leak three equal logits share; with it, all goes to none of the parents.
        np.testing.assert_allclose(coupling[1], [0 if leaky else 1 / 3] * 3, rtol=1e-6)
        gradient = jax.grad(lambda b: jnp.sum(couple(b, leaky) * jnp.arange(3.0)[None]))(logits)
        assert np.all(np.isfinite(gradient))


def test_half_precision_is_computed_in_float32():
    assert compute_dtype(jnp.dtype(jnp.bfloat16)) == jnp.float32
    assert compute_dtype(jnp.dtype(jnp.float16)) == jnp.float32
    assert compute_dtype(jnp.dtype(jnp.float32)) == jnp.float32
    with jax.enable_x64(True):
        assert compute_dtype(jnp.dtype(jnp.float64)) == jnp.float64


def test_whole_numbers_and_numpy_s_doubles_are_taken_as_floats(as_installed):
    for dtype in (np.int32, np.float64):
        squashed = squash(np.array([3, 4], dtype))
        np.testing.assert_allclose(squashed, [0.5769, 0.7692], atol=1e-4)
        assert squashed.dtype == np.float32
        np.testing.assert_allclose(safe_norm(np.array([1, 1], dtype)), 1.4142, atol=1e-4)
