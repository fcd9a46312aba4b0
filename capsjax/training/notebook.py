"""What a long task tells in a notebook: a line below the cell that changes, and lines that stay."""

import sys
import time
from collections.abc import Callable
from typing import Any

from capsjax.progress import Reporter, Silent


class Cell(Reporter):
    """Show one line that changes while a task runs, and lines that stay.

    Args:
        display: IPython's, which shows something below the cell that runs.
        every: seconds between two changes of the line.
    """

    def __init__(self, display: Callable[..., Any], every: float = 0.2):
        self._display, self._every = display, every
        self._handle: Any = None
        self._label, self._total, self._last = "", 0, 0.0

    def start(self, label: str, total: int | None, done: int = 0) -> None:
        """Begin a new line.

        Args:
            label: what the task is.
            total: its number of units; None if that is not known.
            done: how many of them are done already.
        """
        self._label, self._total = label, total or 0
        self._handle, self._last = None, 0.0
        self.update(done)

    def update(self, done: int, note: str = "") -> None:
        """Change the line, unless it changed just now; the last change of a task is always shown.

        Args:
            done: the number of units done since the task began, those of before included.
            note: a few words or numbers about them.
        """
        now = time.monotonic()
        # Each change is a message to the browser, which many a second would slow down.
        if now - self._last < self._every and done != self._total:
            return
        self._last = now
        of = f" {done}/{self._total}" if self._total else f" {done}" if done else ""
        text = {"text/plain": f"{self._label}{of} {note}".rstrip()}
        if self._handle is None:
            self._handle = self._display(text, raw=True, display_id=True)
        else:
            self._handle.update(text, raw=True)

    def say(self, line: str) -> None:
        """Show the line; the task's own line continues below it."""
        self._display({"text/plain": line}, raw=True)
        self._handle = None

    def close(self) -> None:
        """Do nothing: every line stays as it is."""


def for_python(given: Reporter | None) -> Reporter:
    """Return what tells a caller in Python of progress: what they gave, or a notebook's cell, or nothing."""
    if given is not None:
        return given
    ipython = sys.modules.get("IPython")  # where a notebook runs, it is there already
    shell = None if ipython is None else ipython.get_ipython()
    in_kernel = shell is not None and hasattr(shell, "kernel")
    return Cell(sys.modules["IPython.display"].display) if in_kernel else Silent()
