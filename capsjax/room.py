"""Memory: how much there is, and what would take more, said before a system ends the process for it."""

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from capsjax.checks import UserError

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
REMEDY = (
    "training.batch_size, training.eval_batch_size where it evaluates, model.routing.num_iters where "
    "its gradient is full, or the size of the images"
)
ANEW = (
    " and train anew, in a new directory: a run that is resumed keeps all of them but "
    "training.eval_batch_size"
)
COPIES = 4  # of the parameters: their gradient and Adam's two moments beside them


def available(root: Path = ROOT) -> float:
    """Return how many bytes of memory can still be had, the least of what is known; infinite if nothing is.

    Args:
        root: where `proc` and `sys` are.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return math.inf if limit is None else limit - stats.get("bytes_in_use", 0)
    system = _table(root / "proc/meminfo")
    total = system.get("MemAvailable", math.inf) + system.get("SwapFree", 0)
    return min(1024 * total, _group(root), _limit(root))


def check_parameters(shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Refuse a network whose parameters cannot be trained in the memory that there is.

    Raises:
        UserError: If they do not fit; the largest is named.
    """
    sizes = {name: COPIES * shape.size * shape.dtype.itemsize for name, shape in shapes.items()}
    needed, there = sum(sizes.values()), available()
    if needed <= there:
        return
    name = max(sizes, key=lambda name: sizes[name])
    shape = shapes[name]
    count = sum(shape.size for shape in shapes.values())
    raise UserError(
        f"model: got {count:.3g} parameters, which take {written(needed)} with their gradient and two "
        f"moments, for {written(there)} of memory\n  the largest is {name}, "
        f"{shape.dtype}{list(shape.shape)}; expected less: smaller images, fewer classes, or lower "
        "model.primary.types, model.dim or model.decoder.hidden"
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


def check_program(compiled: jax.stages.Compiled, what: str, remedy: str) -> None:
    """Refuse a compiled program that needs more memory than there is, beside its arguments.

    Args:
        compiled: what `lower(...).compile()` returned.
        what: what it does, for the message.
        remedy: which keys to lower.

    Raises:
        UserError: If it needs more; its largest array is named.
    """
    found = compiled.memory_analysis()
    if found is None:
        return
    needed = found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    there = available()
    if needed > there:
        array, size = largest(compiled.as_text() or "")
        raise UserError(
            f"{what}: got {written(needed)} of memory to compute in, expected at most the {written(there)} "
            f"that there are\n  the largest array is {array}, {written(size)}; lower {remedy}"
        )


def exhausted(error: Exception) -> str | None:
    """Say in two lines what an allocation that failed asked for.

    Args:
        error: what JAX raised.

    Returns:
        The lines; None for an error of another kind.
    """
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text and "Out of memory" not in text:
        return None
    asked = re.search(r"allocat\w* (\d+) bytes", text)
    size = f"an array of {written(int(asked[1]))}" if asked else "an array"
    return (
        f"out of memory: {size} was refused, the largest at that moment, with {written(available())} left\n"
        f"  lower {REMEDY}"
    )
