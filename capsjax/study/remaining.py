"""How long all runs of a comparison still take, beside what each run shows of itself."""

import time
from collections.abc import Callable, Mapping

from capsjax.progress import Reporter


class SequentialProgress(Reporter):
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
        """Begin a task; that of the run is the one that counts.

        Args:
            label: what the task is.
            total: its number of units; None if that is not known.
            done: how many of them are done already.
        """
        self._task, self._total = label, total or 0
        self._inner.start(label, total, done)

    def update(self, done: int, note: str = "") -> None:
        """Say how far the task is, and how long all runs still take.

        Args:
            done: the number of units done since the task began.
            note: a few words or numbers about them.
        """
        if self._task == self._run and self._total:
            left = self._left(done / self._total)
            note = ", ".join(part for part in (note, left and f"{left} left in all") if part)
        self._inner.update(done, note)

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._inner.say(line)

    def close(self) -> None:
        """End the task."""
        self._inner.close()

    def _left(self, part: float) -> str:
        """Say how long the rest takes, if a part of a run is done; nothing if nothing is to come."""
        done = self._finished + part
        # The first step compiles: before a twentieth is done, the pace says little.
        if not 0.05 * self._runs <= done < self._runs:
            return ""
        return duration((self._clock() - self._since) * (self._runs - done) / done)


class ParallelProgress:
    """Show several runs at once as one task: the steps of all, and how long they still take.

    Args:
        inner: what tells the person who waits.
        steps: the steps that each run still has to be trained, by its label.
        clock: seconds since any moment, which never go back.
    """

    def __init__(
        self, inner: Reporter, steps: Mapping[str, int], clock: Callable[[], float] = time.monotonic
    ):
        self._inner, self._steps, self._clock = inner, dict(steps), clock
        self._since = clock()
        self._before: dict[str, int] = {}  # what was trained when a run was resumed
        self._done = dict.fromkeys(steps, 0)
        self._notes: dict[str, str] = {}
        self._inner.start(f"{len(self._steps)} runs", sum(self._steps.values()))

    def start(self, run: str, label: str, total: int | None, done: int) -> None:
        """Begin a task of a run; that of its own label is its training.

        Args:
            run: the run's label.
            label: what the task is.
            total: its number of units; not used, as the steps of every run are known.
            done: how many of them are done already.
        """
        del total
        # A run that is resumed has less to do, and that took no time so far.
        if label == run:
            self._before[run] = done
        self._notes[run] = "" if label == run else label

    def update(self, run: str, done: int, note: str) -> None:
        """Say how far a run's task is.

        Args:
            run: the run's label.
            done: the number of units done since the task began.
            note: a few words or numbers about them.
        """
        if run in self._before:
            self._done[run] = min(max(done - self._before[run], 0), self._steps[run])
            self._notes[run] = (
                f"{round(100 * self._done[run] / max(self._steps[run], 1))} % {note}".strip()
            )
        self._tell()

    def say(self, line: str) -> None:
        """Tell something that stays."""
        self._inner.say(line)

    def end(self, run: str, line: str) -> None:
        """End a run, done or failed.

        Args:
            run: the run's label.
            line: what became of it; it stays.
        """
        self._done[run] = self._steps[run]
        self._notes.pop(run, None)
        self._before.pop(run, None)
        left = self._left()
        self._inner.say(f"{line}, {left} left in all" if left else line)
        self._tell()

    def _tell(self) -> None:
        notes = [f"{run} {note}".rstrip() for run, note in self._notes.items()]
        left = self._left()
        notes += [f"{left} left in all"] if left else []
        self._inner.update(sum(self._done.values()), ", ".join(notes))

    def _left(self) -> str:
        done, total = sum(self._done.values()), sum(self._steps.values())
        # As in `SequentialProgress`: the first steps compile, and say little.
        if not 0.05 * total <= done < total:
            return ""
        return duration((self._clock() - self._since) * (total - done) / done)


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
