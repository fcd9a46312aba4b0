"""SIGINT, SIGTERM and SIGHUP: a run saves, says how to resume, and ends with 128 + the signal's number.

A thread of its own receives the signals of a command, since the main thread hears of none while it compiles
or computes. It ends the process at once where there is nothing to save, and at the second signal. It raises
nothing, as an exception that comes at any line leaves a traceback behind, or is lost in a callback.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# Programs that start others pass on what the terminal or the system sends to all of them anyway.
ONE = 0.1  # seconds within which a signal that comes again is the same one
PATIENCE = 1.0  # seconds until somebody who waits is told for what


class Interrupted(KeyboardInterrupt):
    """Tell that a signal asked to end, at a place where what was computed is saved.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Watch:
    """Hold what is known of the signals of this process.

    Attributes:
        asked: the first signal that asked to end.
        held: whether somebody saves before the end, and ends.
        title: the command, which begins what is said.
        advice: what to do after the end, in words that can be pasted.
        whole: whether parts of what goes on have no advice of their own.
    """

    def __init__(self):
        self.asked: int | None = None
        self.held = False
        self.title = "capsjax"
        self.advice = ""
        self.whole = False
        self.watching = False
        self._said = threading.Lock()

    def first_to_speak(self) -> bool:
        """Return whether the caller is the first to ask, and so is the one to say why the process ends."""
        return self._said.acquire(blocking=False)

    def watch(self, reading: int) -> None:
        """Read the numbers of signals, as they come, until the process ends."""
        begun, announced = 0.0, False
        while True:
            wait = None if self.asked is None else ONE
            ready, _, _ = select.select([reading], [], [], wait)
            now = time.monotonic()
            for number in os.read(reading, 64) if ready else b"":
                if number not in STOPPING:
                    continue
                if self.asked is None:
                    begun, self.asked = now, number
                elif now - begun > ONE:
                    self._end(self.asked)
            if self.asked is not None and not self.held:
                self._end(self.asked)
            if self.asked is not None and not announced and now - begun > PATIENCE:
                announced = True
                _write(f"{self.title}: saving at the end of this step; once more ends at once\n")

    def _end(self, number: int) -> None:
        if self.first_to_speak():
            _write(f"{interrupted()}\n")
        os._exit(128 + number)


_watch = _Watch()


def install() -> None:
    """Watch the signals of this process from now on; those that it was started to ignore stay ignored."""
    if _watch.watching or threading.current_thread() is not threading.main_thread():
        return
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none of this
        return
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch.watch, args=(reading,), daemon=True).start()
    for number in STOPPING:
        if signal.getsignal(number) in defaults:
            signal.signal(number, lambda number, frame: None)
    _watch.watching = True
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)  # held back while the process restarted


def advise(advice: str, title: str | None = None, *, whole: bool = False) -> None:
    """Set what is said where a signal ends this process.

    Args:
        advice: what to do then, in words that can be pasted.
        title: the command, where another one begins.
        whole: whether this is of a whole whose parts have advice of their own, which is not said then.
    """
    if title is not None or whole or not _watch.whole:
        _watch.advice = advice
        _watch.title = title or _watch.title
        _watch.whole = whole


def advice() -> str:
    """Return what `advise` set last."""
    return _watch.advice


def interrupted() -> str:
    """Return the line that a command says which a signal ended."""
    return f"{_watch.title}: interrupted; what was written stays valid. {_watch.advice}".rstrip()


def first_to_speak() -> bool:
    """Return whether nobody has said yet why the process ends; true once."""
    return not _watch.watching or _watch.first_to_speak()


def code(interrupt: BaseException | None = None) -> int | None:
    """Return the exit code of a command that a signal asked to end; None if none did."""
    number = getattr(interrupt, "number", _watch.asked)
    if number is None and isinstance(interrupt, KeyboardInterrupt):
        number = signal.SIGINT
    return None if number is None else 128 + number


def asked() -> bool:
    """Return whether a signal asked to end."""
    return _watch.asked is not None


def check() -> None:
    """Do nothing, unless a signal asked to end.

    Raises:
        Interrupted: If one did.
    """
    if _watch.asked is not None:
        raise Interrupted(_watch.asked)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold signals back for one who asks with `check` at every good place, and saves.

    In a notebook or a script this holds back SIGINT alone, once; a second one is a KeyboardInterrupt.

    Raises:
        Interrupted: If a signal came that nobody asked for.
    """
    if _watch.watching:
        before, _watch.held = _watch.held, True
        try:
            yield
            check()
        finally:
            if _watch.asked is None:  # whoever is on the way out is not ended halfway
                _watch.held = before
        return
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    begun = 0.0

    def once(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if _watch.asked is not None and time.monotonic() - begun > ONE:
            signal.default_int_handler(number, frame)
        if _watch.asked is None:
            begun, _watch.asked = time.monotonic(), number

    signal.signal(signal.SIGINT, once)
    try:
        yield
        check()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _watch.asked = None


@contextlib.contextmanager
def released(nothing: bool) -> Iterator[None]:
    """Let signals end the process at once, within `held`, where there is nothing to save as yet.

    Args:
        nothing: whether that is so; else nothing changes.
    """
    before = _watch.held
    _watch.held = before and not nothing
    try:
        yield
    finally:
        _watch.held = before


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keep signals for the program that takes the place of this one, which watches them again."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:  # where none took its place
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write(line: str) -> None:
    """Say a line to whoever still listens; nobody is waited for."""
    with contextlib.suppress(OSError, ValueError):
        # A bar hides the cursor and leaves it on its line.
        shown = f"\x1b[?25h\n{line}" if os.isatty(2) else line
        if select.select([], [2], [], 0.2)[1]:
            os.write(2, shown.encode(getattr(sys.stderr, "encoding", None) or "utf-8", "replace"))
