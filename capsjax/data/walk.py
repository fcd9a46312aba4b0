"""Files below a folder, in the same order on every machine; links that lead out are not followed."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from capsjax.checks import UserError

# What file managers and version control leave behind, beside all that begins with a dot.
LEFT_BEHIND = ("thumbs.db", "desktop.ini", "__macosx")


class Found(NamedTuple):
    """Hold a file below a folder.

    Attributes:
        parts: its path from the folder on, in the composed form of Unicode.
        path: where it is.
        problem: why it is not to be read, or None.
    """

    parts: tuple[str, ...]
    path: Path
    problem: str | None = None

    @property
    def name(self) -> str:
        """Its path from the folder on, with slashes."""
        return "/".join(self.parts)


def composed(name: str) -> str:
    """Return a name as text that is the same on every system; bytes that are not UTF-8 become U+FFFD."""
    # macOS has names with accents beside their letters, other systems as they are typed.
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return unicodedata.normalize("NFC", text)


def walk(folder: Path, *, follow_links: bool = False) -> Iterator[Found]:
    """Go through the files below a folder, by name; hidden ones are left out.

    Args:
        folder: where to begin.
        follow_links: whether symbolic links are followed out of it, and to folders.

    Yields:
        Each file; a link that is not followed, with that as its problem.

    Raises:
        UserError: If a folder cannot be read.
    """
    yield from _walk(folder, (), folder.resolve(), follow_links, frozenset())


def _walk(
    here: Path,
    parts: tuple[str, ...],
    root: Path,
    follow_links: bool,
    above: frozenset[Path],
) -> Iterator[Found]:
    real = here.resolve()
    if real in above:  # a link back to where it is in
        yield Found(parts, here, "a link to a folder that it is in")
        return
    try:
        entries = sorted(os.scandir(here), key=lambda entry: composed(entry.name))
    except OSError as error:
        came = f"{here}: got a folder that cannot be read ({error.strerror})"
        raise UserError(f"{came}, expected one whose files can be listed") from error
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in LEFT_BEHIND:
            continue
        path, inner = Path(entry.path), (*parts, composed(entry.name))
        if entry.is_symlink() and not follow_links:
            if path.is_dir():
                yield Found(inner, path, "a link to a folder, which is not followed")
                continue
            if not path.resolve().is_relative_to(root):
                yield Found(inner, path, "a link out of the folder, which is not followed")
                continue
        if entry.is_dir():
            yield from _walk(path, inner, root, follow_links, above | {real})
        else:
            yield Found(inner, path)
