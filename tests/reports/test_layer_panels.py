"""Tables and pictures of what each layer does, from a small network on a grid."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.layers import (
    CapsNet,
    CapsuleShape,
    ConvCapsulesConfig,
    ConvConfig,
    MergeConfig,
    NetworkConfig,
    Passed,
    PrimaryConfig,
    SharedCapsulesConfig,
    Step,
    TypeCapsulesConfig,
    shapes,
)
from capsjax.reports.layer_panels import layers_figure, layers_table, maps

MODEL = NetworkConfig(
    layers={
        "stem": ConvConfig(channels=3, kernel=3),
        "primary": PrimaryConfig(types=2, dim=4, kernel=1, stride=1),
        "conv": ConvCapsulesConfig(types=2, dim=4, kernel=2),
        "past": MergeConfig(of=("conv",)),
        "types": TypeCapsulesConfig(types=2, dim=4, kernel=2),
        "classes": SharedCapsulesConfig(dim=4),
    },
    routing=cj.DynamicRouting(num_iters=2),
)
IMAGES = np.random.default_rng(0).random((3, 6, 6, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def seen():
    network = CapsNet((6, 6, 1), 3, config=MODEL, rngs=nnx.Rngs(0))
    passed = network.passed(jnp.asarray(IMAGES))
    return network, passed, shapes(MODEL, (6, 6, 1), 3)


def test_what_layers_pass_is_what_the_network_makes_of_it(seen):
    network, passed, _ = seen
    output = network(jnp.asarray(IMAGES))
    assert list(passed) == list(MODEL.layers)
    np.testing.assert_allclose(passed["classes"].value.pose, output.poses, atol=1e-5)
    np.testing.assert_allclose(
        passed["types"].routed.coupling, output.layers["types"].coupling, atol=1e-5
    )
    assert passed["stem"].routed is None


def test_couplings_are_drawn_where_they_go(seen):
    _, passed, steps = seen
    predicted = np.array([2, 0, 1])
    found = dict(maps(passed, steps, predicted))
    assert list(found) == [
        "stem",
        "primary",
        "conv\ncoupling",
        "conv",
        "types\ncoupling",
        "types",
        "classes\ncoupling",
        "classes",
    ]
    conv, types, classes = (
        np.asarray(passed[name].routed.coupling) for name in ("conv", "types", "classes")
    )
    for n, y, x in np.ndindex(3, 2, 2):
        parents = [2 * (2 * y + x) + j for j in (0, 1)]
        total = sum(types[n, a, parent] for a in (0, 1) for parent in parents)
        assert found["types\ncoupling"][n, y, x] == pytest.approx(total, rel=1e-5)
        children = [2 * (2 * y + x) + a for a in (0, 1)]
        share = np.mean([classes[n, i, predicted[n]] for i in children])
        assert found["classes\ncoupling"][n, y, x] == pytest.approx(share, rel=1e-5)
    assert found["conv\ncoupling"].shape == (3, 3, 3)
    # Every child is somewhere: 4 by 4 positions of 2 types.
    np.testing.assert_allclose(found["conv\ncoupling"].sum((1, 2)), 32, rtol=1e-5)
    assert conv[1, 2, 0].sum() == pytest.approx(found["conv\ncoupling"][1, 2, 0], rel=1e-5)
    longest = np.asarray(passed["primary"].value.activation).reshape(3, 4, 4, 2).max(-1)
    np.testing.assert_array_equal(found["primary"], longest)
    assert found["classes"].shape == (3, 1, 3)


def test_the_table_has_a_row_for_each_layer_that_makes_something(seen):
    _, passed, steps = seen
    table = layers_table(passed, steps, 3)
    assert "at least 0.1, a feature if it is not 0" in table.note
    assert "residual" not in table.note
    assert [row[0] for row in table.rows] == ["stem", "primary", "conv", "types", "classes"]
    assert table.rows[0][-2:] == ("—", "—")
    for row in table.rows[2:]:
        assert float(row[-1]) == pytest.approx(np.exp(float(row[-2])), abs=0.1)
    assert table.rows[3][1] == "capsules [8, 4]"


def test_pictures_stand_below_their_image(seen):
    _, passed, steps = seen
    rows = maps(passed, steps, np.zeros(3, int))
    axes = layers_figure(IMAGES, rows).axes
    assert len(axes) == 3 * (1 + len(rows))
    np.testing.assert_allclose(axes[3 + 1].images[0].get_array(), rows[0][1][1])
    np.testing.assert_allclose(axes[0].images[0].get_array(), IMAGES[0, ..., 0])
    assert axes[3].get_ylabel().startswith("stem\n")
    heights = [bar.get_height() for bar in axes[3 * len(rows) + 2].patches]
    np.testing.assert_allclose(
        heights, rows[-1][1][2, 0]
    )  # the classes: bars, not a strip of squares
    assert axes[3 * len(rows)].get_box_aspect() == 1
    assert len({bar.get_facecolor() for bar in axes[3 * len(rows)].patches}) == 2


@pytest.mark.parametrize("routing", ["lengths", "em"])
def test_a_residual_layer_is_measured_by_what_it_passes_on(routing):
    """What it routed alone may be short; activations that are no lengths stand as they are."""
    rng = np.random.default_rng(0)
    routed = 0.01 * rng.random((3, 2, 2, 2, 4))
    pose = rng.random((3, 8, 4)) + routed.reshape(3, 8, 4)
    own = np.linalg.norm(routed, axis=-1) if routing == "lengths" else rng.random((3, 2, 2, 2))
    coupling = rng.dirichlet(np.ones(2), (3, 2, 2, 18))
    r, c, a, p = (jnp.asarray(x, jnp.float32) for x in (routed, coupling, own, pose))
    result = cj.RoutingResult(pose=r, coupling=c, logits=c, activation=a)
    passed = {"conv": Passed(cj.Capsules(p, a.reshape(3, 8)), result)}
    layer = ConvCapsulesConfig(types=2, dim=4, kernel=3, padding="SAME", residual=True)
    given = CapsuleShape((2, 2), 2, 4)
    steps = (Step("conv", layer, given, given),)
    table = layers_table(passed, steps, 3)
    rows, note = table.rows, table.note
    shown = dict(maps(passed, steps, np.zeros(3, int)))["conv"]
    if routing == "em":
        assert [row[0] for row in rows] == ["conv"]
        assert rows[0][2] == f"{own.mean():.3f}"
        np.testing.assert_allclose(shown, own.max(-1), rtol=1e-5)
        return
    lengths = np.linalg.norm(pose, axis=-1)
    assert [row[:5] for row in rows] == [
        ("conv", "capsules [8, 4]", f"{lengths.mean():.3f}", "100", "0"),
        ("conv, routed", "", f"{own.mean():.3f}", "0", "100"),
    ]
    assert rows[0][5:] == ("—", "—") != rows[1][5:]
    assert "residual: true passes on its children's poses" in note
    np.testing.assert_allclose(shown, lengths.reshape(3, 2, 2, 2).max(-1), rtol=1e-5)
