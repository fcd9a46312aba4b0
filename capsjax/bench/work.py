"""Time one piece of work by itself: a training step, a forward pass, or routing alone."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from capsjax import room
from capsjax.bench.timing import time_interleaved
from capsjax.checks import UserError, check_int, nearest
from capsjax.data import Dataset, Split
from capsjax.gradients import GradientMode, ImplicitGradient, StopGradient, TruncatedGradient
from capsjax.layers import routings
from capsjax.progress import Reporter
from capsjax.routing import DynamicRouting, Routing
from capsjax.routing.base import IterativeRouting
from capsjax.routing.parameters import Sizes
from capsjax.runs import description
from capsjax.runs.config import Config
from capsjax.runs.plan import Plan, plan
from capsjax.tables import Table
from capsjax.training.feed import Epoch, TrainFeed
from capsjax.training.state import Batch
from capsjax.votes import VoteForm, form_votes

BENCH_REMEDY = "the batch size, the other sizes, or num_iters if the gradient is full"
LONG = 1_000_000  # steps
LARGEST = 1_000_000  # random images


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoutingSizes:
    """Describe routing alone; the defaults are the 2017 network's.

    Args:
        batch: examples.
        children: i.
        parents: j.
        in_dim: d, components of a child's pose.
        out_dim: e, components of a parent's pose.
        num_iters: r, the number of readouts.

    Raises:
        FieldError: If one is not an integer of at least 1.
    """

    batch: int = 128
    children: int = 1152
    parents: int = 10
    in_dim: int = 8
    out_dim: int = 16
    num_iters: int = 3

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_int(self, field.name, low=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """Hold what work took.

    Args:
        work: what was done.
        seconds: seconds of each repetition, in order; if a call does the work several times, the mean.
        peak_rss_bytes: the most memory that the process has had resident, in bytes.
    """

    work: Workload
    seconds: tuple[float, ...]
    peak_rss_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return plain values, to be kept and compared."""
        median, found = statistics.median(self.seconds), description.environment()
        return {
            "work": self.work.name,
            **self.work.sizes,
            "median_s": median,
            "min_s": min(self.seconds),
            "max_s": max(self.seconds),
            "seconds": list(self.seconds),
            "compile_s": self.work.compile_s,
            "compile_cached": self.work.cached,
            "images_per_s": self.work.examples / median,
            "temp_bytes": self.work.temp_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "device": found["devices"][0],
            "devices": len(found["devices"]),
            "versions": {
                "capsjax": found["capsjax"],
                "python": found["python"],
                **found["packages"],
            },
        }

    def table(self) -> Table:
        """Return the figures as a table of one row."""
        values = self.as_json()
        given = {name: value for name, value in self.work.sizes.items() if value is not None}
        sizes = ", ".join(f"{name} {value}" for name, value in given.items())
        headings = ("what", "median", "fastest", "slowest", "images/s", "compiling", "temporary")
        row = (
            self.work.name,
            *(f"{1e3 * values[name]:.1f} ms" for name in ("median_s", "min_s", "max_s")),
            f"{values['images_per_s']:,.0f}",
            f"{values['compile_s']:.1f} s" + (" (cached)" if self.work.cached else ""),
            f"{values['temp_bytes'] / 1e6:,.0f} MB",
        )
        peak = f"{self.peak_rss_bytes / 1e6:,.0f} MB"
        return Table(f"{sizes}; {values['device']}", (*headings, "peak resident"), ((*row, peak),))


def step_work(
    config: Config, batch_size: int | None = None, *, times: int = 1, forward: bool = False
) -> Workload:
    """Compile a training step of a configuration, for random images of its data's shape.

    Args:
        config: what is trained, and how.
        batch_size: examples in a batch, or None for the configuration's.
        times: how many steps the device takes by itself in a call, each with a batch of its own; or how
            many forward passes are sent off before one is waited for.
        forward: compile the network's forward pass alone, as at evaluation, instead of a step.

    Returns:
        The work; each call of a step trains on, from where the last one stopped.

    Raises:
        UserError: If the batch is empty, a call is to do nothing, or the data have no shape of their own.
    """
    _check_times(times)
    # The length of the run decides nothing but the learning rate, which takes no time.
    training = dataclasses.replace(config.training, epochs=None, steps=LONG)
    if batch_size is not None:
        training = dataclasses.replace(training, batch_size=batch_size)
    config = dataclasses.replace(config, training=training)
    dataset = random_dataset(config, training.batch_size * (1 if forward else times))
    made = plan(config, dataset)
    feed = TrainFeed(dataset.train, made.slicer, config.seed)
    routing = list(routings(config.model).values())[-1]
    sizes = {
        "batch": training.batch_size,
        "image": list(dataset.image_shape),
        "routing": kind_of(routing),
        "gradient": kind_of(getattr(routing, "gradient", None)),
        "num_iters": getattr(routing, "num_iters", None),
    }
    if forward:
        parts = _forward(made, config.seed, feed.batch(0))
        work = _compile("forward", sizes, training.batch_size, *parts, times=times)
    else:
        parts = _train_steps(made, config.seed, feed.epoch(0))
        batch = training.batch_size
        work = _compile("train step", sizes, batch, *parts, times=times, in_a_loop=True)
    names = config.model.network().layers
    return work._replace(layers=tuple(config.model.scope(name) for name in names))


def routing_work(
    sizes: RoutingSizes,
    *,
    routing: str = DynamicRouting.kind,
    gradient: GradientMode | None = None,
    votes: VoteForm = "auto",
    times: int = 1,
) -> Workload:
    """Compile value and gradient of routing alone, with respect to u, W and what else the routing takes.

    The loss is the sum of the parents' poses, each weighed with a fixed random number; with a routing that
    takes activations, the parents' activations are added, weighed likewise.

    Args:
        sizes: how much there is to route.
        routing: its kind, such as "em".
        gradient: how the gradient passes through the iterations; None for `StopGradient()`, and for routings
            without iterations.
        votes: "linear", "dense", or "auto" to choose by size.
        times: how many are sent off in a call before one is waited for.

    Raises:
        FieldError: If the gradient mode does not fit the routing or its iterations.
        UserError: If the kind of routing or the form of votes is unknown, a routing without iterations comes
            with a gradient mode, or a call is to do nothing.
    """
    _check_times(times)
    route = _routing_of(routing, sizes.num_iters, gradient)
    rng = np.random.default_rng(0)
    u = 0.3 * rng.normal(size=(sizes.batch, sizes.children, sizes.in_dim))
    W = 0.1 * rng.normal(size=(sizes.children, sizes.parents, sizes.in_dim, sizes.out_dim))
    weights = rng.normal(size=(sizes.batch, sizes.parents, sizes.out_dim))
    arrays = tuple(jnp.asarray(x, jnp.float32) for x in (u, W, weights))

    more = _more_of(route, sizes, rng)

    def loss(u: jax.Array, W: jax.Array, weights: jax.Array, more: dict[str, Any]) -> jax.Array:
        found = route(
            form_votes(u, W, votes),
            poses=u if "poses" in route.takes else None,
            activation=more.get("activation"),
            params=more.get("params"),
        )
        total = jnp.sum(found.pose * weights)
        return total + jnp.sum(found.activation * weights[..., 0]) if route.takes else total

    mode = kind_of(getattr(route, "gradient", None))
    described = dataclasses.asdict(sizes) | {"routing": routing, "gradient": mode, "votes": votes}
    if mode is None:
        described["num_iters"] = None
    lowered = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 3))).lower
    parts = lowered, (*arrays, more), lambda _, used: used
    return _compile("routing", described, sizes.batch, *parts, times=times)


def _kinds() -> dict[str, type]:
    """Return every routing by its kind."""
    return {getattr(routing, "kind", routing.__name__): routing for routing in Routing.variants()}


def _routing_of(kind: str, num_iters: int, gradient: GradientMode | None) -> Routing:
    """Make the routing of a kind, as it is but for its iterations and its gradient."""
    kinds = _kinds()
    if kind not in kinds:
        got = f"routing: got {kind!r}, expected one of {', '.join(kinds)}"
        raise UserError(got + nearest(kind, kinds), argument="routing")
    if issubclass(kinds[kind], IterativeRouting):
        return kinds[kind](num_iters=num_iters, gradient=gradient or StopGradient())
    if gradient is not None:
        got = f"gradient: got {kind_of(gradient)!r} for routing {kind!r}, which has no iterations"
        raise UserError(f"{got}, expected none", argument="gradient")
    return kinds[kind]()


def _more_of(route: Routing, sizes: RoutingSizes, rng: np.random.Generator) -> dict[str, Any]:
    """Return what a routing takes and trains beside poses and W: random numbers, by the argument's name."""
    shapes = route.parameters(Sizes(sizes.children, sizes.parents, sizes.in_dim, sizes.out_dim))
    params = {
        name: jnp.asarray(0.1 * rng.normal(size=parameter.shape), jnp.float32)
        for name, parameter in shapes.items()
        if not parameter.optional
    }
    present = rng.uniform(0.1, 1, size=(sizes.batch, sizes.children))
    takes = {"activation": jnp.asarray(present, jnp.float32)} if "activation" in route.takes else {}
    return takes | ({"params": params} if params else {})


def _check_times(times: int) -> None:
    if times < 1:
        raise UserError(f"times: got {times}, expected an integer of at least 1", argument="times")


def gradient_named(gradient: str, routing: str = DynamicRouting.kind) -> GradientMode:
    """Return the gradient mode of a name; "truncated" goes through the last update only.

    Args:
        gradient: the mode's kind.
        routing: the kind of routing that it is for: some have a fixed point, to be differentiated there.

    Returns:
        The mode, as it is.

    Raises:
        UserError: If there is none.
    """
    modes = {mode.kind: mode for mode in GradientMode.variants()}
    if gradient == ImplicitGradient.kind and hasattr(_kinds().get(routing), "target"):
        return ImplicitGradient()
    known = [known for known in modes if known != ImplicitGradient.kind]
    if gradient not in known:
        got = f"gradient: got {gradient!r}, expected one of {', '.join(known)}"
        if gradient != ImplicitGradient.kind:
            raise UserError(got + nearest(gradient, known), argument="gradient")
        got += ": routing by agreement has no fixed point; time what has one with "
        overrides = '{"model.routing": {"kind": "fixed_point", "gradient": "implicit"}}'
        flags = "--model.routing.kind fixed_point --model.routing.gradient implicit"
        raise UserError(
            f'{got}step_work(cj.load_config("digits", {overrides}))',
            on_command_line=f"{got}capsjax bench step digits {flags}",
            argument="gradient",
        )
    return TruncatedGradient(last=1) if gradient == "truncated" else modes[gradient]()


def kind_of(part: GradientMode | Routing | None) -> str | None:
    """Return the kind of a gradient mode or a routing, or None if there is none."""
    return getattr(part, "kind", None)


def measure(work: Workload, repeats: int, reporter: Reporter, *, warm_up: int = 2) -> Measurement:
    """Do work several times, after a few that do not count, and time each.

    Args:
        work: what to do.
        repeats: how often.
        reporter: what tells the person who waits.
        warm_up: how often before that.

    Raises:
        UserError: If there is nothing to repeat.
    """
    if repeats < 1:
        raise UserError(
            f"repeats: got {repeats}, expected an integer of at least 1", argument="repeats"
        )
    reporter.start(f"timing: {work.name}", warm_up + repeats)

    def tell(number: int) -> None:
        reporter.update(warm_up + number)

    seconds = time_interleaved({work.name: work.call}, repeats, warm_up=warm_up, tell=tell)
    taken = tuple(each / work.times for each in seconds[work.name])
    return Measurement(work=work, seconds=taken, peak_rss_bytes=peak_rss())


def random_dataset(config: Config, examples: int) -> Dataset:
    """Make random images of the shape that a configuration's data have, with random labels.

    Args:
        config: a configuration.
        examples: the number of images, which are all three splits.

    Raises:
        UserError: If the data's shape is not known before they are there, or there are no examples.
    """
    if not 1 <= examples <= LARGEST:
        expected = f"an integer of at least 1, and at most {LARGEST} images in a call"
        got = f"batch_size: got {examples} images, expected {expected}"
        raise UserError(got, argument="batch_size")
    rng, data = np.random.default_rng(0), config.data.shape()
    images = rng.integers(0, 256, (examples, *data.image_shape), np.uint8)
    labels = rng.integers(0, data.num_classes, examples)
    split = Split(images, labels)
    return Dataset("random", split, split, split, data.num_classes, 1 / 255)


def peak_rss() -> int:
    """Return the most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells begins with the parent's memory
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # Unix has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


Arguments = tuple[Any, ...]
NextArguments = Callable[[Any, Arguments], Arguments]


def _train_steps(made: Plan, seed: int, epoch: Epoch) -> tuple[Callable, Arguments, NextArguments]:
    """Return what compiles steps, their first arguments, and what makes the next of their result."""
    strategy, steps = made.compiled.strategy, epoch.order.shape[0] // made.slicer.batch_size
    state, examples = strategy.replicate((made.initial_state(seed), epoch))
    lower = made.compiled.train_steps.lower
    return lower, (state, examples, 0, steps), lambda result, used: (result[0], *used[1:])


def _forward(made: Plan, seed: int, batch: Batch) -> tuple[Callable, Arguments, NextArguments]:
    """Return the same for the network's forward pass: lengths and reconstructions."""
    functions = made.functions
    variables = functions.initial(seed) | functions.statistics(seed)

    def forward(params: Any, images: jax.Array) -> Any:
        output = functions.apply(params, images)
        return output.lengths, output.reconstruction

    return jax.jit(forward).lower, (variables, batch.images), lambda _, used: used


def _compile(
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
    """Compile work; `in_a_loop` says that what is compiled does it all `times` in one call."""
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
