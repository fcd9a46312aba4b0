"""What work took: its repetitions timed, with the memory that the process has had."""

import dataclasses
import statistics
import sys
from pathlib import Path
from typing import Any

from capsjax.bench.timing import time_interleaved
from capsjax.bench.workload import Workload
from capsjax.checks import UserError
from capsjax.progress import Reporter
from capsjax.runs import description
from capsjax.tables import Table


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


def peak_rss() -> int:
    """Return the most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells begins with the parent's memory
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # Unix has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
