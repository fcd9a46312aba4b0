"""The configuration engine, on a schema made for it: trees, flags, errors to the letter, round trips."""

import abc
import dataclasses
import json
import subprocess
import sys
from typing import Annotated, Literal

import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from capsjax import configtree
from capsjax.checks import UserError, check_choice, check_float, check_int
from capsjax.types import Variant


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stop:
    kind: Literal["stop"] = "stop"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Full:
    kind: Literal["full"] = "full"
    remat: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truncated:
    kind: Literal["truncated"] = "truncated"
    last: int

    def __post_init__(self):
        check_int(self, "last", low=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dynamic:
    kind: Literal["dynamic"] = "dynamic"
    num_iters: int = 3
    gradient: Stop | Full | Truncated = Stop()

    def __post_init__(self):
        check_int(self, "num_iters", low=1, high=100)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uniform:
    kind: Literal["uniform"] = "uniform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoder:
    hidden: tuple[int, ...] = (512, 1024)
    activation: str = "relu"

    def __post_init__(self):
        check_choice(self, "activation", ("relu", "tanh"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    channels: int
    kernel: tuple[int, int] = (9, 9)
    routing: Annotated[Dynamic | Uniform, pydantic.Field(discriminator="kind")]
    decoder: Decoder | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    learning_rate: float = 1e-3
    steps: int | None = None
    parallel: Literal["jit", "pmap"] = "jit"
    shift: bool = True
    stages: tuple[Full | Truncated, ...] = ()

    def __post_init__(self):
        check_float(self, "learning_rate", low=0, open_low=True)
        if self.parallel == "pmap" and self.shift:
            raise ValueError("pmap takes\nno shift")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    name: str
    seed: int = 0
    model: Model
    training: Training = Training()


INF = float("inf")
TEXT = """
name: toy
model:
  channels: 16
  routing:
    kind: dynamic
    num_iters: 2
    gradient:
      kind: truncated
      last: 1
training:
  learning_rate: 1e-3
"""


def read(text):
    return configtree.read_yaml(text, "toy.yaml")


def build(*flags, **changes):
    """Build the toy config with flags, and with dotted keys of the file itself changed."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    tree = configtree.merge(read(TEXT), changed)
    overrides = configtree.parse_overrides(flags)
    return configtree.build(Config, tree, source="toy.yaml", overrides=overrides)


def message(call, *args, **kwargs):
    """Call what must fail, and give its message, which has two lines."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


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
def test_bad_yaml_is_refused_with_line_and_column(text, line, column, problem):
    came = f"toy.yaml, line {line}, column {column}: {problem}"
    expected = "plain YAML: `key: value` lines, nested by spaces"
    assert message(read, text) == f"{came}\n  expected {expected}"


HOSTILE = ["a: \x00", f"a: {'1' * 5000}", f"a: {'[' * 5000}", "? !!str [a]\n: 1", "\ta: 1"]
HOSTILE += ["a: !!timestamp 2024-01-01", "a: !!python/object:os.system x", "a: !!binary aGk="]
HOSTILE += ["a: !!set {b}", "a: !!bool maybe", "a: !!int x", "a: !!float ''"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_yaml_is_refused_by_name(text):
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
def test_a_file_must_hold_a_mapping(text, came):
    assert message(read, text) == f"toy.yaml: {came}\n  expected a mapping: `key: value` lines"


def test_flags_come_in_two_forms_and_carry_yaml():
    args = ["--a.b", "5", "--c=1e-3", "--d", "-1", "--e", "true", "--f", "[512, 1024]"]
    args += ["--g=null", "--h", "{kind: full}", "--i", "no", "--j=a=b", "--k", '""']
    values = {"a.b": 5, "c": 1e-3, "d": -1, "e": True, "f": [512, 1024], "g": None}
    values |= {"h": {"kind": "full"}, "i": "no", "j": "a=b", "k": ""}
    assert configtree.parse_overrides(args) == values


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
def test_bad_flags_are_refused(args, came, expected):
    assert message(configtree.parse_overrides, args) == f"{came}\n  expected {expected}"


def test_a_value_that_is_no_yaml_is_refused_with_its_flag():
    text = message(configtree.parse_overrides, ["--a", "[1, 2"])
    assert text.startswith("--a [1, 2, line 1, column 6: expected ',' or ']'")


ROUTING = {"kind": "dynamic", "num_iters": 5, "gradient": {"kind": "truncated", "last": 1}}


@pytest.mark.parametrize(
    ("flags", "routing"),
    [
        ({"r.num_iters": 7}, {**ROUTING, "num_iters": 7}),
        ({"r.kind": "uniform"}, {"kind": "uniform"}),
        ({"r": "uniform"}, {"kind": "uniform"}),
        ({"r": {"kind": "uniform"}}, {"kind": "uniform"}),
        ({"r.kind": "dynamic"}, ROUTING),
        ({"r": "dynamic"}, ROUTING),
        ({"r": {"kind": "dynamic"}}, {"kind": "dynamic"}),
        ({"r.gradient": "full"}, {**ROUTING, "gradient": {"kind": "full"}}),
        (
            {"r.gradient.remat": True, "r.gradient": "full"},
            {**ROUTING, "gradient": {"kind": "full", "remat": True}},
        ),
        (
            {"r.gradient.remat": True, "r.gradient.kind": "full"},
            {**ROUTING, "gradient": {"kind": "full", "remat": True}},
        ),
        ({"r.num_iters": 2, "r.kind": "other"}, {"kind": "other", "num_iters": 2}),
        ({"r": 3}, 3),
        ({"r": None}, None),
    ],
)
def test_a_flag_changes_what_it_names_and_a_new_kind_drops_its_old_siblings(flags, routing):
    tree = {"r": ROUTING, "seed": 0}
    before = json.dumps(tree)
    merged = configtree.merge(tree, flags)
    assert merged == {"r": routing, "seed": 0}
    assert configtree.merge(merged, flags) == merged
    assert json.dumps(tree) == before


def test_a_path_goes_through_null_and_through_the_short_form_of_a_kind():
    tree = {"decoder": None, "gradient": "full"}
    flags = {"decoder.hidden": [4], "gradient.remat": True, "new.key": 1}
    assert configtree.merge(tree, flags) == {
        "decoder": {"hidden": [4]},
        "gradient": {"kind": "full", "remat": True},
        "new": {"key": 1},
    }


def test_a_merged_tree_shares_nothing_with_its_parts():
    tree, flags = {"a": {"b": [1]}}, {"c": [2]}
    merged = configtree.merge(tree, flags)
    merged["a"]["b"].append(0)
    merged["c"].append(0)
    assert (tree, flags) == ({"a": {"b": [1]}}, {"c": [2]})


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (True, "true"), ([1], "[1]")])
def test_a_path_through_a_scalar_is_refused(value, shown):
    text = message(configtree.merge, {"a": {"b": value}}, {"a.b.c": 1})
    assert text == f"--a.b.c: a.b is {shown}\n  expected a.b to be a mapping"


def test_the_real_dataclasses_are_built():
    config = build()
    routing = Dynamic(num_iters=2, gradient=Truncated(last=1))
    assert config == Config(name="toy", model=Model(channels=16, routing=routing))
    parts = config, config.model, config.model.routing, config.model.routing.gradient
    assert [type(part) for part in parts] == [Config, Model, Dynamic, Truncated]
    assert hash(config) == hash(build())


def test_a_string_is_short_for_a_kind():
    assert build("--model.routing", "uniform").model.routing == Uniform()
    assert build(model__routing__gradient="full").model.routing.gradient == Full()
    stages = build("--training.stages", "[full, {kind: truncated, last: 2}]").training.stages
    assert stages == (Full(), Truncated(last=2))


def test_an_optional_part_may_be_null_or_a_mapping():
    assert build("--model.decoder", "null").model.decoder is None
    assert build("--model.decoder", "{}").model.decoder == Decoder()
    assert build("--model.decoder.hidden", "[3]").model.decoder == Decoder(hidden=(3,))


def test_numbers_and_booleans_are_strict_but_an_integer_is_a_number():
    rate = build("--training.learning_rate", "1").training.learning_rate
    assert (rate, type(rate)) == (1.0, float)
    assert build("--training.steps", "300_000").training.steps == 300_000
    assert build("--training.shift", "false").training.shift is False


def test_overrides_may_be_merged_before_or_by_build():
    flags = configtree.parse_overrides(["--model.routing", "uniform", "--seed", "3"])
    before = configtree.merge(read(TEXT), flags)
    merged = configtree.build(Config, before, source="toy.yaml", overrides=flags)
    assert merged == build("--model.routing", "uniform", "--seed", "3")


# What the file holds in place of what it held, what the error says came, what it says was expected.
ERRORS = [
    (
        {"seeed": 3},
        "seeed: unknown key, with value 3",
        "one of name, seed, model, training; did you mean 'seed'?",
    ),
    ({"zzz": "x"}, "zzz: unknown key, with value 'x'", "one of name, seed, model, training"),
    (
        {"model.routing.num_itres": 5},
        "model.routing.num_itres: unknown key, with value 5",
        "one of kind, num_iters, gradient; did you mean 'num_iters'?",
    ),
    (
        {"model.routing.gradient.lats": 5},
        "model.routing.gradient.lats: unknown key, with value 5",
        "one of kind, last; did you mean 'last'?",
    ),
    (
        {"model.decoder.widths": [1]},
        "model.decoder.widths: unknown key, with value [1]",
        "one of hidden, activation",
    ),
    (
        {"training.stages": ["full", {"kind": "full", "rematt": True}]},
        "training.stages.1.rematt: unknown key, with value true",
        "one of kind, remat; did you mean 'remat'?",
    ),
    (
        {"model": {"chanels": 3, "routing": "uniform"}},
        "model.chanels: unknown key, with value 3 (and 1 more)",
        "one of channels, kernel, routing, decoder; did you mean 'channels'?",
    ),
    ({"seed": 3.0}, "seed: got 3.0", "an integer"),
    ({"seed": "3"}, "seed: got '3'", "an integer"),
    ({"seed": True}, "seed: got true", "an integer"),
    ({"seed": None}, "seed: got null", "an integer"),
    ({"training.steps": 0.5}, "training.steps: got 0.5", "an integer or null"),
    ({"training.learning_rate": False}, "training.learning_rate: got false", "a number"),
    ({"training.shift": 1}, "training.shift: got 1", "true or false"),
    ({"name": 3}, "name: got 3", "a string, in quotes where it looks like another type"),
    (
        {"training.parallel": "pmpa"},
        "training.parallel: got 'pmpa'",
        "one of jit, pmap; did you mean 'pmap'?",
    ),
    ({"model": 3}, "model: got 3", "a mapping with keys channels, kernel, routing, decoder"),
    ({"model.routing": 3}, "model.routing: got 3", "a mapping with kind one of dynamic, uniform"),
    (
        {"model.routing.gradient": None},
        "model.routing.gradient: got null",
        "a mapping with kind one of stop, full, truncated",
    ),
    (
        {"model.decoder": "dense"},
        "model.decoder: got 'dense'",
        "a mapping with keys hidden, activation or null",
    ),
    ({"model.decoder.hidden": 3}, "model.decoder.hidden: got 3", "a list [an integer, ...]"),
    ({"model.decoder.hidden": [1, "2"]}, "model.decoder.hidden.1: got '2'", "an integer"),
    ({"model.kernel": [9]}, "model.kernel: got [9]", "a list [an integer, an integer]"),
    ({"model.kernel": [9, 9, 9]}, "model.kernel: got [9, 9, 9]", "a list [an integer, an integer]"),
    ({"model.routing.num_iters": 0}, "model.routing.num_iters: got 0", "an integer from 1 to 100"),
    (
        {"model.routing.gradient.last": -1},
        "model.routing.gradient.last: got -1",
        "an integer of at least 0",
    ),
    (
        {"training.stages": ["full", {"kind": "truncated", "last": -1}]},
        "training.stages.1.last: got -1",
        "an integer of at least 0",
    ),
    (
        {"training.learning_rate": float("nan")},
        "training.learning_rate: got NaN",
        "a number greater than 0",
    ),
    (
        {"training.learning_rate": INF},
        "training.learning_rate: got Infinity",
        "a number greater than 0",
    ),
    (
        {"model.decoder.activation": "relo"},
        "model.decoder.activation: got 'relo'",
        "one of relu, tanh; did you mean 'relu'?",
    ),
    (
        {"training": {"parallel": "pmap"}},
        'training: got {"parallel": "pmap"}',
        "other values: pmap takes no shift",
    ),
    (
        {"model.routing": {"kind": "dynamc", "num_iters": 3}},
        "model.routing.kind: got 'dynamc'",
        "one of dynamic, uniform; did you mean 'dynamic'?",
    ),
    (
        {"model.routing.gradient": {"kind": "stpo", "last": "x"}},
        "model.routing.gradient.kind: got 'stpo'",
        "one of stop, full, truncated; did you mean 'stop'?",
    ),
    (
        {"model.routing": {"kind": "dynamic", "gradient": "fulll"}},
        "model.routing.gradient: got 'fulll'",
        "one of stop, full, truncated; did you mean 'full'?",
    ),
    (
        {"model.routing": {"kind": ["dynamic"]}},
        'model.routing.kind: got ["dynamic"]',
        "one of dynamic, uniform; did you mean 'dynamic'?",
    ),
    ({"model.routing": {"num_iters": 3}}, "model.routing.kind: missing", "one of dynamic, uniform"),
    (
        {"model.routing": {"kind": "dynamic", "gradient": "truncated"}},
        "model.routing.gradient.last: missing",
        "an integer",
    ),
    ({"model": {"routing": "uniform"}}, "model.channels: missing", "an integer"),
    (
        {"model": {"channels": 3}},
        "model.routing: missing",
        "a mapping with kind one of dynamic, uniform",
    ),
    (
        {"seed": "x", "name": 3, "model.channels": None, "model.routing": "unifrom"},
        "model.routing: got 'unifrom' (and 3 more)",
        "one of dynamic, uniform; did you mean 'uniform'?",
    ),
    (
        {"seed": "x" * 500},
        f"seed: got '{'x' * 56}...",
        "an integer",
    ),
    (
        {"seed": "a\nb", "s\nd": 1},
        "s d: unknown key, with value 1 (and 1 more)",
        "one of name, seed, model, training; did you mean 'seed'?",
    ),
]


@pytest.mark.parametrize(("changes", "came", "expected"), ERRORS)
def test_errors_in_a_file_to_the_letter(changes, came, expected):
    tree = read(TEXT)
    for key, value in changes.items():
        *parents, name = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    text = message(configtree.build, Config, tree, source="toy.yaml")
    assert text == f"toy.yaml: {came}\n  expected {expected}"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--seed", "x"], "--seed: got 'x'\n  expected an integer"),
        (
            ["--model.routing.num_iters=0"],
            "--model.routing.num_iters: got 0\n  expected an integer from 1 to 100",
        ),
        (
            ["--sead", "3"],
            "--sead: unknown key, with value 3\n"
            "  expected one of name, seed, model, training; did you mean 'seed'?",
        ),
        (
            ["--model.rooting.num_iters", "3"],
            '--model.rooting.num_iters: model.rooting: unknown key, with value {"num_iters": 3}\n'
            "  expected one of channels, kernel, routing, decoder; did you mean 'routing'?",
        ),
        (
            ["--model.routing.gradient", "{kind: truncated, last: -2}"],
            "--model.routing.gradient: model.routing.gradient.last: got -2\n"
            "  expected an integer of at least 0",
        ),
        (
            ["--model.routing", "uniform", "--model.routing.num_iters", "3"],
            "--model.routing.num_iters: unknown key, with value 3\n  expected one of kind",
        ),
        (
            ["--model", "3"],
            "--model: got 3\n  expected a mapping with keys channels, kernel, routing, decoder",
        ),
        (
            ["--name.first", "3"],
            '--name.first: name: got {"kind": "toy", "first": 3}\n'
            "  expected a string, in quotes where it looks like another type",
        ),
        (
            ["--model.routing", "unifrom"],
            "--model.routing: model.routing.kind: got 'unifrom'\n"
            "  expected one of dynamic, uniform; did you mean 'uniform'?",
        ),
        (
            ["--model.decoder.hidden", "[1, x]"],
            "--model.decoder.hidden: model.decoder.hidden.1: got 'x'\n  expected an integer",
        ),
    ],
)
def test_errors_in_flags_name_the_flag(flags, text):
    assert message(build, *flags) == text


def test_what_a_flag_leaves_missing_names_the_flag():
    tree = {"name": "toy", "model": {"channels": 3, "routing": {"kind": "uniform"}}}
    by_kind = {"model.routing.kind": "dynamic", "model.routing.gradient.kind": "truncated"}
    text = message(configtree.build, Config, tree, source="toy.yaml", overrides=by_kind)
    assert text.startswith("--model.routing.gradient.kind: model.routing.gradient.last: missing\n")
    del tree["model"]["routing"]
    by_sibling = {"model.routing.num_iters": 3}
    text = message(configtree.build, Config, tree, source="toy.yaml", overrides=by_sibling)
    assert text == (
        "--model.routing.num_iters: model.routing.kind: missing\n  expected one of dynamic, uniform"
    )


def test_what_the_file_lacks_is_not_blamed_on_a_flag_beside_it():
    tree = {"name": "toy", "model": {"routing": "uniform"}}
    text = message(
        configtree.build, Config, tree, source="toy.yaml", overrides={"model.kernel": [3, 3]}
    )
    assert text == "toy.yaml: model.channels: missing\n  expected an integer"


def test_where_any_string_may_stand_it_is_no_kind():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Either:
        value: str | Uniform

    assert configtree.build(Either, {"value": "uniform"}, source="f").value == "uniform"
    assert configtree.build(Either, {"value": {"kind": "uniform"}}, source="f").value == Uniform()
    assert message(configtree.build, Either, {"value": 3}, source="f") == (
        "f: value: got 3\n  expected a string, in quotes where it looks like another type"
        " or a mapping with kind one of uniform"
    )


class Shape(Variant, abc.ABC):
    @abc.abstractmethod
    def area(self): ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Square(Shape):
    kind: Literal["square"] = "square"
    side: int = 1

    def area(self):
        return self.side**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rectangle(Square):
    kind: Literal["rectangle"] = "rectangle"
    height: int

    def area(self):
        return self.side * self.height


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawing:
    shape: Shape | None = None


def test_an_abstract_class_stands_for_the_union_of_its_variants():
    drawing = configtree.build(Drawing, {"shape": {"kind": "rectangle", "height": 2}}, source="f")
    assert drawing == Drawing(shape=Rectangle(height=2))
    assert configtree.build(Drawing, configtree.to_tree(drawing), source="f") == drawing
    assert configtree.build(Drawing, {"shape": "square"}, source="f").shape == Square()
    assert message(configtree.build, Drawing, {"shape": "squere"}, source="f") == (
        "f: shape: got 'squere'\n  expected one of square, rectangle; did you mean 'square'?"
    )
    assert message(configtree.build, Drawing, {"shape": 3}, source="f") == (
        "f: shape: got 3\n  expected a mapping with kind one of square, rectangle or null"
    )
    tree = {"shape": {"kind": "rectangle", "height": 2, "sides": 1}}
    assert message(configtree.build, Drawing, tree, source="f") == (
        "f: shape.sides: unknown key, with value 1\n"
        "  expected one of kind, side, height; did you mean 'side'?"
    )


def test_huge_numbers_and_broken_text_are_refused_without_a_crash():
    assert "learning_rate: got " in message(build, training__learning_rate=10**400)
    assert message(build, name="\ud800").startswith("toy.yaml: ")


GRADIENTS = st.one_of(
    st.just(Stop()),
    st.builds(Full, remat=st.booleans()),
    st.builds(Truncated, last=st.integers(0, 9)),
)
ROUTINGS = st.one_of(
    st.just(Uniform()), st.builds(Dynamic, num_iters=st.integers(1, 100), gradient=GRADIENTS)
)
LOOKALIKES = ["no", "on", "y", "true", "null", "~", "", "1e3", "1e-3", "0x1f", "007", "1_0", "="]
LOOKALIKES += ["2024-01-01", ".inf", "- a", "a: b", "a #b", "#", "'", '"', "a\n\nb\n", " a ", "<<"]
CONFIGS = st.builds(
    Config,
    name=st.one_of(st.sampled_from(LOOKALIKES), st.text(st.characters(exclude_categories=["Cs"]))),
    seed=st.integers(),
    model=st.builds(
        Model,
        channels=st.integers(),
        kernel=st.tuples(st.integers(), st.integers()),
        routing=ROUTINGS,
        decoder=st.none()
        | st.builds(Decoder, hidden=st.lists(st.integers()).map(tuple), activation=st.just("tanh")),
    ),
    training=st.builds(
        Training,
        learning_rate=st.floats(0, exclude_min=True, allow_infinity=False),
        steps=st.none() | st.integers(),
        stages=st.lists(GRADIENTS.filter(lambda mode: mode != Stop()), max_size=3).map(tuple),
    ),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_a_dumped_config_builds_an_equal_one(config):
    assert configtree.build(Config, read(configtree.dump(config)), source="toy.yaml") == config


@pytest.mark.parametrize("name", LOOKALIKES)
def test_a_string_that_looks_like_another_type_survives_every_reader(name):
    text = configtree.dump(dataclasses.replace(build(), name=name))
    assert read(text)["name"] == name
    assert yaml.safe_load(text)["name"] == name


def test_a_dump_is_complete_and_readable():
    config = build("--model.decoder", "{}", "--training.learning_rate", "1e-6")
    assert (
        configtree.dump(config)
        == """\
name: toy
seed: 0
model:
  channels: 16
  kernel: [9, 9]
  routing:
    kind: dynamic
    num_iters: 2
    gradient:
      kind: truncated
      last: 1
  decoder:
    hidden: [512, 1024]
    activation: relu
training:
  learning_rate: 1.0e-06
  steps: null
  parallel: jit
  shift: true
  stages: []
"""
    )


def test_a_tree_is_plain_and_in_the_order_of_the_fields():
    tree = configtree.to_tree(build("--training.stages", "[full]"))
    assert list(tree) == ["name", "seed", "model", "training"]
    assert tree["model"]["kernel"] == [9, 9]
    assert tree["training"]["stages"] == [{"kind": "full", "remat": False}]
    assert json.loads(json.dumps(tree)) == tree


def test_the_json_schema_knows_keys_kinds_and_the_short_form():
    schema = configtree.json_schema(Config)
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$ref"] == "#/$defs/Config"
    assert schema["$defs"]["Config"]["additionalProperties"] is False
    assert schema["$defs"]["Config"]["required"] == ["name", "model"]
    long, short = schema["$defs"]["Truncated"]["anyOf"]
    assert long["required"] == ["last"]
    assert short == {"const": "truncated"}
    routing = schema["$defs"]["Model"]["properties"]["routing"]
    assert [option["$ref"] for option in routing["oneOf"]] == ["#/$defs/Dynamic", "#/$defs/Uniform"]


def test_importing_the_module_does_not_import_pydantic():
    code = "import sys, capsjax.configtree; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
