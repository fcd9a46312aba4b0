"""Value and gradient of every function of numbers, from zero to 1e30, in four types, beside long doubles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capsjax import losses, metrics, numerics

TYPES = [jnp.dtype(name) for name in ("float16", "bfloat16", "float32", "float64")]
POINTS = ["zero", "one", "smallest normal", "subnormal", "huge"]
WIDE = np.longdouble
BAR = np.array([1.0, 2.0, 3.0])
OTHER = np.array([0.5, -0.25, 1.0])


def at(point, dtype):
    """Three components of that size; those of a subnormal are four and two times the least of all."""
    kind = jnp.finfo(dtype)
    size = {
        "zero": 0.0,
        "one": 1.0,
        "smallest normal": float(kind.tiny) * 2,
        "subnormal": float(kind.smallest_subnormal) * 4,
        "huge": min(1e30, float(kind.max) / 8),
    }[point]
    return np.array([size, size, size / 2])


def softmax(x, leaky=False):
    rows = np.append(x, 0) if leaky else x
    powers = np.exp(rows - rows.max())
    return (powers / powers.sum())[: len(x)]


def pulled(c, bar):
    return c * (bar - np.sum(c * bar))


def length(x):
    return np.sqrt(np.sum(x**2))


def squash(x):
    return x * length(x) / (1 + length(x) ** 2)


def squash_pulled(x, bar):
    n = length(x)
    if n == 0:
        return 0 * x
    unit = x / n
    along = np.sum(unit * bar)
    return n / (1 + n**2) * (bar - along * unit) + 2 * n / (1 + n**2) ** 2 * along * unit


def margin(x):
    short, long = np.maximum(0, WIDE(0.9) - x[0]), np.maximum(0, x[1:] - WIDE(0.1))
    return short**2 + np.sum(long**2) / 2, np.append(-2 * short, long)


def logs(c):
    return np.where(c > 0, np.log(np.where(c > 0, c, 1)), 0)


def entropy(c):
    return -np.sum(c * logs(c)), np.where(c > 0, -(1 + logs(c)), 0)


# Each: the function of three components, and its value and gradient in long doubles; the gradient of a
# vector is that of its product with BAR.
FUNCTIONS = {
    "safe_norm": (numerics.safe_norm, lambda x: (length(x), x / (length(x) or 1))),
    "squash": (numerics.squash, lambda x: (squash(x), squash_pulled(x, BAR))),
    "squash_jacobian": (
        lambda x: numerics.squash_jacobian(x, jnp.asarray(BAR, x.dtype)),
        lambda x: (squash_pulled(x, BAR), None),
    ),
    "couple": (
        lambda x: numerics.couple(x[None])[0],
        lambda x: (softmax(x), pulled(softmax(x), BAR)),
    ),
    "couple, leaky": (
        lambda x: numerics.couple(x[None], leaky=True)[0],
        lambda x: (softmax(x, True), pulled(softmax(x, True), BAR)),
    ),
    "couple_adjoint": (
        lambda x: numerics.couple_adjoint(jnp.asarray([[0.25, 0.25, 0.5]], x.dtype), x[None])[0],
        lambda x: (
            pulled(np.array([0.25, 0.25, 0.5]), x),
            pulled(np.array([0.25, 0.25, 0.5]), BAR),
        ),
    ),
    "margin_loss": (lambda x: losses.margin_loss(x, jnp.asarray(0)), margin),
    "margin_loss, released": (
        lambda x: losses.margin_loss(x, jnp.asarray(0), preset="released"),
        lambda x: tuple(part / 6 for part in margin(x)),
    ),
    "reconstruction_loss": (
        lambda x: losses.reconstruction_loss(
            x.reshape(1, 3, 1), jnp.asarray(OTHER, x.dtype).reshape(1, 3, 1)
        ),
        lambda x: (np.sum((x - OTHER) ** 2), 2 * (x - OTHER)),
    ),
    "coupling_entropy": (lambda x: metrics.coupling_entropy(x[None]), entropy),
    "coupled_agreement": (
        lambda x: metrics.coupled_agreement(x[None], jnp.asarray(OTHER, x.dtype)[None]),
        lambda x: (np.sum(x * OTHER), OTHER),
    ),
}
# The authors' Jacobian is documented for float32 and float64.
WIDE_ONLY = {"squash_jacobian"}


def agrees(found, expected, dtype):
    """Whether numbers are those expected, to rounding; what the type cannot hold is infinite or zero."""
    kind, wide = jnp.finfo(dtype), jnp.finfo(numerics.compute_dtype(dtype))
    found, expected = np.asarray(found.astype(jnp.float64), WIDE), np.asarray(expected, WIDE)
    beyond = np.abs(expected) > float(kind.max)
    if np.any(found[beyond] != np.sign(expected[beyond]) * np.inf):
        return False
    # What is computed may be subnormal in between: zero, to the processor.
    slack = (
        8 * float(kind.eps) * np.abs(expected) + float(wide.tiny) + float(kind.smallest_subnormal)
    )
    largest = np.max(np.abs(np.where(beyond, 0, expected)), initial=0)
    slack = slack + 4 * float(wide.eps) * largest
    return bool(np.all(np.abs(found - expected)[~beyond] <= slack[~beyond]))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, id=f"{name}-{dtype}")
        for name in FUNCTIONS
        for dtype in TYPES
        if name not in WIDE_ONLY or numerics.compute_dtype(dtype) == dtype
    ],
)
def test_value_and_gradient_are_right_from_zero_to_huge(name, dtype, x64):
    function, oracle = FUNCTIONS[name]

    @jax.jit
    def both(x):
        def total(x):
            y = function(x)
            return jnp.sum(y * jnp.asarray(BAR, y.dtype)) if y.ndim else y, y

        gradient, value = jax.grad(total, has_aux=True)(x)
        return value, gradient

    for point in POINTS:
        x = jnp.asarray(at(point, dtype), dtype)
        value, gradient = both(x)
        assert value.dtype == gradient.dtype == dtype
        exact = np.asarray(at(point, dtype), WIDE)
        if point == "huge":
            exact = np.asarray(x.astype(jnp.float64), WIDE)
        # A subnormal number of the type that is computed in may be zero to the processor.
        allowed = [exact]
        if point == "subnormal" and dtype.name != "float16":
            allowed.append(0 * exact)
        wanted = [oracle(x) for x in allowed]
        for found, which in ((value, 0), (gradient, 1)):
            if all(one[which] is None for one in wanted):
                assert np.all(np.isfinite(np.asarray(found, np.float64)))
                continue
            assert any(agrees(found, one[which], dtype) for one in wanted), (
                point,
                which,
                found,
                wanted,
            )


def test_the_entropy_of_a_coupling_that_has_vanished_has_a_gradient_by_the_logits():
    """c log c at c = 0 through the softmax: zero, and the others as if it were not there."""

    def total(logits):
        return jnp.sum(metrics.coupling_entropy(numerics.couple(logits)))

    gradient = jax.jit(jax.grad(total))(jnp.asarray([[0.0, 0.5, -1000.0]]))
    expected = jax.grad(total)(jnp.asarray([[0.0, 0.5]]))
    np.testing.assert_allclose(gradient[0, :2], expected[0], rtol=1e-6)
    assert gradient[0, 2] == 0
    forward = jax.jvp(total, (jnp.asarray([[0.0, 0.5, -1000.0]]),), (jnp.ones((1, 3)),))[1]
    assert abs(forward) < 1e-6


def test_a_huge_length_of_the_class_that_is_present_costs_nothing():
    lengths = jnp.asarray([1e30, 0.0, 0.0])
    assert losses.margin_loss(lengths, jnp.asarray(0)) == 0
    assert np.isinf(losses.margin_loss(lengths, jnp.asarray(1)))


@pytest.mark.parametrize("dtype", TYPES[:2], ids=str)
def test_half_precision_is_rounded_once_at_the_end(dtype):
    """As routing does: 784 squares added in bfloat16 would lose 3 to 5 %."""
    rng = np.random.default_rng(0)
    lengths, coupling, agreement = (
        jnp.asarray(rng.uniform(size=(4, 6, 10)), dtype) for _ in range(3)
    )
    labels = jnp.asarray(rng.integers(0, 10, size=(4, 6)))
    drawn, image = (jnp.asarray(rng.uniform(size=(4, 28, 28, 1)), dtype) for _ in range(2))
    cases = [
        (losses.margin_loss, (lengths, labels)),
        (losses.reconstruction_loss, (drawn, image)),
        (metrics.coupling_entropy, (coupling,)),
        (metrics.coupled_agreement, (coupling, agreement)),
        (numerics.couple, (agreement,)),
        (numerics.couple_adjoint, (coupling, agreement)),
    ]
    for function, arguments in cases:
        wide = [x.astype(jnp.float32) if x.dtype == dtype else x for x in arguments]
        found = jax.jit(function)(*arguments)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, jax.jit(function)(*wide).astype(dtype))


def test_what_counts_has_no_gradient_and_is_right_at_the_ends():
    for size in (0.0, float(jnp.finfo(jnp.float32).tiny), 1.0, 1e30):
        lengths = jnp.asarray([[0.0, size], [size, 0.0]])
        labels = jnp.asarray([1, 0])
        assert metrics.accuracy(lengths, labels) == (0.5 if size == 0 else 1.0)
        assert metrics.dead_capsules(lengths) == (0.0 if size > 0.1 else 1.0)
        for count in (lambda x, labels=labels: metrics.accuracy(x, labels), metrics.dead_capsules):
            assert not np.any(jax.grad(count)(lengths))


def test_whole_numbers_are_taken_as_floats(as_installed):
    bytes_ = np.array([[[10], [200]]], np.uint8)
    assert losses.reconstruction_loss(bytes_, np.full_like(bytes_, 20)) == 100 + 180**2
    assert losses.margin_loss(np.array([1, 0, 0]), np.array(0)) == 0
