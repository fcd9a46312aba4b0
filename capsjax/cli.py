"""The command line: every command a thin call of what notebooks call."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from capsjax import memory
from capsjax.checks import UserError, nearest
from capsjax.clibench import bench
from capsjax.cliflags import options_of, set_overrides_aside, told
from capsjax.cliparser import make_parser
from capsjax.clisteps import no_flags, progress, read, show, start_jax, written

RESUME = "resume with: "  # begins the note on an error that says how
COMPUTING = ("train", "compare", "evaluate", "bench")


def run() -> int:
    """Run the command line of this process, with large pages of memory for commands that compute."""
    if len(sys.argv) > 2 and sys.argv[1] in COMPUTING and not {"-h", "--help"} & set(sys.argv):
        memory.restart_with_large_pages()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 when done, 2 for a mistake that the user can fix, 1 for anything else."""
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
    try:
        with _insisting_on_interrupts():
            return COMMANDS[known.command](known, rest)
    except UserError as error:
        text = told(error, options, rest)
        print(f"capsjax {known.command}: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        text = f"interrupted; what was written stays valid. {_next(interrupt, words)}"
        print(f"capsjax {known.command}: {text}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"capsjax {known.command}: {where}{error.strerror or error}; what was written before "
            f"stays valid. Make room or choose another place. {_next(error, words)}",
            file=sys.stderr,
        )
        return 1


def _next(error: BaseException, words: Sequence[str]) -> str:
    """Say how to resume the run that an error came from, as a note of it says, or how to start again.

    Starting again is the same command but for `--out`: what is there stays.
    """
    for note in getattr(error, "__notes__", ()):
        if note.startswith(RESUME):
            return note[0].upper() + note[1:]
    kept = []
    for place, word in enumerate(words):
        if word != "--out" and words[place - 1 : place] != ["--out"] and "--out=" not in word:
            kept.append(word)
    return f"Start again with: {shlex.join(['capsjax', *kept])}"


@contextlib.contextmanager
def _insisting_on_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt once more, a second after Ctrl-C, where the first did not get through.

    Python drops an exception that is raised inside a callback of its garbage collector, and JAX has one.
    """

    def interrupt(*_: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _train(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if arguments.resume is None and arguments.config is None:
        flag = rest[-2] if len(rest) > 1 and not rest[-1].startswith("--") else None
        taken = f" ({rest[-1]!r} was taken as the value of {flag})" if flag else ""
        raise UserError(
            f"got no configuration{taken}, expected one, or --resume RUN; see capsjax info"
        )
    if arguments.resume is not None and (
        arguments.config or rest or arguments.out or arguments.seed
    ):
        raise UserError(
            "got --resume with more beside it, expected it alone: "
            "the run's own configuration says everything else"
        )
    config = None if arguments.resume else read(arguments, rest)
    start_jax()
    from capsjax import experiment

    with progress(arguments, "preparing") as reporter:
        if config is None:
            run = experiment.resume(arguments.resume, reporter=reporter)
        else:
            name = Path(arguments.config).stem
            run = experiment.train(config, out=arguments.out, name=name, reporter=reporter)
    tested = run.test
    print(f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images")
    print(f"run: {written(run.folder, arguments.resume or arguments.out)}")
    return 0


def _compare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    config = read(arguments, rest)
    start_jax()
    from capsjax.analysis.compare import compare
    from capsjax.analysis.report import report_comparison

    with progress(arguments, "preparing") as reporter:
        name = Path(arguments.config).stem
        folder = compare(config, out=arguments.out, name=name, reporter=reporter)
    page, tables = report_comparison(folder)
    if not arguments.quiet:
        show(tables)
    print(f"report: {written(folder, arguments.out) / page.name}")
    return 0


def _evaluate(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    no_flags(arguments, rest)
    start_jax()
    from capsjax import experiment

    with progress(arguments, "preparing") as reporter:
        run = experiment.load(arguments.folder)
        tested = experiment.evaluate(run, reporter=reporter)
    print(
        f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images, "
        f"loss {tested['loss']:.5f}, after step {run.step}"
    )
    return 0


def _report(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    no_flags(arguments, rest)
    start_jax()
    from capsjax.analysis.report import report_comparison, report_run

    for folder in arguments.folders:
        comparison = (folder / "comparison.json").exists()
        page, tables = report_comparison(folder) if comparison else report_run(folder)
        if not arguments.quiet:
            show(tables)
        print(f"report: {page}")
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
}

if __name__ == "__main__":
    sys.exit(run())
