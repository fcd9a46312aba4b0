"""`capsjax compare`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from capsjax.checks import UserError, printable
from capsjax.cli.steps import progress, read, read_overrides, show, start_jax, written


def compare(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Compare arms, or resume a comparison; print tables, verdicts and where the report is.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the configuration.

    Returns:
        0; 1 if a run failed.

    Raises:
        UserError: If neither or both of a configuration and `--resume` are given, or a value does not fit.
    """
    if arguments.resume is None and arguments.config is None:
        raise UserError(
            "got no configuration, expected one, or --resume COMPARISON; see capsjax info"
        )
    if arguments.resume is not None and (arguments.config or arguments.out or arguments.seed):
        raise UserError(
            "got --resume with more beside it, expected it alone, or with --compare.seeds or further "
            "arms to add runs, or --data.path where its data are now: the comparison's own configuration "
            "says everything else"
        )
    name = Path(arguments.config or "").stem  # what was given, be it a configuration or data
    config = None if arguments.resume else read(arguments, rest)
    # After the configuration has been read: a mistake in it is told at once, without JAX's start.
    start_jax()
    from capsjax.reports.comparison import read_comparison
    from capsjax.reports.comparison_page import report_comparison
    from capsjax.reports.verdict import comparison_verdicts
    from capsjax.study.compare import compare as run_comparison
    from capsjax.study.compare import failures, resume

    with progress(arguments, "preparing") as reporter:
        if config is None:
            overrides = read_overrides(arguments, rest)
            folder = resume(
                arguments.resume, overrides=overrides, reporter=reporter, jobs=arguments.jobs
            )
        else:
            folder = run_comparison(
                config, out=arguments.out, name=name, reporter=reporter, jobs=arguments.jobs
            )
    page, tables = report_comparison(folder)
    if not arguments.quiet:
        show(tables)
    for sentence in comparison_verdicts(read_comparison(folder), option="--compare.seeds"):
        print(sentence[0].upper() + sentence[1:] + ".")
    print(
        f"report: {printable(str(written(folder, arguments.resume or arguments.out) / page.name))}"
    )
    lost = failures(folder)
    if lost and not arguments.quiet:  # else a warning has said so
        print(printable(f"capsjax compare: {lost}"), file=sys.stderr)
    return 1 if lost else 0
