"""`capsjax evaluate`."""

import argparse
from collections.abc import Sequence

from capsjax.cli.flags import parse_overrides
from capsjax.cli.steps import progress, read_data, start_jax


def evaluate(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the error of a run on a split, of its own images or others; keep what it says of each.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the data.

    Returns:
        0.

    Raises:
        UserError: If the directory is not a run's, or the data cannot be had or do not fit.
    """
    start_jax()
    from capsjax.runs import evaluation

    size = arguments.eval_batch_size
    overrides = {} if size is None else parse_overrides(["--training.eval_batch_size", size])
    with progress(arguments, "preparing") as reporter:
        # Before the run is restored, which takes longer: a mistake in the flags is told at once.
        data = read_data(arguments, rest, arguments.folder)
        run = evaluation.load(arguments.folder, step=arguments.step, reporter=reporter)
        tested = evaluation.evaluate(
            run, data, split=arguments.split, overrides=overrides, reporter=reporter
        )
    print(
        f"{arguments.split} error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images, "
        f"loss {tested['loss']:.5f}, after step {run.step}"
    )
    return 0
