"""One process at a time on a run's directory; the lock dies with the process that holds it."""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from capsjax.checks import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from training in a directory.

    The system gives a lock back when its process ends, however it ends. Reading needs none.

    Args:
        folder: a directory of a run or a comparison.
        say: told where the file system has no locks, so that the user has to see to it.

    Raises:
        UserError: If another process holds the lock.
        OSError: If nothing can be written there.
    """
    path = folder / NAME
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(file, folder):
                say(
                    f"{folder}: this file system has no locks, so another process is not kept out: see "
                    "to it that no other trains here"
                )
            # The holder removes the file when it ends: one that was opened before holds nobody off.
            if os.path.lexists(path) and os.path.samestat(os.fstat(file), path.stat()):
                break
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    try:
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _lock(file: int, folder: Path) -> bool:
    """Lock an open file; False where the file system cannot."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(file, 200).decode("utf-8", "replace") or "another process"
        raise UserError(
            f"{folder}: got a directory in which {holder} is training, expected one that no other process "
            "uses: wait until it ends, or end it"
        ) from None
    except OSError:
        return False
    return True
