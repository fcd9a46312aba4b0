"""Relative links work here as they do in the repository.

A link leads from the file in which it is written. Where that file, or the one it leads to, is shown here
by a page that includes it, the link goes to that page; code and other text that no page shows has a page of
its own here, below `_source`, with its lines numbered; any other file is offered as it is; the name of a
folder stays a name.
"""

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx

INCLUDE = re.compile(r"^`{3,}\{include\} *(\S+)", re.M)


def pages(docs: Path) -> dict[Path, str]:
    """Map each file that the site shows to its page: the pages themselves, and what they include."""
    found = {}
    for path in docs.rglob("*.md"):
        if "_build" not in path.parts:
            name = path.relative_to(docs).with_suffix("").as_posix()
            found[path.resolve()] = name
            for target in INCLUDE.findall(path.read_text("utf-8")):
                found[(path.parent / target).resolve()] = name
    found[(docs.parent / "README.md").resolve()] = "index"
    return found


def link(app: Sphinx, document: nodes.document) -> None:
    """Turn a page's relative links to where they lead in the site."""
    docs = Path(app.srcdir)
    shown = pages(docs)
    for kind in (addnodes.pending_xref, addnodes.download_reference):
        for node in list(document.findall(kind)):
            follow(node, app, docs, shown)


def follow(node: nodes.Element, app: Sphinx, docs: Path, shown: dict[Path, str]) -> None:
    """Turn one link, where it is a relative one."""
    path, _, anchor = node["reftarget"].partition("#")
    if node.get("reftype") != "myst" or not path:
        return
    if node.get("refdomain") == "doc":
        target = (docs / path).with_suffix(".md") if not path.endswith(".md") else docs / path
        anchor = node.get("reftargetid")
    else:
        target = written_in(node).parent / path
    target = target.resolve()
    if target in shown:
        new = addnodes.pending_xref(
            "",
            *node.children,
            refdomain="doc",
            reftarget=shown[target],
            reftargetid=anchor or None,
            refdoc=node["refdoc"],
            reftype="myst",
            refexplicit=node["refexplicit"],
        )
    elif (name := source_name(target, docs.parent)) is not None:
        sources(app).add(name)
        where = app.builder.get_relative_uri(node["refdoc"], f"_source/{name}")
        new = nodes.reference("", "", *node.children, internal=True, refuri=where)
    elif target.is_file():
        where = "/" + Path(os.path.relpath(target, docs)).as_posix()
        new = addnodes.download_reference(
            "", "", *node.children, reftarget=where, refdoc=node["refdoc"], refexplicit=True
        )
    elif target.is_dir():
        new = nodes.inline("", "", *node.children)
    else:
        return
    new.source, new.line = node.source, node.line
    node.replace_self(new)


def source_name(path: Path, root: Path) -> str | None:
    """Return what a text file of the repository is called in it; None where a path is none."""
    if not path.is_file() or not path.is_relative_to(root):
        return None
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        return None
    return path.relative_to(root).as_posix()


def sources(app: Sphinx) -> set[str]:
    """Return the files that have a page of their own, which links gather."""
    if not hasattr(app.env, "linked_sources"):
        app.env.linked_sources = set()
    return app.env.linked_sources


def merge(app: Sphinx, env: object, names: list[str], other: object) -> None:
    """Gather what another process gathered."""
    sources(app).update(getattr(other, "linked_sources", ()))


def source_page(path: Path, name: str) -> str:
    """Return the body of a page that shows a file, with numbered lines."""
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    formatter = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True, wrapcode=True)
    code = highlight(path.read_text("utf-8"), lexer, formatter)
    return f"<h1>{html.escape(name)}</h1>\n{code}"


def source_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, str], str]]:
    """Make the pages of files that links lead to."""
    root = Path(app.srcdir).parent
    for name in sorted(sources(app)):
        body = source_page(root / name, name)
        yield f"_source/{name}", {"title": name, "body": body}, "page.html"


def written_in(node: nodes.Element) -> Path:
    """Return the file in which a node is written: the included one, where it is included."""
    while node.source is None:
        node = node.parent
    return Path(node.source)


def setup(app: Sphinx) -> dict[str, bool]:
    """Attach to Sphinx, before it gathers the files that pages offer."""
    app.connect("doctree-read", link, priority=400)
    app.connect("env-merge-info", merge)
    app.connect("html-collect-pages", source_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
