"""The notebooks, without running them: `make docs` does that, and fails where a cell does."""

import ast
import re
from pathlib import Path

import jupytext
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))
FRONT_MATTER = """\
---
file_format: mystnb
kernelspec:
  name: python3
  display_name: Python 3
---
"""


def code_of(text):
    """Read a notebook as jupytext does, and return its code cells."""
    notebook = jupytext.reads(text, fmt="md:myst")
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def compiles(cell):
    """Whether a cell is Python, its cell magic apart."""
    try:
        ast.parse(re.sub(r"\A%%.*\n", "", cell))
    except SyntaxError:
        return False
    return True


def in_contents(name):
    """Whether the first page's tables of contents name a notebook."""
    return f"\nnotebooks/{name}\n" in (DOCS / "index.md").read_text("utf-8")


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 6


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_it_begins_with_its_front_matter_title_and_question(self, path):
        text = path.read_text("utf-8")
        assert text.startswith(FRONT_MATTER)
        title, paragraph = text.removeprefix(FRONT_MATTER).strip().split("\n\n")[:2]
        assert title.startswith("# ")
        assert "?" in paragraph or paragraph.startswith("What")

    def test_it_is_in_the_table_of_contents(self, path):
        assert in_contents(path.stem)

    def test_jupytext_reads_it_as_code_cells_of_python(self, path):
        cells = code_of(path.read_text("utf-8"))
        assert len(cells) >= 5
        assert [cell for cell in cells if not compiles(cell)] == []

    def test_its_cells_are_small(self, path):
        long = [cell for cell in code_of(path.read_text("utf-8")) if cell.count("\n") > 85]
        assert long == []

    def test_it_writes_in_no_folder_of_the_user(self, path):
        """What trains or writes files does so in a temporary folder."""
        code = "\n".join(code_of(path.read_text("utf-8")))
        writes = re.search(r"cj\.train\(|%%writefile|\.write_text\(|\.open\(", code)
        assert not writes or "tempfile.TemporaryDirectory(" in code
        assert all("out=" in call for call in re.findall(r"cj\.train\([^\n]*", code))


def test_a_page_that_is_no_notebook_is_found():
    assert code_of("# A title\n\n```python\nx = 1\n```\n\n```{code-cell}\nx = 1\n```\n") == [
        "x = 1"
    ]
    assert not compiles("%%writefile x.py\nx = = 1\n")
    assert not in_contents("none_of_them")
