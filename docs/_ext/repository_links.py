"""Relative links work here as they do in the repository.

A link leads from the file in which it is written. Where that file, or the one it leads to, is shown here
by a page that includes it, the link goes to that page; a file that no page shows is offered as it is; the
name of a folder stays a name.
"""

import os
import re
from pathlib import Path

from docutils import nodes
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
    for node in list(document.findall(addnodes.pending_xref)):
        follow(node, docs, shown)
    for node in list(document.findall(addnodes.download_reference)):
        follow(node, docs, shown)


def follow(node: nodes.Element, docs: Path, shown: dict[Path, str]) -> None:
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


def written_in(node: nodes.Element) -> Path:
    """Return the file in which a node is written: the included one, where it is included."""
    while node.source is None:
        node = node.parent
    return Path(node.source)


def setup(app: Sphinx) -> dict[str, bool]:
    """Attach to Sphinx, before it gathers the files that pages offer."""
    app.connect("doctree-read", link, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
