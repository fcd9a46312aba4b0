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
    def expected(self) -> str:
        """What the content must be, in words."""
        return f"expected {self.size} bytes decompressed, SHA-256 {self.sha256}"

    @property
    def limit(self) -> int:
        """The most bytes that it may have compressed: gzip adds a little to what it cannot shorten."""
        return self.size + self.size // 100 + 65_536

    def find(self, folder: Path) -> Path | None:
        """Return the path of the file in a folder, compressed before plain; None if it is not there."""
        candidates = (folder / f"{self.name}.gz", folder / self.name)
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
        # The known content, not the known compression: mirrors and users compress as they like.
        try:
            content = decompress(raw, source, self.limit)
        except UserError as error:
            raise UserError(f"{error}: found {len(raw)} bytes, {self.expected}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            problem = "is truncated" if len(content) < self.size else "has the wrong content"
            raise UserError(
                f"{source}: {problem}: found {len(content)} bytes decompressed, SHA-256 {found}, "
                f"{self.expected}"
            )
        return content

    def read(self, path: Path) -> bytes:
        """Read the file.

        Returns:
            The decompressed content, checked.

        Raises:
            UserError: If it cannot be read or is not the known content.
        """
        expected = self.expected.removeprefix("expected ")
        return self.check(files.read_bytes(path, self.limit, expected), str(path))


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
