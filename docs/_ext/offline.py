"""The built site loads nothing from elsewhere, else the build warns, and fails as with any warning."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# What loads by itself when a page is shown. Links to follow (a, and link with another rel) do not.
SOURCES = {"src", "srcset", "poster", "data", "background"}
LOADED = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "manifest"}
REMOTE = re.compile(r"(?:https?:)?//", re.I)
STYLE = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s;]+)""", re.I)
SCRIPT = re.compile(
    r"""(?:\bimport\s*\(?|\bfrom|\bimportScripts\(|\bfetch\(|\.src\s*=|\.href\s*=|\bpaths["']?\s*:[^}]*?:)"""
    r"""\s*["'`]((?:https?:)?//[^"'`]+)""",
    re.I,
)


class Page(HTMLParser):
    """Gather the addresses that an HTML page loads."""

    def __init__(self):
        super().__init__()
        self.loads: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element's attributes."""
        self.inside = tag
        given = {name: value or "" for name, value in attrs}
        found = [value for name, value in given.items() if name in SOURCES]
        if tag == "link" and LOADED & set(given.get("rel", "").lower().split()):
            found.append(given.get("href", ""))
        self.loads += [value for value in found if REMOTE.match(value.strip())]
        self.loads += STYLE.findall(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        self.inside = ""

    def handle_data(self, data: str) -> None:
        """Look into styles and scripts."""
        if self.inside == "style":
            self.loads += STYLE.findall(data)
        elif self.inside == "script":
            self.loads += SCRIPT.findall(data)


def loads(path: Path) -> list[str]:
    """List the addresses elsewhere that a built file loads when it is shown."""
    text = path.read_text("utf-8", errors="replace")
    if path.suffix == ".html":
        page = Page()
        page.feed(text)
        return page.loads
    return {".css": STYLE, ".js": SCRIPT}[path.suffix].findall(text)


def remote_loads(site: Path) -> Iterator[str]:
    """Name each file of a site that loads something from elsewhere, with what it loads."""
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css", ".js"):
            yield from (f"{path.relative_to(site)}: {address}" for address in loads(path))


def check(app: "Sphinx", exception: Exception | None) -> None:
    """Warn where a page would need the network."""
    from sphinx.util import logging

    if exception is None and app.builder.format == "html":
        for found in remote_loads(Path(app.outdir)):
            logging.getLogger(__name__).warning("loads from elsewhere: %s", found)


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx, after those that copy files when the build is finished."""
    app.connect("build-finished", check, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
