"""One device, `jit` over four and `pmap` over four are one training."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.runs.plan import network_functions
from capsjax.training.parallel import JitStrategy, PmapStrategy
from capsjax.training.state import TrainState
from capsjax.types import Batch

STRATEGIES = {"jit": JitStrategy, "pmap": PmapStrategy}
SMOKE = cj.load_config("smoke")
MADE = network_functions(SMOKE.model, SMOKE.loss, (8, 8, 1), 10)
TOTAL = 24


def batch(size, seed):
    rng = np.random.default_rng(seed)
    images = rng.random((size, 8, 8, 1)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(rng.integers(0, 10, size)), jnp.ones(size))


def batches(size, number=4):
    return jax.tree.map(
        lambda *each: jnp.stack(each), *(batch(size, seed) for seed in range(number))
    )


def slicer(examples, step):
    return jax.tree.map(lambda each: each[step], examples)


def initial():
    return TrainState.create(MADE.initial(0), SMOKE.optimiser.make(TOTAL))


pytestmark = pytest.mark.usefixtures("four_devices")


@pytest.fixture(scope="module", params=["jit", "pmap"])
def four(request, four_devices):
    strategy = STRATEGIES[request.param]()
    assert len(strategy.devices) == 4
    return strategy


@pytest.fixture(scope="module")
def steps():
    """The compiled steps of every strategy, and of one device."""
    strategies = {name: make() for name, make in STRATEGIES.items()}
    strategies["one"] = JitStrategy(jax.local_devices()[:1])
    return {
        name: (
            strategy,
            strategy.train_steps(MADE.loss, SMOKE.optimiser.make(TOTAL), slicer),
            strategy.eval_step(MADE.score),
        )
        for name, strategy in strategies.items()
    }


def train(strategy, step, size, number=4):
    state, lines = strategy.replicate(initial()), []
    examples = strategy.replicate(batches(size, number))
    for first in range(number):
        state, values = step(state, examples, first, first + 1)
        lines.append(strategy.unreplicate(values))
    return strategy.unreplicate(state), lines


@pytest.mark.parametrize("size", [32, 30])
@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_four_devices_train_as_one(steps, name, size):
    ours, theirs = train(*steps[name][:2], size), train(*steps["one"][:2], size)

    def close(a, b):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    jax.tree.map(close, ours, theirs)
    start = initial().params
    moved = [float(jnp.abs(ours[0].params[n] - start[n]).max()) for n in start]
    assert min(moved) > 1e-3


@pytest.mark.parametrize("name", ["jit", "pmap", "one"])
def test_steps_of_one_call_are_the_steps_of_several(steps, name):
    """To the bit: a run may be cut into calls, and stopped and gone on with, anywhere."""
    strategy, step, _ = steps[name]
    apart, lines = train(strategy, step, 30)
    examples = strategy.replicate(batches(30))
    together, values = strategy.unreplicate(step(strategy.replicate(initial()), examples, 0, 4))
    jax.tree.map(np.testing.assert_array_equal, together, apart)
    jax.tree.map(np.testing.assert_array_equal, values, lines[-1])
    none, values = step(strategy.replicate(initial()), examples, 2, 2)
    jax.tree.map(np.testing.assert_array_equal, strategy.unreplicate(none), initial())
    assert not any(float(value) for value in strategy.unreplicate(values).values())


@pytest.mark.parametrize("size", [32, 30])
@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_each_device_computes_its_own_share(steps, name, size):
    """The work of a step is split: the largest product of a device is of a quarter of the batch."""
    strategy, step, _ = steps[name]
    arguments = strategy.replicate(initial()), strategy.replicate(batches(size)), 0, 1
    shapes = re.findall(r"f32\[([\d,]+)\]", step.lower(*arguments).compile().as_text())
    features = {shape for shape in shapes if shape.endswith(",3,3,4")}
    assert "8,3,3,4" in features
    assert "32,3,3,4" not in features


@pytest.mark.parametrize("size", [32, 30])
@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_four_devices_evaluate_as_one(steps, name, size):
    found = {}
    for place in (name, "one"):
        strategy, _, step = steps[place]
        params = strategy.replicate(MADE.initial(0))
        found[place] = strategy.unreplicate(step(params, strategy.share(batch(size, 0))))
    assert float(found[name].sums["count"]) == size

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-5)

    jax.tree.map(close, found[name].sums, found["one"].sums)
    assert found[name].lengths.shape == (
        32,
        10,
    )  # of four devices, in order, and then what fills up
    close(found[name].lengths[:size], found["one"].lengths)


@pytest.mark.parametrize("size", [32, 30])
def test_four_devices_hold_different_examples(four, size):
    given = batch(size, 0)
    shared = four.share(given)
    for name, share in zip(Batch._fields, shared, strict=True):
        if name in ("progress", "targets"):  # nobody asked for them
            assert share is None
            continue
        shards = share.addressable_shards
        assert {shard.device for shard in shards} == set(jax.local_devices()), name
        assert sum(shard.data.size for shard in shards) == share.size, name  # no copies
    parts = [np.asarray(s.data).reshape(-1, 8, 8, 1) for s in shared.images.addressable_shards]
    assert [len(part) for part in parts] == [8, 8, 8, 8]
    for i in range(4):
        for j in range(i):
            assert not any((a == b).all() for a in parts[i] for b in parts[j])
    counts = [float(np.asarray(s.data).sum()) for s in shared.weights.addressable_shards]
    assert counts == ([8, 8, 8, 8] if size == 32 else [8, 8, 8, 6])
    np.testing.assert_array_equal(np.concatenate(parts)[:size], given.images)


def test_the_result_is_on_all_four_devices(four, steps):
    name = "pmap" if isinstance(four, PmapStrategy) else "jit"
    examples = four.replicate(batches(32))
    state, _ = steps[name][1](four.replicate(initial()), examples, 0, 1)
    for leaf in jax.tree.leaves(state):
        assert leaf.devices() == set(jax.local_devices())
        copies = [np.asarray(shard.data).ravel() for shard in leaf.addressable_shards]
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])


def test_the_state_is_donated(four, steps):
    name = "pmap" if isinstance(four, PmapStrategy) else "jit"
    state = four.replicate(initial())
    jax.block_until_ready(steps[name][1](state, four.replicate(batches(32)), 0, 1))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


def test_what_is_replicated_comes_back(four):
    state = initial()
    back = four.unreplicate(four.replicate(state))
    jax.tree.map(np.testing.assert_array_equal, back, state)


def test_a_batch_that_divides_is_not_padded(four):
    given = batch(32, 0)
    assert four.pad(given) is given
    moved = four.pad(batch(5, 0)._replace(progress=jnp.full(5, 0.25)))
    assert moved.progress.tolist() == [0.25] * 8  # else losses would take it for evaluation
    padded = four.pad(batch(1, 0))
    assert padded.progress is None
    assert padded.weights.tolist() == [1, 0, 0, 0]
