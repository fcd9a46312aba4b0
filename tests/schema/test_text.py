"""YAML and flags as text: scalars of YAML 1.2, and what is refused, to the letter."""

import subprocess
import sys

import pytest

from capsjax.cli.flags import parse_overrides
from capsjax.schema.text import read_yaml

INF = float("inf")


def read(text):
    return read_yaml(text, "toy.yaml")


WRITTEN = "1e-3 1e3 -1E+3 .5 5. -2.5 -3 1_000 1_000.5 .inf -.inf true false null ~ 'no'"
MEANT = (
    1e-3,
    1e3,
    -1e3,
    0.5,
    5.0,
    -2.5,
    -3,
    1000,
    1000.5,
    INF,
    -INF,
    True,
    False,
    None,
    None,
    "no",
)
WORDS = "no yes on off y 2024-01-01 1:30 12:30:45 007 1__0 1_ _1 0x1f e3 inf nan"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *zip(WRITTEN.split(), MEANT, strict=True),
        *zip(WORDS.split(), WORDS.split(), strict=True),
        ("", None),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00"),
        ("[512, 1024]", [512, 1024]),
        ("{kind: full}", {"kind": "full"}),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read_value = read(f"key: {text}")["key"]
    assert read_value == value
    assert type(read_value) is type(value)


def test_not_a_number_is_read():
    assert repr(read("key: .nan")["key"]) == "nan"


@pytest.mark.parametrize(
    ("text", "line", "column", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 1, "the key 'a' is also on line 1"),
        ("a:\n  b: 1\n  b: 1\n", 3, 3, "the key 'b' is also on line 2"),
        ("a: 1\nb: c: 2\n", 2, 5, "mapping values are not allowed here"),
        ("a: [1, 2\n", 2, 1, "expected ',' or ']', but got '<stream end>'"),
        ("3: a\n", 1, 1, "a key must be a name"),
        ("[a]: 3\n", 1, 1, "a key must be a name"),
        ("a: &x 1\nb: *x\n", 2, 4, "aliases are not read"),
        ("a: &x [*x]\n", 1, 8, "aliases are not read"),
        ("a: 1\n---\nb: 2\n", 2, 1, "but found another document"),
    ],
)
def test_bad_yaml_is_refused_with_line_and_column(message, text, line, column, problem):
    came = f"toy.yaml, line {line}, column {column}: {problem}"
    expected = "plain YAML: `key: value` lines, nested by spaces"
    assert message(read, text) == f"{came}\n  expected {expected}"


HOSTILE = ["a: \x00", f"a: {'1' * 5000}", f"a: {'[' * 5000}", "? !!str [a]\n: 1", "\ta: 1"]
HOSTILE += ["a: !!timestamp 2024-01-01", "a: !!python/object:os.system x", "a: !!binary aGk="]
HOSTILE += ["a: !!set {b}", "a: !!bool maybe", "a: !!int x", "a: !!float ''"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_yaml_is_refused_by_name(message, text):
    assert message(read, text).startswith("toy.yaml")


@pytest.mark.parametrize(
    ("text", "came"),
    [
        ("", "nothing is in it"),
        ("# only a comment\n", "nothing is in it"),
        ("null", "got null"),
        ("- a\n- b\n", 'got ["a", "b"]'),
        ("digits", "got 'digits'"),
    ],
)
def test_a_file_must_hold_a_mapping(message, text, came):
    assert message(read, text) == f"toy.yaml: {came}\n  expected a mapping: `key: value` lines"


def test_flags_come_in_two_forms_and_carry_yaml():
    args = ["--a.b", "5", "--c=1e-3", "--d", "-1", "--e", "true", "--f", "[512, 1024]"]
    args += ["--g=null", "--h", "{kind: full}", "--i", "no", "--j=a=b", "--k", '""']
    values = {"a.b": 5, "c": 1e-3, "d": -1, "e": True, "f": [512, 1024], "g": None}
    values |= {"h": {"kind": "full"}, "i": "no", "j": "a=b", "k": ""}
    assert parse_overrides(args) == values


VALUE = "`--a VALUE`, such as 3, null or '\"\"'"
STRAY = "a flag such as `--seed 3`"


@pytest.mark.parametrize(
    ("args", "came", "expected"),
    [
        (["stray"], "got 'stray' on the command line", STRAY),
        (["--a", "1", "2"], "got '2' on the command line", STRAY),
        (["-s", "1"], "got '-s' on the command line", STRAY),
        (["--"], "got '--' on the command line", STRAY),
        (["--a..b", "1"], "got '--a..b' on the command line", STRAY),
        (["--a"], "--a: no value", VALUE),
        (["--a", "--b", "1"], "--a: no value", VALUE),
        (["--a="], "--a: no value", VALUE),
        (["--a", "#3"], "--a: no value", VALUE),
        (["--a", "1", "--a=1"], "--a: given twice", "every flag once"),
    ],
)
def test_bad_flags_are_refused(message, args, came, expected):
    assert message(parse_overrides, args) == f"{came}\n  expected {expected}"


def test_a_value_that_is_no_yaml_is_refused_with_its_flag(message):
    text = message(parse_overrides, ["--a", "[1, 2"])
    assert text.startswith("--a [1, 2, line 1, column 6: expected ',' or ']'")


def test_importing_the_engine_does_not_import_pydantic():
    code = "import sys, capsjax.schema.tree, capsjax.schema.text; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
