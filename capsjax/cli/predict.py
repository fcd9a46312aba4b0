"""`capsjax predict`."""

import argparse
import sys
from collections.abc import Sequence

from capsjax.checks import UserError, printable
from capsjax.cli.steps import no_flags, progress, start_jax


def predict(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write what a run says of files: the class of each example, and the score of each class.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: words that the command does not know.

    Returns:
        0.

    Raises:
        UserError: If the directory is not a run's, a file is not there or cannot be read, or the file to
            write is there already.
    """
    no_flags(arguments, rest)
    out = arguments.out
    if out is not None and out.exists():
        raise UserError(
            f"out: got {str(out)!r}, which exists, expected a new file",
            argument="out",
        )
    start_jax()
    from capsjax.runs import classify_files, evaluation

    with progress(arguments, "preparing") as reporter:
        run = evaluation.load(arguments.folder, reporter=reporter)
        found = classify_files.predict_files(run, arguments.files, reporter)
    for line in found.left_out:
        print(printable(f"left out: {line}"), file=sys.stderr)
    as_json = arguments.json or (out is not None and out.suffix.lower() == ".json")
    text = found.to_json() if as_json else found.to_csv()
    if out is None:
        sys.stdout.write(text)
    else:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text)
        print(f"predictions: {printable(str(out))}")
    return 0
