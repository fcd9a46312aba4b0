"""Standard output and error that end no command: closed, full, left by their reader, or ASCII."""

import codecs
import io
import os
import sys
import unicodedata

# What the commands write, for terminals that lack it.
PLAIN = {"−": "-", "–": "-", "×": "x", "±": "+-", "→": "->", "…": "..."}
ERRORS = "capsjax.plain"


class Lenient(io.RawIOBase):
    """Write to a file descriptor; from the first write that fails, everything is dropped.

    Args:
        number: the file descriptor.

    Attributes:
        lost: why a write failed, or None.
    """

    def __init__(self, number: int):
        super().__init__()
        self._number = number
        self.lost: OSError | None = None

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._number)

    def write(self, data) -> int:
        """Write all of the data, or drop it."""
        rest = memoryview(data).cast("B")
        while rest and self.lost is None:
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:  # a terminal that another program made so, and that is behind
                break
            except OSError as error:
                self.lost = error
        return memoryview(data).nbytes


def secure() -> None:
    """Make the standard streams of this process such that no write to them raises.

    What is closed becomes the null device: the next file to be opened would take its number, and get what
    libraries write to standard error.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:  # the lowest number that is free, which may be another stream's
                os.dup2(opened, number)
                os.close(opened)
    codecs.register_error(ERRORS, _plain)  # before the streams, which look it up by its name
    if not isinstance(_raw(sys.stderr), Lenient):
        sys.stdout, sys.stderr = lenient(1, sys.stdout), lenient(2, sys.stderr)


def end(code: int) -> int:
    """Flush standard output, and say so if that fails.

    Args:
        code: the command's exit code.

    Returns:
        That, or 1 where its result did not arrive. A reader that leaves, such as head, had what it wanted.
    """
    sys.stdout.flush()
    lost = _lost(sys.stdout)
    if lost is None or isinstance(lost, BrokenPipeError):
        return code
    print(f"capsjax: standard output: {lost.strerror}; the command is done", file=sys.stderr)
    return code or 1


def _lost(stream: object) -> OSError | None:
    raw = _raw(stream)
    return raw.lost if isinstance(raw, Lenient) else None


def _raw(stream: object) -> object:
    return getattr(getattr(stream, "buffer", None), "raw", None)


def lenient(number: int, like: object = None) -> io.TextIOWrapper:
    """Open a text stream on a file descriptor, of which no write raises.

    Args:
        number: the file descriptor.
        like: a stream whose encoding and buffering it takes over, or None.

    Returns:
        The stream; characters that its encoding lacks are written as their nearest in ASCII.
    """
    encoding = getattr(like, "encoding", None) or "utf-8"
    raw = Lenient(number)
    buffer = io.BufferedWriter(raw)
    lines, at_once = number == 2 or raw.isatty(), getattr(like, "write_through", False)
    return io.TextIOWrapper(
        buffer, encoding, ERRORS, line_buffering=lines, write_through=at_once, newline="\n"
    )


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by their like in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_like, error.object[error.start : error.end])), error.end


def _like(character: str) -> str:
    # An accented letter falls into the letter and its accent, of which ASCII keeps the letter.
    decomposed = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    escaped = character.encode("ascii", "backslashreplace").decode()
    return PLAIN.get(character) or decomposed or escaped
