"""`capsjax bench`: time one piece of work by itself."""

import argparse
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from capsjax.checks import UserError
from capsjax.cli.steps import no_flags, progress, read, show, start_jax


def bench(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    """Time the kind of work that the command line names, and print its table.

    Args:
        arguments: the command's own words, as its parser read them.
        rest: flags of the configuration, or none for routing.

    Returns:
        0.

    Raises:
        UserError: If no kind of work is named, or a number is out of range.
    """
    if arguments.work is not None:
        return (_routing if arguments.work == "routing" else _step)(arguments, rest)
    given = f"{rest[0]!r}" if rest else "nothing"
    raise UserError(f"got {given}, expected what to time: step, forward or routing")


def _step(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    config = read(arguments, rest)
    start_jax()
    from capsjax.bench.profile import fresh_metadata
    from capsjax.bench.step import step_work

    # Made within `_measure`, so that its compilation is under the bar that tells of it.
    def make() -> Any:
        forward = arguments.work == "forward"
        with fresh_metadata() if getattr(arguments, "profile", False) else contextlib.nullcontext():
            return step_work(config, arguments.batch_size, times=arguments.times, forward=forward)

    return _measure(make, arguments)


def _routing(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    no_flags(arguments, rest)
    start_jax()
    from capsjax.bench.routing import RoutingSizes, gradient_named, routing_work

    names = ("batch", "children", "parents", "in_dim", "out_dim", "num_iters")
    given = {name: getattr(arguments, name) for name in names}
    sizes = RoutingSizes(**{name: n for name, n in given.items() if n is not None})
    mode = arguments.gradient and gradient_named(arguments.gradient, arguments.routing)
    options = {
        "routing": arguments.routing,
        "gradient": mode,
        "votes": arguments.votes,
        "times": arguments.times,
    }
    return _measure(lambda: routing_work(sizes, **options), arguments)


def _measure(make: Callable[[], Any], arguments: argparse.Namespace) -> int:
    import json

    from capsjax.bench.measurement import measure
    from capsjax.bench.profile import profile

    with progress(arguments, "compiling") as reporter:
        work = make()
        measured = measure(work, arguments.repeats, reporter)
        parts = profile(work) if getattr(arguments, "profile", False) else None
    show([found.table() for found in (measured, parts) if found is not None])
    if arguments.json:
        more = {} if parts is None else {"profile": parts.as_json()}
        print(json.dumps(measured.as_json() | more))
    return 0
