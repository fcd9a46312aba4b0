"""What docstrings say: every argument, and what raises if what, in standard English."""

import ast
import pathlib
import re

PACKAGE = pathlib.Path(__file__).parents[1] / "capsjax"
# What English has another word for, and what was written for it once.
FOREIGN = re.compile(
    r"\bmend(s|ed|ing)?\b|\bgo(es|ne|ing)? on with\b|\b(is|are) no arrays?\b|\bis no (tuple|integer)\b"
    r"|\b(gradient|derivative)s? by (u|W|the arrays)\b"
)
ENTRY = re.compile(r"^    (\w+): (.*)")


def sources() -> list[pathlib.Path]:
    """Return the files of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def documented(tree: ast.Module) -> list[tuple[ast.FunctionDef | ast.ClassDef, str]]:
    """Return functions and classes of a file with their docstrings."""
    kinds = ast.FunctionDef | ast.ClassDef
    found = [(n, ast.get_docstring(n)) for n in ast.walk(tree) if isinstance(n, kinds)]
    return [(node, text) for node, text in found if text is not None]


def section(text: str, name: str) -> list[str]:
    """Return the names and texts of a section's entries as "name: text", without continued lines."""
    _, _, rest = text.partition(f"\n{name}:\n")
    lines = rest.split("\n\n")[0].splitlines()
    return [line.strip() for line in lines if ENTRY.match(line)]


def says_too_little(node: ast.FunctionDef | ast.ClassDef, text: str) -> str | None:
    """Return what the docstring of a public function lacks; None if it lacks nothing."""
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
        given = node.args
        names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        names = [name for name in names if name not in ("self", "cls")]
        told = {entry.partition(":")[0] for entry in section(text, "Args")}
        if len(names) > 1 and not told.issuperset(names):
            return f"{node.name} has no Args for {', '.join(sorted({*names} - told))}"
    wrong = [e for e in section(text, "Raises") if not re.match(r"\w+: (If|At) ", e)]
    return f"{node.name} raises, not saying If: {wrong[0]}" if wrong else None


def test_docstrings_tell_every_argument_and_when_they_raise():
    found = [
        f"{path.relative_to(PACKAGE)}: {words}"
        for path in sources()
        for one in documented(ast.parse(path.read_text("utf-8")))
        if (words := says_too_little(*one))
    ]
    assert found == []


def test_the_rules_are_seen_to_be_broken():
    """A function of two parameters in one line, and a Raises that begins with "where"."""
    lines = ('"""Hold.', "", "    Raises:", "        E: where not.", '    """')
    broken = 'def f(a, b):\n    """Add."""\n\n\nclass C:\n    ' + "\n".join(lines) + "\n"
    first, second = (says_too_little(*one) for one in documented(ast.parse(broken)))
    assert first == "f has no Args for a, b"
    assert second == "C raises, not saying If: E: where not."


def test_the_package_is_written_in_standard_english():
    found = {
        f"{path.relative_to(PACKAGE)}:{number}: {line.strip()}"
        for path in sources()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if FOREIGN.search(line)
    }
    assert found == set()


def test_pages_mean_one_python():
    """What `python` is, the README and the quickstart say once."""
    root = PACKAGE.parent
    folders = ("docs", "experiments", "benchmarks")
    pages = [
        *root.glob("*.md"),
        *(path for name in folders for path in (root / name).rglob("*.md")),
    ]
    assert [path.name for path in pages if ".venv/bin/python" in path.read_text("utf-8")] == []
    for name in ("README.md", "CONTRIBUTING.md", "docs/quickstart.md"):
        assert "export PATH=$PWD/.venv/bin:$PATH" in (root / name).read_text("utf-8")
