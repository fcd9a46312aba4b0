"""From a configuration to functions and compiled steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.data import Digits
from capsjax.layers import NetworkOutput
from capsjax.losses import MarginLoss
from capsjax.metrics import ALWAYS, DeadCapsules, TopKError
from capsjax.runs.plan import network_functions, plan
from capsjax.types import Batch

SMOKE = cj.load_config("smoke")
MADE = network_functions(SMOKE.model, SMOKE.loss, (8, 8, 1), 10)


def output(n=4, decoder=True):
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(n, 10, 4)) / 4
    coupling = rng.random((n, 6, 10))
    coupling /= coupling.sum(-1, keepdims=True)
    as_float = {
        "lengths": np.linalg.norm(poses, axis=-1),
        "poses": poses,
        "coupling": coupling,
        "children": rng.normal(size=(n, 6, 4)),
        "reconstruction": rng.random((n, 3, 2, 1)) if decoder else None,
        "trace": None,
    }
    return NetworkOutput(
        *(v if v is None else jnp.asarray(v, jnp.float32) for v in as_float.values())
    )


def batch(n=4):
    images = np.random.default_rng(1).random((n, 3, 2, 1))
    return Batch(jnp.asarray(images, jnp.float32), jnp.arange(n), jnp.ones(n))


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_what_is_measured_of_each_example_is_the_formula(preset):
    config = MarginLoss(
        margin=preset,
        positive_margin=0.8,
        negative_margin=0.2,
        down_weight=0.3,
        reconstruction_weight=0.7,
    )
    out, given = output(), batch()
    found = config(out, given) | {metric.name: metric(out, given) for metric in ALWAYS}
    lengths, present = np.asarray(out.lengths, np.float64), np.eye(10)[:4]
    margin = present * np.maximum(0, 0.8 - lengths) ** 2
    margin += 0.3 * (1 - present) * np.maximum(0, lengths - 0.2) ** 2
    margin = margin.sum(-1) / (20 if preset == "released" else 1)
    drawn = (np.asarray(out.reconstruction - given.images, np.float64) ** 2).sum((1, 2, 3))
    coupling = np.asarray(out.coupling, np.float64)
    expected = {
        "loss": margin + 0.7 * drawn,
        "margin": margin,
        "reconstruction": drawn,
        "error": lengths.argmax(-1) != np.arange(4),
        "entropy": -(coupling * np.log(coupling)).sum(-1).mean(-1),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


def test_without_a_decoder_the_loss_is_the_margin_s():
    found = MarginLoss(reconstruction_weight=9.0)(output(decoder=False), batch())
    np.testing.assert_array_equal(found["loss"], found["margin"])
    assert not found["reconstruction"].any()


def test_columns_are_those_of_the_loss_of_what_is_always_measured_and_of_what_is_asked_for():
    given = Batch(jnp.zeros((4, 8, 8, 1)), jnp.arange(4), jnp.ones(4))
    always = {"loss", "margin", "reconstruction", "error", "entropy"}
    extra = network_functions(
        SMOKE.model, SMOKE.loss, (8, 8, 1), 10, (TopKError(k=3), DeadCapsules())
    )
    for made, names in ((MADE, always), (extra, always | {"top_3_error", "dead_capsules"})):
        assert set(jax.eval_shape(made.score, made.shapes(), given).values) == names


def test_training_draws_the_label_s_capsule_and_evaluation_the_longest():
    params = MADE.initial(0)
    images = jnp.asarray(np.random.default_rng(0).random((6, 8, 8, 1)), jnp.float32)
    best = jax.jit(MADE.apply)(params, images).lengths.argmax(-1)
    loss, score = jax.jit(MADE.loss), jax.jit(lambda *given: MADE.score(*given).values)
    right = Batch(images, best, jnp.ones(6))
    wrong = Batch(images, (best + 3) % 10, jnp.ones(6))
    trained, judged = loss(params, right), score(params, right)
    np.testing.assert_allclose(trained["reconstruction"], judged["reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(
        score(params, wrong)["reconstruction"], judged["reconstruction"], rtol=1e-5
    )
    changed = np.abs(loss(params, wrong)["reconstruction"] - trained["reconstruction"])
    assert changed.min() > 1e-4


def test_equal_arguments_give_the_same_functions():
    again = cj.load_config("smoke")
    assert network_functions(again.model, again.loss, (8, 8, 1), 10) is MADE
    other = dataclasses.replace(SMOKE.model, routing=cj.UniformRouting())
    assert network_functions(other, SMOKE.loss, (8, 8, 1), 10) is not MADE


def test_initial_parameters_follow_from_the_seed_alone():
    other = dataclasses.replace(SMOKE.model, routing=cj.UniformRouting())
    ours = MADE.initial(5)
    theirs = network_functions(other, MarginLoss(margin="released"), (8, 8, 1), 10).initial(5)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    weight = "classes.weight"
    assert not np.array_equal(ours[weight], MADE.initial(6)[weight])


def test_shapes_are_those_of_the_parameters():
    shapes = MADE.shapes()
    params = MADE.initial(0)
    assert {n: (s.shape, s.dtype) for n, s in shapes.items()} == {
        n: (p.shape, p.dtype) for n, p in params.items()
    }


def test_runs_that_differ_in_the_seed_alone_share_what_is_compiled():
    dataset = Digits().load()
    plans = [plan(dataclasses.replace(SMOKE, seed=seed), dataset) for seed in (0, 1)]
    assert plans[0].compiled is plans[1].compiled
    assert plans[0].total_steps == 24
    states = [plans[seed].initial_state(seed) for seed in (0, 1)]
    assert int(states[0].step) == 0
    assert not np.array_equal(states[0].params["stem.kernel"], states[1].params["stem.kernel"])
    longer = dataclasses.replace(SMOKE.training, epochs=4)
    other = plan(dataclasses.replace(SMOKE, training=longer), dataset)
    assert other.compiled is not plans[0].compiled
    assert other.total_steps == 32
