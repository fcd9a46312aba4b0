"""Flags of the command line: every one described, and every mistake answered with what was meant."""

import argparse
import re
import shlex

import pytest

from capsjax.cli import steps
from capsjax.cli.flags import USUAL_FLAGS, options_of, parse_overrides, set_overrides_aside
from capsjax.cli.parser import EXAMPLES, make_parser
from capsjax.runs.config import Config, load_config
from capsjax.schema.errors import all_keys
from capsjax.schema.names import USUAL

COMMANDS = (
    "train",
    "compare",
    "evaluate",
    "predict",
    "report",
    "bench",
    "data",
    "info",
    "completion",
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("CAPSJAX_DATA", raising=False)


def test_help_lists_the_commands_that_work(answer):
    code, out, _ = answer("--help")
    assert code == 0
    listed = re.findall(r"^    (\w+)(?: |$)", "\n".join(out), re.M)
    assert listed == list(COMMANDS)
    assert answer()[:2] == (0, out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_has_a_description(command, answer):
    parser = make_parser()._subparsers._group_actions[0].choices[command]
    code, out, _ = answer(command, "--help")
    text = " ".join(" ".join(out).split())
    assert code == 0
    assert parser._actions
    for action in parser._actions:
        if command in ("bench", "data") and not action.option_strings:
            continue  # their own subcommands, which test_bench and test_data look at
        assert action.help
        assert " ".join(action.help.split()) in text
        for flag in action.option_strings:
            assert flag in text
    if command in ("train", "compare", "info"):
        assert "--training.epochs 5" in text
    expected = {
        "train": {"--seed", "--out", "--from", "--resume", "--report", "--quiet"},
        "compare": {"--seed", "--out", "--resume", "--jobs", "--quiet"},
        "evaluate": {
            "--crops",
            "--iterations",
            "--quiet",
            "--split",
            "--step",
            "--training.eval_batch_size",
            "--training.feed",
        },
        "predict": {"--out", "--json", "--quiet"},
        "report": {"--out", "--quiet"},
    }
    flags = {flag for action in parser._actions for flag in action.option_strings}
    assert flags == {"-h", "--help"} | expected.get(command, set())


def test_flags_may_stand_before_the_configuration(answer):
    before = answer("info", "--data", "digits", "--seed", "3", "--model.dim", "6", "smoke")
    after = answer("info", "smoke", "--data", "digits", "--seed", "3", "--model.dim=6")
    assert before == after
    assert before[0] == 0
    assert "seed: 3" in before[1]


def test_help_is_no_value(answer):
    code, out, _ = answer("info", "--model.dim", "-h")
    assert code == 0
    assert out[0].startswith("usage: capsjax info")


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("train smok", ["smok: got no such file", "did you mean 'smoke'?"]),
        ("train smoke --sed 3", ["--sed: unknown flag", "did you mean '--seed'?"]),
        ("bench step smoke --profle", ["--profle: unknown flag", "did you mean '--profile'?"]),
        ("train smoke --verbose", ["--verbose: unknown flag", "--resume", "a field of the config"]),
        ("train .", [": got an empty folder, expected a folder of pictures for each class"]),
        ("train smoke --seed x", ["--seed: got 'x'", "expected an integer"]),
        ("train smoke --training.epochs many", ["--training.epochs: got 'many'", "an integer"]),
        ("train smoke --training.batch_size 0", ["got 0", "an integer of at least 1"]),
        ("train smoke --max_shift -1", ["--max_shift: got -1", "at least 0"]),
        ("train smoke --model.routing dynami", ["got 'dynami'", "did you mean 'dynamic'?"]),
        ("train smoke --model.routing EM", ["got 'EM'", "did you mean 'em'?"]),
        ("train smoke --model.routing.kind self_routing", ["did you mean 'self'?"]),
        ("train smoke --model.routing.gradient stpo", ["got 'stpo'", "did you mean 'stop'?"]),
        ("train --training.epochs many smoke", ["--training.epochs: got 'many'", "an integer"]),
        ("train --training.epochs=2 smoke --max_shift -1", ["--max_shift: got -1", "at least 0"]),
        ("train --training.epochs 2 smok", ["smok: got no such file", "did you mean 'smoke'?"]),
        ("train photos", ["photos: got no such file or folder, expected data: a folder", "usps"]),
        ("train x.npz", ["x.npz: got no such file or folder, expected data:", ".npy, .mat)"]),
        ("train smoke --data photos", ["--data: got 'photos', no such file or folder", "usps"]),
        ("evaluate here --data there", ["--data: got 'there', no such file or folder", "(.npz"]),
        ("evaluate here --data mnst", ["--data: got 'mnst', no such file", "mean 'mnist'?"]),
        ("train smoke --training.epochs", ["--training.epochs: no value"]),
        (
            "train smoke --model.routing.gradient implicit",
            ["--model.routing.gradient: got 'implicit'", "full or closed_form", "kind fixed_point"],
        ),
        (
            "train smoke --model.routing.tolerance 0.1",
            ["--model.routing.tolerance: got 0.1", "expected null with gradient full", "implicit"],
        ),
        ("train smoke more", ["got 'more' on the command line", "a flag such as"]),
        ("train smoke --data arrays", ["data: got none, expected the arrays", "--data.path FILE"]),
        ("train", ["got no configuration, expected one", "--resume RUN"]),
        ("train --model.dim smoke", ["'smoke' was taken as the value of --model.dim"]),
        ("train --trainin 3 smoke", ["--trainin: unknown flag", "did you mean '--training'?"]),
        ("bench forward --steps 2 smoke", ["--steps: unknown flag", "'--training.steps'?"]),
        ("info --seed many smoke", ["--seed: got 'many'"]),
        (
            "train --training.epochs 2000000000 smoke",
            ["got 2000000000 of 8 steps", "at most 2147483647 steps"],
        ),
        ("train smoke --resume here", ["got --resume with more beside it, expected it alone"]),
        ("train --resume here", ["here: got no directory"]),
        (
            "train smoke --out .",
            ["--out: got '.', which exists", "choose another, or leave it out"],
        ),
        ("compare", ["got no configuration, expected one, or --resume COMPARISON"]),
        ("compare smok", ["did you mean 'smoke'?"]),
        (
            "compare smoke --out .",
            ["--out: got '.', which exists", "choose another, or leave it out"],
        ),
        ("compare smoke --model.routing uniform", ["expected an iterative routing"]),
        (
            "compare smoke --model.routing self",
            ["set model.routing.kind to dynamic, "],
        ),
        ("compare smoke --compare.mode [stop,full]", ["unknown key", "did you mean 'modes'?"]),
        ("compare smoke --compare.modes [stop]", ["expected a list of different modes of uniform"]),
        ("train smoke --training.freeze stem", ["got 'stem'", "expected a list, such as [stem]"]),
        ("train smoke --training.freeze [a,a]", ["a list of different groups", "[stem, primary]"]),
        (
            "train smoke --data mine.npz",
            ["data: got 'mine.npz', no such file or folder, expected a folder with"],
        ),
        ("compare smoke --model.routing.num_iters 1", ["num_iters 1, expected at least 2"]),
        ("compare smoke --compare.modes [stop,ful]", ["got 'ful'", "did you mean 'full'?"]),
        ("evaluate here", ["here: got no directory, expected a run's directory"]),
        (
            "evaluate here --fast",
            ["--fast: unknown flag, expected one of --crops, --help, --iterations"],
        ),
        ("evaluate", ["required: RUN"]),
        ("report here", ["here: got no directory"]),
        ("info smok", ["did you mean 'smoke'?"]),
        ("info --hepl", ["--hepl: unknown flag", "did you mean '--help'?"]),
        ("trian smoke", ["invalid choice: 'trian'", "did you mean 'train'?"]),
        ("--verison", ["got '--verison'", "did you mean '--version'?"]),
    ],
)
def test_a_mistake_is_answered_in_two_lines_with_2(argv, parts, answer, tmp_path):
    code, out, err = answer(*argv.split())
    assert code == 2
    assert out == []
    assert 1 <= len(err) <= 2
    assert err[0].startswith("capsjax")
    for part in parts:
        assert part in "\n".join(err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        ("train smoke --lr 3", "--optimiser.schedule.rate"),
        ("train smoke --learning-rate 3", "--optimiser.schedule.rate"),
        ("train smoke -lr 3", "--optimiser.schedule.rate"),
        ("train smoke --optimizer.lr 3", "--optimiser.schedule.rate"),
        ("train smoke --batch-size 3", "--training.batch_size"),
        ("train smoke --batch_size=3", "--training.batch_size"),
        ("train smoke --Batch-Size 3", "--training.batch_size"),
        ("train smoke --epochs 3", "--training.epochs"),
        ("train smoke --epoch 3", "--training.epochs"),
        ("train smoke --training.batch-size 3", "training.batch_size"),
        ("train smoke --training.lr 3", "optimiser.schedule.rate"),
        ("train smoke --schedule.rate 3", "--optimiser.schedule.rate"),
        ("train smoke --num-iters 3", "--model.routing.num_iters"),
        ("train smoke --iterations 3", "--model.routing.num_iters' or '--training.steps"),
        (
            "train smoke --tolerance 3",
            "--model.routing.tolerance' or '--model.routing.gradient.tolerance",
        ),
        ("train smoke --max-steps 3", "--model.routing.gradient.max_steps' or '--training.steps"),
        ("train smoke --output-dir here", "--out"),
        ("train smoke -q", "--quiet"),
        ("train smoke --quite", "--quiet"),
        ("train smoke --checkpoint here", "--resume"),
        ("compare digits --seeds 10", "--compare.seeds"),
        ("compare digits --modes [full]", "--compare.modes"),
        ("evaluate here --silent", "--quiet"),
        ("bench step smoke --batch_size 3", "--batch-size"),
        ("bench routing --num_iters 3", "--num-iters"),
        ("info smoke --optimizer adam", "--optimiser"),
    ],
)
def test_what_other_programs_call_so_is_found(argv, meant, answer):
    code, _, err = answer(*argv.split())
    assert code == 2
    assert "\n".join(err).endswith(f"; did you mean '{meant}'?")


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_beside_a_run_flags_of_the_data_alone_are_suggested(command, answer):
    code, _, err = answer(command, "here", "--foo", "3")
    assert code == 2
    assert err[0].endswith("or a field of the data, such as --data.path images.npz")
    said = answer(command, "here", "--pth", "x.npz")[2][0]
    assert "; did you mean '--data.path' or '--data.source.path'" in said


@pytest.mark.parametrize("word", ["--verbose", "--gpu", "-v"])
def test_what_is_like_nothing_gets_no_suggestion(word, answer):
    code, _, err = answer("train", "smoke", word, "3")
    assert code == 2
    assert err[0].endswith("or a field of the configuration, such as --seed 3")


def test_usual_names_are_of_keys_that_there_are():
    keys = all_keys(Config)
    assert {key for named in USUAL.values() for key in named} <= set(keys)


def test_usual_flags_are_those_of_a_command():
    commands = make_parser()._subparsers._group_actions[0].choices.values()
    known = {flag for command in commands for flag in command._option_string_actions}
    assert set(USUAL_FLAGS.values()) <= known


def test_a_key_of_another_kind_names_the_kind(answer):
    code, _, err = answer("train", "smoke", "--optimiser.schedule.decay", "0.9")
    assert code == 2
    assert (
        err[1]
        == "  expected one of rate, warmup, warmup_fraction, kind; decay belongs to kind exponential"
    )


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("command", ["train", "compare"])
def test_quiet_leaves_results_alone(command, answer):
    few = ["--training.epochs", "1", "--compare.seeds", "1", "--compare.modes", "[stop, full]"]
    code, out, err = answer(command, "smoke", "--quiet", "--out", "run", *few)
    assert (code, err) == (0, [])
    last = "run: run" if command == "train" else "report: run/report.html"
    assert out[-1] == last
    assert len(out) == 2
    said = (
        r"test error .* %"
        if command == "train"
        else r"One seed cannot tell stop from full: .* may\."
    )
    assert re.match(said, out[0])
    folder = "run" if command == "train" else "run/runs/full-seed0"
    assert answer("evaluate", "--quiet", folder)[2] == []
    assert answer("report", folder, "--quiet")[1] == [f"report: {folder}/report.html"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_help_are_commands_as_they_are(name, answer):
    above = ["bench"] if name in ("step", "forward", "routing") else []
    above = ["data"] if name in ("list", "fetch", "verify", "show") else above
    code, out, _ = answer(*above, name, "--help")
    shown = out[out.index("examples:") + 1 :]
    assert code == 0
    assert shown == [f"  {line}" for line in EXAMPLES[name]]
    for line in shown:
        words = shlex.split(line.split(" >> ")[0])[1:]
        parser = make_parser()
        options = options_of(parser, words)
        own, overrides = set_overrides_aside(options, words)
        known, rest = parser.parse_known_args(own)
        assert (known.command, rest) == ((above or [name])[0], [])
        if overrides:
            data = {"data.kind": known.set} if name == "show" else {}
            load_config("digits", data | parse_overrides(overrides))


def test_a_command_keeps_the_data_that_it_was_given(tmp_path):
    given = argparse.Namespace(config=str(tmp_path), options=set())
    assert steps.read(given, []).data.path == given.config == str(tmp_path)
