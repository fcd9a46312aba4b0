"""What is timed by itself: work that is compiled once, and can be done again and again."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from capsjax.checks import UserError
from capsjax.gradients import GradientMode
from capsjax.memory import room
from capsjax.routing import Routing

BENCH_REMEDY = "the batch size, the other sizes, or num_iters if the gradient is full"
Arguments = tuple[Any, ...]
NextArguments = Callable[[Any, Arguments], Arguments]


class Workload(NamedTuple):
    """Hold a piece of work that is compiled and can be done again and again.

    Attributes:
        name: what it is, in a few words.
        sizes: what decides how much there is to do, as plain values.
        call: does it, `times` over, and returns when it is done.
        times: how often a call does it, before it waits.
        examples: images or, for routing alone, examples that it treats each time.
        compile_s: seconds to trace and compile it; next to none if the compilation cache has it.
        cached: whether the compilation cache had it.
        temp_bytes: temporary memory of the compiled work, without arguments and results, in bytes.
        program_text: returns the compiled program as text.
        layers: what the layers of a network are called in it, in order.
    """

    name: str
    sizes: dict[str, Any]
    call: Callable[[], None]
    times: int
    examples: int
    compile_s: float
    cached: bool
    temp_bytes: int
    program_text: Callable[[], str]
    layers: tuple[str, ...] = ()


def compile_work(
    name: str,
    sizes: dict[str, Any],
    examples: int,
    lower: Callable[..., Any],
    arguments: Arguments,
    next_arguments: NextArguments,
    *,
    times: int,
    in_a_loop: bool = False,
) -> Workload:
    """Compile work.

    Args:
        name: what it is, in a few words.
        sizes: what decides how much there is to do, as plain values.
        examples: how many it treats each time.
        lower: from the arguments to the lowered program.
        arguments: the first.
        next_arguments: from a result and the arguments that led to it to the next ones.
        times: how often a call does the work.
        in_a_loop: whether the program does it all `times` by itself, in one call of the device.

    Returns:
        The work.

    Raises:
        UserError: If it needs more memory than there is.
    """
    jax.block_until_ready(arguments)
    hits = []

    def listen(event: str, **_: Any) -> None:
        if event == "/jax/compilation_cache/cache_hits":
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    start = time.perf_counter()
    try:
        compiled = lower(*arguments).compile()
    finally:
        jax.monitoring.unregister_event_listener(listen)
    seconds = time.perf_counter() - start
    try:
        room.check_program(compiled, name)
    except room.TooLargeError as error:
        raise UserError(f"{error}; lower {BENCH_REMEDY}") from None
    ready = [arguments]

    @room.advising(f"lower {BENCH_REMEDY}")
    def call() -> None:
        results = [compiled(*ready[0]) for _ in range(1 if in_a_loop else times)]
        ready[0] = next_arguments(jax.block_until_ready(results)[-1], ready[0])

    temp_bytes = int(compiled.memory_analysis().temp_size_in_bytes)
    return Workload(
        name, sizes, call, times, examples, seconds, bool(hits), temp_bytes, compiled.as_text
    )


def check_times(times: int) -> None:
    """Refuse a call that is to do nothing."""
    if times < 1:
        raise UserError(f"times: got {times}, expected an integer of at least 1", argument="times")


def kind_of(part: GradientMode | Routing | None) -> str | None:
    """Return the kind of a gradient mode or a routing, or None if there is none."""
    return getattr(part, "kind", None)
