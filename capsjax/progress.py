"""What a long task tells the person who waits: a bar on a terminal, plain lines anywhere else."""

import abc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO, TextIOWrapper
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from capsjax.checks import printable


class Reporter(abc.ABC):
    """Define how a task tells where it is. A task has a label, a number of units, and a note."""

    @abc.abstractmethod
    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Begin a task, which ends the one before.

        Args:
            label: what the task is.
            total: its number of units, such as steps or bytes; None if that is not known.
            done: how many of them are done already.
        """

    @abc.abstractmethod
    def update(self, done: int, note: str = "") -> None:
        """Say how many units of the task are done.

        Args:
            done: the number of units done since the task began, those of before included.
            note: a few words or numbers about them.
        """

    @abc.abstractmethod
    def say(self, line: str) -> None:
        """Tell something that stays, as a line of its own."""

    @abc.abstractmethod
    def close(self) -> None:
        """End the task and leave the screen tidy."""

    def download(self, label: str, done: int, total: int | None) -> None:
        """Tell of a download; the signature that data sets call with.

        Args:
            label: the name of the file.
            done: bytes received; 0 begins a task.
            total: bytes of the whole file; None if the server does not say.
        """
        if done == 0:
            self.start(label, total)
        self.update(done)


class Silent(Reporter):
    """Tell nothing."""

    def _ignore(self, *args: object, **kwargs: object) -> None:
        """Take what a reporter takes."""

    start = update = say = close = _ignore


class Lines(Reporter):
    """Write a plain line every few seconds, for files, pipes and batch systems.

    Args:
        stream: where to write.
        every: seconds between two lines of one task.
    """

    def __init__(self, stream: TextIO | StringIO | TextIOWrapper, every: float = 5.0):
        self._stream = stream
        self._every = every
        self._label = ""
        self._total: int | None = None
        self._last = 0.0

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Write the label, with the number of units.

        Args:
            label: what the task is.
            total: its number of units, such as steps or bytes; None if that is not known.
            done: how many of them are done already.
        """
        self._label, self._total = label, total
        self._last = time.monotonic()
        of = "" if total is None else f" {done}/{total}"
        self.say(f"{label}{of}")

    def update(self, done: int, note: str = "") -> None:
        """Write a line if some seconds went by since the last, or the task is done.

        Args:
            done: the number of units done since the task began, those of before included.
            note: a few words or numbers about them.
        """
        now = time.monotonic()
        # The last line is written whenever it comes: a log that ends at 97 % looks like a crash.
        if now - self._last >= self._every or done == self._total:
            self._last = now
            of = "" if self._total is None else f"/{self._total}"
            self.say(f"{self._label} {done}{of} {note}".rstrip())

    def say(self, line: str) -> None:
        """Write the line."""
        # Flushed: whoever follows a log of a batch system sees a line when it is written.
        print(printable(line), file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing: every line is written already."""


class Bar(Reporter):
    """Draw a bar with what is done, what is left, and a note.

    Args:
        stream: a terminal.
    """

    def __init__(self, stream: TextIO | StringIO | TextIOWrapper):
        self._console = Console(file=stream)
        self._progress = Progress(
            # No markup: names of files hold brackets, which rich would take for styles.
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            refresh_per_second=8,
        )
        self._task: TaskID | None = None

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Replace the bar with a new one.

        Args:
            label: what the task is.
            total: its number of units, such as steps or bytes; None if that is not known.
            done: how many of them are done already.
        """
        if self._task is None:
            self._progress.start()  # with the first task, so that nothing is drawn before there is one
        else:
            self._progress.remove_task(self._task)  # one bar at a time, without those that are over
        label = printable(label)
        self._task = self._progress.add_task(label, total=total, completed=done, note="")

    def update(self, done: int, note: str = "") -> None:
        """Move the bar.

        Args:
            done: the number of units done since the task began, those of before included.
            note: a few words or numbers about them.
        """
        if self._task is not None:
            self._progress.update(self._task, completed=done, note=note)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        self._console.print(printable(line), markup=False, highlight=False)

    def close(self) -> None:
        """Stop drawing; the last bar stays."""
        if self._task is not None:
            self._progress.stop()
            self._task = None


@contextmanager
def reporter(stream: TextIO | StringIO | TextIOWrapper | None = None) -> Iterator[Reporter]:
    """Open what fits a stream: a bar for a terminal, lines for anything else.

    Args:
        stream: where to write; standard error unless given.
    """
    stream = sys.stderr if stream is None else stream
    chosen: Reporter = Bar(stream) if stream.isatty() else Lines(stream)
    # Closed after an error too: a bar hides the terminal's cursor.
    try:
        yield chosen
    finally:
        chosen.close()
