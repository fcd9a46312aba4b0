"""What is looked at along a run, each number against its definition."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.layers import routings
from capsjax.metrics import coupling_distance
from capsjax.study import observation, trial_runner
from capsjax.study.alignment import make_analysis
from capsjax.study.couplings import describe_couplings
from capsjax.study.design import design
from capsjax.study.ledger import read_ledger, trials_of
from capsjax.study.observation import _stopped_in_one, routed_alike
from capsjax.study.seen import EXAMPLES, GRADIENTS, TABLES, read_seen, write_seen
from capsjax.training.state import TrainState
from capsjax.types import Batch

BATCH = Batch(
    images=jnp.asarray(np.random.default_rng(0).random((5, 1, 1, 3)), jnp.float32),
    labels=jnp.arange(5),
    weights=jnp.ones(5),
)


def loss_of(scale):
    """A loss whose gradient with respect to b.w has a scale, and an entropy of its own."""

    def loss(params, batch):
        x = batch.images[:, 0, 0]  # [b, 3]
        loss = x @ params["a.w"] + scale * (x**2) @ params["b.w"]
        return {"loss": loss, "entropy": x[:, 0]}

    return loss


def cosine(x, y):
    return x @ y / np.linalg.norm(x) / np.linalg.norm(y)


def joined(tree):
    return np.concatenate([np.asarray(tree[name], np.float64) for name in sorted(tree)])


@pytest.fixture(scope="module")
def analysed():
    """Adam after two steps of other gradients; the stop gradient's part b is a third of the full one's."""
    optimiser = optax.adam(lambda step: 1.0)
    params = {"a.w": jnp.asarray([0.1, 0.2, 0.3]), "b.w": jnp.zeros(3)}
    state = TrainState.create(params, optimiser)
    for n in range(2):
        gradient = {
            "a.w": jnp.asarray([1.0, -2.0, 0.5]) * (n + 1),
            "b.w": jnp.asarray([0.1, 0.1, -1.0]),
        }
        _, kept = optimiser.update(gradient, state.opt_state, params)
        state = state._replace(opt_state=kept)
    others = {"half": loss_of(1.5), "same": loss_of(3.0)}
    analyse = make_analysis(loss_of(1.0), loss_of(3.0), optimiser, alone=others, examples=4)
    found = analyse(state, BATCH)
    return state, jax.device_get(found)


def test_gradients_and_what_the_optimiser_makes_of_them(analysed):
    state, found = analysed
    x = np.asarray(BATCH.images[:, 0, 0], np.float64)
    stop = {"a.w": x.mean(0), "b.w": (x**2).mean(0)}
    full = {"a.w": x.mean(0), "b.w": 3 * (x**2).mean(0)}
    held = state.opt_state[0]

    def adam(gradient):
        moved = {}
        for name, g in gradient.items():
            m = 0.9 * np.asarray(held.mu[name]) + 0.1 * g
            v = 0.999 * np.asarray(held.nu[name]) + 0.001 * g**2
            moved[name] = -(m / (1 - 0.9**3)) / (np.sqrt(v / (1 - 0.999**3)) + 1e-8)
        return moved

    still = adam({name: np.zeros(3) for name in stop})
    updates = [adam(stop), adam(full)]
    responses = [{n: u[n] - still[n] for n in u} for u in updates]
    for got, (ours, theirs) in (
        (found.gradient, (stop, full)),
        (found.update, updates),
        (found.response, responses),
    ):
        assert got["all"].cosine == pytest.approx(cosine(joined(ours), joined(theirs)), rel=1e-4)
        for group in ("a", "b"):
            one, other = ours[f"{group}.w"], theirs[f"{group}.w"]
            assert got[group].cosine == pytest.approx(cosine(one, other), rel=1e-4)
            lengths = np.linalg.norm(one) / np.linalg.norm(other)
            assert got[group].norm_ratio == pytest.approx(lengths, rel=1e-4)
    assert found.gradient["b"].share == pytest.approx(2 / 3, rel=1e-4)
    assert found.gradient["a"].share == pytest.approx(0, abs=1e-5)


def test_other_gradients_are_compared_with_the_same_reference(analysed):
    _, found = analysed
    x = np.asarray(BATCH.images[:, 0, 0], np.float64)
    half, full = (np.r_[x.mean(0), scale * (x**2).mean(0)] for scale in (1.5, 3))
    assert found.alone["half"].cosine == pytest.approx(cosine(half, full), rel=1e-4)
    lengths = np.linalg.norm(half) / np.linalg.norm(full)
    assert found.alone["half"].norm_ratio == pytest.approx(lengths, rel=1e-4)
    assert found.alone["same"] == pytest.approx((1, 1), rel=1e-5)


def test_single_examples(analysed):
    _, found = analysed
    x = np.asarray(BATCH.images[:4, 0, 0], np.float64)
    expected = [cosine(np.r_[one, one**2], np.r_[one, 3 * one**2]) for one in x]
    np.testing.assert_allclose(found.examples["all"].cosine, expected, rtol=1e-4)
    np.testing.assert_allclose(found.examples["b"].norm_ratio, np.full(4, 1 / 3), rtol=1e-4)
    np.testing.assert_allclose(found.entropy, x[:, 0], rtol=1e-6)


def test_an_example_of_a_batch_that_normalises_is_not_looked_at_alone():
    optimiser = optax.sgd(0.1)
    state = TrainState.create({"a.w": jnp.ones(3)}, optimiser, {"a.mean": jnp.zeros(3)})

    def loss(variables, batch):
        x = batch.images[:, 0, 0] - variables["a.mean"][None]
        return {"loss": x @ variables["a.w"]}

    found = make_analysis(loss, loss, optimiser)(state, BATCH)
    assert found.examples == {}
    assert found.gradient["all"].cosine == pytest.approx(1)


def test_distances_of_couplings_by_hand():
    sure, even = jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]]), jnp.full((1, 2, 2), 0.5)
    assert coupling_distance(sure, even).tolist() == [0.5]
    assert coupling_distance(sure, sure[..., ::-1]).tolist() == [1.0]
    # At two positions a child's couplings add up to 1 over both.
    window = jnp.stack([sure, even], axis=2) / 2  # [b, y, x, i, j], a child's mass at two places
    other = jnp.stack([even, even], axis=2) / 2
    assert coupling_distance(window[:, None, 0], other[:, None, 0]).tolist() == [0.25]


def test_couplings_of_a_layer_at_each_iteration():
    u = jax.random.normal(jax.random.key(0), [64, 6, 4])
    W = jax.random.normal(jax.random.key(1), [6, 5, 4, 4])
    result = cj.dynamic_routing(cj.predict(u, W), num_iters=3, trace=True)
    found = describe_couplings({"top": result, "none": result._replace(trace=None)})
    assert list(found) == ["top"]
    top, c = found["top"], np.asarray(result.trace.coupling, np.float64)  # [r, b, i, j]
    np.testing.assert_allclose(top["entropy"], -(c * np.log(c)).sum(-1).mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(
        top["from_uniform"], np.abs(c - 0.2).sum(-1).mean((1, 2)) / 2, atol=1e-5
    )
    np.testing.assert_allclose(top["agreement"], result.trace.agreement.mean(1), rtol=1e-5)
    assert top["from_random"][0] == pytest.approx(
        0, abs=1e-6
    )  # uniform couplings can be dealt out at will
    # Of two dealt alike a child chooses the same parent once in five times: the rest is how decided it is.
    pairs = np.abs(c[..., :, None] - c[..., None, :]).mean((1, 2, 3, 4)) * 5 / 2
    np.testing.assert_allclose(top["from_random"], pairs, rtol=0.1, atol=1e-6)
    assert (np.diff(top["from_random"]) > 0).all()
    short = result._replace(activation=jnp.zeros((64, 5)).at[0, 2].set(0.5))
    np.testing.assert_allclose(describe_couplings({"top": short})["top"]["dead"], np.full(3, 0.8))


def test_one_layer_after_the_other_is_held_constant():
    two = {
        "kind": "network",
        "routing": {"kind": "dynamic", "gradient": "full"},
        "layers": {
            "primary": {"kind": "primary_capsules", "types": 2, "dim": 4, "kernel": 5, "stride": 2},
            "middle": {"kind": "dense_capsules", "types": 5, "dim": 4},
            "classes": {"kind": "dense_capsules", "dim": 4},
        },
    }
    config = cj.load_config("smoke", {"model": two})
    found = _stopped_in_one(config)
    assert list(found) == ["middle", "classes"]
    for layer, stopped in found.items():
        modes = {name: routing.gradient.kind for name, routing in routings(stopped.model).items()}
        others = {name: routing.gradient.kind for name, routing in routings(config.model).items()}
        assert modes == others | {layer: "stop"}
        assert modes != others
    assert _stopped_in_one(cj.load_config("smoke")) == {}


def test_arms_that_differ_in_the_mode_are_looked_at_by_one_program():
    config = cj.load_config("smoke")
    stop = cj.load_config("smoke", {"model.routing.gradient": "stop"})
    assert routed_alike(config) == routed_alike(stop)
    assert routed_alike(config).model == stop.model
    assert routed_alike(cj.load_config("smoke", {"model.routing": {"kind": "uniform"}})) is None


def test_arms_with_a_learning_rate_of_their_own_are_looked_at():
    rate = "optimiser.schedule.rate"
    stop, full = {"model.routing.gradient": "stop", rate: 0.003}, {rate: 0.009}
    other = {
        "model.routing.num_iters": 2,
        "model.routing.gradient": "stop",
    }  # whose full is not here
    arms = {
        "stop": stop,
        "full": full,
        "two": other,
        "uniform": {"model.routing": {"kind": "uniform"}},
    }
    config = cj.load_config("smoke", {"compare": {"arms": arms, "reference": "full"}})
    assert set(observation.gradient_pairs(config, design(config))) == {"stop", "full"}


RATES = [0.001 * n for n in range(1, 11)]


@pytest.mark.parametrize(
    ("grid", "programs"),
    [({"optimiser.schedule.rate": RATES}, 1), ({"model.routing.num_iters": [*range(2, 12)]}, 10)],
)
def test_runs_that_take_turns_are_looked_at_by_programs_made_once(monkeypatch, grid, programs):
    """Ten rates share one, in which the rate does not count; ten programs are all kept."""
    made = []
    for name in ("look_at_gradients", "look_at_couplings"):
        monkeypatch.setattr(trial_runner, name, lambda of, _, name=name: made.append(name) or len)
    compare = {"arms": {"stop": {"model.routing.gradient": "stop"}, "full": {}}}
    config = cj.load_config("smoke", {"compare": compare | {"grid": grid, "seeds": 2}})
    designed = design(config)
    runner = trial_runner.TrialRunner(config, designed)
    for trial in trials_of(Path("nowhere"), config, designed):
        assert runner._observer(trial) is not None
    assert made.count("look_at_gradients") == made.count("look_at_couplings") == programs


def test_what_was_seen_along_a_run_is_read_once(compared, tmp_path, monkeypatch):
    read, opened = observation.read_metrics, []
    monkeypatch.setattr(
        observation, "read_metrics", lambda path, kinds: opened.append(path) or read(path, kinds)
    )
    entries = read_ledger(compared.folder, compared.config, design(compared.config))
    write_seen(tmp_path, entries)
    assert sorted(opened) == sorted(e.trial.path / observation.FILE for e in entries)
    for table in TABLES:
        assert (tmp_path / table).read_text() == (compared.folder / table).read_text()


def test_a_table_that_is_damaged_is_named(tmp_path):
    assert read_seen(tmp_path, GRADIENTS) == []
    path = tmp_path / EXAMPLES
    path.write_text("mode,seed,epoch,example,cosine\nfull,0,0,1,0.5\nfull,0,0,2,\n")
    table = read_seen(tmp_path, EXAMPLES)
    assert table[0] == {"mode": "full", "seed": 0, "epoch": 0, "example": 1, "cosine": 0.5}
    assert np.isnan(table[1]["cosine"])
    good = json.dumps(path.read_text())
    for bad in (
        "full,a,0,1,0.5\n",
        "full,0,0,1\n",
        "full,0,0,1,0.5,7\n",
        'full,0,0,1,"0.5"x\n',
        "full,0,0,1,x\n",
    ):
        path.write_text(json.loads(good) + bad)
        with pytest.raises(UserError, match=r"examples\.csv: got a broken table .* delete it"):
            read_seen(tmp_path, EXAMPLES)
    path.unlink()  # what the error says: then the report has nothing to show of it
    assert read_seen(tmp_path, EXAMPLES) == []
