"""How long all runs of a comparison still take, beside what each run tells of itself."""

import time
from collections.abc import Callable

from capsjax.progress import Reporter


class Whole(Reporter):
    """Add to a run's progress how long all runs still take, at the pace of those so far.

    Args:
        inner: what tells the person who waits.
        runs: how many runs there are to train, all of the same number of steps.
        clock: seconds since any moment, which never go back.
    """

    def __init__(self, inner: Reporter, runs: int, clock: Callable[[], float] = time.monotonic):
        self._inner, self._runs, self._clock = inner, runs, clock
        self._since, self._finished = clock(), 0
        self._run, self._task, self._total = "", "", 1

    def begin(self, run: str) -> None:
        """Begin the next run, by the label that it tells its progress with."""
        self._run = run

    def end(self, line: str) -> None:
        """End the run, with a line that stays."""
        self._finished += 1
        left = self._left(0.0)
        self.say(f"{line}, {left} left in all" if left else line)

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Begin a task; that of the run is the one that counts."""
        self._task, self._total = label, total or 0
        self._inner.start(label, total, done)

    def update(self, done: int, note: str = "") -> None:
        """Say how far the task is, and how long all runs still take."""
        if self._task == self._run and self._total:
            left = self._left(done / self._total)
            note = ", ".join(part for part in (note, left and f"{left} left in all") if part)
        self._inner.update(done, note)

    def say(self, line: str) -> None:
        """Tell something that stays."""
        self._inner.say(line)

    def close(self) -> None:
        """End the task."""
        self._inner.close()

    def _left(self, part: float) -> str:
        """Say how long the rest takes, where a part of a run is done; nothing where nothing is to come."""
        done = self._finished + part
        # The first step compiles: before a twentieth is done, the pace says little.
        if not 0.05 * self._runs <= done < self._runs:
            return ""
        return duration((self._clock() - self._since) * (self._runs - done) / done)


def duration(seconds: float) -> str:
    """Write a time in its two largest units, such as 40 s, 12 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
