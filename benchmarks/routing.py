"""Time value and gradient of routing at the 2017 size, gradient modes and votes in turn.

    python benchmarks/routing.py [BATCH [ROUNDS]]

Prints ratios of medians to the full gradient through linear votes at the same number of iterations, and the
compiler's temporary memory.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import capsjax as cj
from capsjax.bench.timing import time_interleaved

CHILDREN, PARENTS, CHILD_DIM, PARENT_DIM = 1152, 10, 8, 16
MODES = {
    "stop": cj.StopGradient(),
    "full": cj.FullGradient(),
    "full, remat": cj.FullGradient(remat=True),
    "closed form": cj.ClosedForm(),
}


def compiled(
    gradient: cj.GradientMode, dense: bool, num_iters: int, u: jax.Array, W: jax.Array
) -> jax.stages.Compiled:
    """Compile value and gradient of a loss of the poses, with respect to u and W."""

    def total(u: jax.Array, W: jax.Array) -> jax.Array:
        votes = cj.predict(u, W)
        votes = cj.DenseVotes(votes.dense()) if dense else votes
        pose = cj.dynamic_routing(votes, num_iters=num_iters, gradient=gradient).pose
        return jnp.sum(pose**2 * jnp.arange(PARENT_DIM).reshape(1, 1, -1))

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(u, W).compile()


def main(batch: int, rounds: int) -> None:
    """Print the table."""
    keys = jax.random.split(jax.random.key(0))
    u = 0.3 * jax.random.normal(keys[0], [batch, CHILDREN, CHILD_DIM])
    W = 0.1 * jax.random.normal(keys[1], [CHILDREN, PARENTS, CHILD_DIM, PARENT_DIM])
    table = Table(title=f"batch {batch}, {rounds} rounds in turn")
    for heading in (
        "r",
        "votes",
        "gradient",
        "of linear full's time",
        "least to greatest",
        "temporary MB",
    ):
        table.add_column(heading, justify="right")
    for num_iters in (3, 10):
        programs = {
            (votes, mode): compiled(gradient, votes == "dense", num_iters, u, W)
            for votes in ("linear", "dense")
            for mode, gradient in MODES.items()
        }
        calls = {name: partial(program, u, W) for name, program in programs.items()}
        seconds = time_interleaved(calls, rounds)
        full = np.asarray(seconds["linear", "full"])
        for (votes, mode), times in seconds.items():
            ratios = np.asarray(times) / full
            table.add_row(
                str(num_iters),
                votes,
                mode,
                f"{np.median(times) / np.median(full):.2f}",
                f"{ratios.min():.2f} to {ratios.max():.2f}",
                f"{programs[votes, mode].memory_analysis().temp_size_in_bytes / 1e6:.0f}",
            )
    Console(width=110).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("batch", nargs="?", type=int, default=128, help="examples")
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="in which they take turns")
    main(**vars(parser.parse_args()))
