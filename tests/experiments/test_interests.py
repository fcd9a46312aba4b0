"""The experiment with recommenders: its stream, what its arms train, and what it measures."""

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

HERE = Path(__file__).resolve().parents[2] / "experiments" / "interests"


@pytest.fixture(scope="module")
def measure():
    """The experiment's module, imported as its command imports it."""
    sys.path.insert(0, str(HERE))
    return importlib.import_module("measure")


@pytest.fixture(scope="module")
def users(measure):
    return measure.stream.make_users(5, 400, 0)


def test_users_do_what_their_topics_say(measure, users):
    stream = measure.stream
    number = users.topics.sum(-1)
    assert set(number) == {1, 2, 3, 4}
    assert users.there.sum(-1).min() >= 8
    assert users.topics[np.arange(400), stream.topic_of(users.target)].all()
    own = np.take_along_axis(users.topics, stream.topic_of(users.history), 1)[users.there]
    # A tenth is noise, of which every twentieth to fifth falls on a topic of theirs all the same.
    assert own.mean() == pytest.approx(1 - 0.1 * (1 - number.mean() / 20), abs=0.01)
    assert (users.history[~users.there] == 0).all()


def test_a_set_of_users_is_its_own(measure, users):
    again, other = (measure.stream.make_users(5, 400, part) for part in (0, 1))
    for one, same, different in zip(users, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != different).any()


def test_only_the_trained_arm_has_a_gradient_of_the_first_logits(measure, users):
    params = measure.initial(0)
    batch = jax.tree.map(lambda array: jnp.asarray(array[:32]), users)
    found = {
        name: jax.grad(partial(measure.loss, arm))(params, batch)
        for name, arm in measure.ARMS.items()
    }
    zero = {name: not np.any(gradient["logits"]) for name, gradient in found.items()}
    assert zero == {"random": True, "stop": True, "full": True, "full, trained": False}
    difference = np.abs(found["stop"]["matrix"] - found["full"]["matrix"]).max()
    assert difference > 1e-3 * np.abs(found["full"]["matrix"]).max()


def test_interests_that_are_the_topics_recover_all_of_them(measure, users):
    stream = measure.stream
    params = dict(measure.initial(0))
    # Items of a topic have one direction, each its own: it is as good as it gets.
    params["items"] = np.eye(32, dtype=np.float32)[stream.topic_of(np.arange(stream.ITEMS))]
    params["matrix"] = np.eye(32, dtype=np.float32)
    one = users.topics.sum(-1) == 1
    alone = jax.tree.map(lambda array: array[one][:50], users)
    _, recovery = measure.judge(measure.ARMS["random"], params, alone)
    np.testing.assert_array_equal(recovery, 1)
    moved = params | {"items": np.roll(params["items"], 100, axis=0)}  # of every topic the next
    moved["matrix"] = np.roll(np.eye(32, dtype=np.float32), 1, axis=1)  # and of every interest
    _, lost = measure.judge(measure.ARMS["random"], moved, alone)
    assert np.mean(lost) < 0.1


def test_rates_are_selected_by_recall(measure):
    lines = [
        {"arm": arm, "rate": rate, "recall": recall}
        for arm in measure.ARMS
        for rate, recall in ((0.001, 0.2), (0.003, 0.3), (0.003, 0.1), (0.01, 0.1))
    ]
    assert set(measure.select(lines).values()) == {0.001}  # equal means: the smaller


def test_what_is_measured_is_not_measured_again(measure, tmp_path, monkeypatch):
    asked = []

    def pretended(name, rate, seed, split):
        asked.append((name, seed, split))
        return {"arm": name, "seed": seed, "rate": rate, "recall": rate, "recovery": 0.5}

    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(measure, "run", pretended)
    for seeds in ("1", "2"):
        monkeypatch.setattr(sys, "argv", ["measure.py", "--seeds", seeds])
        measure.main()
    assert len(asked) == 4 * 3 * 2 + 4 + 4
    assert asked[28:] == [(name, 101, 2) for name in measure.ARMS]
    lines = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert {line["rate"] for line in lines} == {0.01}
    assert not (tmp_path / "beyond.jsonl").exists()
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--beyond"])
    measure.main()
    assert len(asked) == 32 + 2 * 4 * 2
    assert (tmp_path / "beyond.jsonl").read_text().count('"rate": 0.03') == 8


def test_training_learns(measure, monkeypatch):
    monkeypatch.setattr(measure, "STEPS", 20)
    record = measure.run("stop", 0.01, 3, 1)
    assert record["loss"] < 0.999 * np.log(measure.stream.ITEMS)
    assert record["recall"] > 50 / 2000
    assert 0 < record["recovery"] < 1


@pytest.fixture(scope="module")
def tables(measure):
    """The module that writes the tables, imported as its command imports it."""
    return importlib.import_module("tables")


def test_the_tables_say_what_the_raw_results_say(tables, tmp_path):
    draw = np.random.default_rng(0)
    recall = {"random": 0.2, "stop": 0.25, "full": 0.3, "full, trained": 0.3}
    assert set(recall) == set(tables.ARMS)
    lines = [
        {
            "arm": arm,
            "seed": seed,
            "rate": 0.01,
            "recall": at + 0.01 * draw.random(),
            "recovery": at,
        }
        for seed in range(100, 108)
        for arm, at in recall.items()
    ]
    path = tmp_path / "runs.jsonl"
    assert tables.tables(path) == "Nothing has been measured yet."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))  # one arm lacks a seed
    found, rates = tables.read(path)
    assert len(found["recall"]["stop"]) == 7
    assert rates["stop"] == 0.01
    stop, full, none = (found["recall"][arm] for arm in ("stop", "full", "random"))
    said = tables.tables(path)
    assert said.startswith("7 of 30 seeds.")
    assert (
        f"| stop | {stop.mean():.2f} ± {stop.std(ddof=1):.2f} | {(stop - full).mean():+.2f} ("
        in said
    )
    kept = (stop.mean() - none.mean()) / (full.mean() - none.mean())
    assert f"| {kept:.2f} (" in said
    assert "not shown" in said
    # Larger learning rates, with the seeds that every arm has at every rate.
    more = [line | {"rate": 0.03, "recall": 0.5} for line in lines if line["seed"] < 104]
    path.with_name("beyond.jsonl").write_text("".join(json.dumps(line) + "\n" for line in more))
    beyond = tables.tables(path).removeprefix(said)
    assert "larger learning rates, 4 seeds" in beyond
    assert "| 0.03 | 50.00 | 50.00 | 50.00 | 50.00 | +0.00 (+0.00 to +0.00) |" in beyond
    assert f"| 0.01 | {none[:4].mean():.2f} | {stop[:4].mean():.2f} | " in beyond


def test_the_page_has_the_tables_of_the_raw_results(tables):
    text = tables.README.read_text(encoding="utf-8")
    assert tables.finding.written(text, tables.tables(), program="tables.py") == text
