"""The documentation tells the truth: code runs, examples give what they show, links lead somewhere."""

import ast
import contextlib
import doctest
import importlib
import io
import re
from pathlib import Path

import pytest

import capsjax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(capsjax.__file__).resolve().parent
UNSEEN = {"build", "dist", "runs", "node_modules", "_build", "data"}

# A block opened with exactly ```python runs; any other word (```text, ```pycon, ```py) is only shown.
FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>.*)$")
LINK = re.compile(
    r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+[\"'][^)]*[\"'])?\)|^\[[^\]^]+\]:\s*<?(\S+?)>?\s*$", re.M
)
HTML_LINK = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|srcset|href)=[\"']([^\"']+)[\"']")
ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|#|//)", re.I)


def markdown_files(root: Path) -> list[Path]:
    """Every Markdown file, less those in hidden folders and in what builds and runs leave."""
    return sorted(
        path
        for path in root.rglob("*.md")
        if not any(
            part.startswith(".") or part in UNSEEN for part in path.relative_to(root).parts[:-1]
        )
    )


def split_fences(text: str) -> tuple[str, list[tuple[int, str, str]]]:
    """Part a page into its prose and its fenced blocks (line of the first code line, info, code)."""
    prose, blocks, block, opened = [], [], [], None
    for number, line in enumerate(text.splitlines(), start=1):
        match = FENCE.match(line)
        if opened is None and match:
            opened, block = (match, number + 1), []
        elif opened is None:
            prose.append(line)
        elif match and match["fence"].startswith(opened[0]["fence"]) and not match["info"].strip():
            blocks.append((opened[1], opened[0]["info"].strip(), "\n".join(block)))
            opened = None
        else:
            block.append(line.removeprefix(opened[0]["indent"]))
    assert opened is None, f"line {opened[1] - 1}: a fence that is never closed"
    return "\n".join(prose), blocks


def run_page(path: Path) -> int:
    """Run a page's Python blocks in order, in one namespace; return how many there are.

    A block opened with ```output shows what the one before it prints; numbers may differ by 2 %.
    """
    blocks = [b for b in split_fences(path.read_text("utf-8"))[1] if b[1] in ("python", "output")]
    namespace, printed = {"__name__": path.stem}, ""
    for line, info, code in blocks:
        if info == "output":
            assert same_output(printed, code), f"line {line}: the block before prints\n{printed}"
            continue
        stream = io.StringIO()
        with contextlib.redirect_stdout(stream):
            # The empty lines make a traceback name the line of the page.
            exec(compile("\n" * (line - 1) + code, str(path), "exec"), namespace)
        printed = stream.getvalue()
    return sum(info == "python" for _, info, _ in blocks)


def same_output(printed: str, shown: str) -> bool:
    """Whether what was printed is what is shown, numbers to 2 %, or one of the last digit that is shown."""
    words, numbers = zip(*(part_numbers(text) for text in (printed, shown)), strict=True)
    if words[0] != words[1] or len(numbers[0]) != len(numbers[1]):
        return False
    return all(
        abs(float(found) - float(said)) <= max(0.02 * abs(float(said)), 1.01 * last_digit(said))
        for found, said in zip(*numbers, strict=True)
    )


def last_digit(number: str) -> float:
    """Return what one of the last digit of a number is worth: 0.01 in 3.14, 100 in 2e2."""
    mantissa, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))


def part_numbers(text: str) -> tuple[list[str], list[str]]:
    """Part a text into what stands between its numbers, and its numbers."""
    number = r"\d+(?:\.\d*)?(?:e[+-]?\d+)?"
    return re.sub(number, " # ", text).split(), re.findall(number, text)


def broken_links(path: Path, root: Path) -> list[str]:
    """Name the relative links of a page that lead to no file, or out of the repository."""
    prose = re.sub(r"`[^`\n]*`", "", split_fences(path.read_text("utf-8"))[0])
    targets = [a or b for a, b in LINK.findall(prose)] + HTML_LINK.findall(prose)
    local = [target for target in targets if not ELSEWHERE.match(target)]
    ends = {target: (path.parent / target.split("#")[0]).resolve() for target in local}
    return [t for t, end in ends.items() if not (end.exists() and end.is_relative_to(root))]


def missing_names(path: Path) -> list[str]:
    """Name the links of a page that call a Python file by a name which it does not define."""
    named = re.findall(r"\[`([\w.]+)`\]\(([^)\s#]+\.py)\)", path.read_text("utf-8"))
    return [
        f"{name} in {target}"
        for name, target in named
        if not re.search(
            rf"^ *(?:def|class) {name.split('.')[-1]}\b", (path.parent / target).read_text(), re.M
        )
    ]


def run_examples(source: Path, namespace: dict[str, object]) -> tuple[int, str]:
    """Run the examples in every docstring of a file; return how many, and what went wrong.

    Docstrings are read from the source: examples of decorated functions are found too.
    """
    parser, log = doctest.DocTestParser(), []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        docstring = ast.get_docstring(node) if isinstance(node, holders) else None
        if docstring and ">>>" in docstring:
            name, line = getattr(node, "name", source.stem), getattr(node, "lineno", 1)
            example = parser.get_doctest(docstring, dict(namespace), name, str(source), line)
            runner.run(example, out=log.append)
    return runner.tries, "".join(log)


def module_name(source: Path) -> str:
    parts = source.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def has_code(page: Path) -> bool:
    return "```python\n" in page.read_text("utf-8")


PAGES = [ROOT / "README.md", *filter(has_code, markdown_files(ROOT / "docs"))]
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__main__"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_of_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page(page) > 0


@pytest.mark.parametrize("source", SOURCES, ids=module_name)
def test_examples_of_docstrings_hold(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, wrong = run_examples(source, vars(importlib.import_module(module_name(source))))
    assert not wrong, wrong


@pytest.mark.parametrize("page", markdown_files(ROOT), ids=name_of)
def test_relative_links_lead_to_files(page):
    assert broken_links(page, ROOT) == []
    assert missing_names(page) == []


def test_a_name_that_a_file_lost_is_noticed(tmp_path):
    (tmp_path / "code.py").write_text("class Kept:\n    def test_kept(self): ...\n")
    page = tmp_path / "page.md"
    page.write_text("[`Kept`](code.py) [`test_kept`](code.py) [`gone`](code.py) [code](code.py)")
    assert missing_names(page) == ["gone in code.py"]


def test_a_false_page_is_caught_at_its_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n```python\nx = 1\n```\n```text\nno code\n```\n\n```python\nassert x == 2\n```\n"
    )
    with pytest.raises(AssertionError) as caught:
        run_page(page)
    frame = caught.traceback[-1]
    assert (str(frame.path), frame.lineno + 1) == (str(page), 10)


@pytest.mark.parametrize("shown", ["a 1.3", "b 1.0", "a 1.0 1.0"])
def test_an_output_that_is_not_printed_is_caught(tmp_path, shown):
    page = tmp_path / "page.md"
    text = "```python\nprint('a', 1.01)\n```\n\n```output\n{}\n```\n"
    page.write_text(text.format("a 1.0"))
    assert run_page(page) == 1
    page.write_text(text.format(shown))
    with pytest.raises(AssertionError, match=r"line 6: the block before prints"):
        run_page(page)


def test_a_broken_link_is_caught(tmp_path):
    (tmp_path / "here.md").write_text("x")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](here.md#x) [b](gone.md) ![c](gone.png 'C') [d](https://a.org) [e](#e) `[f](no.md)`\n"
        "[g]: lost.md\n<img src='lost.svg'>\n[h](../..)\n```\n[i](shown.md)\n```\n"
    )
    assert broken_links(page, tmp_path) == ["gone.md", "gone.png", "lost.md", "../..", "lost.svg"]


def test_a_false_example_is_caught_under_a_decorator(tmp_path):
    source = tmp_path / "module.py"
    source.write_text(
        '@hide\ndef f():\n    """Add.\n\n    >>> 1 + 1\n    3\n    >>> 2 + 2\n    4\n    """\n'
    )
    tries, wrong = run_examples(source, {})
    assert tries == 2
    assert "Expected:\n    3" in wrong
    assert "Expected:\n    4" not in wrong
