"""Checkpoints come back to the bit, and what is missing or broken is said in words."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from capsjax.checks import UserError
from capsjax.training import checkpoints
from capsjax.training.state import TrainState


def state(step=3, seed=0, size=7):
    key = jax.random.key(seed)
    params = {"a.b": jax.random.normal(key, (size, 2)) * 1e-30, "c": jnp.array([jnp.pi, -0.0])}
    made = TrainState.create(params, optax.adam(1e-3))
    return made._replace(
        step=jnp.asarray(step, jnp.int32),
        opt_state=jax.tree.map(lambda x: x + jnp.asarray(step, x.dtype), made.opt_state),
    )


def bits(tree):
    return [(leaf.dtype, leaf.shape, np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def test_a_state_comes_back_to_the_bit(tmp_path):
    path = checkpoints.save(tmp_path / "checkpoints", state())
    assert path.is_dir()
    assert path.name == "3"
    found = checkpoints.restore(tmp_path / "checkpoints", state(seed=1))
    assert bits(found) == bits(state())
    assert jax.tree.structure(found) == jax.tree.structure(state())


def test_relative_folders_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    checkpoints.save(Path("run"), state())
    assert bits(checkpoints.restore(Path("run"), state(seed=1))) == bits(state())


def test_the_newest_is_restored_and_older_ones_by_their_step(tmp_path):
    for step in (9, 10, 2):
        checkpoints.save(tmp_path, state(step, seed=step))
    assert checkpoints.steps(tmp_path) == [2, 9, 10]
    assert bits(checkpoints.restore(tmp_path, state())) == bits(state(10, seed=10))
    assert bits(checkpoints.restore(tmp_path, state(), 9)) == bits(state(9, seed=9))


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        checkpoints.save(tmp_path, state(step), keep=2)
    assert checkpoints.steps(tmp_path) == [3, 10]
    checkpoints.save(tmp_path, state(11), keep=None)
    assert checkpoints.steps(tmp_path) == [3, 10, 11]


def test_what_is_there_is_never_written_over(tmp_path):
    checkpoints.save(tmp_path, state(3, seed=0))
    checkpoints.save(tmp_path, state(3, seed=1))
    assert bits(checkpoints.restore(tmp_path, state())) == bits(state(3, seed=0))


def test_what_was_cut_short_does_not_count(tmp_path):
    checkpoints.save(tmp_path, state(3))
    (tmp_path / "4.orbax-checkpoint-tmp-123").mkdir()
    assert checkpoints.steps(tmp_path) == [3]
    assert checkpoints.steps(tmp_path / "nowhere") == []


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got no checkpoint, expected one of: none; train the run"):
        checkpoints.restore(tmp_path / "nowhere", state())
    checkpoints.save(tmp_path, state(3))
    with pytest.raises(UserError, match=r"got no checkpoint of step 4, expected one of: 3"):
        checkpoints.restore(tmp_path, state(), 4)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 0)


def test_a_checkpoint_with_any_file_cut_short_is_refused(tmp_path):
    target = state(seed=1)
    checkpoints.save(tmp_path / "0", state(3))
    count = len(files(tmp_path / "0" / "3"))
    assert count > 3
    refused = 0
    for number in range(count):
        folder = tmp_path / f"run{number}"
        checkpoints.save(folder, state(3))
        path = files(folder / "3")[number]
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        try:
            found = checkpoints.restore(folder, target)
        except UserError as error:
            refused += 1
            assert "cannot be read as this run's state" in str(error)
            assert "\n" not in str(error)
        else:
            assert bits(found) == bits(state(3)), path  # a file that only describes
    assert refused >= 2


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    checkpoints.save(tmp_path, state(3, size=7))
    with pytest.raises(UserError, match="expected one that the same configuration wrote"):
        checkpoints.restore(tmp_path, state(3, size=8))
