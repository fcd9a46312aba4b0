"""A run's directory is made new, and read back with words for what is wrong."""

import datetime
import json
from pathlib import Path

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import Digits
from capsjax.runs import create, description, directory


def test_a_directory_is_new_and_empty_whatever_it_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [create.create(None, "digits") for _ in range(3)]
    assert len(set(folders)) == 3
    for folder in folders:
        assert folder.parent.name == "runs"
        assert list(folder.iterdir()) == []
        stamp = folder.name.split("-")[1]
        made = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        assert abs(datetime.datetime.now(datetime.UTC) - made) < datetime.timedelta(minutes=1)


def test_a_chosen_directory_is_made_with_its_parents(tmp_path):
    folder = create.create(tmp_path / "a" / "b", "ignored")
    assert folder == tmp_path / "a" / "b"
    assert folder.is_dir()


@pytest.mark.parametrize("kind", ["directory", "file", "full directory"])
def test_what_exists_is_refused(tmp_path, kind):
    out = tmp_path / "run"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
    if kind == "full directory":
        (out / "mine").write_text("mine")
    with pytest.raises(UserError) as caught:
        create.create(out, "digits")
    assert str(caught.value) == (
        f"out: got '{out}', which exists, expected a new directory; choose another, or leave it out"
    )
    assert out.exists()


def test_a_configuration_comes_back(tmp_path):
    config = cj.load_config("digits", {"seed": 7, "model.routing.gradient": "stop"})
    directory.write_config(tmp_path, config)
    assert directory.read_config(tmp_path) == config


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "values.json"
    directory.write_json(path, {"a": [1, 2.5, None]})
    assert directory.read_json(path) == {"a": [1, 2.5, None]}
    with pytest.raises(TypeError):
        directory.write_json(path, {"a": object()})
    assert directory.read_json(path) == {"a": [1, 2.5, None]}
    assert [p.name for p in tmp_path.iterdir()] == ["values.json"]


def test_the_environment_says_what_a_run_ran_on():
    dataset = Digits().load()
    found = description.describe(cj.load_config("smoke"), dataset)
    assert json.loads(json.dumps(found)) == found
    assert found["data"]["fingerprint"] == dataset.fingerprint()
    assert found["data"]["image_shape"] == [8, 8, 1]
    assert (found["data"]["name"], found["data"]["num_classes"]) == ("digits", 10)
    assert found["data"]["scale"] == 1 / 16
    assert set(description.PACKAGES) == set(found["packages"])
    assert found["parallel"] == "jit"
    started = datetime.datetime.fromisoformat(found["started"])
    assert started.tzinfo is not None
    assert found["devices"] == [f"{found['devices'][0]}"] * 4


def test_a_name_taken_between_a_look_and_the_making_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert len({create.create(None, "x") for _ in range(3)}) == 3


def test_json_holds_no_token_that_json_does_not_have(tmp_path):
    path = tmp_path / "values.json"
    directory.write_json(path, {"a": [float("nan"), 1.5], "b": {"c": (float("inf"), 2)}})
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert directory.read_json(path) == {"a": [None, 1.5], "b": {"c": [None, 2]}}
