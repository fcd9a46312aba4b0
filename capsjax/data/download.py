"""Known files read, and downloaded where they are to be: nothing has its name before its content is right."""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from capsjax import signals
from capsjax.checks import UserError
from capsjax.data.known import KnownFile, Place

# Receives the file's name, the bytes done, and the bytes in all, or None where nobody knows.
Report = Callable[[str, int, int | None], None]

CHUNK = 1 << 16
TIMEOUT = 30.0


def download(
    file: KnownFile,
    mirrors: Sequence[str],
    folder: Path,
    *,
    report: Report | None = None,
    rounds: int = 3,
    wait: float = 1.0,
) -> Path:
    """Download `file` into `folder`, compressed as it is published.

    It is written under a temporary name beside its own, and renamed only when its content is right.

    Args:
        file: what to get; it is looked for as `<mirror><name>`, by the first of its names.
        mirrors: addresses to try in order, each ending in a slash.
        folder: where it goes; made if need be.
        report: receives (name, bytes done, bytes in all or None) during the download.
        rounds: how many times all mirrors are tried, at least 1.
        wait: seconds before the second round; twice as long before each further one.

    Returns:
        The path of the file.

    Raises:
        UserError: If no mirror gives the file, each named with the reason, or nothing can be
            written to the folder.
    """
    target = folder / file.names[0]
    reasons: dict[str, str] = {}
    ours = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary_folder = tempfile.TemporaryDirectory(dir=folder, prefix=".download-")
        with signals.held(), temporary_folder as temporary:
            part = Path(temporary) / target.name
            for attempt in range(rounds):
                # Twice as long each time: a server that is overloaded is not helped by haste.
                time.sleep(wait * 2 ** (attempt - 1) if attempt else 0)
                signals.check()
                for mirror in mirrors:
                    url = mirror + target.name
                    reason = _fetch(file, url, part, report)
                    if reason is None:
                        # Renamed within one folder, so at once: a reader sees all of it or nothing.
                        return part.replace(target)
                    reasons[url] = reason
    except OSError as error:
        raise UserError(
            f"{target}: cannot be written: {error.strerror or error}; make room or grant access, or "
            f"set CAPSJAX_DATA to a folder whose subfolder {folder.name} holds the files"
        ) from None
    finally:
        with contextlib.suppress(OSError):  # at the first that is not empty
            for path in ours:
                path.rmdir()
    tried = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    raise UserError(
        f"{target.name}: no mirror gave it ({tried}); try again later, or get it elsewhere and "
        f"put it into {folder}"
    )


def read_known(
    place: Place, file: KnownFile, mirrors: Sequence[str], *, report: Report | None = None
) -> tuple[bytes, str]:
    """Read a known file, and download it first if it belongs into the cache and is not there.

    Args:
        place: where it is.
        file: what it must be.
        mirrors: addresses to download from, as `download` takes them.
        report: receives the progress of a download.

    Returns:
        The content, as `file.check` gives it, and the path of the file.

    Raises:
        UserError: If it is missing, unreadable or not the known content, or no download succeeds.
    """
    path = file.find(place.folder)
    if path is None and place.is_cache:
        path = download(file, mirrors, place.folder, report=report)
    if path is None:
        also = ", also without .gz" if len(file.names) > 1 else ""
        raise UserError(
            f"{place.folder / file.names[0]}: is missing{also} "
            f"({_describe(place.folder)}), {file.expected}; {place.advice}"
        )
    try:
        return file.read(path), str(path)
    except UserError as error:
        raise UserError(f"{error}; {place.advice}") from None


def _describe(folder: Path) -> str:
    """Describe what is in a folder, in a few words."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return "the folder does not exist"
    except OSError as error:
        return f"the folder cannot be read: {error.strerror or error}"
    if not names:
        return "the folder is empty"
    return "the folder has " + ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _fetch(file: KnownFile, url: str, part: Path, report: Report | None) -> str | None:
    """Write what is at the address to `part`; return why that failed, or None."""
    import pooch  # here, since most runs download nothing, and both take time to import
    import requests

    progress = _Progress(file.names[0], report) if report else False
    fetch = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=CHUNK,
        timeout=TIMEOUT,
        headers={
            "Accept-Encoding": "identity"
        },  # the file is gzip itself; its size is to be that on disk
    )
    try:
        with part.open("wb") as output:
            fetch(url, _Bounded(output, file.limit), None)
        file.check(part.read_bytes(), "what came")
    except requests.HTTPError as error:
        return f"HTTP status {error.response.status_code}"
    except requests.TooManyRedirects:
        return "redirects in circles"
    except requests.Timeout:
        return f"no answer in {TIMEOUT:g} seconds"
    except requests.exceptions.ChunkedEncodingError:
        return "the connection broke off"
    except requests.ConnectionError:
        return "no connection"
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    except UserError as error:
        return str(error)
    return None


class _Bounded(io.RawIOBase):
    """Pass on what is written, up to the size that is known beforehand, or until a signal asks to end."""

    def __init__(self, output: BinaryIO, limit: int):
        super().__init__()
        self._output = output
        self._left = limit
        self._limit = limit

    def writable(self) -> bool:
        """Return that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Write the data, if they fit."""
        signals.check()
        self._left -= len(data)
        if self._left < 0:
            raise UserError(f"sends more than {self._limit} bytes, expected at most that many")
        return self._output.write(data)


class _Progress:
    """Pass on to `report` what pooch tells a progress bar."""

    def __init__(self, label: str, report: Report):
        self.label = label
        self.report = report
        self.total = 0  # pooch sets it, to 0 where the server does not say
        self.done = 0

    def update(self, count: int) -> None:
        """Count what was received; pooch counts whole chunks, and the last is smaller."""
        self.done += count
        if self.total:
            self.done = min(self.done, self.total)
        self.report(self.label, self.done, self.total or None)

    def reset(self) -> None:
        """Start again, as pooch does before it fills the bar; without a total it cannot fill it."""
        if self.total:
            self.done = 0

    def close(self) -> None:
        """Do nothing: the display is the caller's."""
