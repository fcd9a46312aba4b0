"""`capsjax evaluate`."""

import argparse
from collections.abc import Sequence

from capsjax.checks import UserError
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

    size, iterations = arguments.eval_batch_size, read_iterations(arguments.iterations)
    overrides = {} if size is None else parse_overrides(["--training.eval_batch_size", size])
    with progress(arguments, "preparing") as reporter:
        # Before the run is restored, which takes longer: a mistake in the flags is told at once.
        data = read_data(arguments, rest, arguments.folder)
        run = evaluation.load(arguments.folder, step=arguments.step, reporter=reporter)
        tested = evaluation.evaluate(
            run,
            data,
            split=arguments.split,
            overrides=overrides,
            iterations=iterations,
            reporter=reporter,
        )
    print(
        f"{arguments.split} error {100 * tested['error']:.2f} % on {tested['examples']:.0f} images, "
        f"loss {tested['loss']:.5f}, after step {run.step}"
        + ("" if iterations is None else f", by iterations {' '.join(arguments.iterations)}")
    )
    return 0


def read_iterations(given: Sequence[str] | None) -> int | dict[str, int] | None:
    """Read `--iterations N`, or `--iterations LAYER=N` for each of several layers.

    Args:
        given: what follows each flag; None if there is none.

    Returns:
        The number for every layer, or that of each layer by name.

    Raises:
        UserError: If it is neither.
    """
    if not given:
        return None
    pairs = [text.rpartition("=")[::2] for text in given]
    numbers = [number for _, number in pairs]
    if not all(number.isascii() and number.isdigit() for number in numbers) or (
        len(given) > 1 and not all(name for name, _ in pairs)
    ):
        raise UserError(
            f"--iterations: got {' '.join(given)}, expected a number for every layer, such as 5, or LAYER=N "
            "for each layer, such as --iterations classes=5"
        )
    if len(given) == 1 and not pairs[0][0]:
        return int(numbers[0])
    return {name: int(number) for name, number in pairs}
