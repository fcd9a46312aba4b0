"""`capsjax evaluate`."""

import argparse
import re
from collections.abc import Sequence

from capsjax.checks import UserError
from capsjax.cli.flags import parse_overrides
from capsjax.cli.steps import errors_in_words, progress, read_data, start_jax

LONGEST = 200  # characters of a message that repeat what was given


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

    iterations = read_iterations(arguments.iterations)
    flags = (("eval_batch_size", arguments.eval_batch_size), ("feed", arguments.feed))
    given = [(f"--training.{name}", value) for name, value in flags if value is not None]
    overrides = parse_overrides([word for pair in given for word in pair])
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
            crops=arguments.crops,
            reporter=reporter,
        )
    print(
        f"{arguments.split} {errors_in_words(tested)} on {tested['examples']:.0f} images, "
        + (f"loss {tested['loss']:.5f}, " if "loss" in tested else "")
        + f"after step {run.step}"
        + ("" if arguments.crops == 1 else f", by {arguments.crops} parts of each")
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
        UserError: If it is neither, or a layer is named twice.
    """
    if not given:
        return None
    # Nine digits: more iterations than any run lives to see, and a number that JAX can count.
    found = [re.fullmatch(r"(?:(.+)=)?(\d{1,9})", text, re.ASCII) for text in given]
    pairs = [(match[1], int(match[2])) for match in found if match]
    several = len(given) > 1
    if len(pairs) < len(given) or (several and not all(name for name, _ in pairs)):
        text = " ".join(given)
        got = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        raise UserError(
            f"--iterations: got {got}, expected a number for every layer, such as 5, or LAYER=N "
            "for each layer, such as --iterations classes=5"
        )
    if pairs[0][0] is None:
        return pairs[0][1]
    numbers = dict(pairs)
    if len(numbers) < len(pairs):
        raise UserError(f"--iterations: got {' '.join(given)}, expected every layer once")
    return numbers
