"""What is said of runs and comparisons that stopped, or are resumed with other settings, is so."""

import dataclasses
import json
import shutil
import warnings

import jax.numpy as jnp
import pytest

import capsjax as cj
from capsjax import cli
from capsjax.checks import UserError
from capsjax.runs import advice, directory
from capsjax.runs.finetune import transfer
from capsjax.runs.folder import Folder
from capsjax.runs.run import Run
from capsjax.runs.sources import check_length, check_overrides
from capsjax.study.design import variant
from capsjax.study.trial_runner import check_planned
from capsjax.training import checkpoints

SMOKE = cj.load_config("smoke")


@pytest.fixture
def comparison(tmp_path):
    """A comparison that stopped in its first run."""
    folder = tmp_path / "compared"
    run = folder / "runs" / "stop-seed0"
    run.mkdir(parents=True)
    for place, config in ((folder, SMOKE), (run, variant(SMOKE, "stop", 0))):
        directory.write_config(place, config)
        directory.write_json(place / "environment.json", {"data": {}})
    return folder


def write_lines(folder, *lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)


def a_test(step):
    return {"split": "test", "step": step, "loss": 0.5, "error": 0.5}


def test_a_run_of_a_comparison_is_resumed_with_it_until_it_is_tested(comparison, tmp_path):
    run = comparison / "runs" / "stop-seed0"
    command = advice.how_to_resume(run, SMOKE)[1]
    assert command == f"capsjax compare --resume {comparison}"
    write_lines(run, a_test(24))
    assert advice.how_to_resume(run, SMOKE)[1] == f"capsjax train --resume {run}"
    by_itself = comparison / "runs" / "smoke-20260101T000000Z"
    by_itself.mkdir()
    assert advice.how_to_resume(by_itself, SMOKE)[1] == f"capsjax train --resume {by_itself}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training.epochs": 99}, "got another length than the comparison's"),
        ({"seed": 7}, "got another configuration than the comparison's"),
    ],
)
def test_a_finished_run_of_another_configuration_is_not_the_comparison_s(comparison, change, said):
    run, config = comparison / "runs" / "stop-seed0", variant(SMOKE, "stop", 0)
    write_lines(run, a_test(24))
    check_planned(run, config)
    directory.write_config(run, directory.read_config(run, change))
    with pytest.raises(UserError, match=f"stop-seed0: {said}.*move this run away"):
        check_planned(run, config)


def test_a_comparison_that_stopped_is_offered_and_is_no_run(comparison, capsys):
    assert cli.main(["compare", "smoke", "--out", str(comparison)]) == 2
    said = f"to resume the comparison that stopped there: capsjax compare --resume {comparison}"
    assert said in capsys.readouterr().err
    expected = f"got a comparison, expected a single run, such as {comparison}/runs/stop-seed0"
    for words in (["evaluate"], ["train", "smoke", "--from"]):
        assert cli.main([*words, str(comparison)]) == 2
        assert expected in capsys.readouterr().err


def test_a_run_that_stopped_while_it_was_lengthened_is_one_that_stopped(tmp_path):
    environment = {
        "image_shape": [8, 8, 1],
        "num_classes": 10,
        "scale": 1.0,
        "fingerprint": "0" * 64,
        "examples": {"train": 8 * SMOKE.training.batch_size},
    }
    directory.write_json(tmp_path / "environment.json", {"data": environment})
    directory.write_config(tmp_path, SMOKE)
    write_lines(tmp_path, a_test(8 * SMOKE.training.epochs))
    assert Folder(tmp_path).stopped is None
    directory.write_config(tmp_path, directory.read_config(tmp_path, {"training.epochs": 99}))
    assert Folder(tmp_path).stopped is not None
    run = Run(SMOKE, tmp_path, {}, 1.0, (8, 8, 1), 10, 30)
    assert run.mismatch().startswith("got a run of 24 steps that stopped at step 30 while it was")
    assert "got the parameters of step 8" in dataclasses.replace(run, step=8).mismatch()


@pytest.mark.parametrize(
    ("epochs", "reached", "said"),
    [
        (2, 8, "training.epochs: got 2, expected more than 3, the epochs that the run is to have"),
        (4, 40, "training.epochs: got 4, expected more than 5, the epochs that are trained"),
    ],
)
def test_a_run_is_not_shortened_in_the_unit_of_its_length(epochs, reached, said):
    examples = 8 * SMOKE.training.batch_size
    training = dataclasses.replace(SMOKE.training, epochs=epochs)
    after = dataclasses.replace(SMOKE, training=training)
    with pytest.raises(UserError) as caught:
        check_length(SMOKE, after, examples, reached)
    assert str(caught.value).startswith(said)
    assert caught.value.argument == "training.epochs"
    check_length(after, after, examples, 99)  # no other length is asked for
    training = dataclasses.replace(SMOKE.training, epochs=6, eval_batch_size=7)
    longer = dataclasses.replace(SMOKE, training=training)
    check_length(SMOKE, longer, examples, reached)
    check_overrides(SMOKE, longer, {})


def test_errors_name_commands_on_the_command_line():
    with pytest.raises(UserError) as caught:
        check_overrides(SMOKE, dataclasses.replace(SMOKE, seed=9), {"seed": 9})
    assert caught.value.on_command_line.endswith("capsjax train CONFIG --from RUN")
    with pytest.raises(UserError) as caught:
        transfer({}, {"stem.kernel": jnp.zeros(3)})
    assert cli.for_command_line(caught.value, {"--from"}, []).startswith(
        "--from: got a network of which no"
    )


def test_training_anew_begins_with_the_same_run_and_file(tmp_path):
    directory.write_json(tmp_path / "environment.json", {"start": {"folder": "/a b"}})
    call, command = advice.how_to_train_anew(tmp_path, SMOKE, {"optimiser.schedule.rate": 1e-3})
    assert call.endswith(", start='/a b')")
    source = tmp_path / "config.yaml"
    flags = "--optimiser.schedule.rate 0.001 --from '/a b'"
    assert command == f"capsjax train {source} {flags}"
    filed = cj.load_config("smoke", {"data": {"kind": "arrays", "path": "x.npz"}})
    assert advice.how_to_train_anew(tmp_path, filed, {})[1].startswith("capsjax train ")
    own = cj.load_config("smoke", {"data": {"kind": "arrays"}})
    assert ", data, start=" in advice.how_to_train_anew(tmp_path, own, {})[1]


def test_a_warning_shows_the_line_of_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoints.warn("damaged")
    assert caught[0].filename == __file__


def test_a_finished_run_is_lengthened_by_what_is_said(tmp_path, capsys):
    training = {"epochs": None, "steps": 1}
    run = cj.train(cj.load_config("smoke", {"training": training}), out=tmp_path / "run")
    assert cli.main(["train", "--resume", str(run.folder)]) == 2
    told = capsys.readouterr().err
    assert f"to lengthen it: capsjax train --resume {run.folder} --training.steps 2\n" in told
    assert cli.main(["train", "--resume", str(run.folder), "--training.steps", "2"]) == 0
    assert cj.load(run.folder).test["step"] == 2
    (run.folder / "metrics.jsonl").unlink()
    assert "Nothing is measured yet" in cj.report(run.folder).read_text()
    shutil.rmtree(run.folder)
