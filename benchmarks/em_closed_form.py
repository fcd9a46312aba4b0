"""What a closed form for EM routing could save, beside the modes that there are: time and temporary memory.

The trial keeps of each iteration what is least, the Gaussians, one vector for each parent, and makes
everything for each pair again in its backward pass, by the adjoints of the same contractions.

    python benchmarks/em_closed_form.py [num_iters] [rounds]
"""

import argparse
import dataclasses
import functools
import math
import statistics
from typing import Any, Literal

import jax
import jax.numpy as jnp

import capsjax as cj
from capsjax.bench.timing import time_interleaved
from capsjax.gradients import GradientMode
from capsjax.routing.em import EMState

BATCH, CHILDREN, PARENTS, IN_DIM, OUT_DIM = 32, 1152, 10, 8, 16


def respond(kept: Any, inputs: Any) -> Any:
    """Return the logits that Gaussians ask for."""
    mean, variance, log_activation, unit = kept
    spread = jnp.log(2 * math.pi * variance) + 2 * jnp.log(unit)[..., None, None]
    constant = log_activation - 0.5 * jnp.sum(spread, axis=-1)  # [b, j]
    distance = inputs.votes.distance(mean, 1 / variance, unit)
    return inputs.votes.pairs.by_parent(constant) - 0.5 * distance


def fit(routing: cj.EMRouting, t: Any, logits: Any, inputs: Any) -> Any:
    """Return the Gaussians that logits lead to."""
    coupling = inputs.votes.couple(logits)
    found = routing.readout(t, coupling, EMState(logits, None), inputs)
    return found.pose, found.variance, found.log_activation, found.unit


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def run(routing: cj.EMRouting, num_updates: int, inputs: Any) -> Any:
    """Return the coupling and the logits after the updates."""
    return forward(routing, num_updates, inputs)[0]


def forward(routing: cj.EMRouting, num_updates: int, inputs: Any) -> Any:
    """Run the updates, keeping the Gaussians of each."""

    def step(logits: Any, t: Any) -> Any:
        kept = fit(routing, t, logits, inputs)
        return respond(kept, inputs), kept

    logits, kept = jax.lax.scan(step, inputs.votes.zeros(), jnp.arange(num_updates))
    return (inputs.votes.couple(logits), logits), (kept, inputs)


def backward(routing: cj.EMRouting, num_updates: int, saved: Any, cotangents: Any) -> Any:
    """Go back from Gaussians to Gaussians."""
    kept, inputs = saved

    def end(last: Any, inputs: Any) -> Any:
        logits = respond(last, inputs)
        return inputs.votes.couple(logits), logits

    def step(carry: Any, line: Any) -> Any:
        (bar, inputs_bar), (t, before) = carry, line
        _, pull = jax.vjp(
            lambda before, inputs: fit(routing, t, respond(before, inputs), inputs), before, inputs
        )
        bar, more = pull(bar)
        return (bar, jax.tree.map(jnp.add, inputs_bar, more)), None

    last, before = jax.tree.map(lambda x: x[-1], kept), jax.tree.map(lambda x: x[:-1], kept)
    start = jax.vjp(end, last, inputs)[1](cotangents)
    lines = jnp.arange(1, num_updates), before
    (bar, inputs_bar), _ = jax.lax.scan(step, start, lines, reverse=True)
    _, pull = jax.vjp(lambda inputs: fit(routing, 0, inputs.votes.zeros(), inputs), inputs)
    return (jax.tree.map(jnp.add, inputs_bar, pull(bar)[0]),)


run.defvjp(forward, backward)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KeptGaussians(GradientMode):
    """The trial, as a gradient mode."""

    kind: Literal["kept_gaussians"] = "kept_gaussians"

    def __call__(self, routing: Any, inputs: Any, num_updates: int) -> Any:
        """Run the updates, to be differentiated from Gaussians to Gaussians."""
        coupling, logits = run(routing, num_updates, inputs)
        return coupling, EMState(logits, None)


def compiled(gradient: GradientMode, num_iters: int, given: Any, bars: Any) -> Any:
    """Compile value and gradient with respect to everything."""
    routing = cj.EMRouting(num_iters=num_iters, gradient=gradient)

    def total(given: Any) -> Any:
        u, W, activation, params = given
        found = routing(cj.predict(u, W), activation=activation, params=params)
        return jnp.sum(bars[0] * found.pose) + jnp.sum(bars[1] * found.activation)

    return jax.jit(jax.value_and_grad(total)).lower(given).compile()


def main(num_iters: int = 3, rounds: int = 7) -> None:
    """Measure in turn, and print a table."""
    keys = jax.random.split(jax.random.key(0), 5)
    W = jax.random.normal(keys[1], [CHILDREN, PARENTS, IN_DIM, OUT_DIM]) / IN_DIM**0.5
    given = (
        jax.random.normal(keys[0], [BATCH, CHILDREN, IN_DIM]),
        W,
        jax.random.uniform(keys[2], [BATCH, CHILDREN], minval=0.2),
        {"beta_u": jnp.zeros(PARENTS), "beta_a": jnp.zeros(PARENTS)},
    )
    bars = (
        jax.random.normal(keys[3], [BATCH, PARENTS, OUT_DIM]),
        jax.random.normal(keys[4], [BATCH, PARENTS]),
    )
    modes = {
        "stop": cj.StopGradient(),
        "full": cj.FullGradient(),
        "full, remat": cj.FullGradient(remat=True),
        "kept Gaussians": KeptGaussians(),
    }
    programs = {name: compiled(mode, num_iters, given, bars) for name, mode in modes.items()}
    calls = {name: functools.partial(program, given) for name, program in programs.items()}
    seconds = time_interleaved(calls, rounds)
    print("mode, median ms, temporary MB")
    for name, program in programs.items():
        memory = program.memory_analysis().temp_size_in_bytes / 1e6
        print(f"{name}, {1000 * statistics.median(seconds[name]):.0f}, {memory:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("num_iters", nargs="?", type=int, default=3, help="M-steps")
    parser.add_argument("rounds", nargs="?", type=int, default=7, help="in which they take turns")
    main(**vars(parser.parse_args()))
