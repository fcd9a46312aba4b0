"""The command line: every command a thin call of what notebooks call."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from capsjax import memory, signals, streams
from capsjax.checks import UserError, nearest, printable
from capsjax.clibench import bench
from capsjax.clicompletion import completion
from capsjax.cliflags import options_of, set_overrides_aside, told
from capsjax.cliparser import make_parser
from capsjax.clisteps import (
    no_flags,
    progress,
    read,
    read_data,
    read_overrides,
    show,
    start_jax,
    written,
)

COMPUTING = ("train", "compare", "evaluate", "bench")


def start() -> int:
    """Run the command line of this process, whatever becomes of its streams and whoever sends signals."""
    streams.secure()
    signals.install()
    try:
        code = run()
    except SystemExit as answered:  # by --help, or a misspelt word
        code = int(answered.code or 0)
    return streams.end(code)


def run() -> int:
    """Run the command line of this process, with large pages of memory for commands that compute."""
    if len(sys.argv) > 2 and sys.argv[1] in COMPUTING and not {"-h", "--help"} & set(sys.argv):
        memory.restart_with_large_pages()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the command line, without the program; None for this process's.

    Returns:
        0 when done, 2 for a mistake that the user can fix, 128 + the signal's number where one ended the
        command, 1 for anything else.
    """
    parser = make_parser()
    words = sys.argv[1:] if argv is None else argv
    options = options_of(parser, words)
    own, overrides = set_overrides_aside(options, words)
    known, rest = parser.parse_known_args(own)
    known.options = options - {"--version"}
    rest += overrides
    if known.command is None:
        if rest:
            hint = nearest(rest[0], ("--help", "--version"))
            parser.error(f"got {rest[0]!r}, expected a command{hint}")
        parser.print_help()
        return 0
    title = f"capsjax {known.command}"
    signals.advise(f"Start again with: {shlex.join(['capsjax', *_without_out(words)])}", title)
    try:
        return COMMANDS[known.command](known, rest) or signals.code() or 0
    except UserError as error:
        _say(f"{title}: {told(error, options, rest)}")
        return 2
    except RuntimeError as error:  # as JAX says it
        from capsjax import room

        text = room.exhausted(error)
        if text is None:
            raise
        if known.command in ("train", "compare"):
            text += room.ANEW
        _say(
            f"{title}: {text}. What was written before stays valid, for where there is more memory. "
            f"{signals.advice()}"
        )
        return 1
    except KeyboardInterrupt as interrupt:
        if signals.first_to_speak():
            _say(signals.interrupted())
        return signals.code(interrupt) or 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _say(
            f"{title}: {where}{error.strerror or error}; what was written before stays valid. "
            f"Make room or choose another place. {signals.advice()}"
        )
        return 1


def _without_out(words: Sequence[str]) -> list[str]:
    """Leave out where to write, since what is there already stays."""
    before = ["", *words]
    return [
        word
        for last, word in zip(before, words, strict=False)
        if "--out" not in (last, word.partition("=")[0])
    ]


def _say(text: str) -> None:
    """Say what went wrong; names of files in it move no cursor."""
    print(printable(text), file=sys.stderr)


def _train(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.resume is None and arguments.config is None:
        flag = rest[-2] if len(rest) > 1 and not rest[-1].startswith("--") else None
        taken = f" ({rest[-1]!r} was taken as the value of {flag})" if flag else ""
        raise UserError(
            f"got no configuration{taken}, expected one, or --resume RUN; see capsjax info"
        )
    if arguments.resume is not None and (
        arguments.config or arguments.out or arguments.seed or arguments.start
    ):
        raise UserError(
            "got --resume with more beside it, expected it alone, or with --training.epochs to lengthen the "
            "run, --training.eval_batch_size, or --data.path where its data are now: the run's own "
            "configuration says everything else"
        )
    config = None if arguments.resume else read(arguments, rest)
    start_jax()
    from capsjax import experiment

    with progress(arguments, "preparing") as reporter:
        if config is None:
            overrides = read_overrides(arguments, rest)
            run = experiment.resume(arguments.resume, overrides=overrides, reporter=reporter)
        else:
            run = experiment.train(
                config,
                out=arguments.out,
                name=Path(arguments.config).stem,
                reporter=reporter,
                start=arguments.start,
            )
    tested = run.test
    print(f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images")
    print(f"run: {printable(str(written(run.folder, arguments.resume or arguments.out)))}")
    return 0


def _compare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.resume is None and arguments.config is None:
        raise UserError(
            "got no configuration, expected one, or --resume COMPARISON; see capsjax info"
        )
    if arguments.resume is not None and (
        arguments.config or rest or arguments.out or arguments.seed
    ):
        raise UserError(
            "got --resume with more beside it, expected it alone: "
            "the comparison's own configuration says everything else"
        )
    config = None if arguments.resume else read(arguments, rest)
    start_jax()
    from capsjax.analysis.compare import compare, resume
    from capsjax.analysis.report import report_comparison
    from capsjax.analysis.tables import read_comparison
    from capsjax.analysis.verdict import verdicts

    with progress(arguments, "preparing") as reporter:
        if config is None:
            folder = resume(arguments.resume, reporter=reporter)
        else:
            name = Path(arguments.config).stem
            folder = compare(config, out=arguments.out, name=name, reporter=reporter)
    page, tables = report_comparison(folder)
    if not arguments.quiet:
        show(tables)
    errors = read_comparison(folder).errors
    for sentence in verdicts(errors, option="--compare.seeds"):
        print(sentence[0].upper() + sentence[1:] + ".")
    print(
        f"report: {printable(str(written(folder, arguments.resume or arguments.out) / page.name))}"
    )
    return 0


def _evaluate(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    start_jax()
    from capsjax import experiment

    with progress(arguments, "preparing") as reporter:
        data = read_data(arguments, rest, arguments.folder)
        run = experiment.load(arguments.folder, reporter=reporter)
        tested = experiment.evaluate(run, data, reporter=reporter)
    print(
        f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images, "
        f"loss {tested['loss']:.5f}, after step {run.step}"
    )
    return 0


def _report(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    start_jax()
    from capsjax.analysis.report import report_comparison, report_run
    from capsjax.analysis.side_by_side import report_several
    from capsjax.analysis.unfinished import report_unfinished
    from capsjax.rundir import is_comparison

    folder, *others = arguments.folders
    if others or (folder / "comparison.json").exists():
        no_flags(arguments, rest)
    if others:
        page, tables = report_several(arguments.folders, arguments.out)
        page = written(page.parent, arguments.out) / page.name
    elif arguments.out is not None:
        raise UserError(
            f"got --out with one directory, whose report goes into it: {folder}; expected --out with "
            "several, which share a page"
        )
    elif (folder / "comparison.json").exists():
        page, tables = report_comparison(folder)
    elif is_comparison(folder):
        page, tables = report_unfinished(folder)
    else:
        with progress(arguments, "preparing") as reporter:
            data = read_data(arguments, rest, folder)
            page, tables = report_run(folder, data, reporter=reporter)
    if not arguments.quiet:
        show(tables)
    print(f"report: {printable(str(page))}")
    return 0


def _info(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    from capsjax import config, rundir

    if arguments.config is not None:
        return _describe(read(arguments, rest))
    no_flags(arguments, rest)
    found = rundir.environment()
    print(f"capsjax {found['capsjax']}, Python {found['python']}, {found['platform']}")
    print(", ".join(f"{name} {version}" for name, version in found["packages"].items()))
    print("devices: " + ", ".join(found["devices"]))
    print(f"CAPSJAX_DATA: {os.environ.get('CAPSJAX_DATA') or 'not set'}")
    print("configurations:")
    for name, path in config.shipped_configs().items():
        print(f"  {name:18} {path.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
    return 0


def _describe(config: Any) -> int:
    """Print a configuration in full, and the parameters of its network for images as its data have."""
    from capsjax import configyaml, program
    from capsjax.analysis.alignment import group_of
    from capsjax.analysis.bench import known_data

    print(configyaml.dump(config), end="")
    data = known_data(config)
    made = program.functions(config.model, config.loss, data.image_shape, data.num_classes)
    counts: dict[str, int] = {}
    for name, shape in made.shapes().items():
        counts[group_of(name)] = counts.get(group_of(name), 0) + shape.size
    print(f"\nparameters: {sum(counts.values()):,}")
    for group, count in counts.items():
        print(f"  {group:10} {count:>12,}")
    return 0


COMMANDS = {
    "train": _train,
    "compare": _compare,
    "evaluate": _evaluate,
    "report": _report,
    "bench": bench,
    "info": _info,
    "completion": completion,
}

if __name__ == "__main__":
    sys.exit(start())
