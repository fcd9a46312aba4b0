"""Files from archives, read into memory: nothing is unpacked, leaves a folder or fills a disk."""

import functools
import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping

from capsjax.checks import UserError


def each_file(
    content: bytes, source: str, limit: int
) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """Go through the plain files of a tar archive that is compressed by gzip.

    Args:
        content: bytes of the archive.
        source: where it is from, for the message.
        limit: the most bytes that the archive may have decompressed.

    Yields:
        The name of each, and a function that reads it, given the most bytes that it may have, before the
        next is asked for.

    Raises:
        UserError: If the archive is broken or larger.
    """
    try:
        packed = _Counted(gzip.GzipFile(fileobj=io.BytesIO(content)), limit, source)
        # As a stream: whatever else the archive holds is passed over, and counted.
        with tarfile.open(fileobj=packed, mode="r|") as archive:
            for member in archive:
                yield member.name, functools.partial(_read, archive, member, source)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        expected = "expected an archive that tar made and gzip compressed"
        raise UserError(f"{source}: got a broken file ({error}), {expected}") from error


def read_tar(content: bytes, source: str, sizes: Mapping[str, int], limit: int) -> dict[str, bytes]:
    """Read files from a tar archive that is compressed by gzip.

    Args:
        content: bytes of the archive.
        source: where it is from, for the message.
        sizes: how many bytes each of the files has, by its name in the archive.
        limit: the most bytes that the archive may have decompressed.

    Returns:
        The content of each, by its name.

    Raises:
        UserError: If the archive is broken or larger, or a file is missing, no plain one or of another size.
    """
    found: dict[str, bytes] = {}
    for name, read in each_file(content, source, limit):
        if name in sizes:
            found[name] = read(sizes[name])
            if len(found[name]) < sizes[name]:
                got = f"{len(found[name])} bytes in {name}"
                raise UserError(f"{source}: got {got}, expected {sizes[name]}")
    expected = f"expected {', '.join(sizes)} in an archive that tar made and gzip compressed"
    return _complete(found, source, sizes, expected)


def read_zip(content: bytes, source: str, sizes: Mapping[str, int]) -> dict[str, bytes]:
    """Read files from a zip archive.

    Args:
        content: bytes of the archive.
        source: where it is from, for the message.
        sizes: the most bytes that each of the files may have, by its name in the archive.

    Returns:
        The content of each, by its name.

    Raises:
        UserError: If the archive is broken, or a file is missing, no plain one or larger.
    """
    found: dict[str, bytes] = {}
    expected = f"expected {', '.join(sizes)} in a zip archive"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if member.filename in sizes:
                    limit = sizes[member.filename]
                    with archive.open(member) as stream:
                        # Not `member.file_size`, which may lie: what comes is counted.
                        found[member.filename] = stream.read(limit + 1)
                    if len(found[member.filename]) > limit:
                        got = f"more than {limit} bytes in {member.filename}"
                        raise UserError(f"{source}: got {got}, expected at most that many")
    # RuntimeError for what is encrypted, NotImplementedError for methods that Python does not know.
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"{source}: got a broken file ({error}), {expected}") from error
    return _complete(found, source, sizes, expected)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo, source: str, limit: int) -> bytes:
    """Read a file of an archive, which is looked at first."""
    name = member.name
    if not member.isfile():
        raise UserError(f"{source}: got {name} that is a link or no file, expected a plain file")
    if member.size > limit:
        raise UserError(f"{source}: got {member.size} bytes in {name}, expected {limit} at most")
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""


def _complete(
    found: dict[str, bytes], source: str, sizes: Mapping[str, int], expected: str
) -> dict[str, bytes]:
    """Check that every file was there."""
    missing = [name for name in sizes if name not in found]
    if missing:
        raise UserError(f"{source}: got no {', '.join(missing)}, {expected}")
    return found


class _Counted(io.RawIOBase):
    """Pass on what is read from a stream, up to a limit."""

    def __init__(self, stream: gzip.GzipFile, limit: int, source: str):
        super().__init__()
        self._stream = stream
        self._limit = limit
        self._left = limit
        self._source = source

    def readable(self) -> bool:
        """Return that it can be read from."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read at most this many bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise UserError(
                f"{self._source}: holds more than {self._limit} bytes, expected at most that many"
            )
        return data
