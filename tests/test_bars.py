"""Bars that the code keeps, counted from its files."""

import ast
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "capsjax"
FOLDERS = ("capsjax", "benchmarks", "experiments", "tests")
FILES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
LINES, PARAMETERS, ABSTRACT = 450, 8, 5
SUPPRESSIONS = ("noqa", "type: ignore", "pyrefly: ignore", "pylint:", "pragma: no cover")


def long_files(files):
    return [file.name for file in files if len(file.read_text("utf-8").splitlines()) > LINES]


def parameters(function):
    """How many parameters a function has, without the object or class that a method is of."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    count = len(names) + (given.vararg is not None) + (given.kwarg is not None)
    return count - (names[:1] in (["self"], ["cls"]))


def functions_of_many_parameters(source):
    """Functions by name, methods with their class."""
    outer = [node for node in ast.walk(ast.parse(source)) if hasattr(node, "body")]
    return [
        f"{getattr(node, 'name', '')}.{inner.name}".lstrip(".")
        for node in outer
        for inner in ast.iter_child_nodes(node)
        if isinstance(inner, ast.FunctionDef) and parameters(inner) > PARAMETERS
    ]


def abstract_methods(source):
    """How many abstract methods each class has."""
    return {
        node.name: sum("abstractmethod" in map(_last, item.decorator_list) for item in methods)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef)
        for methods in [[item for item in node.body if isinstance(item, ast.FunctionDef)]]
    }


def _last(node):
    """The last part of a dotted name."""
    return ast.unparse(node).split("(")[0].split(".")[-1]


def suppressions(file):
    """Comments that keep a checker from saying what it found."""
    with file.open("rb") as stream:
        comments = [t for t in tokenize.tokenize(stream.readline) if t.type == tokenize.COMMENT]
    return [c.string for c in comments if any(word in c.string.lower() for word in SUPPRESSIONS)]


def errors_that_begin_with_a_flag(source):
    """Errors whose first words are a flag: of the library, they name an argument."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    messages = [c.args[0] for c in calls if _last(c.func).endswith("Error") and c.args]
    texts = [m.values[0] if isinstance(m, ast.JoinedStr) and m.values else m for m in messages]
    constants = [text.value for text in texts if isinstance(text, ast.Constant)]
    return [text for text in constants if isinstance(text, str) and text.startswith("--")]


def test_no_file_is_longer_than_a_reader_takes_in():
    assert long_files(FILES) == []


def test_no_function_has_more_parameters_than_can_be_kept_in_mind():
    files = [file for file in FILES if file.parts[len(ROOT.parts)] != "tests"]
    found = {file.name: functions_of_many_parameters(file.read_text("utf-8")) for file in files}
    assert {name for functions in found.values() for name in functions} == set()


def test_a_class_leaves_little_to_be_written():
    for file in PACKAGE.rglob("*.py"):
        for name, count in abstract_methods(file.read_text("utf-8")).items():
            assert count <= ABSTRACT, (file, name)


def test_no_checker_is_silenced():
    assert {str(file): found for file in FILES if (found := suppressions(file))} == {}


def test_errors_of_the_library_name_arguments():
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name != "cli":
            assert errors_that_begin_with_a_flag(file.read_text("utf-8")) == [], file


@pytest.mark.parametrize("name", ["many", "abstract", "flag", "silent", "long"])
def test_each_bar_would_be_noticed(name, tmp_path):
    file = tmp_path / "file.py"
    method = "    @abc.abstractmethod\n    def {}(self): ...\n"
    texts = {
        "many": "class A:\n    def f(self, a, b, c, d, e, f, *g, h, **i): ...\n",
        "abstract": "class A:\n" + "".join(method.format(letter) for letter in "abcdef"),
        "flag": "raise UserError(f'--out: got {x}')\n",
        "silent": "import os  # no" + "qa\n",
        "long": "\n" * (LINES + 1),
    }
    file.write_text(texts[name])
    source = file.read_text()
    found = {
        "many": functions_of_many_parameters(source),
        "abstract": [c for c, n in abstract_methods(source).items() if n > ABSTRACT],
        "flag": errors_that_begin_with_a_flag(source),
        "silent": suppressions(file),
        "long": long_files([file]),
    }
    assert [bar for bar, noticed in found.items() if noticed] == [name]


def test_nothing_waits_by_a_clock_that_can_be_set_back():
    """The time of day is written down; what is waited for or measured goes by a clock that only goes on."""
    package = [file for file in FILES if file.is_relative_to(ROOT / "capsjax")]
    assert len(package) > 100
    assert [file.name for file in package if "time.time()" in file.read_text("utf-8")] == []
