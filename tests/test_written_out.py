"""Contractions of votes that are written out as sums, each against the sum that its docstring states."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from capsjax.votes import contractions, predict, squares, written_out

# i, d, j, e, p and n: groups of eight children; two rows, and parents in several passes; one component; poses
# whose cotangents are products; three rows.
SIZES = {
    "short": (16, 3, 2, 4, 1, 16),
    "rows": (9, 4, 12, 4, 2, 32),
    "one component": (4, 1, 3, 1, 1, 5),
    "long": (24, 2, 3, 16, 1, 3),
    "columns": (5, 2, 3, 2, 3, 48),
}


@functools.cache
def made(name):
    """Numbers with axes as formulas have them, and what they are called where they are contracted."""
    i, d, j, e, p, n = SIZES[name]
    rng = np.random.default_rng(3)
    draw = {
        "c": (j, i, n),
        "k": (j, i, n),
        "v": (j, e, p, n),
        "x": (j, e, p, n),
        "u": (i, d, p, n),
        "W": (j, i, d, e),
        "unit": (p, n),
    }
    return {name: rng.normal(size=shape) for name, shape in draw.items()}


def flat(name, array):
    """As the contractions take them: the rows of a pose are columns, and a parent has one matrix."""
    if name == "W":
        return jnp.asarray(array.reshape(array.shape[0], -1, array.shape[-1]))
    return jnp.asarray(array) if name in "ck" else jnp.asarray(array.reshape(*array.shape[:-2], -1))


def written(name, ask):
    """Ask with the arrays of a size."""
    arrays = made(name)
    return ask(p=SIZES[name][4], **{key: flat(key, x) for key, x in arrays.items()})


def votes(name):
    arrays = made(name)
    return np.einsum("jidh,idpn->jihpn", arrays["W"], arrays["u"])


def deviations(name):
    """From the parents' poses v, in units."""
    return (votes(name) - made(name)["v"][:, None]) / made(name)["unit"]


def same(found, expected):
    """To rounding, which sums of either order have."""
    assert found is not None
    expected = expected.reshape(found.shape)
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * scale)


@pytest.mark.parametrize("name", SIZES)
class TestSums:
    def test_agreements(self, name, x64):
        found = written(name, lambda v, x, u, W, p, **_: written_out.agreements([v, x], u, W, p))
        for key, one in zip("vx", found, strict=True):
            same(one, np.einsum("jihpn,jhpn->jin", votes(name), made(name)[key]))

    def test_combine(self, name, x64):
        expected = np.einsum("jin,jihpn->jhpn", made(name)["c"], votes(name))
        same(written(name, lambda c, u, W, p, **_: written_out.combine(c, u, W, p)), expected)

    def test_scatter(self, name, x64):
        expected = np.einsum("jin,jihpn->jhpn", made(name)["c"], deviations(name) ** 2)

        def ask(c, v, unit, u, W, p, **_):
            return written_out.deviations(c, unit, u, W, p).scatter(c, v)

        same(written(name, ask), expected)

    def test_distance(self, name, x64):
        expected = np.einsum("jhpn,jihpn->jin", made(name)["x"], deviations(name) ** 2)

        def ask(v, x, unit, u, W, p, **_):
            return written_out.deviations(x, unit, u, W, p).distance(v, x)

        same(written(name, ask), expected)

    def test_deviation(self, name, x64):
        a = made(name)
        weights = np.einsum("jin,jhpn->jihpn", a["c"], a["x"])
        weights = weights + np.einsum("jin,jhpn->jihpn", a["k"], a["v"])
        expected = np.sum(weights * deviations(name), axis=1)

        def ask(c, k, v, x, unit, u, W, p):
            return written_out.deviations(c, unit, u, W, p).deviation([c, k], [x, v], v)

        same(written(name, ask), expected)

    @pytest.mark.parametrize("added", [False, True])
    def test_cotangents_of_children(self, name, added, x64):
        a = made(name)
        pairs = np.einsum("jin,jhpn->jihpn", a["c"], a["v"])
        pairs = pairs + np.einsum("jin,jhpn->jihpn", a["k"], a["x"])
        expected = np.einsum("jidh,jihpn->idpn", a["W"], pairs) + added * a["u"]

        def ask(c, k, v, x, u, W, p, **_):
            return written_out.children_bar([c, k], [v, x], u, W, p, u if added else None)

        if name == "long":
            assert written(name, ask) is None
        else:
            same(written(name, ask), expected)

    def test_adjoints_are_what_jax_makes_of_the_sums(self, name, x64):
        """Whichever of them are written out: gradients of both contractions in turn."""
        p = SIZES[name][4]

        def ours(c, v, u, W):
            found = contractions.combine(c, u, W) + v
            return jnp.sum(jnp.sin(contractions.agreement(found, u, W, p)))

        def theirs(c, v, u, W):
            (i, d, b), (j, _, e) = u.shape, W.shape
            votes = jnp.einsum("jidh,idb->jihb", W.reshape(j, i, d, e), u)
            found = jnp.sum(jnp.tile(c, [1, 1, p])[:, :, None] * votes, axis=1) + v
            compared = jnp.sum(votes * found[:, None], axis=2)
            return jnp.sum(jnp.sin(compared.reshape(j, i, p, b // p).sum(axis=2)))

        given = [flat(key, 0.3 * made(name)[key]) for key in ("c", "v", "u", "W")]
        found = jax.jit(jax.grad(ours, argnums=range(4)))(*given)
        for one, other in zip(found, jax.grad(theirs, argnums=range(4))(*given), strict=True):
            same(one, np.asarray(other))


def asked(i=8, d=4, j=2, e=4, n=16, dtype=jnp.float32):
    """Which of the sums are written out."""
    c, u, W = jnp.zeros((j, i, n), dtype), jnp.zeros((i, d, n), dtype), jnp.zeros((j, i * d, e))
    v, W = jnp.zeros((j, e, n), dtype), W.astype(dtype)
    found = {
        "agreements": lambda: written_out.agreements([v], u, W, 1),
        "combine": lambda: written_out.combine(c, u, W, 1),
        "children_bar": lambda: written_out.children_bar([c], [v], u, W, 1, None),
    }
    there = {name for name, ask in found.items() if jax.eval_shape(ask) is not None}
    deviations = written_out.deviations(c, jnp.ones(n), u, W, 1)
    return there | ({"deviations"} if deviations is not None else set())


ALL = asked()


@pytest.mark.parametrize(
    ("changed", "without"),
    [
        ({"dtype": jnp.bfloat16}, ALL),
        ({"i": 11}, {"combine", "deviations"}),
        ({"i": 0}, {"combine", "deviations"}),
        ({"d": 65}, {"agreements", "combine", "deviations"}),  # terms
        ({"d": 2, "e": 100}, {"deviations", "children_bar"}),  # arrays
        ({"d": 127, "e": 2}, {"combine", "deviations"}),
        ({"d": 200, "e": 1}, {"agreements", "combine", "deviations"}),
        ({"e": 9}, {"children_bar"}),
        ({"j": 127}, {"children_bar"}),  # a call for each parent
        ({"n": 0}, set()),
    ],
)
def test_products_are_left_what_they_do_better(changed, without):
    assert {"agreements", "combine", "children_bar", "deviations"} == ALL
    assert asked(**changed) == ALL - without


def test_of_any_number_of_examples(as_installed):
    """Sizes that are symbols: what does not count columns is written out."""
    n = jax.export.symbolic_shape("n")[0]
    shapes = {"u": (8, 3, 16), "W": (8, 2, 3, 4)}

    @jax.jit
    def program(u, W):
        arranged = predict(u, W).arranged()
        s = arranged.combine(arranged.couple(arranged.zeros()))
        apart, pull = jax.vjp(lambda m: arranged.distance(m, m), s)
        return jax.vjp(arranged.agreement, s)[1](arranged.zeros() + 1)[0] + pull(apart)[0]

    def struct(shape, first):
        return jax.ShapeDtypeStruct((first, *shape), jnp.float32)

    exported = jax.export.export(program)(struct((8, 3), n), struct(shapes["W"][1:], 8))
    u, W = jax.random.normal(jax.random.key(0), (5, 8, 3)), jnp.ones(shapes["W"])
    np.testing.assert_allclose(exported.call(u, W), program(u, W), rtol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_examples_may_lie_on_several_devices(kind):
    mesh = jax.make_mesh((2,), ("examples",), axis_types=(kind,))
    c, u = jnp.ones((4, 8, 2)), jax.random.normal(jax.random.key(0), (4, 8, 3))
    W = jax.random.normal(jax.random.key(1), (8, 2, 3, 4))
    expected = predict(u, W).combine(c)
    with jax.set_mesh(mesh):
        there = [jax.device_put(x, jax.P("examples")) for x in (c, u)]
        found = jax.jit(lambda c, u: predict(u, W).combine(c))(*there)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_deviations_are_written_out_on_cpus_alone(device, monkeypatch):
    """In a fit and its gradient, as calls into which the compiler draws nothing."""
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    i, d, b, j, e = 16, 4, 16, 5, 4
    c, line, u, W = jnp.ones((j, i, b)), jnp.ones(b), jnp.ones((i, d, b)), jnp.ones((j, i * d, e))

    @jax.jit
    def program(c):
        (m, s, a), pull = jax.vjp(lambda w, c: squares.fit(w, c, line, line, u, W, 1), c + 1, c)
        return m, s, a, pull((m, s, a))

    calls = program.lower(c).compile().as_text().count(" call(")
    # Mean, scatter and distance; then of these scatter, distance, deviation and agreement.
    assert calls == (7 if device == "cpu" else 0)


def test_what_is_contracted_is_made_before():
    """The compiler calls the sums: what it drew into them it would make again for each of their terms."""
    i, d, b, j, e = 16, 4, 16, 5, 4
    u, W = jnp.ones((i, d, b)), jnp.ones((j, i * d, e))

    @jax.jit
    def program(c):
        pose = contractions.combine(c + 1, u, W)
        return contractions.agreement(pose + 1, u, W)

    text = program.lower(jnp.ones((j, i, b))).compile().as_text()
    assert text.count(" call(") == 2
