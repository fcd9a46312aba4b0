"""Which products a convolution takes: bilinear forms of few rows, by evaluation at points.

Along one axis, outputs and taps are the coefficients of two polynomials, and a product of polynomials is
known from its values at as many points as it has coefficients (Toom and Cook). A real point takes one
product; two conjugate points together take three real ones. So real points are cheaper, and worse: values
at many real points differ wildly in size, and rounding grows with that. Here the points are chosen so that
rounding stays below a stated multiple of what adding the products up directly gives.
"""

import functools
import itertools

import numpy as np

# Rounding errors up to so many times those of the direct sum, of 6e-8 each: 1e-5 in all, of the largest
# output, where a GPU's TF32 makes 5e-4 and bfloat16 4e-3 (docs/decisions/0017).
LARGEST_GROWTH = 32.0

Form = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def bilinear_form(outs: tuple[int, int], taps: tuple[int, int]) -> Form:
    """Return the matrices of a two-dimensional correlation in few products.

    y = C^T ((A x) * (B k)) for an image x of outs + taps - 1 pixels along each axis, both axes in one, row by
    row.

    Args:
        outs: outputs along each axis.
        taps: the kernel's pixels along each axis.

    Returns:
        A [rows, pixels], B [rows, taps] and C [rows, outs], float64.
    """
    along, across = (_units(*sizes) for sizes in zip(outs, taps, strict=True))
    rows: list[Form] = []
    for (first, first_is_pair), (second, second_is_pair) in itertools.product(along, across):
        a, b, c = (np.outer(p, q).ravel() for p, q in zip(first, second, strict=True))
        if not (first_is_pair or second_is_pair):
            rows.append((a.real, b.real, c.real))
            continue
        rows += _three(a, b, c)
        if first_is_pair and second_is_pair:
            # Of two pairs, p with q and p with conj(q) are independent; the others are their conjugates.
            rows += _three(
                *(np.outer(p, q.conj()).ravel() for p, q in zip(first, second, strict=True))
            )
    a, b, c = (np.stack(part) for part in zip(*rows, strict=True))
    return a, b, c


def num_rows(outs: tuple[int, int], taps: tuple[int, int]) -> int:
    """Count the products that `bilinear_form` takes.

    Args:
        outs: outputs along each axis.
        taps: the kernel's pixels along each axis.

    Returns:
        The number of rows of its matrices.
    """
    (p, r), (q, s) = (
        (pairs, out + tap - 1 - 2 * pairs)
        for out, tap in zip(outs, taps, strict=True)
        for pairs in [_pairs(out, tap)]
    )
    # Real with real is one product, real with a pair three, a pair with a pair two complex ones, so six.
    return r * s + 3 * (r * q + p * s) + 6 * p * q


def _three(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[Form]:
    """Return 2 Re(c a b) as three real products.

    With ' for real and " for imaginary parts, m1 = (a' + a") b', m2 = a" (b' + b") and m3 = a' (b" - b') give
    a b = (m1 - m2) + i (m1 + m3).
    """
    real, imaginary = 2 * c.real, 2 * c.imag
    return [
        (a.real + a.imag, b.real, real - imaginary),
        (a.imag, b.real + b.imag, -real),
        (a.real, b.imag - b.real, -imaginary),
    ]


def _units(outs: int, taps: int) -> list[tuple[Form, bool]]:
    """Return the rows of an axis that stand for real points, and one for each pair: and whether it is one."""
    pairs = _pairs(outs, taps)
    a, b, c = _axis(outs, taps, pairs)
    real = len(a) - 2 * pairs
    chosen = [*range(real), *range(real, len(a), 2)]
    return [((a[row], b[row], c[row]), row >= real) for row in chosen]


@functools.cache
def _pairs(outs: int, taps: int) -> int:
    """Return the number of conjugate pairs: the fewest with which rounding stays within its bound."""
    most = (outs + taps - 1) // 2
    return next(
        (pairs for pairs in range(most) if _growth(outs, taps, pairs) <= LARGEST_GROWTH), most
    )


def _growth(outs: int, taps: int, pairs: int) -> float:
    """Return by how much rounding in two such axes exceeds that of the direct sum, in the worst output.

    Each product is rounded by its own size, which is that of its rows for data without structure:
    sum_r C_ro^2 |A_r|^2 |B_r|^2 against one for each of the products that the direct sum adds up. The same of
    both gradients, which exchange the matrices.
    """
    a, b, c = (np.square(np.abs(part)) for part in _axis(outs, taps, pairs))
    found = []
    # Each with what it is made of, and the number of products in the direct sum: dx at most, dk and y.
    for one, others, count in ((a, (b, c), min(outs, taps)), (b, (a, c), outs), (c, (a, b), taps)):
        sizes = others[0].sum(1) * others[1].sum(1)  # [rows]
        found.append(float((one * sizes[:, None]).sum(0).max()) / count)
    return max(found)


@functools.cache
def _axis(outs: int, taps: int, pairs: int) -> Form:
    """Return the complex form of one axis: real points first, then each pair in two rows."""
    size = outs + taps - 1
    # Directions in a half-turn, evenly: as points of a line they are tan(angle), infinity among them.
    angles = np.pi * np.arange(size - 2 * pairs) / max(size - 2 * pairs, 1)
    points = [(np.sin(angle), np.cos(angle)) for angle in angles]
    for k in range(1, pairs + 1):
        phase = np.exp(0.5j * np.pi * k / (pairs + 1)) / np.sqrt(2)
        points += [(phase, phase.conjugate()), (phase.conjugate(), phase)]
    x, y = (np.asarray(part)[:, None] for part in zip(*points, strict=True))

    def values(count: int) -> np.ndarray:
        """Evaluate polynomials of `count` coefficients, as forms of that degree in two variables."""
        degrees = np.arange(count)
        return x**degrees * y ** (count - 1 - degrees)  # [points, count]

    # The product of polynomials is values(size)^-1 (values(outs) a * values(taps) b); transposed, it is the
    # correlation of an image with a kernel.
    return np.linalg.inv(values(size)).T, values(taps), values(outs)
