"""The documentation's site, without building it: pages, citations, and the checks that `make docs` makes."""

import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import capsjax

DOCS = Path(__file__).resolve().parents[1] / "docs"
TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```", re.M | re.S)
CITED = re.compile(r"\{cite(?::[a-z]+)?\}`([^`]+)`")


@pytest.fixture(autouse=True)
def extensions_import_each_other(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")


def extension(name):
    """Load one of the site's own extensions."""
    spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(page, docs):
    """The pages that a page's tables of contents name; `0*` is a pattern, as with `:glob:`."""
    for block in TOCTREE.findall(page.read_text("utf-8")):
        for line in filter(None, block.splitlines()):
            if not line.startswith(":"):
                found = sorted(page.parent.glob(f"{line}.md"))
                assert found, f"{page.relative_to(docs)} names {line}, and there is no such page"
                yield from found


def unreachable(docs):
    """Name the pages that cannot be reached from the first one."""
    reached, left = set(), [docs / "index.md"]
    while left:
        page = left.pop()
        if page not in reached:
            reached.add(page)
            left += entries(page, docs)
    pages = {path for path in docs.rglob("*.md") if "_build" not in path.parts}
    return sorted(path.relative_to(docs).as_posix() for path in pages - reached)


def test_every_page_is_in_the_table_of_contents():
    assert unreachable(DOCS) == []


def test_a_page_that_is_in_none_is_found(tmp_path):
    (tmp_path / "index.md").write_text("# A\n\n```{toctree}\n:hidden:\n\none\n```\n")
    (tmp_path / "one.md").write_text("# B\n")
    (tmp_path / "two.md").write_text("# C\n")
    assert unreachable(tmp_path) == ["two.md"]
    (tmp_path / "one.md").unlink()
    with pytest.raises(AssertionError, match="names one"):
        unreachable(tmp_path)


def test_a_numbered_formula_wider_than_a_telephone_scrolls_from_its_beginning():
    """MathJax gives it a width of its own, and the theme cuts off on the left what sticks out of the page."""
    style = (DOCS / "_static/capsjax.css").read_text("utf-8")
    assert re.search(r"div\.math mjx-container \{\s*min-width: 0 !important;", style)


def test_everything_cited_is_in_the_bibliography():
    keys = set(re.findall(r"^@\w+\{(\w+),", (DOCS / "references.bib").read_text("utf-8"), re.M))
    pages = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    cited = {
        key.strip()
        for page in pages
        for keys_of_one in CITED.findall(page.read_text("utf-8"))
        for key in keys_of_one.split(",")
    }
    assert "sabour2017" in cited
    assert cited <= keys


def test_a_public_name_without_documentation_is_found():
    check = extension("public_names")
    names = check.public_names("capsjax")
    assert {f"capsjax.{name}" for name in capsjax.__all__} <= set(names)
    assert "capsjax.layers.CapsNet" in names
    assert "capsjax.routing.DynamicRouting" not in names  # it is capsjax.DynamicRouting
    inventory = dict.fromkeys(names)
    assert check.undocumented(names, inventory) == []
    del inventory["capsjax.squash"], inventory["capsjax.layers.CapsNet"]
    assert check.undocumented(names, inventory) == ["capsjax.layers.CapsNet", "capsjax.squash"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<script src="https://cdn.example.org/a.js"></script>'),
        ("a.html", '<link rel="stylesheet" href="//cdn.example.org/a.css">'),
        ("a.html", '<link href="http://cdn.example.org/a.woff2" rel="preload" as="font">'),
        ("a.html", '<img src="https://example.org/badge.svg">'),
        ("a.html", "<style>@import 'https://example.org/a.css';</style>"),
        ("a.html", '<p style="background: url(https://example.org/a.png)">'),
        ("a.html", '<script type="module">import x from "https://example.org/x.js"</script>'),
        ("a.html", '<script>require.config({paths: {"x": "https://example.org/x"}})</script>'),
        ("a.css", "@font-face { src: url('https://example.org/a.woff2') }"),
        ("a.js", 'const tag = {}; tag.src = "https://example.org/a.js"'),
        ("a.js", 'import("https://example.org/a.js")'),
    ],
)
def test_what_a_page_would_load_from_elsewhere_is_found(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    (found,) = extension("offline").remote_loads(tmp_path)
    assert re.fullmatch(rf"{re.escape(name)}: (https?:)?//.*example\.org/.*", found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.html", '<a href="https://example.org">a link to follow</a>'),
        ("a.html", '<link rel="canonical" href="https://example.org"><img src="_images/a.png">'),
        ("a.html", '<script src="_static/a.js"></script><code>src="https://a.org"</code>'),
        ("a.html", '<img src="data:image/svg+xml,%3Csvg xmlns=http://www.w3.org/2000/svg%3E">'),
        ("a.css", "/* https://example.org */ a { background: url(a.png) }"),
        ("a.js", 'const licence = "https://example.org/licence"'),
        ("a.txt", '<script src="https://cdn.example.org/a.js"></script>'),
    ],
)
def test_what_lies_beside_a_page_and_what_it_only_names_are_no_loads(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert list(extension("offline").remote_loads(tmp_path)) == []


def test_docstrings_are_escaped_but_for_code_and_examples():
    lines = [
        "Length |s|, [*batch, e], and `[*batch]`; the **parents** s_j of x_.",
        "    >>> f(*args)",
        "    a | b",
        "",
        "    c | d",
    ]
    assert extension("docstrings").escape(lines) == [
        r"Length \|s\|, [\*batch, e], and `[*batch]`; the **parents** s_j of x\_.",
        *lines[1:4],
        r"    c \| d",
    ]


def test_signatures_are_shown_as_one_would_write_them():
    given = "(u: Float[jaxlib._jax.Array, '*b i'], mode: Mode = Stop(kind='stop'), n: int = 1)"
    assert extension("annotations").shorten(given, "Loss | jaxlib._jax.Array") == (
        "(u: Float[Array, '*b i'], mode: Mode=Stop(), n: int=1)",
        "Loss | Array",
    )
    given = "(loss: Loss = Loss(margin='paper', weight=0.5))"
    assert extension("annotations").shorten(given, None) == ("(loss: Loss=Loss(...))", None)


def test_every_formula_that_is_typeset_is_in_a_docstring():
    formulas = extension("formulas")
    package = Path(capsjax.__file__).parent
    source = "\n".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    source = re.sub(r"\n +", "\n", source)
    for text in (*formulas.DISPLAYED, *formulas.INLINE):
        assert text in source, f"docs/_ext/formulas.py typesets what no docstring says: {text}"
    for formula in (*(tex for tex, _ in formulas.DISPLAYED.values()), *formulas.INLINE.values()):
        bare = formula.replace(r"\{", "").replace(r"\}", "")
        assert bare.count("{") == bare.count("}")


def test_formulas_of_docstrings_are_typeset():
    lines = ["Squash: vote_ij = W_ij u_i.", "", "    b_ij <- damping b_ij", "L is *not* math."]
    shown = extension("docstrings").escape(extension("formulas").typeset(lines))
    assert shown == [
        r"Squash: :math:`\hat u_{j|i} = W_{ij} u_i`.",
        "",
        r"    b_ij <- damping b_ij",
        r"L is \*not\* math.",
    ]
    given = capsjax.margin_loss.__doc__.split("\n")
    shown = extension("docstrings").escape(extension("formulas").typeset(given))
    (formula,) = [line for line in shown if line.startswith(".. math:: ")]
    assert formula.startswith(r".. math:: L = \sum_k T_k \max(0,\, m^+ - \lVert v_k\rVert)^2")


def test_linked_code_has_a_page_and_other_files_are_offered():
    links, root = extension("repository_links"), DOCS.parent
    assert (
        links.source_name(root / "capsjax" / "votes" / "base.py", root) == "capsjax/votes/base.py"
    )
    assert links.source_name(root / "Makefile", root) == "Makefile"
    assert links.source_name(DOCS / "images" / "speed" / "growth.png", root) is None
    assert links.source_name(root / "docs", root) is None
    assert links.source_name(Path(json.__file__), root) is None
    page = links.source_page(DOCS / "conf.py", "docs/conf.py")
    assert "<h1>docs/conf.py</h1>" in page
    assert 'id="L-1"' in page


def test_notebooks_are_offered_as_files_of_jupyter_s():
    page = DOCS / "notebooks" / "compose.md"
    notebook = json.loads(extension("notebook_files").as_ipynb(page))
    assert notebook["nbformat"] == 4
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) == page.read_text("utf-8").count("```{code-cell}")


def test_paper_wraps_code():
    style = (DOCS / "_static" / "capsjax.css").read_text("utf-8")
    printed = style[style.index("@media print") :]
    assert "white-space: pre-wrap" in printed


def test_the_readme_s_figure_is_what_the_committed_results_give(tmp_path):
    script = DOCS.parent / "experiments" / "gradient_modes" / "figures.py"
    code = (
        "import runpy, sys, pathlib; draw = runpy.run_path(sys.argv[1])['draw']; "
        "draw(pathlib.Path(sys.argv[1]).parent / 'results', pathlib.Path(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(script), str(tmp_path)], check=True)
    for look in ("light", "dark"):
        drawn, kept = (
            ET.parse(folder / f"gradient_modes-{look}.svg").getroot()
            for folder in (tmp_path, DOCS / "images" / "results")
        )
        assert [element.tag for element in drawn.iter()] == [e.tag for e in kept.iter()]


def test_each_decision_has_a_number_of_its_own_and_the_parts_of_the_template():
    records = sorted((DOCS / "decisions").glob("0*.md"))
    numbers = [record.name[:4] for record in records]
    assert numbers == [f"{number:04}" for number in range(1, len(records) + 1)]
    for record in records:
        first, second, *_ = (text := record.read_text("utf-8")).split("\n\n")
        assert first.startswith(f"# {record.name[:4]}: "), record.name
        assert re.match(r"Date: \d{4}-\d\d-\d\d.* Status: ", second), record.name
        parts = ["## Question", "## Decision", "## Alternatives", "## Consequences"]
        assert [line for line in text.splitlines() if line in parts] == parts, record.name
