"""Checkpoints come back to the bit, and what is missing or broken is said in words."""

import errno
import hashlib
import os
import re
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

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


def test_what_was_cut_short_does_not_count_and_is_written_anew(tmp_path):
    checkpoints.save(tmp_path, state(3))
    (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "4.orbax-checkpoint-tmp" / "half").write_text("x")
    assert checkpoints.steps(tmp_path) == [3]
    assert checkpoints.steps(tmp_path / "nowhere") == []
    checkpoints.save(tmp_path, state(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(4))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got no checkpoint, expected one of: none; train the run"):
        checkpoints.restore(tmp_path / "nowhere", state())
    checkpoints.save(tmp_path, state(3))
    with pytest.raises(UserError, match=r"got no checkpoint of step 4, expected one of: 3"):
        checkpoints.restore(tmp_path, state(), 4)


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_the_sums_are_of_every_file(tmp_path):
    path = checkpoints.save(tmp_path, state(3))
    lines = (path / "SHA256SUMS").read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sorted([*found, "SHA256SUMS"]) == [str(name) for name in files(path)]
    for name, digest in found.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("how", ["cut short", "empty", "gone", "one bit"])
def test_a_broken_file_of_a_checkpoint_is_named(tmp_path, capfd, how):
    whole = checkpoints.save(tmp_path / "whole", state(3))
    for number, name in enumerate(name for name in files(whole) if name.name != "SHA256SUMS"):
        folder = tmp_path / str(number)
        shutil.copytree(whole.parent, folder)
        path = folder / "3" / name
        content = path.read_bytes()
        if not content:
            continue
        path.write_bytes(content[: len(content) // 2] if how == "cut short" else b"")
        if how == "one bit":
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        if how == "gone":
            path.unlink()
        came = "no such file" if how == "gone" else "a file whose SHA-256 is"
        with pytest.raises(
            UserError, match=rf"{re.escape(str(path))}: got {came}.*delete .*3 to go"
        ):
            checkpoints.restore(folder, state(seed=1))
    assert capfd.readouterr() == ("", "")


def test_without_sums_a_checkpoint_is_read_as_it_is(tmp_path):
    path = checkpoints.save(tmp_path, state(3))
    (path / "SHA256SUMS").unlink()
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(3))


def test_ctrl_c_waits_for_a_checkpoint_to_stand(tmp_path, monkeypatch):
    save, during = checkpoints.ocp.save, []

    def interrupted(*args):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        during.append(True)
        save(*args)

    monkeypatch.setattr(checkpoints.ocp, "save", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, state(3))
    assert during
    assert signal.getsignal(signal.SIGINT) is before
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(3))


def test_a_checkpoint_may_be_written_from_another_thread(tmp_path):
    thread = threading.Thread(target=checkpoints.save, args=(tmp_path, state(3)))
    thread.start()
    thread.join()
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(3))


@pytest.mark.parametrize("limit", [100, 0])
def test_where_nothing_can_be_written_nothing_is_left(tmp_path, capfd, limit):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            checkpoints.save(tmp_path, state(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    checkpoints.save(tmp_path, state(3))
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(3))


def test_a_checkpoint_of_another_network_or_optimiser_is_refused(tmp_path, capfd):
    path = checkpoints.save(tmp_path, state(3, size=7))
    message = (
        rf"{path}: got float32\[7, 2\] for opt_state/0/mu/a.b, expected float32\[8, 2\]; the run's"
    )
    with pytest.raises(UserError, match=message):
        checkpoints.restore(tmp_path, state(3, size=8))
    other = TrainState.create(state().params, optax.sgd(1e-3))
    with pytest.raises(UserError, match=r"got int32\[\] for opt_state/0/count, expected nothing"):
        checkpoints.restore(tmp_path, other)
    more = state(3)._replace(params=state().params | {"d": jnp.ones(2)})
    with pytest.raises(UserError, match=r"got nothing for params/d, expected float32\[2\]"):
        checkpoints.restore(tmp_path, more)
    assert capfd.readouterr() == ("", "")
