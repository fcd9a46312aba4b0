"""Remedies followed to the letter, on the input that provoked them: no run is trained for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import capsjax as cj
from capsjax.checks import UserError
from capsjax.convolution import conv2d
from capsjax.data.trainable import check_geometry
from capsjax.layers import Backbone, CapsNet, Features
from capsjax.layers.base import Around
from capsjax.progress import Silent
from capsjax.runs.finetune import transfer
from capsjax.study.compare import _load
from capsjax.study.design import design
from capsjax.training import checkpoints
from capsjax.training.state import TrainState, separate

IMAGES = np.arange(12 * 8 * 8, dtype=np.uint8).reshape(12, 8, 8, 1)
LABELS = np.arange(12) % 3
NETWORK = cj.load_config("digits").model


def test_a_kernel_that_is_no_larger():
    images = jnp.ones((1, 4, 4, 1))
    with pytest.raises(UserError, match="choose a smaller kernel"):
        conv2d(images, jnp.ones((5, 5, 1, 2)))
    assert conv2d(images, jnp.ones((4, 4, 1, 2))).shape == (1, 1, 1, 2)


def test_a_file_in_the_place_of_a_checkpoint_is_moved_away(tmp_path):
    state = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.zeros(3)}, ())
    (tmp_path / "0").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"):
        checkpoints.save(tmp_path, state)
    (tmp_path / "0").rename(tmp_path / "mine")
    checkpoints.save(tmp_path, state)
    assert checkpoints.steps(tmp_path) == [0]


def test_another_checkpoint_is_read(tmp_path):
    for step in (0, 1):
        checkpoints.save(
            tmp_path, TrainState(jnp.asarray(step, jnp.int32), {"w": jnp.zeros(3)}, ())
        )
    largest = max(
        (tmp_path / "1").rglob("*"), key=lambda path: path.is_file() * path.stat().st_size
    )
    largest.write_bytes(b"")
    target = TrainState(jnp.zeros((), jnp.int32), {"w": jnp.ones(3)}, ())
    with pytest.raises(UserError, match="use another step"):
        checkpoints.restore(tmp_path, target, step=1)
    assert checkpoints.restore(tmp_path, target, step=0).step == 0


def test_a_donor_s_own_network_fits():
    given = {"stem.weight": jnp.ones(3)}
    with pytest.raises(UserError, match="take the model of that run"):
        transfer(given, {"other.weight": jnp.ones(3)})
    assert transfer(given, {"stem.weight": jnp.zeros(3)})[1] == []


def test_dropout_without_a_generator():
    class Noisy(nnx.Module):
        def __init__(self, *, rngs=None):
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.dropout(x, deterministic=True)

    with pytest.raises(UserError, match=r"leave dropout out, or make .*nnx\.Dropout\(rate\)"):
        separate(Noisy(rngs=nnx.Rngs(0)))
    assert separate(Noisy()).params == {}


def test_votes_are_routed_where_they_are_made():
    u, W = jnp.ones((4, 3, 2)), jnp.ones((3, 2, 2, 5))
    with pytest.raises(UserError, match=r"route inside, or form them there with \.dense"):
        jax.vmap(lambda u: cj.predict(u, W))(u).dense()
    inside = jax.vmap(lambda u: cj.dynamic_routing(cj.predict(u, W)).pose)(u)
    formed = cj.dynamic_routing(jax.vmap(lambda u: cj.predict(u, W).dense())(u)).pose
    np.testing.assert_allclose(inside, formed, rtol=1e-5)


def test_a_second_derivative_by_the_full_gradient():
    votes = jnp.linspace(-1, 1, 2 * 3 * 2 * 4).reshape(2, 3, 2, 4)

    def total(gradient, votes):
        routing = cj.FixedPointRouting(num_iters=3, gradient=gradient)
        return jnp.sum(routing(votes).pose[..., 0])

    def twice(gradient):
        once = jax.grad(functools.partial(total, gradient))
        return jax.grad(lambda votes: jnp.sum(once(votes)[..., 0]))(votes)

    with pytest.raises(UserError, match=r"use FullGradient\(\) with the same num_iters"):
        twice(cj.ImplicitGradient())
    assert np.isfinite(twice(cj.FullGradient())).all()


def test_groups_that_divide_the_channels():
    changed = {"model.stem.normalisation": {"kind": "group", "groups": 3}}
    with pytest.raises(UserError, match="choose another number of groups"):
        abstract(cj.load_config("digits", changed).model)
    abstract(
        cj.load_config("digits", {"model.stem.normalisation": {"kind": "group", "groups": 2}}).model
    )


def abstract(model, shape=(8, 8, 1), classes=10):
    return nnx.eval_shape(lambda: CapsNet(shape, classes, config=model, rngs=nnx.Rngs(0)))


LAYERS = {
    "stem": {"kind": "conv", "channels": 4, "kernel": 3},
    "primary": {"kind": "primary_capsules", "types": 2, "dim": 4, "kernel": 3},
    "classes": {"kind": "dense_capsules", "dim": 4},
}


def network(**layers):
    made = {name: LAYERS[name] if layer is None else layer for name, layer in layers.items()}
    return cj.load_config("digits", {"model": {"kind": "network", "layers": made}}).model


def test_layers_in_an_order_that_fits():
    with pytest.raises(UserError, match="put it before the capsules"):
        abstract(network(primary=None, stem=None, classes=None))
    with pytest.raises(UserError, match="put a layer of kind primary_capsules before it"):
        abstract(network(stem=None, classes=None))
    abstract(network(stem=None, primary=None, classes=None))


def test_a_head_that_fits_the_classes():
    wrong = {"kind": "dense_capsules", "types": 7, "dim": 4}
    with pytest.raises(UserError, match=r"such as linear; or let the last .*types null"):
        abstract(network(stem=None, primary=None, classes=wrong))
    abstract(network(stem=None, primary=None, classes={**wrong, "types": None}))


def test_a_backbone_without_pooling():
    class Pooled(nnx.Module):
        def __init__(self, channels, pool, *, rngs):
            self.pool, self.conv = pool, nnx.Conv(channels, 4, (3, 3), rngs=rngs)

        def __call__(self, x):
            x = self.conv(x)
            return x.mean((1, 2)) if self.pool else x

    def shape(pool):
        class Own(Backbone):
            def module(self, channels, *, rngs):
                return Pooled(channels, pool, rngs=rngs)

        around = Around(
            image_shape=(8, 8, 1),
            num_classes=3,
            routing=NETWORK.routing,
            initialisation=NETWORK.initialisation,
            precision=NETWORK.precision,
        )
        return Own().shape(Features((8, 8), 1), around)

    with pytest.raises(UserError, match="leave pooling out"):
        shape(True)
    assert shape(False).channels == 4


def arrays(images, labels, **changes):
    config = cj.load_config("smoke", {"data": "arrays", **changes})
    return config.data.build((images, labels))


def test_arrays_without_a_file(tmp_path):
    config = cj.load_config("smoke", {"data": "arrays"})
    with pytest.raises(UserError, match=r"set data\.kind or data\.path"):
        config.data.shape()
    np.savez(tmp_path / "x.npz", images=np.repeat(IMAGES, 4, 0), labels=np.repeat(LABELS, 4))
    for change in ({"data": "digits"}, {"data": "arrays", "data.path": str(tmp_path / "x.npz")}):
        assert cj.load_config("smoke", change).data.shape().image_shape == (8, 8, 1)


def test_complex_images_become_real():
    images, labels = np.repeat(IMAGES, 4, 0) / 255, np.repeat(LABELS, 4)
    with pytest.raises(UserError, match="bring them to real numbers first"):
        arrays(images.astype(complex), labels)
    arrays(images.astype(complex).real, labels)


def test_labels_that_are_nan_are_left_out():
    images, labels = np.repeat(IMAGES, 4, 0), np.repeat(LABELS, 4).astype(float)
    labels[5] = np.nan
    with pytest.raises(UserError, match="label 5 is nan: leave such examples out"):
        arrays(images, labels)
    there = np.isfinite(labels)
    arrays(images[there], labels[there].astype(int))


def test_data_of_a_single_class():
    images, labels = np.repeat(IMAGES, 4, 0), np.zeros(48, int)
    with pytest.raises(UserError, match="num_classes=2 or more"):
        arrays(images, labels)
    assert arrays(images, labels, **{"data.num_classes": 2}).num_classes == 2


def test_flat_images_are_laid_on_their_side():
    flat = np.repeat(IMAGES.reshape(12, 1, 8, 8), 4, 0)[..., :6]
    dataset = arrays(flat[:, :, :, :], np.repeat(LABELS, 4))
    with pytest.raises(UserError, match=r"lay them on their side: np\.swapaxes\(images, 1, 2\)"):
        check_geometry(dataset, 0, ())
    check_geometry(arrays(np.swapaxes(flat, 1, 2), np.repeat(LABELS, 4)), 0, ())


def test_arms_with_data_of_their_own():
    data = np.repeat(IMAGES, 8, 0), np.repeat(LABELS, 8)

    def load(arm, data):
        more = {
            "data": "arrays",
            "training.batch_size": 8,
            "compare": {"arms": {"a": {}, "b": arm}},
        }
        config = cj.load_config("smoke", more)
        return _load(config, design(config), data, Silent())

    own = {"data": "digits"}
    with pytest.raises(UserError, match="leave out the argument data, or the arm's data"):
        load(own, data)
    assert load({"optimiser.schedule.rate": 0.1}, data).keys() == {"a"}
    same = cj.load_config("smoke", {"compare": {"arms": {"a": {}, "b": own}}})
    assert _load(same, design(same), None, Silent()).keys() == {"a"}


def test_children_on_a_grid_as_windows_see_them(as_installed):
    """Masks, poses and activations, by what both errors say."""
    x = {"poses": jnp.ones((1, 3, 3, 1, 4)), "activation": jnp.full((1, 3, 3, 1), 0.5)}
    votes = cj.window_votes(x["poses"], jnp.ones((3, 3, 1, 2, 4, 5)))
    there = jnp.ones((1, 3, 3, 1), bool)
    message = r"expected bool\[1, 1, 1, 9\].* on their grid, \[\*batch, h, w, a\], by votes\.seen\(mask\)$"
    with pytest.raises(UserError, match=message):
        cj.mask(votes, children=there)
    with pytest.raises(UserError, match=r"broadcast_to$"):  # parents have positions of their own
        cj.mask(votes, parents=there)
    with pytest.raises(UserError, match=r"broadcast_to$"):
        cj.mask(votes.dense(), children=there)
    masked = cj.mask(votes, children=votes.seen(there))
    routing = cj.SelfRouting()
    params = {"route": jnp.zeros((9, 2, 4)), "offset": jnp.zeros((9, 2))}
    seen = {name: votes.seen(value) for name, value in x.items()}
    for name, axes in (("poses", "h, w, a, d"), ("activation", "h, w, a")):
        advice = rf", which votes\.seen\(x\) makes of x \[\*batch, {axes}\] on the grid"
        for given in ({**seen, name: x[name]}, {**seen, name: None}):
            with pytest.raises(UserError, match=advice):
                routing(masked, params=params, **given)
    assert routing(masked, params=params, **seen).pose.shape == (1, 1, 1, 2, 5)
    with pytest.raises(UserError, match=r"an array \[1, 1, 1, 9\]$"):
        routing(votes.dense(), params=params, **{**seen, "activation": x["activation"]})
