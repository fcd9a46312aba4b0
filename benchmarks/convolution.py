"""Time value and gradient of convolutions, as patches and in few products, in turn.

    python benchmarks/convolution.py [ROUNDS] [--value] [--out FILE]

For a grid of sizes: the 2017 network's large convolution and its stem, batches of 1 to 128, images of 28 and
64 pixels, the small networks' convolutions and those of residual networks. Prints ratios of medians, the
ratio of costs that `conv2d` goes by, the compiler's temporary memory, and the regret of its choice: the
chosen form's time over that of the faster one. XLA's own operation is left out: its gradient takes tens of
seconds on a CPU. With --value the value alone is timed, in strips too, of few examples above all.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from capsjax.bench.timing import time_interleaved
from capsjax.convolution import cheapest, cheapest_value, conv2d, forms
from capsjax.tables import Table

# Images [b, h, w, c], kernel [k, k, c, f] and stride.
GRID = {
    "2017, second, batch 128": ((128, 20, 20, 256), 9, 256, 2),
    "2017, second, batch 16": ((16, 20, 20, 256), 9, 256, 2),
    "2017, second, batch 4": ((4, 20, 20, 256), 9, 256, 2),
    "2017, second, batch 1": ((1, 20, 20, 256), 9, 256, 2),
    "2017, second, 64 pixels": ((4, 56, 56, 256), 9, 256, 2),
    "2017, stem": ((32, 28, 28, 1), 9, 256, 1),
    "mnist_small, primary": ((100, 12, 12, 32), 5, 64, 2),
    "digits, primary": ((64, 6, 6, 16), 3, 32, 2),
    "5x5, 64 channels": ((32, 24, 24, 64), 5, 64, 1),
    "5x5, 64 channels, stride 2": ((32, 24, 24, 64), 5, 64, 2),
    "3x3, 16 channels": ((64, 34, 34, 16), 3, 16, 1),
    "3x3, 64 channels": ((32, 18, 18, 64), 3, 64, 1),
    "3x3, 256 channels": ((32, 10, 10, 256), 3, 256, 1),
    "3x3, 256 channels, stride 2": ((32, 17, 17, 256), 3, 256, 2),
    "7x7, 3 to 64 channels, stride 2": ((16, 64, 64, 3), 7, 64, 2),
    "1x1, 256 channels": ((32, 8, 8, 256), 1, 256, 1),
}
FORMS = ("patches", "transform")
VALUE_FORMS = ("patches", "strips", "transform")
VALUE_GRID = {
    **{f"2017, second, batch {b}": ((b, 20, 20, 256), 9, 256, 2) for b in (1, 8, 16, 32, 64, 128)},
    "2017, second, 64 pixels, batch 1": ((1, 56, 56, 256), 9, 256, 2),
    "2017, second, 64 pixels, batch 4": ((4, 56, 56, 256), 9, 256, 2),
    "mnist_small, primary": ((100, 12, 12, 32), 5, 64, 2),
    "5x5, 64 channels, batch 4": ((4, 24, 24, 64), 5, 64, 1),
    "5x5, 64 channels": ((32, 24, 24, 64), 5, 64, 1),
    "3x3, 64 channels, batch 4": ((4, 18, 18, 64), 3, 64, 1),
    "3x3, 64 channels": ((32, 18, 18, 64), 3, 64, 1),
    "3x3, 256 channels, batch 4": ((4, 10, 10, 256), 3, 256, 1),
    "3x3, 256 channels": ((32, 10, 10, 256), 3, 256, 1),
}
Measured = dict[str, Any]


def compiled(form: str, images: jax.Array, kernel: jax.Array, stride: int) -> jax.stages.Compiled:
    """Compile value and gradient of the sum of squares."""

    def total(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(conv2d(images, kernel, stride=stride, implementation=form) ** 2)

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(images, kernel).compile()


def measure(shape: tuple[int, ...], size: int, features: int, stride: int, rounds: int) -> Measured:
    """Time both forms of one convolution.

    Args:
        shape: of the images, [b, h, w, c].
        size: the kernel's pixels along each axis.
        features: of the kernel.
        stride: step between outputs.
        rounds: how often each form is timed.

    Returns:
        Seconds and temporary bytes of each form, their largest difference, and what `conv2d` goes by.
    """
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(0.01 * rng.normal(size=(size, size, shape[3], features)), jnp.float32)
    programs = {form: compiled(form, images, kernel, stride) for form in FORMS}
    calls = {form: partial(program, images, kernel) for form, program in programs.items()}
    seconds = time_interleaved(calls, rounds)
    results = [call()[1] for call in calls.values()]  # the gradients
    differences = [
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in zip(*results, strict=True)
    ]
    given = images.shape, kernel.shape, stride
    counts = forms(*given)
    return {
        "seconds": seconds,
        "temporary_bytes": {
            form: program.memory_analysis().temp_size_in_bytes for form, program in programs.items()
        },
        "difference": max(differences),
        "costs": counts,
        "chosen": cheapest(*given),
    }


def measure_value(
    shape: tuple[int, ...], size: int, features: int, stride: int, rounds: int
) -> Measured:
    """Time the value of one convolution in every form; takes and returns what `measure` does."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(0.01 * rng.normal(size=(size, size, shape[3], features)), jnp.float32)

    def program(form: str) -> jax.stages.Compiled:
        function = partial(conv2d, stride=stride, implementation=form)
        return jax.jit(function).lower(images, kernel).compile()

    calls = {form: partial(program(form), images, kernel) for form in VALUE_FORMS}
    chosen = cheapest_value(images.shape, kernel.shape, stride)
    return {"seconds": time_interleaved(calls, rounds), "chosen": chosen}


def table_of_values(measured: dict[str, Measured], rounds: int) -> Table:
    """Return a line for each convolution, of milliseconds."""
    lines = []
    for name, found in measured.items():
        medians = {form: float(np.median(found["seconds"][form])) for form in VALUE_FORMS}
        regret = medians[found["chosen"]] / min(medians.values())
        times = (f"{1000 * medians[form]:.1f}" for form in VALUE_FORMS)
        lines.append((name, *times, found["chosen"], f"{regret:.2f}"))
    headings = "convolution", *VALUE_FORMS, "chosen", "regret"
    return Table(f"value, ms, {rounds} rounds in turn", headings, tuple(lines))


def table(measured: dict[str, Measured], rounds: int) -> Table:
    """Return a line for each convolution."""
    lines = []
    for name, found in measured.items():
        patches, transform = (np.asarray(found["seconds"][form]) for form in FORMS)
        ratios, medians = transform / patches, {f: np.median(found["seconds"][f]) for f in FORMS}
        counts, memory = found["costs"], found["temporary_bytes"]
        lines.append(
            (
                name,
                f"{medians['transform'] / medians['patches']:.2f}",
                f"{ratios.min():.2f} to {ratios.max():.2f}",
                f"{counts['transform'] / counts['patches']:.2f}",
                found["chosen"],
                f"{medians[found['chosen']] / min(medians.values()):.2f}",
                " / ".join(f"{memory[form] / 1e6:.0f}" for form in FORMS),
                f"{found['difference']:.0e}",
            )
        )
    headings = (
        "convolution",
        "few products / patches",
        "rounds",
        "by cost",
        "chosen",
        "regret",
        "temporary MB",
        "difference",
    )
    return Table(f"value and gradient, {rounds} rounds in turn", headings, tuple(lines))


def main() -> None:
    """Measure, print the table and write the raw results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rounds", type=int, nargs="?", default=7)
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON of the raw results")
    parser.add_argument("--value", action="store_true", help="time the value alone")
    arguments = parser.parse_args()
    grid, of_one, shown = GRID, measure, table
    if arguments.value:
        grid, of_one, shown = VALUE_GRID, measure_value, table_of_values
    measured = {name: of_one(*sizes, arguments.rounds) for name, sizes in grid.items()}
    Console(width=140).print(shown(measured, arguments.rounds).to_rich())
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
