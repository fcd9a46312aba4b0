"""Files whose content is known beforehand, and where they are."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from capsjax import files
from capsjax.checks import UserError
from capsjax.data.idx import decompress


@dataclass(frozen=True)
class KnownFile:
    """Describe a published file by the size and the SHA-256 of its decompressed content.

    The content is what counts: the same file may be compressed in many ways, or not at all.

    Args:
        name: its name, without `.gz`.
        size: bytes of the decompressed content.
        sha256: SHA-256 of the decompressed content, in hexadecimal.
    """

    name: str
    size: int
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called: as it is published, then decompressed."""
        return f"{self.name}.gz", self.name

    @property
    def unit(self) -> str:
        """What its size counts."""
        return "bytes decompressed"

    @property
    def expected(self) -> str:
        """What the content must be, in words."""
        return f"expected {self.size} {self.unit}, SHA-256 {self.sha256}"

    @property
    def limit(self) -> int:
        """The most bytes that it may have compressed: gzip adds a little to what it cannot shorten."""
        return self.size + self.size // 100 + 65_536

    def find(self, folder: Path) -> Path | None:
        """Return the path of the file in a folder, compressed before plain; None if it is not there."""
        candidates = (folder / name for name in self.names)
        return next((path for path in candidates if os.path.exists(path)), None)

    def check(self, raw: bytes, source: str) -> bytes:
        """Check that this is the known content.

        Args:
            raw: the content as found, compressed by gzip or plain.
            source: where it is from, for the message.

        Returns:
            The decompressed content.

        Raises:
            UserError: If it is not the known content; size and checksum, found and expected, are
                named.
        """
        if files.is_web_page(raw):
            came = f"is a web page, not data: found {len(raw)} bytes of HTML"
            raise UserError(f"{source}: {came}, {self.expected}")
        content = self.content(raw, source)
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            problem = "is truncated" if len(content) < self.size else "has the wrong content"
            raise UserError(
                f"{source}: {problem}: found {len(content)} {self.unit}, SHA-256 {found}, "
                f"{self.expected}"
            )
        return content

    def content(self, raw: bytes, source: str) -> bytes:
        """Return what the size and the SHA-256 are of.

        Args:
            raw: the content as found.
            source: where it is from, for the message.

        Returns:
            The decompressed content, of at most `limit` bytes.

        Raises:
            UserError: If it is empty, or gzip that is broken or holds more.
        """
        # The known content, not the known compression: mirrors and users compress as they like.
        try:
            return decompress(raw, source, self.limit)
        except UserError as error:
            raise UserError(f"{error}: found {len(raw)} bytes, {self.expected}") from None

    def read(self, path: Path) -> bytes:
        """Read the file.

        Returns:
            The content, checked.

        Raises:
            UserError: If it cannot be read or is not the known content.
        """
        expected = self.expected.removeprefix("expected ")
        return self.check(files.read_bytes(path, self.limit, expected), str(path))


@dataclass(frozen=True)
class KnownArchive(KnownFile):
    """Describe a published file by the size and the SHA-256 of its bytes as they are, compressed or not.

    Of many sets these alone are known, of what is in the file nothing but what readers check.

    Args:
        name: its whole name.
        size: its bytes.
        sha256: SHA-256 of its bytes, in hexadecimal.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """What its size counts."""
        return "bytes"

    @property
    def limit(self) -> int:
        """The most bytes that it may have."""
        return self.size

    def content(self, raw: bytes, source: str) -> bytes:
        """Return the bytes as they are.

        Args:
            raw: the content as found.
            source: where it is from, unused.

        Returns:
            The same bytes.
        """
        del source
        return raw


@dataclass(frozen=True)
class Place:
    """Hold where the files of a data set are.

    Args:
        folder: the folder that holds them.
        advice: what to do about a file there that is missing or wrong.
        is_cache: whether missing files are downloaded into it.
    """

    folder: Path
    advice: str
    is_cache: bool = False


def find_place(folder: str | None, name: str) -> Place:
    """Decide where the files of a data set are.

    Args:
        folder: a folder that holds them, or None to look in `$CAPSJAX_DATA/<name>`, else in the user's cache.
        name: the data set's folder there.

    Returns:
        The place, whether or not there is anything.
    """
    if folder is not None:
        held = os.environ.get("CAPSJAX_DATA")
        otherwise = f"read from {held}/{name}" if held else "downloaded"
        advice = f"put the published file there, or leave folder out to have it {otherwise}"
        return Place(Path(folder).expanduser(), advice)
    # An empty variable counts as none, as an unset one does in a shell.
    if root := os.environ.get("CAPSJAX_DATA"):
        advice = "put the published file there, or unset CAPSJAX_DATA to have it downloaded"
        return Place(Path(root).expanduser() / name, advice)
    import pooch  # for the cache's place alone, which CAPSJAX_DATA makes needless

    advice = "delete this file to have it downloaded again: nothing is lost"
    return Place(Path(pooch.os_cache("capsjax")) / name, advice, is_cache=True)
