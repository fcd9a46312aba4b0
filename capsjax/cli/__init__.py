"""The command line: every command a thin call of what notebooks call, in a file of its own."""

import shlex
import sys
from collections.abc import Sequence

from capsjax import signals, streams
from capsjax.checks import UserError, nearest, printable
from capsjax.cli import (
    bench,
    compare,
    completion,
    data,
    evaluate,
    info,
    predict,
    report,
    train,
)
from capsjax.cli.flags import for_command_line, options_of, set_overrides_aside
from capsjax.cli.parser import make_parser
from capsjax.memory import allocator

COMPUTING = ("train", "compare", "evaluate", "predict", "bench")


def start() -> int:
    """Run the command line of this process; closed streams and signals end it without a traceback."""
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
        with signals.kept():
            allocator.restart_with_large_pages()
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the command line, without the program; None for this process's.

    Returns:
        0 when done, 2 for a mistake that the user can fix, 128 + the signal's number if one ended the
        command, 1 for anything else.
    """
    parser = make_parser()
    words = sys.argv[1:] if argv is None else argv
    options = options_of(parser, words)
    # Before argparse, which would take the value of a flag that it does not know for its own argument.
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
        _say(f"{title}: {for_command_line(error, options, rest)}")
        return 2
    except RuntimeError as error:  # as JAX says it
        from capsjax.memory import room  # which loads JAX, as whatever raised this has done already

        text = room.exhausted(error)
        if text is None:
            raise
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
    """Leave out `--out`: a directory that exists is refused, so the same command would not work again."""
    before = ["", *words]
    return [
        word
        for last, word in zip(before, words, strict=False)
        if "--out" not in (last, word.partition("=")[0])
    ]


def _say(text: str) -> None:
    """Say what went wrong; names of files in it move no cursor."""
    print(printable(text), file=sys.stderr)


COMMANDS = {
    "train": train.train,
    "compare": compare.compare,
    "evaluate": evaluate.evaluate,
    "predict": predict.predict,
    "report": report.report,
    "bench": bench.bench,
    "data": data.data,
    "info": info.info,
    "completion": completion.completion,
}
