"""Files whose content is known beforehand."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from capsjax import files
from capsjax.checks import UserError
from capsjax.data.idx import decompress


@dataclass(frozen=True)
class KnownFile:
    """Know a file by the size and the SHA-256 of its decompressed content.

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
        """Return the path of the file in a folder, compressed before plain; None where it is not."""
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
            UserError: where it is not the known content; size and checksum, found and expected, are
                named.
        """
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
            UserError: where it cannot be read or is not the known content.
        """
        expected = self.expected.removeprefix("expected ")
        return self.check(files.read_bytes(path, self.limit, expected), str(path))
