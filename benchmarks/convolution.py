"""Time value and gradient of the 2017 network's large convolution, implementations in turn.

    python benchmarks/convolution.py [ROUNDS]

Prints ratios of medians to patches, and the compiler's temporary memory. XLA's own operation is left out:
its gradient takes tens of seconds on a CPU.
"""

import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from capsjax.bench.timing import time_interleaved
from capsjax.convolution import conv2d

IMAGES, KERNEL, STRIDE = (128, 20, 20, 256), (9, 9, 256, 256), 2


def compiled(
    implementation: str, images: jax.Array, kernel: jax.Array
) -> tuple[jax.stages.Compiled, float]:
    """Compile value and gradient of the sum of squares; return it with the seconds that took."""

    def total(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sum(conv2d(images, kernel, stride=STRIDE, implementation=implementation) ** 2)

    start = time.perf_counter()
    program = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(images, kernel).compile()
    return program, time.perf_counter() - start


def main(rounds: int) -> None:
    """Print the table."""
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=IMAGES), jnp.float32)
    kernel = jnp.asarray(0.01 * rng.normal(size=KERNEL), jnp.float32)
    programs = {name: compiled(name, images, kernel) for name in ("patches", "frequency")}
    calls = {name: partial(program, images, kernel) for name, (program, _) in programs.items()}
    seconds = time_interleaved(calls, rounds)
    results = {name: program(images, kernel)[1] for name, (program, _) in programs.items()}
    table = Table(title=f"{IMAGES} * {KERNEL}, stride {STRIDE}, {rounds} rounds in turn")
    for heading in (
        "implementation",
        "of patches' time",
        "worst",
        "compile s",
        "temporary MB",
        "difference",
    ):
        table.add_column(heading, justify="right")
    for name, (program, compile_seconds) in programs.items():
        ratios = np.asarray(seconds[name]) / np.asarray(seconds["patches"])
        pairs = zip(results[name], results["patches"], strict=True)
        difference = max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs)
        table.add_row(
            name,
            f"{np.median(seconds[name]) / np.median(seconds['patches']):.2f}",
            f"{ratios.max():.2f}",
            f"{compile_seconds:.1f}",
            f"{program.memory_analysis().temp_size_in_bytes / 1e6:.0f}",
            f"{difference:.0e}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
