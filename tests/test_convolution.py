"""Every form of a convolution is the NumPy oracle, in value and gradient."""

import functools
import inspect
import math
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from capsjax.checks import UserError
from capsjax.convolution import IMPLEMENTATIONS, cheapest, conv2d, direct, output_size, points
from capsjax.convolution.direct import conv2d_patches
from capsjax.convolution.transform import cheapest_tile

# Odd and uneven sizes; h, w, kh, kw, stride.
SHAPES = [
    (7, 5, 3, 3, 1),
    (7, 6, 3, 2, 2),
    (9, 8, 2, 5, 3),
    (5, 5, 5, 5, 2),
    (6, 7, 1, 1, 3),
    (20, 23, 5, 3, 1),  # several tiles, of which the last reach beyond the outputs
]
C, F = 3, 4


def arrays(h, w, kh, kw, dtype=np.float64, batch=2):
    rng = np.random.default_rng(h * 100 + w)
    images, kernel = rng.normal(size=(batch, h, w, C)), rng.normal(size=(kh, kw, C, F))
    return images.astype(dtype), kernel.astype(dtype)


def pad_as_tensorflow_does(images, kernel, stride):
    """SAME: as many outputs as fit ceil(n / stride), the odd zero after the image."""
    widths = [(0, 0)]
    for n, k in zip(images.shape[1:3], kernel.shape[:2], strict=True):
        missing = max((int(np.ceil(n / stride)) - 1) * stride + k - n, 0)
        widths.append((missing // 2, missing - missing // 2))
    return np.pad(images, [*widths, (0, 0)])


def oracle(images, kernel, stride, padding):
    """Cross-correlation by loops over outputs, in float64."""
    if padding == "SAME":
        images = pad_as_tensorflow_does(images, kernel, stride)
    (b, h, w, _), (kh, kw, _, f) = images.shape, kernel.shape
    out = np.zeros((b, (h - kh) // stride + 1, (w - kw) // stride + 1, f))
    for y in range(out.shape[1]):
        for x in range(out.shape[2]):
            patch = images[:, y * stride : y * stride + kh, x * stride : x * stride + kw]
            out[:, y, x] = np.einsum("bijc,ijcf->bf", patch, kernel)
    return out


def oracle_gradient(images, kernel, stride, cotangent):
    """Of sum(out * cotangent) without padding: every product of the forward pass, by the chain rule."""
    d_images, d_kernel = np.zeros_like(images), np.zeros_like(kernel)
    kh, kw = kernel.shape[:2]
    for y in range(cotangent.shape[1]):
        for x in range(cotangent.shape[2]):
            rows, columns = slice(y * stride, y * stride + kh), slice(x * stride, x * stride + kw)
            g = cotangent[:, y, x]
            d_images[:, rows, columns] += np.einsum("bf,ijcf->bijc", g, kernel)
            d_kernel += np.einsum("bijc,bf->ijcf", images[:, rows, columns], g)
    return d_images, d_kernel


def with_gradient(convolve, images, kernel, cotangent):
    """Return the convolution and the gradient of sum(out * cotangent), from one compiled program."""

    @jax.jit
    def run(images, kernel, cotangent):
        out, pull = jax.vjp(convolve, images, kernel)
        return out, pull(cotangent)

    return run(images, kernel, cotangent)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(("h", "w", "kh", "kw", "stride"), SHAPES)
def test_value_equals_the_oracle(h, w, kh, kw, stride, padding):
    images, kernel = arrays(h, w, kh, kw)
    expected = oracle(images, kernel, stride, padding)
    assert expected.shape[1:3] == (
        output_size(h, kh, stride, padding),
        output_size(w, kw, stride, padding),
    )
    with jax.enable_x64(True):
        found = jax.jit(functools.partial(conv2d, stride=stride, padding=padding))(images, kernel)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("convolve", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
@pytest.mark.parametrize(("h", "w", "kh", "kw", "stride"), SHAPES)
def test_every_form_has_the_oracle_s_value_and_gradient(h, w, kh, kw, stride, convolve):
    images, kernel = arrays(h, w, kh, kw)
    expected = oracle(images, kernel, stride, "VALID")
    cotangent = np.random.default_rng(7).normal(size=expected.shape)
    gradients = oracle_gradient(images, kernel, stride, cotangent)
    with jax.enable_x64(True):
        out, found = with_gradient(lambda x, k: convolve(x, k, stride), images, kernel, cotangent)
        np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(found, gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("blocks", [2, 3, 5])
def test_patches_in_blocks_are_the_same(blocks, monkeypatch):
    """Batches that the blocks divide or not: the last block is filled up, and nothing of that shows."""
    images, kernel = arrays(7, 6, 3, 2, batch=5)
    kh, kw, stride = 3, 2, 2
    expected = oracle(images, kernel, stride, "VALID")
    cotangent = np.random.default_rng(7).normal(size=expected.shape)
    gradients = oracle_gradient(images, kernel, stride, cotangent)
    patches = math.prod(expected.shape[:3]) * kh * kw * images.shape[-1] * 8
    monkeypatch.setattr(direct, "BLOCK_BYTES", patches // blocks)
    with jax.enable_x64(True):
        program = jax.make_jaxpr(lambda x, k: conv2d_patches(x, k, stride))(images, kernel)
        assert "scan" in str(program)
        convolve = functools.partial(conv2d_patches, stride=stride)
        out, found = with_gradient(convolve, images, kernel, cotangent)
        np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(found, gradients, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_blocks_bound_the_memory_of_patches(monkeypatch):
    """Four times the batch takes four times the memory in one piece, and hardly more in blocks."""

    def memory(batch):
        shapes = [(batch, 24, 24, 8), (5, 5, 8, 4)]
        given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        total = jax.grad(lambda x, k: jnp.sum(conv2d_patches(x, k, 1) ** 2), argnums=1)
        return jax.jit(total).lower(*given).compile().memory_analysis().temp_size_in_bytes

    monkeypatch.setattr(direct, "BLOCK_BYTES", 10**12)
    small, large = memory(16), memory(64)
    assert large > 3 * small
    monkeypatch.setattr(direct, "BLOCK_BYTES", 4_000_000)
    assert memory(64) < 0.3 * large


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_gradient_through_padding_equals_xla_s_own(padding):
    images, kernel = arrays(7, 6, 3, 2)

    def theirs(x, k):
        return jax.lax.conv_general_dilated(
            x, k, (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with jax.enable_x64(True):
        shape = jax.eval_shape(theirs, images, kernel).shape
        cotangent = np.cos(np.arange(np.prod(shape), dtype=float)).reshape(shape)
        ours = functools.partial(conv2d, stride=2, padding=padding)
        found, expected = (with_gradient(f, images, kernel, cotangent) for f in (ours, theirs))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, expected)


@pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 3e-2)])
def test_types_are_kept(dtype, tolerance, implementation):
    images, kernel = arrays(7, 6, 3, 2)
    # What the type cannot hold is no fault of the convolution: the oracle starts from the same numbers.
    x, k = jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)
    found = conv2d(x, k, stride=2, padding="SAME", implementation=implementation)
    expected = oracle(np.asarray(x, np.float64), np.asarray(k, np.float64), 2, "SAME")
    assert found.dtype == dtype
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=tolerance * scale)


def test_the_form_can_be_chosen():
    shapes = (
        jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32),
    )
    programs = {
        name: jax.jit(functools.partial(conv2d, implementation=name)).lower(*shapes).as_text()
        for name in IMPLEMENTATIONS
    }
    found = ["stablehlo.convolution" in text for text in programs.values()]
    assert found == [True, False, False, False]
    assert len(set(programs.values())) == 4


SIZES = [((6, 6), (5, 5)), ((8, 6), (3, 5)), ((1, 4), (1, 2)), ((2, 7), (9, 1)), ((5, 1), (5, 5))]


@pytest.mark.parametrize(("outs", "taps"), SIZES)
def test_the_bilinear_form_is_the_correlation_and_its_rows_are_counted(outs, taps):
    a, b, c = points.bilinear_form(outs, taps)
    size = tuple(out + tap - 1 for out, tap in zip(outs, taps, strict=True))
    rng = np.random.default_rng(0)
    x, k = rng.normal(size=size), rng.normal(size=taps)
    windows = np.lib.stride_tricks.sliding_window_view(x, taps)
    expected = np.einsum("pqij,ij->pq", windows, k)
    found = c.T @ ((a @ x.ravel()) * (b @ k.ravel()))
    np.testing.assert_allclose(found.reshape(outs), expected, atol=1e-12)
    assert len(a) == points.num_rows(outs, taps)


def test_the_large_convolution_of_2017_takes_118_products_for_729():
    """It has 6x6 outputs; each of four phases has 5x5 taps at most."""
    assert points.num_rows((6, 6), (5, 5)) == 118


@pytest.mark.parametrize(("outs", "taps"), [((6, 6), (5, 5)), ((8, 8), (3, 3)), ((8, 8), (5, 5))])
def test_rounding_grows_by_no_more_than_is_stated(outs, taps):
    """Measured in float32, in value and both gradients, against the direct sum's error in float32."""
    rng, channels = np.random.default_rng(0), 64
    form = points.bilinear_form(outs, taps)
    size = tuple(out + tap - 1 for out, tap in zip(outs, taps, strict=True))
    sides = (math.prod(size), math.prod(taps), math.prod(outs))

    def direct(x, k):
        windows = np.lib.stride_tricks.sliding_window_view(x.reshape(*size, channels), taps, (0, 1))
        return np.einsum("pqcij,ijc->pq", windows, k.reshape(*taps, channels)).ravel()

    def by_rows(dtype, x, k):
        a, b, c = (matrix.astype(dtype) for matrix in form)
        return c.T @ ((a @ x.astype(dtype)) * (b @ k.astype(dtype))).sum(1)

    errors, unit = [], np.finfo(np.float32).eps / 2
    for _ in range(20):
        x, k = (rng.normal(size=(side, channels)).astype(np.float32) for side in sides[:2])
        exact = direct(x.astype(np.float64), k.astype(np.float64))
        errors.append(
            np.square(by_rows(np.float32, x, k) - exact).mean(0) / np.square(exact).mean()
        )
    # Of rounding in several steps, each of random sign: the maps, the products and their sum.
    assert np.sqrt(np.mean(errors)) < 4 * points.LARGEST_GROWTH * unit


def test_tiles_follow_from_the_multiplications():
    """One tile where the outputs are few; equal ones, no larger than they have to be, where they are many."""
    assert cheapest_tile((128, 20, 20, 256), (9, 9, 256, 256), 2) == ((6, 6), (1, 1))
    (rows, columns), (down, across) = cheapest_tile((16, 56, 56, 256), (9, 9, 256, 256), 2)
    assert (rows * down, columns * across) == (24, 24)
    assert down > 1


def test_a_cpu_multiplies_little():
    assert cheapest((128, 20, 20, 256), (9, 9, 256, 256), 2) == "transform"
    assert cheapest((128, 28, 28, 1), (9, 9, 1, 256), 1) == "patches"
    assert cheapest((64, 8, 8, 1), (3, 3, 1, 4), 2) == "patches"


def test_an_unknown_form_is_refused():
    message = r"got implementation 'patch', expected one of auto, .*; did you mean 'patches'\?$"
    with pytest.raises(UserError, match=message):
        inspect.unwrap(conv2d)(
            jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 1]), implementation="patch"
        )


def loss(x, k):
    return jnp.sum(jnp.sin(conv2d(x, k, stride=2)))


@pytest.mark.parametrize(
    ("platform", "has_convolution"), [("cpu", False), ("tpu", True), ("cuda", True)]
)
@pytest.mark.parametrize("function", [loss, jax.grad(loss, argnums=(0, 1))])
def test_the_form_follows_the_platform(platform, has_convolution, function):
    exported = jax.export.export(jax.jit(function), platforms=[platform])(
        jax.ShapeDtypeStruct((2, 9, 9, 16), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 16, 4), jnp.float32),
    )
    assert ("stablehlo.convolution" in exported.mlir_module()) == has_convolution
    assert ("stablehlo.dot_general" in exported.mlir_module()) != has_convolution


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize(("size", "strides"), [(8, ["[1, 1]"]), (12, ["[1, 1]", "[2, 2]"])])
def test_a_kernel_larger_than_its_output_has_stride_one_elsewhere(platform, size, strides):
    """Of XLA's own strided gradients are right only if the kernel is the smaller one (decision 0018)."""
    exported = jax.export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=[platform])(
        jax.ShapeDtypeStruct((2, size, size, 16), jnp.float32),
        jax.ShapeDtypeStruct((4, 4, 16, 4), jnp.float32),
    )
    # The kernel's gradient has the stride as a dilation.
    found = re.findall(r"(?:stride|dilate) = (\[\d, \d\])", exported.mlir_module())
    assert sorted({"[1, 1]", *found}) == strides


@pytest.mark.parametrize(("platform", "has_convolution"), [("tpu", True), ("cuda", False)])
def test_a_gpu_multiplies_narrow_patches(platform, has_convolution):
    """Nine pixels of three channels, for which its own convolution is slow."""
    exported = jax.export.export(jax.jit(loss), platforms=[platform])(
        jax.ShapeDtypeStruct((2, 9, 9, 3), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32),
    )
    assert ("stablehlo.convolution" in exported.mlir_module()) == has_convolution


def test_what_runs_here_has_no_convolution():
    compiled = jax.jit(jax.grad(loss)).lower(jnp.ones([2, 9, 9, 3]), jnp.ones([3, 3, 3, 4]))
    assert " convolution(" not in compiled.compile().as_text()


@pytest.mark.parametrize(("c", "f", "expected"), [(1, 64, "patches"), (64, 64, "transform")])
def test_a_batch_of_any_size_can_be_exported(c, f, expected):
    (batch,) = jax.export.symbolic_shape("b")
    shapes = (batch, 9, 9, c), (3, 3, c, f)
    assert cheapest((64, 9, 9, c), (3, 3, c, f), 1) == expected
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    program = jax.export.export(jax.jit(conv2d))(*given)
    rng = np.random.default_rng(0)
    x, k = (rng.normal(size=shape) for shape in ((2, 9, 9, c), (3, 3, c, f)))
    x, k = x.astype(np.float32), k.astype(np.float32)
    expected = oracle(x, k, 1, "VALID")
    np.testing.assert_allclose(program.call(x, k), expected, atol=1e-5 * np.abs(expected).max())


def as_bfloat16(x):
    return np.asarray(jnp.asarray(x, jnp.bfloat16), np.float64)


class TestBfloat16:
    """What is multiplied and what comes out is rounded to eight bits; sums are not."""

    STEP = 2.0**-8

    @pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
    @pytest.mark.parametrize(("h", "w", "kh", "kw", "stride"), SHAPES)
    @pytest.mark.parametrize("compiled", [False, True])
    def test_it_is_the_oracle_of_rounded_arrays(
        self, h, w, kh, kw, stride, implementation, compiled
    ):
        x, k = arrays(h, w, kh, kw, np.float32)
        x, k = jnp.asarray(x), jnp.asarray(k)
        options = {"stride": stride, "implementation": implementation, "precision": "bfloat16"}
        convolve = functools.partial(conv2d, **options)
        found = (jax.jit(convolve) if compiled else convolve)(x, k)
        exact = oracle(as_bfloat16(x), as_bfloat16(k), stride, "VALID")
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(as_bfloat16(found), found)
        # A sum in float32 may fall on the other side of where rounding turns.
        np.testing.assert_allclose(found, exact, rtol=1.01 * self.STEP, atol=1e-5)
        assert np.abs(found - exact).max() > 1e-4

    @pytest.mark.parametrize("implementation", ["auto", *IMPLEMENTATIONS])
    @pytest.mark.parametrize("compiled", [False, True])
    def test_so_is_its_gradient(self, implementation, compiled):
        x, k = arrays(9, 8, 2, 5, np.float32)
        bar = np.random.default_rng(0).normal(size=(2, 3, 2, F)).astype(np.float32)

        def total(x, k):
            y = conv2d(x, k, stride=3, implementation=implementation, precision="bfloat16")
            return jnp.sum(y * bar)

        pull = jax.grad(total, argnums=(0, 1))
        found = (jax.jit(pull) if compiled else pull)(x, k)
        exact = oracle_gradient(*(as_bfloat16(array) for array in (x, k)), 3, as_bfloat16(bar))
        for ours, theirs in zip(found, exact, strict=True):
            assert ours.dtype == jnp.float32
            np.testing.assert_array_equal(as_bfloat16(ours), ours)
            np.testing.assert_allclose(ours, theirs, rtol=1.01 * self.STEP, atol=2e-5)
            assert np.abs(ours - theirs).max() > 1e-4

    @pytest.mark.parametrize("platform", ["cuda", "tpu"])
    def test_an_accelerator_multiplies_bfloat16_forward_and_backward(self, platform):
        def total(x, k):
            return jnp.sum(jnp.sin(conv2d(x, k, stride=2, precision="bfloat16")))

        exported = jax.export.export(
            jax.jit(jax.grad(total, argnums=(0, 1))), platforms=[platform]
        )(
            jax.ShapeDtypeStruct((2, 9, 9, 16), jnp.float32),
            jax.ShapeDtypeStruct((3, 3, 16, 4), jnp.float32),
        )
        lines = exported.mlir_module().splitlines()
        types = [line.split(" : ")[-1] for line in lines if "stablehlo.convolution" in line]
        assert len(types) == 3
        assert all("bf16" in text and "f32" not in text for text in types)

    def test_an_unknown_precision_is_refused(self):
        message = r"got precision 'float16', expected one of float32, bfloat16; did you mean"
        with pytest.raises(UserError, match=message):
            inspect.unwrap(conv2d)(
                jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 1]), precision="float16"
            )
        for option in ({"precision": jnp.bfloat16}, {"implementation": None}):
            with pytest.raises(UserError, match=r"got (precision|implementation) .*, expected one"):
                inspect.unwrap(conv2d)(jnp.ones([1, 5, 5, 1]), jnp.ones([3, 3, 1, 1]), **option)


def test_channels_that_differ_are_refused():
    with pytest.raises(
        UserError, match=r"images \[1, 5, 5, 2\].*kernel \[3, 3, 3, 4\].*equal chan"
    ):
        # The function itself: where types are checked, the annotation refuses them first.
        inspect.unwrap(conv2d)(jnp.ones([1, 5, 5, 2]), jnp.ones([3, 3, 3, 4]))


@pytest.mark.parametrize("stride", [1, 2])
def test_each_group_of_channels_is_seen_by_its_share_of_the_features(stride):
    draw = np.random.default_rng(0)
    x, kernel = draw.normal(size=(2, 6, 5, 6)), draw.normal(size=(3, 2, 2, 9))
    x, kernel = jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)
    parts = [
        conv2d(x[..., 2 * g : 2 * g + 2], kernel[..., 3 * g : 3 * g + 3], stride=stride)
        for g in range(3)
    ]
    found = conv2d(x, kernel, stride=stride, groups=3)
    np.testing.assert_allclose(found, jnp.concatenate(parts, -1), rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="got 3 groups with 'patches', expected auto or lax"):
        conv2d(x, kernel, groups=3, implementation="patches")
    with pytest.raises(UserError, match=r"of 4 groups \[kh, kw, c / 4, f\]"):
        conv2d(x, kernel, groups=4)


@pytest.mark.parametrize("size", [(2, 5), (5, 2)])
def test_a_kernel_that_is_too_large_is_refused(size):
    with pytest.raises(UserError, match=r"3x3 kernel for a .* image, expected a kernel no larger"):
        conv2d(jnp.ones([1, *size, 1]), jnp.ones([3, 3, 1, 1]))
    assert conv2d(jnp.ones([1, *size, 1]), jnp.ones([3, 3, 1, 1]), padding="SAME").shape == (
        1,
        *size,
        1,
    )


@pytest.mark.parametrize("implementation", ["patches", "blocks", "transform"])
def test_devices_that_share_a_batch_keep_their_examples(implementation, monkeypatch, four_devices):
    """Forward and backward exchange the kernel's gradient alone: no device gathers the others' images."""
    if implementation == "blocks":
        monkeypatch.setattr(direct, "BLOCK_BYTES", 7_000)  # four blocks of four examples
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(AxisType.Auto,))
    shared, everywhere = (NamedSharding(mesh, P(*axes)) for axes in (("devices",), ()))
    images, kernel = jnp.ones([16, 9, 9, 3]), jnp.ones([3, 3, 3, 4])
    chosen = "patches" if implementation == "blocks" else implementation

    def total(x, k):
        return jnp.sum(conv2d(x, k, stride=2, implementation=chosen) ** 2)

    program = jax.jit(jax.grad(total, argnums=(0, 1)), in_shardings=(shared, everywhere))
    text = program.lower(images, kernel).compile().as_text()
    assert "all-reduce" in text
    assert "all-gather" not in text
    assert ("while" in text) == (implementation == "blocks")
