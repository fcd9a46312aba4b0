"""Say which parts of a piece of work take the device's time, by JAX's own profiler."""

import collections
import contextlib
import dataclasses
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax

from capsjax.bench.workload import Workload
from capsjax.checks import UserError
from capsjax.tables import Table

# The scopes that a step is traced in beside its network's layers, and what has none.
BEFORE, AFTER = ("batch",), ("decoder", "loss", "optimiser")
OTHER = "other"
# What only waits for operations inside it, each with a time of its own.
_CONTAINERS = frozenset(("while", "call", "conditional", "async-start", "async-done"))
_CALLED = re.compile(r"(?:to_apply|calls|body|condition)=%?([^\s,]+)")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(\S+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(\S+) = (?:\(.*?\)|\S+) ([a-z][\w-]*)\(")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Profile:
    """Hold where the time of a piece of work goes.

    Args:
        work: what was done.
        seconds: seconds of the device for each part, a mean over all times; what belongs to no part is
            `other`: copies and what the compiler made of several parts without saying so.
    """

    work: Workload
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """Seconds of the device in all; threads that work beside each other count one by one."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """Return plain values, to be kept and compared."""
        shares = {part: taken / self.total for part, taken in self.seconds.items()}
        return {
            "work": self.work.name,
            **self.work.sizes,
            "seconds": self.seconds,
            "shares": shares,
            "device": str(jax.devices()[0]),
        }

    def table(self) -> Table:
        """Return the parts as a table, the longest first."""
        found = sorted(self.seconds.items(), key=lambda item: -item[1])
        rows = tuple(
            (part, f"{1e3 * taken:.2f} ms", f"{100 * taken / self.total:.1f} %")
            for part, taken in found
        )
        title = f"{self.work.name} by parts, on {jax.devices()[0]}"
        return Table(title, ("part", "time of the device", "share"), rows)


def profile(work: Workload, calls: int = 3) -> Profile:
    """Do work under the profiler, after one call that does not count.

    Args:
        work: what to do.
        calls: the number of calls.

    Returns:
        The seconds of each part.

    Raises:
        UserError: If there is no call to look at, or the profiler saw nothing of the device.
    """
    if calls < 1:
        raise UserError(f"calls: got {calls}, expected an integer of at least 1")
    work.call()  # the first call may still allocate
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                work.call()
        traces = list(Path(folder).rglob("*.xplane.pb"))
        taken = seconds_of(jax.profiler.ProfileData.from_file(str(trace)) for trace in traces)
    parts = parts_of(work.program_text(), work.layers)
    seconds: dict[str, float] = collections.defaultdict(float)
    for operation, spent in taken.items():
        if (part := parts.get(operation, OTHER)) is not None:
            seconds[part] += spent / (calls * work.times)
    if not seconds:
        raise UserError("profile: got no operation of the device, expected some in the trace")
    return Profile(work=work, seconds=dict(seconds))


@contextlib.contextmanager
def fresh_metadata() -> Iterator[None]:
    """Compile so that a program from the compilation cache names the scopes of today's source."""
    # Names are no part of the cache's key otherwise: a program from before a renaming would be found.
    name = "jax_compilation_cache_include_metadata_in_key"
    before = jax.config.values[name]
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def parts_of(program: str, layers: Iterable[str]) -> dict[str, str | None]:
    """Name the part of the work that each operation of a compiled program belongs to.

    Args:
        program: the compiled program as text.
        layers: what the network's layers are called in it.

    Returns:
        Operation to part; None for those that only contain others.
    """
    # A step of the path to an operation, as it is or differentiated: stem, jvp(stem), transpose(jvp(stem)).
    names = "|".join(map(re.escape, (*BEFORE, *layers, *AFTER)))
    pattern = re.compile(rf"(?:^|/)(?:\w+\()*({names})\)*(?=/|$)")
    found: list[tuple[str, str, str | None, str]] = []
    # Of a computation the part of what calls it, and the computation which that is in.
    around: dict[str, tuple[str | None, str]] = {}
    inside = ""
    for line in program.splitlines():
        _, _, named = line.partition('op_name="')
        scope = pattern.search(named.partition('"')[0])
        part = None if scope is None else scope[1]
        if begun := _COMPUTATION.match(line):
            inside = begun[1]
        elif instruction := _INSTRUCTION.match(line):
            operation, kind = instruction.groups()
            found.append((operation, kind, part, inside))
            around |= dict.fromkeys(_CALLED.findall(line), (part, inside))

    # What is called knows no scope of its callers: then the part is that of the nearest call around.
    def around_it(part: str | None, inside: str) -> str:
        while part is None and inside in around:
            part, inside = around[inside]
        return part or OTHER

    return {
        operation: None if kind in _CONTAINERS else around_it(part, inside)
        for operation, kind, part, inside in found
    }


def seconds_of(traces: Iterable[Any]) -> dict[str, float]:
    """Add up the time of each operation of the compiled programs, in seconds."""
    taken: dict[str, float] = collections.defaultdict(float)
    with warnings.catch_warnings():
        # Python 3.12 warns of the reader's own types; made an error, that ends the process.
        warnings.filterwarnings("ignore", "builtin type", DeprecationWarning)
        for trace in traces:
            for line in _lines(trace):
                for event in line.events:
                    operation = dict(event.stats).get("hlo_op")
                    if operation is not None and not event.name.startswith("end: "):
                        taken[str(operation)] += event.duration_ns / 1e9
    return dict(taken)


def _lines(trace: Any) -> Iterator[Any]:
    """Go through the lines that hold each operation once: streams of a GPU, threads of a host."""
    planes = list(trace.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        for line in plane.lines:
            if not devices or line.name.startswith(("Stream", "XLA Ops")):
                yield line
