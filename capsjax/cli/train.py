"""`capsjax train`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from capsjax.checks import UserError, printable
from capsjax.cli.steps import errors_in_words, progress, read, read_overrides, start_jax, written


def train(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train a run, or resume one; print its test error and where it is.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the configuration.

    Returns:
        0.

    Raises:
        UserError: If neither or both of a configuration and `--resume` are given, or a value does not fit.
    """
    if arguments.resume is None and arguments.config is None:
        # `capsjax train --quick digits`: a flag that is not known takes the word after it as its value.
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
            "run, --training.eval_batch_size, --training.feed, or --data.path where its data are now: the "
            "run's own configuration says everything else"
        )
    name = None if arguments.resume else Path(arguments.config).absolute().stem
    config = None if arguments.resume else read(arguments, rest)
    start_jax()
    from capsjax.runs import experiment

    with progress(arguments, "preparing") as reporter:
        if config is None:
            overrides = read_overrides(arguments, rest)
            run = experiment.resume(arguments.resume, overrides=overrides, reporter=reporter)
        else:
            run = experiment.train(
                config,
                out=arguments.out,
                name=name,
                reporter=reporter,
                start=arguments.start,
            )
        if arguments.report:
            from capsjax.reports.report import report_run

            report_run(run.folder, reporter=reporter)
    tested = run.test
    print(f"test {errors_in_words(tested)} on {tested['examples']:.0f} images")
    folder = written(run.folder, arguments.resume or arguments.out)
    print(f"run: {printable(str(folder))}")
    if arguments.report:
        print(f"report: {printable(str(folder / 'report.html'))}")
    return 0
