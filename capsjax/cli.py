"""The command line: every command a thin call of what notebooks call."""

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from capsjax import memory
from capsjax.checks import UserError, nearest
from capsjax.cliflags import Parser, check_flags, options_of, set_overrides_aside
from capsjax.version import __version__

OVERRIDES = (
    "Any field of the configuration can be set by a flag with its dotted name, such as "
    "--training.epochs 5 or --model.routing.gradient stop."
)
GO_ON = "go on with: capsjax train --resume "
COMPUTING = ("train", "compare", "evaluate", "bench")


def run() -> int:
    """Run the command line of this process, with large pages of memory for commands that compute."""
    if len(sys.argv) > 2 and sys.argv[1] in COMPUTING and not {"-h", "--help"} & set(sys.argv):
        memory.restart_with_large_pages()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 when done, 2 for a mistake that the user can mend, 1 for anything else."""
    parser = _parser()
    words = sys.argv[1:] if argv is None else argv
    options = options_of(parser, words)
    own, overrides = set_overrides_aside(options, words)
    known, rest = parser.parse_known_args(own)
    known.options = options
    rest += overrides
    if known.command is None:
        if rest:
            hint = nearest(rest[0], ("--help", "--version"))
            parser.error(f"got {rest[0]!r}, expected a command{hint}")
        parser.print_help()
        return 0
    # Only a run of training can be gone on with; the others begin anew.
    training, again = known.command == "train", f"capsjax {known.command}"
    try:
        with _insisting_on_interrupts():
            return known.run(known, rest)
    except UserError as error:
        print(f"capsjax {known.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        advice = f"Go on with: {_resume(interrupt)}" if training else f"Start again with: {again}"
        print(
            f"capsjax {known.command}: interrupted; what was written stays valid. {advice}",
            file=sys.stderr,
        )
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"capsjax {known.command}: {where}{error.strerror or error}; what was written before "
            f"stays valid. Make room or choose another place, then: {_resume(error) if training else again}",
            file=sys.stderr,
        )
        return 1


def _resume(error: BaseException) -> str:
    """Return the command that goes on with the run that an error came from, as a note of it says."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(GO_ON)]
    return (notes or [f"{GO_ON}RUN"])[-1].removeprefix("go on with: ")


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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="capsjax",
        description="Capsule networks in JAX, with the gradient through routing as a choice.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"capsjax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str, more: str = "") -> Any:
        sub = commands.add_parser(
            name,
            help=text,
            description=textwrap.fill(f"{text} {more}".strip(), 90),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        sub.set_defaults(run=run)
        return sub

    train = command("train", _train, "Train a configuration and test it once.", OVERRIDES)
    train.add_argument("config", nargs="?", help="a YAML file, or the name of one that ships")
    train.add_argument("--seed", help="what parameters, order and shifts follow from")
    train.add_argument("--out", type=Path, help="the run's directory, which must be new")
    train.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run that stopped")

    compare = command(
        "compare",
        _compare,
        "Train with uniform coupling and each gradient mode, the same seeds and data, and report.",
        OVERRIDES,
    )
    compare.add_argument("config", help="a YAML file, or the name of one that ships")
    compare.add_argument("--seed", help="the first seed")
    compare.add_argument("--out", type=Path, help="the comparison's directory, which must be new")

    evaluate = command(
        "evaluate", _evaluate, "Measure a run's newest parameters on the test split."
    )
    evaluate.add_argument("folder", metavar="RUN", type=Path, help="a run's directory")

    report = command(
        "report", _report, "Draw the report of runs or comparisons; nothing is trained."
    )
    report.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="directories of runs")

    _add_bench(command)

    info = command(
        "info", _info, "Show versions, devices and configurations, or what one comes to.", OVERRIDES
    )
    info.add_argument("config", nargs="?", help="a YAML file, or the name of one that ships")
    return parser


def _add_bench(command: Callable[..., Any]) -> None:
    """Add the command that times, with one subcommand for each kind of work."""
    bench = command(
        "bench", _bench_nothing, "Time a training step, a forward pass or routing alone."
    )
    works = bench.add_subparsers(dest="work", metavar="WORK")
    texts = {
        "step": "Time a training step of a configuration, on random images of its data's shape.",
        "forward": "Time the network's forward pass alone, as at evaluation.",
        "routing": "Time value and gradient of routing alone; the sizes are the 2017 network's.",
    }
    for name, text in texts.items():
        work = works.add_parser(
            name,
            help=text,
            description=textwrap.fill(text + (f" {OVERRIDES}" if name != "routing" else ""), 90),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == "routing":
            work.set_defaults(run=_bench_routing)
            for flag, text in (
                ("--batch", "examples"),
                ("--children", "child capsules i"),
                ("--parents", "parent capsules j"),
                ("--in-dim", "components d of a child's pose"),
                ("--out-dim", "components e of a parent's pose"),
                ("--num-iters", "readouts r"),
            ):
                work.add_argument(flag, type=int, metavar="N", help=text)
            work.add_argument("--gradient", default="stop", help="gradient mode, such as full")
            work.add_argument("--votes", default="auto", help="linear, dense or auto")
        else:
            work.set_defaults(run=_bench_step)
            work.add_argument("config", help="a YAML file, or the name of one that ships")
            work.add_argument("--batch-size", type=int, metavar="N", help="images in a batch")
            if name == "step":
                work.add_argument(
                    "--profile", action="store_true", help="add which parts take the time"
                )
        work.add_argument("--times", type=int, default=1, metavar="N", help="times in a call, 1")
        work.add_argument("--repeats", type=int, default=10, metavar="N", help="timings, 10")
        work.add_argument("--json", action="store_true", help="end with one line of JSON")


def _bench_nothing(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    given = f"{rest[0]!r}" if rest else "nothing"
    raise UserError(f"got {given}, expected what to time: step, forward or routing")


def _bench_step(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    config = _read(arguments, rest)
    _start_jax()
    from capsjax.analysis import bench
    from capsjax.analysis.profile import own_names

    def make() -> Any:
        forward = arguments.work == "forward"
        with own_names() if getattr(arguments, "profile", False) else contextlib.nullcontext():
            return bench.step_work(
                config, arguments.batch_size, times=arguments.times, forward=forward
            )

    return _measure(make, arguments)


def _bench_routing(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    _no_flags(rest)
    _start_jax()
    from capsjax.analysis import bench

    names = ("batch", "children", "parents", "in_dim", "out_dim", "num_iters")
    given = {name: getattr(arguments, name) for name in names}
    sizes = bench.RoutingSizes(**{name: n for name, n in given.items() if n is not None})
    mode = bench.gradient_named(arguments.gradient)
    options = {"gradient": mode, "votes": arguments.votes, "times": arguments.times}
    return _measure(lambda: bench.routing_work(sizes, **options), arguments)


def _measure(make: Callable[[], Any], arguments: argparse.Namespace) -> int:
    import json

    from capsjax.analysis import bench
    from capsjax.analysis.profile import profile
    from capsjax.training.progress import reporter

    with reporter() as progress:
        _prepare(progress, "compiling")
        work = make()
        measured = bench.measure(work, arguments.repeats, progress)
        parts = profile(work) if getattr(arguments, "profile", False) else None
    _show([found.table() for found in (measured, parts) if found is not None])
    if arguments.json:
        more = {} if parts is None else {"profile": parts.as_json()}
        print(json.dumps(measured.as_json() | more))
    return 0


def _read(arguments: argparse.Namespace, rest: Sequence[str]) -> Any:
    """Read the configuration that a command names, with its flags."""
    from capsjax import config, configyaml

    check_flags(
        arguments.options, rest, [field.name for field in dataclasses.fields(config.Config)]
    )
    overrides = configyaml.parse_overrides(rest)
    if getattr(arguments, "seed", None) is not None:
        overrides |= configyaml.parse_overrides(["--seed", arguments.seed])
    return config.load_config(arguments.config, overrides)


def _no_flags(rest: Sequence[str]) -> None:
    if rest:
        raise UserError(f"got {rest[0]!r}, expected nothing more" + nearest(rest[0], ["--help"]))


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
    config = None if arguments.resume else _read(arguments, rest)
    _start_jax()
    from capsjax import experiment
    from capsjax.training.progress import reporter

    with reporter() as progress:
        _prepare(progress, "preparing")
        if config is None:
            run = experiment.resume(arguments.resume, reporter=progress)
        else:
            name = Path(arguments.config).stem
            run = experiment.train(config, out=arguments.out, name=name, reporter=progress)
    tested = run.test
    print(f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images")
    print(f"run: {run.folder}")
    return 0


def _compare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    config = _read(arguments, rest)
    _start_jax()
    from capsjax.analysis.compare import compare
    from capsjax.analysis.report import report_comparison
    from capsjax.training.progress import reporter

    with reporter() as progress:
        _prepare(progress, "preparing")
        name = Path(arguments.config).stem
        folder = compare(config, out=arguments.out, name=name, reporter=progress)
    page, tables = report_comparison(folder)
    _show(tables)
    print(f"report: {page}")
    return 0


def _evaluate(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    _no_flags(rest)
    _start_jax()
    from capsjax import experiment
    from capsjax.training.progress import reporter

    with reporter() as progress:
        _prepare(progress, "preparing")
        run = experiment.load(arguments.folder)
        tested = experiment.measure(run, reporter=progress)
    print(
        f"test error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images, "
        f"loss {tested['loss']:.5f}, after step {run.step}"
    )
    return 0


def _report(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    _no_flags(rest)
    _start_jax()
    from capsjax.analysis.report import report_comparison, report_run

    for folder in arguments.folders:
        comparison = (folder / "comparison.json").exists()
        page, tables = report_comparison(folder) if comparison else report_run(folder)
        _show(tables)
        print(f"report: {page}")
    return 0


def _info(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    from capsjax import config, rundir

    if arguments.config is not None:
        return _describe(_read(arguments, rest))
    _no_flags(rest)
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


def _show(tables: Sequence[Any]) -> None:
    console = Console()
    for table in tables:
        # A table that is cut to fit a pipe is of no use; on a terminal it wraps.
        width = console.width if console.is_terminal else 160
        Console(width=width).print(table.to_rich())


def _prepare(progress: Any, label: str) -> None:
    """Say on a terminal what takes the first seconds; elsewhere a mistake is to be the first line."""
    if sys.stderr.isatty():
        progress.start(label, None)


def _start_jax() -> None:
    """Keep compiled programs between runs, in the user's cache, unless JAX is told otherwise."""
    import jax

    if (
        jax.config.values["jax_compilation_cache_dir"] is None
        and "JAX_ENABLE_COMPILATION_CACHE" not in os.environ
    ):
        import platformdirs

        folder = Path(platformdirs.user_cache_dir("capsjax")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


if __name__ == "__main__":
    sys.exit(run())
