"""Docstrings mean what they show: `[*batch, i, j]` and |s| are no markup, and formulas are typeset."""

import re
from typing import TYPE_CHECKING, Any

from formulas import typeset

if TYPE_CHECKING:
    from sphinx.application import Sphinx

KEPT = re.compile(r"(`[^`]*`|\*\*[^*]+\*\*)")
MARKUP = re.compile(r"([\\*|]|_(?=\W|$))")


def escape(lines: list[str]) -> list[str]:
    """Escape what reStructuredText would take as markup, but for code, bold words and examples."""
    found, example = [], False
    for line in lines:
        formula = line.startswith(".. math:: ")
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        parts = [line] if example or formula else KEPT.split(line)
        odd = slice(0, None, 2)
        if not (example or formula):
            parts[odd] = [MARKUP.sub(r"\\\1", part) for part in parts[odd]]
        found.append("".join(parts))
    return found


def process(app: "Sphinx", what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Typeset and escape a docstring in place."""
    lines[:] = escape(typeset(lines))


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx, before sections of docstrings become lists of fields."""
    app.connect("autodoc-process-docstring", process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
