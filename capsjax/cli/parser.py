"""What may stand on the command line: the commands, their flags, and the help about them."""

import argparse
import functools
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from capsjax.cli.flags import Parser
from capsjax.version import __version__

OVERRIDES = (
    "Any field of the configuration can be set by a flag with its dotted name, such as "
    "--training.epochs 5 or --model.routing.gradient stop."
)

CONFIG = "a YAML file, the name of one that ships, or data: a folder of pictures, a file of arrays"

DATA = (
    "Where a run's data are now elsewhere, or others are to take their place, flags of the data say so, "
    "such as --data FOLDER, or --data.kind arrays --data.path images.npz."
)

FIELDS = "Fields of the set may be set by flags, such as --data.colour true for eth80."

EXAMPLES = {
    "train": (
        "capsjax train digits",
        "capsjax train digits --seed 3 --training.epochs 5 --out runs/mine",
        "capsjax train mine.yaml --model.routing.gradient full",
        "capsjax train FOLDER_OF_PICTURES --report",
        "capsjax train --resume runs/mine",
    ),
    "compare": (
        "capsjax compare digits",
        "capsjax compare digits --compare.modes '[stop, full]' --compare.seeds 10",
    ),
    "evaluate": (
        "capsjax evaluate runs/mine",
        "capsjax evaluate runs/mine --data fashion_mnist --split all",
        "capsjax evaluate runs/mine --step 400",
        "capsjax evaluate runs/mine --iterations 5",
    ),
    "predict": (
        "capsjax predict runs/mine picture.png FOLDER_OF_PICTURES",
        "capsjax predict runs/mine images.npy --out predictions.json",
    ),
    "report": ("capsjax report runs/mine", "capsjax report runs/one runs/two"),
    "bench": ("capsjax bench step digits", "capsjax bench routing --gradient full"),
    "step": ("capsjax bench step digits --profile", "capsjax bench step digits --batch-size 64"),
    "forward": ("capsjax bench forward digits --batch-size 64 --json",),
    "routing": (
        "capsjax bench routing --batch 32 --gradient full --votes dense",
        "capsjax bench routing --routing em --batch 32",
    ),
    "info": ("capsjax info", "capsjax info digits --model.dim 8"),
    "data": ("capsjax data list", "capsjax data fetch mnist", "capsjax data show mnist"),
    "list": ("capsjax data list",),
    "fetch": ("capsjax data fetch mnist",),
    "verify": ("capsjax data verify mnist",),
    "show": (
        "capsjax data show mnist",
        "capsjax data show eth80 --data.colour true --split test --out cows.png",
        "capsjax data show '{kind: perturbed, source: mnist, canvas: 40, changes: [affnist_like]}'",
    ),
    "completion": ("capsjax completion bash >> ~/.bash_completion",),
}


def examples(name: str) -> str:
    """Write the end of a command's help: commands that work as they are, once their directories exist."""
    return "\n".join(("examples:", *(f"  {line}" for line in EXAMPLES[name])))


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of every command; what a command does is looked up by its name."""
    # No abbreviations anywhere: `--se 3` is a misspelt flag, not whichever flag begins so today.
    parser = Parser(
        prog="capsjax",
        description="Capsule networks in JAX, with the gradient through routing as a choice.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"capsjax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    command = functools.partial(_add, commands)

    train = command("train", "Train a configuration and test it once.", OVERRIDES)
    train.add_argument("config", nargs="?", help=CONFIG)
    # Read as text: the configuration checks it, and its error names the flag as for any other field.
    train.add_argument(
        "--seed",
        help="random seed of the initial parameters, the order of examples and their shifts",
    )
    train.add_argument("--out", type=Path, help="the run's directory, which must be new")
    train.add_argument("--report", action="store_true", help="draw the report when it is done")
    begin = "a run to begin with the parameters of; layers that do not fit are initialised"
    train.add_argument("--from", dest="start", type=Path, metavar="RUN", help=begin)
    train.add_argument(
        "--resume", type=Path, metavar="RUN", help="resume a run that stopped, or lengthen one"
    )

    compare = command(
        "compare",
        "Train with uniform coupling and with each gradient mode, on the same seeds and data; report.",
        OVERRIDES,
    )
    compare.add_argument("config", nargs="?", help=CONFIG)
    compare.add_argument("--seed", help="the first random seed; the others count up from it")
    compare.add_argument("--out", type=Path, help="the comparison's directory, which must be new")
    again = "resume a comparison that stopped"
    compare.add_argument("--resume", type=Path, metavar="COMPARISON", help=again)
    several = "processes that train at once, to the same bits (default 2 on a CPU if runs are small, else 1)"
    compare.add_argument("--jobs", type=int, metavar="N", help=several)

    evaluate = command("evaluate", "Measure a run's newest parameters on the test split.", DATA)
    evaluate.add_argument("folder", metavar="RUN", type=Path, help="a run's directory")
    which = "what is measured: train, validation, test, or all (default test)"
    evaluate.add_argument("--split", default="test", metavar="SPLIT", help=which)
    when = "measure the checkpoint of this step, one of those that were kept (default the newest)"
    evaluate.add_argument("--step", type=int, metavar="N", help=when)
    times = (
        "iterations of routing instead of the run's own; LAYER=N for a layer alone, once or more"
    )
    evaluate.add_argument("--iterations", action="append", metavar="N", help=times)
    parts = (
        "1 or 13: parts of each image whose beliefs are averaged, of a run with crop_to (default 1)"
    )
    evaluate.add_argument("--crops", type=int, default=1, metavar="N", help=parts)
    size = "images that are measured at once, where memory is short"
    evaluate.add_argument(
        "--training.eval_batch_size", dest="eval_batch_size", metavar="N", help=size
    )
    way = "grain for images that come part by part, where memory is short (device for all at once)"
    evaluate.add_argument("--training.feed", dest="feed", metavar="WAY", help=way)

    predict = command(
        "predict",
        "Classify files, and write the class of each example and the scores of all classes.",
        "A row of CSV, or an object of JSON, for each picture, array of an .npy, .npz or .mat, or row of a "
        "table.",
    )
    predict.add_argument("folder", metavar="RUN", type=Path, help="a run's directory")
    what = "pictures, folders of pictures, files of arrays, tables of rows or of pictures"
    predict.add_argument("files", metavar="FILE", nargs="+", help=what)
    new = "a new file to write; JSON if it ends in .json; standard output where none is given"
    predict.add_argument("--out", type=Path, metavar="FILE", help=new)
    predict.add_argument("--json", action="store_true", help="write JSON instead of CSV")

    report = command(
        "report",
        "Draw the report of a run or a comparison, or one page of several; nothing is trained.",
        DATA,
    )
    report.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="directories of runs")
    out = "a new directory for the page of several; runs/report-<UTC time> where none is given"
    report.add_argument("--out", type=Path, help=out)

    # Neither `bench` nor `info` has it: what they print is their result.
    quiet = "no progress and no tables: results and mistakes alone"
    for sub in (train, compare, evaluate, predict, report):
        sub.add_argument("--quiet", action="store_true", help=quiet)

    _add_bench(command)
    _add_data(command)

    info = command(
        "info",
        "Show versions, devices and configurations, or one configuration in full.",
        OVERRIDES,
    )
    info.add_argument("config", nargs="?", help=CONFIG)

    completion = command(
        "completion", "Print the script that makes a shell complete commands, flags and keys."
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="bash, zsh or fish")
    return parser


def _add(commands: Any, name: str, text: str, more: str = "") -> argparse.ArgumentParser:
    """Add a command to those of the program or of another command.

    Args:
        commands: what `add_subparsers` gives.
        name: what it is called.
        text: what it does, for the help of both.
        more: what its own help adds to that.

    Returns:
        Its parser.
    """
    return commands.add_parser(
        name,
        help=text,
        description=textwrap.fill(f"{text} {more}".strip(), 90),
        epilog=examples(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the lines of the examples
        allow_abbrev=False,
    )


def _add_bench(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command that times, with one subcommand for each kind of work."""
    bench = command("bench", "Time a training step, a forward pass or routing alone.")
    # Not required by argparse, whose error would not say what there is to time.
    work = functools.partial(_add, bench.add_subparsers(dest="work", metavar="WORK"))
    step = work(
        "step",
        "Time a training step of a configuration, on random images of its data's shape.",
        OVERRIDES,
    )
    forward = work("forward", "Time the network's forward pass alone, as at evaluation.", OVERRIDES)
    routing = work(
        "routing",
        "Time value and gradient of routing alone; the sizes are the 2017 network's.",
    )
    for sub in (step, forward):
        sub.add_argument("config", help="a YAML file, or the name of one that ships")
        sub.add_argument("--batch-size", type=int, metavar="N", help="images in a batch")
    parts = "also show which parts take the time"
    step.add_argument("--profile", action="store_true", help=parts)
    for flag, text in (
        ("--batch", "examples"),
        ("--children", "child capsules i"),
        ("--parents", "parent capsules j"),
        ("--in-dim", "components d of a child's pose"),
        ("--out-dim", "components e of a parent's pose"),
        ("--num-iters", "readouts r"),
    ):
        routing.add_argument(flag, type=int, metavar="N", help=text)
    kind = "kind of routing, such as em (default dynamic)"
    routing.add_argument("--routing", default="dynamic", help=kind)
    mode = "gradient mode, such as full (default stop, where it iterates)"
    routing.add_argument("--gradient", help=mode)
    routing.add_argument("--votes", default="auto", help="linear, dense or auto")
    times, repeats = "times in each call (default 1)", "timings to take (default 10)"
    line = "print the figures as one line of JSON at the end"
    for sub in (step, forward, routing):
        sub.add_argument("--times", type=int, default=1, metavar="N", help=times)
        sub.add_argument("--repeats", type=int, default=10, metavar="N", help=repeats)
        sub.add_argument("--json", action="store_true", help=line)


def _add_data(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command about published sets, with one subcommand for each thing that is done with one."""
    data = command("data", "List, download, check and show the sets that others published.")
    # Not required by argparse, whose error would not say what there is to do.
    task = functools.partial(_add, data.add_subparsers(dest="task", metavar="TASK"))
    task("list", "List the sets: size, classes, licence, and where each is, if it is there.")
    fetch = task(
        "fetch",
        "Download a set to where it is looked for, and check it; what is there stays.",
        FIELDS,
    )
    verify = task(
        "verify", "Check the files of a set by their SHA-256, and count its images.", FIELDS
    )
    show = task(
        "show", "Draw images of each class of a set, or of data of one's own, as PNG.", FIELDS
    )
    name = "what a configuration calls the set"
    for sub in (fetch, verify):
        sub.add_argument("set", metavar="NAME", help=name)
    own = (
        f"{name}, fields of data in braces, a folder, a file of arrays, a table or a configuration"
    )
    show.add_argument("set", metavar="NAME", help=own)
    for sub in (fetch, show):
        sub.add_argument("--quiet", action="store_true", help="no progress: the result alone")
    out = "a new file to write; NAME.png where none is given"
    show.add_argument("--out", type=Path, metavar="FILE", help=out)
    which = "train, validation or test (default train)"
    show.add_argument("--split", default="train", metavar="SPLIT", help=which)
