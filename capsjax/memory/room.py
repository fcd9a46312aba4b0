"""Memory: how much there is, and what would take more, said before a system ends the process for it."""

import contextlib
import ctypes
import math
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from capsjax.checks import UserError

What = Literal["parameters", "images", "training", "evaluation", "work"]
ROOT = Path("/")
SIZES = {
    "pred": 1,
    "s8": 1,
    "u8": 1,
    "s16": 2,
    "u16": 2,
    "f16": 2,
    "bf16": 2,
    "s64": 8,
    "u64": 8,
    "f64": 8,
}


class TooLargeError(UserError):
    """Tell what takes more memory than there is; who knows the configuration says what would fit.

    Args:
        message: what came, and what there is.
        what: which part it is, for who says what would fit.
    """

    def __init__(self, message: str, what: What):
        super().__init__(message)
        self.what: What = what


def available(root: Path = ROOT) -> float:
    """Return how many bytes of memory can still be had, the least of what is known; infinite if nothing is.

    What this process keeps and does not use it gives back first.

    Args:
        root: where `proc` and `sys` are.
    """
    give_back()
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return math.inf if limit is None else limit - stats.get("bytes_in_use", 0)
    system = _table(root / "proc/meminfo")
    total = system.get("MemAvailable", math.inf) + system.get("SwapFree", 0)
    return min(1024 * total, _group(root), _limit(root))


def size_of(tree: Any) -> int:
    """Return how many bytes the arrays of a tree take, or those that its shapes describe."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def check_parameters(
    shapes: Mapping[str, jax.ShapeDtypeStruct], beside: float = 0.0, kept: str = ""
) -> None:
    """Refuse a network whose parameters do not fit into the memory that there is.

    Args:
        shapes: of each parameter, by its name.
        beside: bytes of what is held beside them.
        kept: what that is, for the message.

    Raises:
        TooLargeError: If they do not fit; the largest is named.
    """
    needed, there = size_of(shapes) + beside, available()
    if needed <= there:
        return
    name = max(shapes, key=lambda name: size_of(shapes[name]))
    shape = shapes[name]
    count = sum(shape.size for shape in shapes.values())
    raise TooLargeError(
        f"model: got {count:.3g} parameters, which take {written(needed)}{kept and f' with {kept}'}, "
        f"expected at most the {written(there)} of memory that there are\n  the largest is {name}, "
        f"{shape.dtype}{list(shape.shape)}",
        "parameters",
    )


def written(size: float) -> str:
    """Write a number of bytes."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB" if size < 1e6 else f"{size:.1e} TB"


def _table(path: Path) -> dict[str, int]:
    """Read lines such as `MemFree:  12 kB`; empty if there is no such file."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {
        words[0].rstrip(":"): int(words[1])
        for words in lines
        if len(words) > 1 and words[1].isdigit()
    }


def _group(root: Path) -> float:
    """Return what the control group of this process, or one above it, still allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    least = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        places = [base / path.strip("/"), *(base / path.strip("/")).parents]
        for place in places[: len(Path(path).parts)]:
            least = min(least, _left(place, *names))
    return least


def _left(place: Path, limit: str, used: str, cached: str) -> float:
    try:
        most = (place / limit).read_text().strip()
        taken = int((place / used).read_text())
    except (OSError, ValueError):
        return math.inf
    # What files left in memory is given back when it is asked for.
    reclaimed = _table(place / "memory.stat").get(cached, 0)
    return int(most) - taken + reclaimed if most.isdigit() else math.inf


def _limit(root: Path) -> float:
    """Return what `ulimit -v` still allows."""
    if sys.platform == "win32":
        return math.inf
    import resource  # Unix has it

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY:
        return math.inf
    return soft - 1024 * _table(root / "proc/self/status").get("VmSize", 0)


def largest(text: str) -> tuple[str, float]:
    """Find the largest array of a compiled program.

    Args:
        text: the program, as XLA writes it.

    Returns:
        Its type and shape, and its bytes.
    """
    found, most = "f32[]", 0.0
    for kind, dims in set(re.findall(r"\b(pred|bf16|[suf]\d+)\[([\d,]+)\]", text)):
        size = SIZES.get(kind, 4) * math.prod(map(int, dims.split(",")))
        if size > most:
            found, most = f"{kind}[{dims}]", size
    return found, most


def needed_by(compiled: jax.stages.Compiled, *, arguments: bool = False) -> float:
    """Return how many bytes of memory a compiled program needs; 0 where it does not say.

    Args:
        compiled: what `lower(...).compile()` returned.
        arguments: whether those of its arguments are counted: they are not there yet.
    """
    found = compiled.memory_analysis()
    if found is None:
        return 0.0
    given = found.argument_size_in_bytes if arguments else 0
    return given + found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes


def check_program(
    compiled: jax.stages.Compiled, name: str, *, what: What = "work", beside: float | None = None
) -> None:
    """Refuse a compiled program that needs more memory than there is.

    Args:
        compiled: what `lower(...).compile()` returned.
        name: what it does, for the message.
        what: which part of a run it is.
        beside: bytes that will be held beside it and its arguments, where these are not there yet; None
            where they are.

    Raises:
        TooLargeError: If it needs more; its largest array is named.
    """
    needed = needed_by(compiled, arguments=beside is not None) + (beside or 0.0)
    there = available()
    if needed > there:
        array, size = largest(compiled.as_text() or "")
        raise TooLargeError(
            f"{name}: got {written(needed)} of memory to compute in, expected at most the {written(there)} "
            f"that there are\n  the largest array is {array}, {written(size)}",
            what,
        )


def give_back() -> None:
    """Return memory that is free in this process to the system: compiling a program frees some 200 MB.

    The C library keeps it otherwise, and what the program then computes in comes on top. It is for glibc;
    elsewhere nothing happens.
    """
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def is_exhausted(error: BaseException) -> bool:
    """Tell whether JAX says by an error that an allocation failed."""
    text = str(error)
    return "RESOURCE_EXHAUSTED" in text or "Out of memory" in text


@contextlib.contextmanager
def advising(advice: str) -> Iterator[None]:
    """Note on an error of JAX's that says that an allocation failed what to change.

    Args:
        advice: what to change.
    """
    try:
        yield
    except RuntimeError as error:
        if is_exhausted(error):
            error.add_note(advice)
        raise


def exhausted(error: Exception) -> str | None:
    """Say in two lines what an allocation that failed asked for.

    Args:
        error: what JAX raised; its notes say what to change.

    Returns:
        The lines; None for an error of another kind.
    """
    if not is_exhausted(error):
        return None
    asked = re.search(r"allocat\w* (\d+) bytes", str(error))
    size = f"an array of {written(int(asked[1]))}" if asked else "an array"
    advice = "; ".join(getattr(error, "__notes__", ())) or "choose smaller sizes"
    return (
        f"out of memory: {size} was refused, the largest at that moment, with {written(available())} left\n"
        f"  {advice}"
    )
