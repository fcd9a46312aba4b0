"""Time the parts of a training step of the 2017 network, each compiled alone, beside the whole step.

    python benchmarks/stages.py

Writes benchmarks/results/stages.json: for every part the seconds of each round, the floating-point
operations of its direct form, and the bytes that it must move at least: what it is given and what it returns.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from machine import BATCH, OPERATIONS

import capsjax as cj
from capsjax.bench.routing import RoutingSizes, routing_work
from capsjax.bench.step import step_work
from capsjax.bench.timing import time_interleaved
from capsjax.convolution import conv2d
from capsjax.gradients import ClosedForm, StopGradient
from capsjax.runs.config import load_config

ROUNDS = 9
Part = tuple[Callable[[], Any], float, float]  # call, operations, bytes


def array(*shape: int) -> jax.Array:
    """Return random numbers of a shape."""
    return 0.05 * jax.random.normal(jax.random.key(sum(shape)), shape)


def part(function: Callable[..., Any], arguments: tuple[Any, ...], operations: float) -> Part:
    """Compile a function, and count what it must move at least.

    Args:
        function: a pure function of arrays.
        arguments: what it is called with.
        operations: its floating-point operations in direct form.

    Returns:
        A call that waits for the result, the operations, and the bytes of arguments and results.
    """
    compiled = jax.jit(function).lower(*arguments).compile()
    sizes = compiled.memory_analysis()
    moved = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    return partial(compiled, *arguments), operations, moved


def pulled(function: Callable[..., Any], wanted: tuple[int, ...]) -> Callable:
    """Make the forward and the backward pass of a function into one.

    Args:
        function: what is differentiated.
        wanted: the places of the arguments with respect to which it is.

    Returns:
        A function of a cotangent and the arguments, which returns the value and the wanted gradients.
    """

    def both(bar: jax.Array, *arguments: Any) -> Any:
        def of_chosen(*some: Any) -> Any:
            merged = list(arguments)
            for k, value in zip(wanted, some, strict=True):
                merged[k] = value
            return function(*merged)

        value, pull = jax.vjp(of_chosen, *(arguments[k] for k in wanted))
        return value, pull(bar)

    return both


def routing(mode: Any) -> Part:
    """Route at the network's size: the matrix products of combine and agreement, there and back."""
    work = routing_work(RoutingSizes(), gradient=mode)
    product = 2 * BATCH * 1152 * 8 * 10 * 16
    # Stop: three sums and two agreements forward, the readout's two adjoints; full: those of every update.
    products = 7 if mode == StopGradient() else 17
    moved = 4 * 2 * (BATCH * 1152 * 8 + 1152 * 10 * 8 * 16)
    return work.call, products * product, moved


def parts() -> dict[str, Part]:
    """Return the parts of a step, and whole steps."""
    whole = {
        f"step, {name}": (
            step_work(load_config("mnist_sabour2017", {"model.routing.gradient": mode})).call,
            OPERATIONS,
            0.0,
        )
        for name, mode in (("stop", "stop"), ("full", "closed_form"))
    }
    images, stem, hidden = array(BATCH, 28, 28, 1), array(9, 9, 1, 256), array(BATCH, 20, 20, 256)
    kernel, capsules = array(9, 9, 256, 256), array(BATCH, 6, 6, 256)
    poses, sizes = array(BATCH, 160), (160, 512, 1024, 784)
    layers = [array(a, b) for a, b in itertools.pairwise(sizes)]
    target = array(BATCH, 784)
    params = {"a": array(8_215_728)}
    adam = optax.adam(1e-3)

    def decode(x: jax.Array, *layers: jax.Array) -> jax.Array:
        for layer in layers[:-1]:
            x = jax.nn.relu(x @ layer)
        return jax.nn.sigmoid(x @ layers[-1])

    def update(gradient: Any, state: Any, params: Any) -> Any:
        updates, state = adam.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    decoder_flops = 3 * 2 * BATCH * sum(a * b for a, b in itertools.pairwise(sizes))
    return {
        **whole,
        "first convolution and ReLU": part(
            pulled(lambda x, k: jax.nn.relu(conv2d(x, k)), (1,)),
            (hidden, images, stem),
            2 * 2 * BATCH * 400 * 81 * 256,
        ),
        "second convolution": part(
            pulled(lambda x, k: conv2d(x, k, stride=2), (0, 1)),
            (capsules, hidden, kernel),
            3 * 2 * BATCH * 36 * 20736 * 256,
        ),
        "squash": part(
            pulled(lambda x: cj.squash(x.reshape(BATCH, 1152, 8)), (0,)),
            (array(BATCH, 1152, 8), capsules),
            20 * BATCH * 1152 * 8,
        ),
        "routing, stop": routing(StopGradient()),
        "routing, full": routing(ClosedForm()),
        "decoder": part(pulled(decode, (0, 1, 2, 3)), (target, poses, *layers), decoder_flops),
        "Adam": part(update, (params, adam.init(params), params), 12 * 8_215_728),
    }


def main() -> None:
    """Measure in turn, and write."""
    made = parts()

    def tell(number: int) -> None:
        print(f"round {number} of {ROUNDS}", file=sys.stderr, flush=True)

    seconds = time_interleaved(
        {name: call for name, (call, _, _) in made.items()}, ROUNDS, tell=tell
    )
    results = {
        key: {"seconds": seconds[key], "operations": made[key][1], "bytes": made[key][2]}
        for key in made
    }
    path = Path(__file__).parent / "results" / "stages.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for key, found in results.items():
        print(f"{key:28} {1e3 * sorted(found['seconds'])[ROUNDS // 2]:8.1f} ms")
    print(path)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
