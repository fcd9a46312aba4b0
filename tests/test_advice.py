"""Advice in errors, followed to the letter, works and loses nothing."""

import ast
import hashlib
import re
import shlex
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import capsjax as cj
from capsjax.bench import routing
from capsjax.checks import UserError
from capsjax.cli.flags import parse_overrides
from capsjax.runs.metrics_file import read_metrics
from capsjax.runs.plan import plan
from capsjax.runs.remedies import check_finite
from capsjax.study.compare import variant
from capsjax.training.state import TrainState

PACKAGE = Path(cj.__file__).parent


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return cj.train("smoke", out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def stopped(finished, tmp_path):
    """A copy of a run, stopped before its last checkpoint and its test, in a folder that a shell misreads."""
    folder = tmp_path / "it's a run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "checkpoints" / "24")
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"step": 24' not in line))
    return folder


def hash_of(folder):
    """Return the checksum of every file below a folder."""
    return {p: hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*") if p.is_file()}


def said(answered):
    """Join what a command printed; its exit code stays beside it."""
    code, out, err = answered
    return code, "\n".join(out + err)


@pytest.fixture
def follow(answer):
    """Run the command that stands in a text after some words; its exit code and output."""

    def run(text, before, *more):
        words = shlex.split(text.split(before)[1].splitlines()[0])
        assert words[0] == "capsjax"
        return said(answer(*words[1:], *more))

    return run


def texts(tree):
    """List the strings of a file that are not documentation."""
    documented = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if text and id(node) not in documented:
            yield node.value


def test_no_error_of_the_library_begins_with_a_flag():
    files = [file for file in PACKAGE.rglob("*.py") if file.parent.name != "cli"]
    found = {text for file in files for text in texts(ast.parse(file.read_text()))}
    assert {text for text in found if re.match(r"--[\w.-]+: ", text)} == set()


def test_a_run_that_stopped_is_resumed_by_what_its_errors_say(stopped, finished, answer, follow):
    wanted = read_metrics(finished.folder / "metrics.jsonl")[-1]
    with pytest.raises(UserError, match=r"^out: ") as caught:
        cj.train("smoke", out=stopped)
    assert f"capsjax.resume({str(stopped)!r})" in str(caught.value)
    code, text = said(answer("train", "smoke", "--out", stopped))
    assert code == 2
    assert text.startswith("capsjax train: --out: got ")
    code, text = follow(text, "to resume the run that stopped there: ")
    assert code == 0, text
    assert read_metrics(stopped / "metrics.jsonl")[-1] == wanted
    # Finished, it is measured again by what the next answer says, and no longer offered to be resumed.
    code, text = said(answer("train", "--resume", stopped))
    assert code == 2
    code, text = follow(text, "to measure it again: ")
    assert code == 0
    assert f"test error {100 * wanted['error']:.2f} %" in text
    code, text = said(answer("train", "smoke", "--out", stopped))
    assert (code, "resume" in text) == (2, False)
    assert "choose another, or leave it out" in text


def test_a_run_without_its_test_says_how_to_resume_it(stopped):
    with pytest.raises(UserError) as caught:
        _ = cj.load(stopped).test
    command = caught.value.on_command_line.split("resume it: ")[1]
    assert shlex.split(command) == ["capsjax", "train", "--resume", str(stopped)]


def test_a_run_on_arrays_is_resumed_with_its_arrays(stopped):
    path = stopped / "config.yaml"
    path.write_text(
        re.sub("kind: digits.*?\n(?=\\w)", "kind: arrays\n", path.read_text(), flags=re.S)
    )
    with pytest.raises(UserError) as caught:
        cj.train("smoke", out=stopped)
    for text in (str(caught.value), caught.value.on_command_line):
        assert f"capsjax.resume({str(stopped)!r}, data), with the data it began with" in text


@pytest.mark.parametrize(
    "words", [["train", "smoke"], ["compare", "smoke", "--compare.seeds", "1"]]
)
@pytest.mark.parametrize("out", [["--out", "a b"], ["--out=a b"], []])
def test_what_is_interrupted_early_is_started_again(words, out, answer, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"capsjax.cli.{words[0]}.read", interrupt)
    code, text = said(answer(*words, *out))
    assert code == 130
    again = text.split("Start again with: ")[1]
    assert shlex.split(again) == ["capsjax", *words]


def test_a_fixed_point_is_timed_by_what_the_error_says(answer, as_installed):
    code, text = said(answer("bench", "routing", "--gradient", "implicit"))
    assert code == 2
    assert text.startswith("capsjax bench: --gradient: got 'implicit'")
    config = cj.load_config(
        "digits", {"model.routing": {"kind": "fixed_point", "gradient": "implicit"}}
    )
    with pytest.raises(UserError) as caught:
        routing.gradient_named("implicit")
    call = str(caught.value).split("time what has one with ")[1]
    work = eval(call, {"cj": cj, "step_work": lambda found: found})
    assert work == config
    command = caught.value.on_command_line.split("time what has one with ")[1]
    words = shlex.split(command)[1:]
    code, text = said(answer(*words, "--repeats", "1", "--batch-size", "8"))
    assert code == 0
    assert "implicit" in text


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["step", "smoke", "--times", "0"], "--times: got 0"),
        (["routing", "--repeats", "0", "--batch", "2", "--children", "2"], "--repeats: got 0"),
        (["step", "smoke", "--batch-size", "0"], "--batch-size: got 0, expected an integer"),
        (["routing", "--in-dim", "0"], "--in-dim: got 0, expected an integer"),
        (["step", "smoke", "--data.kind", "arrays"], "--data.kind: got arrays"),
        (["forward", "smoke", "--batch-size", "2000000"], "--batch-size: got 2000000 images"),
    ],
)
def test_the_command_line_names_its_flag(words, flag, answer, as_installed):
    code, text = said(answer("bench", *words))
    assert code == 2
    assert flag in text


@pytest.mark.parametrize(
    "overrides",
    [
        {"loss.reconstruction_weight": 3e38},
        {"optimiser.schedule.rate": 1e30},
        {"optimiser.epsilon": 1e-45},
        {
            "model.routing": {
                "kind": "fixed_point",
                "gradient": {"kind": "implicit", "max_steps": 1},
            }
        },
    ],
    ids=lambda value: next(iter(value)),
)
def test_training_that_is_not_finite_ends_by_what_the_error_says(overrides, tmp_path):
    overrides = overrides | {"training.epochs": 1}
    with pytest.raises(UserError, match=r"not finite|expected a finite number") as caught:
        cj.train(cj.load_config("smoke", overrides), out=tmp_path / "bad")
    text = str(caught.value).split("; or ")[0]
    advised = dict(re.findall(r"([a-z_.]+) to ([-+.e\d]+)(?=[ ,]|$)", text))
    assert advised
    if "model.routing" in overrides:
        assert advised.keys() == {
            f"model.routing.{name}" for name in ("tolerance", "num_iters", "gradient.max_steps")
        }
    else:
        assert advised.keys() == overrides.keys() - {"training.epochs"}
    flags = [word for item in advised.items() for word in (f"--{item[0]}", item[1])]
    config = cj.load_config("smoke", overrides | parse_overrides(flags))
    assert np.isfinite(cj.train(config, out=tmp_path / "good").test["loss"])


@pytest.mark.parametrize("kind", ["digits", "arrays"])
def test_a_run_whose_checkpoint_holds_nan_is_trained_anew(kind, stopped, finished, follow):
    before = hash_of(stopped)
    config = cj.load_config(stopped / "config.yaml", {"data": "arrays"} if kind == "arrays" else {})
    state = TrainState.create({"w": jnp.full(3, jnp.nan)}, optax.sgd(1.0))
    with pytest.raises(UserError, match=r"\(w\) in the checkpoint of step 0") as caught:
        check_finite(stopped, config, state)
    call = str(caught.value).split("train anew: ")[1]
    loaded = finished.config.data.load()
    splits = loaded.splits().items()
    data = {name: (np.float32(split.images / 16), split.labels) for name, split in splits}
    assert (", data)" in call) == (kind == "arrays")
    run = eval(call, {"capsjax": cj, "data": data})
    assert run.config.optimiser.schedule.rate == pytest.approx(1e-3)
    assert np.isfinite(run.test["loss"])
    text = caught.value.on_command_line
    if kind == "arrays":
        assert text.split("train anew: ")[1] == f"in Python, {call}"
    else:
        code, text = follow(text, "train anew: ", "--training.epochs", "1")
        assert code == 0, text
    assert hash_of(stopped) == before


def test_resuming_looks_for_nan(stopped, monkeypatch):
    def refuse(folder, config, state):
        raise UserError(f"step {int(state.step)}")

    monkeypatch.setattr("capsjax.runs.remedies.check_finite", refuse)
    with pytest.raises(UserError, match="step 16"):
        cj.resume(stopped)


def planned(config):
    """Go as far as a comparison does before it computes."""
    dataset = config.data.load()
    for mode in config.compare.modes:
        plan(variant(config, mode, 0), dataset)
    return config


@pytest.mark.parametrize(
    ("mistaken", "advice", "followed"),
    [
        (
            {"model.routing": "uniform"},
            "set model.routing.kind to dynamic",
            {"model.routing.kind": "dynamic"},
        ),
        (
            {"model.routing.num_iters": 1},
            "num_iters 1, expected at least 2",
            {"model.routing.num_iters": 2},
        ),
        (
            {"model.routing.tolerance": 0.1, "model.routing.gradient": "stop"},
            "tolerance 0.1 with mode truncated, expected null",
            {"model.routing.tolerance": None},
        ),
        (
            {"training.steps": 5},
            "set training.epochs or training.steps to null",
            {"training.epochs": None},
        ),
        (
            {"training.batch_size": 100_000},
            "for 1097 training examples, expected at most 1097",
            {"training.batch_size": 1097},
        ),
        (
            {"optimiser.schedule": {"kind": "cosine", "warmup": 500}},
            "less than the 24 steps of the run: train longer, or set it to 0",
            {"optimiser.schedule.warmup": 0},
        ),
        (
            {"model.routing.gradient": {"kind": "truncated", "last": 3}},
            "at most 2: num_iters = 3 makes 2 updates",
            {"model.routing.gradient.last": 2},
        ),
        (
            {"model.routing.gradient": "implicit"},
            "or kind fixed_point beside it, which has one",
            {"model.routing.kind": "fixed_point"},
        ),
        (
            {"optimiser.schedule.decay": 0.9},
            "decay belongs to kind exponential",
            {"optimiser.schedule.kind": "exponential"},
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_configuration_works_by_what_its_error_says(mistaken, advice, followed, as_installed):
    with pytest.raises(UserError) as caught:
        planned(cj.load_config("smoke", mistaken))
    assert advice in caught.value.on_command_line
    planned(cj.load_config("smoke", mistaken | followed))
