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
    for left in ("4.orbax-checkpoint-tmp", "4.part", "4.part.orbax-checkpoint-tmp", "2.removed"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("x")
    assert checkpoints.steps(tmp_path) == [3]
    assert checkpoints.steps(tmp_path / "nowhere") == []
    checkpoints.save(tmp_path, state(4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    assert bits(checkpoints.restore(tmp_path, state(seed=1))) == bits(state(4))


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match=r"got no checkpoint, expected one; train the run first"):
        checkpoints.restore(tmp_path / "nowhere", state())
    checkpoints.save(tmp_path, state(3))
    with pytest.raises(UserError, match=r"got no checkpoint of step 4, expected one of: 3"):
        checkpoints.restore(tmp_path, state(), 4)


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_the_sums_are_of_every_file(tmp_path):
    path = checkpoints.save(tmp_path, state(3))
    head, *lines = (path / "SHA256SUMS").read_text().splitlines()
    assert head == f"# SHA-256 of {len(lines)} files"
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sorted([*found, "SHA256SUMS"]) == [str(name) for name in files(path)]
    for name, digest in found.items():
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest


def damage(path, how):
    """Damage a file as disks and people do; returns whether there was anything to damage."""
    content = path.read_bytes()
    path.unlink()
    if how == "gone":
        return True
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "one bit":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if content else b"")
    return how in ("directory", "pipe") or bool(content)


@pytest.mark.parametrize("how", ["cut short", "empty", "gone", "one bit", "directory", "pipe"])
def test_a_broken_file_of_the_newest_is_named_and_the_one_before_is_used(tmp_path, capfd, how):
    checkpoints.save(tmp_path / "whole", state(2, seed=2))
    whole = checkpoints.save(tmp_path / "whole", state(3))
    for number, name in enumerate(name for name in files(whole) if name.name != "SHA256SUMS"):
        folder, told = tmp_path / str(number), []
        shutil.copytree(whole.parent, folder)
        path = folder / "3" / name
        if not damage(path, how):
            continue
        came = (
            "a file whose SHA-256 is"
            if how in ("cut short", "empty", "one bit")
            else "no such file"
        )
        found = checkpoints.restore(folder, state(seed=1), say=told.append)
        assert bits(found) == bits(state(2, seed=2))
        (line,) = told
        assert re.match(
            rf"{re.escape(str(path))}: got {came}.*; using the checkpoint of step 2", line
        )
        with pytest.raises(checkpoints.DamagedError, match=rf"{re.escape(str(path))}.*use another"):
            checkpoints.restore(folder, state(seed=1), 3)
    assert capfd.readouterr() == ("", "")


SUMS = {
    "emptied": b"",
    "cut within a line": lambda whole: whole[:-9],
    "cut between lines": lambda whole: b"".join(whole.splitlines(keepends=True)[:-1]),
    "without its end": lambda whole: b"".join(whole.splitlines(keepends=True)[:1]),
    "not text": bytes(range(128, 256)),
    "another text": b"do not delete\n",
    "huge": b"0" * ((1 << 20) + 1),
    "a name that no file has": b"0" * 64 + b"  a\0b\n",
}


@pytest.mark.parametrize("how", [*SUMS, "a directory", "a pipe", "a link to nowhere"])
def test_sums_that_are_damaged_are_answered(tmp_path, how):
    checkpoints.save(tmp_path, state(2, seed=2))
    path = checkpoints.save(tmp_path, state(3)) / "SHA256SUMS"
    whole, told = path.read_bytes(), []
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link to nowhere":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_bytes(SUMS[how] if isinstance(SUMS[how], bytes) else SUMS[how](whole))
    found = checkpoints.restore(tmp_path, state(seed=1), say=told.append)
    assert bits(found) == bits(state(2, seed=2))
    (line,) = told
    assert line.startswith(str(tmp_path / "3"))
    assert line.endswith("; using the checkpoint of step 2, the newest that is whole")


def test_where_no_checkpoint_is_whole_the_newest_is_named(tmp_path):
    for step in (2, 3):
        (checkpoints.save(tmp_path, state(step)) / "SHA256SUMS").write_text("")
    message = rf"{tmp_path}/3/SHA256SUMS: got no checksum, .*; no other checkpoint is whole"
    with pytest.raises(checkpoints.DamagedError, match=message):
        checkpoints.restore(tmp_path, state())


def test_a_caller_who_gave_nothing_to_be_told_with_is_warned(tmp_path):
    checkpoints.save(tmp_path, state(2))
    (checkpoints.save(tmp_path, state(3)) / "SHA256SUMS").write_text("")
    with pytest.warns(UserWarning, match="using the checkpoint of step 2"):
        assert checkpoints.restore(tmp_path, state()).step == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_passed_over(tmp_path, value):
    checkpoints.save(tmp_path, state(2))
    bad = state(3)._replace(params=state(3).params | {"c": jnp.array([1.0, value])})
    checkpoints.save(tmp_path, bad)
    told = []
    assert checkpoints.restore(tmp_path, state(), say=told.append).step == 2
    assert "3: got parameters that are not finite (c), expected finite ones" in told[0]
    assert checkpoints.restore(tmp_path, state(), finite=False).step == 3


def test_checksums_stand_before_the_checkpoint_does(tmp_path, monkeypatch):
    """Between the two, a bit that flips would go unnoticed; killed there, nothing stands."""
    write, seen = checkpoints.write_sums, []

    def killed(folder):
        seen.append(checkpoints.steps(tmp_path))
        write(folder)
        seen.append(checkpoints.steps(tmp_path))
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_sums", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, state(3))
    assert seen == [[], []]
    assert checkpoints.steps(tmp_path) == []
    monkeypatch.undo()
    checkpoints.save(tmp_path, state(3))
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_what_others_put_beside_checkpoints_stays_and_does_not_count(tmp_path):
    names = ("7", "\u0663", "007", "9.damaged", "notes tmp.txt", ".DS_Store")
    for name in names:
        (tmp_path / name).write_text("mine")
    (tmp_path / "my tmp").mkdir()
    (tmp_path / "08").mkdir()
    for step in (2, 3):
        checkpoints.save(tmp_path, state(step), keep=1)
    assert checkpoints.steps(tmp_path) == [3]
    assert checkpoints.restore(tmp_path, state()).step == 3
    assert {path.name for path in tmp_path.iterdir()} == {*names, "my tmp", "08", "3"}
    with pytest.raises(FileExistsError, match="move it away"):
        checkpoints.save(tmp_path, state(7))


def test_a_checkpoint_that_gives_way_while_it_is_read_is_no_damage(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, state(2))
    find = checkpoints.find_damage

    def rotate(path):
        if path.name == "2":
            checkpoints.save(tmp_path, state(3), keep=1)
        return find(path) if path.is_dir() else f"{path}: got no such file"

    monkeypatch.setattr(checkpoints, "find_damage", rotate)
    told = []
    assert checkpoints.restore(tmp_path, state(), say=told.append).step == 3
    assert told == []


def test_what_is_set_aside_is_kept_and_written_anew(tmp_path):
    for _ in range(2):
        for step in (2, 3, 4):
            checkpoints.save(tmp_path, state(step))
        checkpoints.set_aside(tmp_path, after=2)
    assert checkpoints.steps(tmp_path) == [2]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"2", "3.damaged", "4.damaged", "3.damaged1", "4.damaged1"}


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


def doubled(made):
    """The same state in float64, as parameters of one's own can be."""
    wide = {"float32": "float64"}
    return jax.tree.map(lambda x: x.astype(wide.get(x.dtype.name, x.dtype)), made)


@pytest.fixture
def set_x64():
    """Set what a user sets; orbax reads in a thread of its own, which no context manager reaches."""
    yield lambda wide: jax.config.update("jax_enable_x64", wide)
    jax.config.update("jax_enable_x64", False)


def test_a_checkpoint_of_other_widths_names_x64(tmp_path, set_x64):
    checkpoints.save(tmp_path / "single", state(3))
    set_x64(True)
    checkpoints.save(tmp_path / "double", doubled(state(3)))
    single = r"got float32\[7, 2\] for .*, expected float64\[7, 2\], with jax_enable_x64 on"
    with pytest.raises(UserError, match=rf'{single}.*"jax_enable_x64", False.*_X64=0 before'):
        checkpoints.restore(tmp_path / "single", doubled(state(3)))
    set_x64(False)  # as that advises, and then as this does
    assert bits(checkpoints.restore(tmp_path / "single", state(seed=1))) == bits(state(3))
    double = (
        r"got float64\[7, 2\] for opt_state/0/mu/a.b, expected float32.*, with jax_enable_x64 off"
    )
    with pytest.raises(UserError, match=rf'{double}.*"jax_enable_x64", True.*_X64=1 before'):
        checkpoints.restore(tmp_path / "double", state(3))
    with pytest.raises(UserError, match=r"the run's config.yaml or its data have changed"):
        checkpoints.restore(tmp_path / "double", state(3, size=8))
    set_x64(True)
    found = checkpoints.restore(tmp_path / "double", doubled(state(3, seed=1)))
    assert bits(found) == bits(doubled(state(3)))


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
