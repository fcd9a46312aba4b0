"""The public names: all of the contract, none too early, each documented with its shapes."""

import ast
import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

import capsjax as cj

FUNCTIONS = [name for name in cj.__all__ if inspect.isfunction(getattr(cj, name))]
CLASSES = [name for name in cj.__all__ if inspect.isclass(getattr(cj, name))]
ARRAY = re.compile(r"(Float|Int|Num|Bool)\[")
SHAPE = re.compile(r"\[(?:[*a-z]|\w+(?:, \w+)+)[^\]]*\]|vectors along")

# Each public name of the contract, with the options that must be there.
CONTRACT = {
    "squash": ["s", "axis"],
    "predict": ["u", "W"],
    "window_votes": ["u", "W", "stride", "share"],
    "DenseVotes": ["array", "masks"],
    "LinearVotes": ["u", "W", "masks"],
    "dynamic_routing": ["votes", "num_iters", "gradient", "bias", "leaky", "tolerance", "trace"],
    "DynamicRouting": ["num_iters", "gradient", "leaky", "tolerance", "kind"],
    "FixedPointRouting": [
        *("num_iters", "gradient", "leaky", "tolerance", "inverse_temperature", "damping", "kind"),
    ],
    "ImplicitGradient": ["solver", "tolerance", "max_steps", "kind"],
    "UniformRouting": ["kind"],
    "StopGradient": ["kind"],
    "ClosedForm": ["kind"],
    "FullGradient": ["remat", "kind"],
    "TruncatedGradient": ["last", "kind"],
    "margin_loss": [
        *("lengths", "labels", "positive_margin", "negative_margin", "down_weight", "preset"),
    ],
    "reconstruction_loss": ["reconstruction", "image"],
    "spread_loss": ["activation", "labels", "margin"],
    "safe_norm": ["x", "axis", "keepdims"],
    "train": ["config", "data", "out", "reporter", "name", "observe", "start"],
    "load": ["run_dir", "step", "reporter"],
    "resume": ["run_dir", "data", "overrides", "reporter", "observe", "jobs"],
    "CapsNetClassifier": ["config", "overrides"],
    "evaluate": ["run_dir", "data", "split", "overrides", "iterations", "crops", "reporter"],
    "report": ["run_dir", "data"],
    "compare": ["config", "data", "out", "name", "reporter", "jobs"],
    "load_config": ["name", "overrides"],
    "Config": [
        *("data", "training", "model", "seed", "max_shift", "augment", "loss", "metrics"),
        *("optimiser", "compare"),
    ],
}
FIELDS = {
    "RoutingResult": ["pose", "coupling", "logits", "activation", "trace", "residual"],
    "RoutingTrace": ["coupling", "entropy", "agreement"],
}


@pytest.mark.parametrize("name", CONTRACT)
def test_the_contract_s_names_have_their_options(name):
    assert name in cj.__all__
    assert sorted(inspect.signature(getattr(cj, name)).parameters) == sorted(CONTRACT[name])


@pytest.mark.parametrize("name", FIELDS)
def test_results_have_their_fields(name):
    assert list(getattr(cj, name)._fields) == FIELDS[name]


def test_the_members_of_the_contract_exist():
    for votes in (cj.DenseVotes, cj.LinearVotes, cj.Votes):
        for member in ("combine", "agreement", "dense", "zeros", "couple", "shape", "dtype"):
            assert hasattr(votes, member)
    assert {"config", "folder"} <= {field.name for field in dataclasses.fields(cj.Run)}
    for member in ("model", "metrics", "predict", "outputs", "test"):
        assert hasattr(cj.Run, member)
    for option in ("num_iters", "gradient"):
        parameter = inspect.signature(cj.dynamic_routing).parameters[option]
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert cj.DynamicRouting().num_iters == 3
    assert cj.DynamicRouting().gradient == cj.StopGradient()
    assert isinstance(cj.predict(jnp.ones([2, 3, 4]), jnp.ones([3, 5, 4, 6])), cj.LinearVotes)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", cj.__version__)


def test_the_list_of_names_is_whole_and_in_order():
    assert cj.__all__ == sorted(set(cj.__all__))
    promised = [name for names in cj._HOMES.values() for name in names]
    assert sorted([*promised, "__version__"]) == cj.__all__
    assert set(cj.__all__) <= set(dir(cj))
    with pytest.raises(AttributeError, match="has no attribute 'squish'"):
        _ = cj.squish


def test_importing_the_package_waits_for_nothing():
    """Names come when they are asked for: `capsjax --help` does not load JAX."""
    code = (
        "import sys, capsjax, capsjax.cli; assert 'jax' not in sys.modules; "
        "assert callable(capsjax.squash) and 'jax' in sys.modules; "
        "assert callable(capsjax.losses.margin_loss); "
        "from capsjax import *; assert train is capsjax.train"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_for_type_checkers_are_those_that_come():
    tree = ast.parse(Path(cj.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    nodes = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    found = {node.module.removeprefix("capsjax."): node.names for node in nodes}
    assert {home: tuple(a.name for a in names) for home, names in found.items()} == cj._HOMES


def test_everything_comes_from_where_it_is_said_to():
    assert set(FUNCTIONS) | set(CLASSES) | {"__version__"} == set(cj.__all__)
    for name in cj.__all__:
        assert getattr(cj, name) is not None


def section(doc, title):
    """Return a section of a Google docstring; empty where there is none."""
    found = re.search(rf"^{title}:\n((?:[ \t]+\S.*\n?|\n)+)", inspect.cleandoc(doc), re.M)
    return found[1] if found else ""


def opens_with_a_sentence(doc):
    first = inspect.cleandoc(doc).splitlines()[0]
    return first[0].isupper() and first.endswith((".", ":", "?"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_and_returns(name):
    function = getattr(cj, name)
    doc = inspect.getdoc(function)
    signature = inspect.signature(function)
    assert opens_with_a_sentence(doc)
    arguments = section(doc, "Args")
    takes = {parameter: str(value.annotation) for parameter, value in signature.parameters.items()}
    for parameter, annotation in takes.items():
        entry = re.search(rf"^    {parameter}: (.+(?:\n     .+)*)", arguments, re.M)
        assert entry, f"{name} does not say what {parameter} is"
        if ARRAY.search(annotation) or "jaxtyping" in annotation:
            assert SHAPE.search(entry[1]), f"{name} does not say the shape of {parameter}"
    returns = section(doc, "Returns") or re.search(r"[Rr]eturns? [^.]+", doc)
    assert returns, f"{name} does not say what it returns"
    if "jaxtyping" in str(signature.return_annotation):
        assert SHAPE.search(doc), name


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_says_what_its_fields_are(name):
    cls = getattr(cj, name)
    doc = inspect.getdoc(cls)
    assert opens_with_a_sentence(doc)
    fields = list(getattr(cls, "_fields", ()))
    if dataclasses.is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls) if field.init]
    stated = section(doc, "Args") + section(doc, "Attributes")
    if not inspect.isabstract(cls):
        for field in fields:
            assert re.search(rf"^    {field}: ", stated, re.M), (
                f"{name} does not say what {field} is"
            )
    if fields and name in FIELDS:
        for field in fields:
            entry = re.search(rf"^    {field}: (.+(?:\n     .+)*)", stated, re.M)
            assert field == "trace" or SHAPE.search(entry[1]), (name, field)


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_member_is_documented(name):
    cls = getattr(cj, name)
    for member, value in vars(cls).items():
        if member.startswith("_") or member in getattr(cls, "_fields", ()):
            continue
        if inspect.isfunction(value) or isinstance(value, (property, classmethod)):
            assert inspect.getdoc(getattr(cls, member)), f"{name}.{member}"


@pytest.mark.parametrize(
    "value",
    [
        cj.DynamicRouting(num_iters=2, gradient=cj.FullGradient(remat=True), leaky=True),
        cj.FixedPointRouting(gradient=cj.ImplicitGradient(), damping=0.5),
        cj.ImplicitGradient(solver="neumann"),
        cj.UniformRouting(),
        cj.StopGradient(),
        cj.FullGradient(),
        cj.TruncatedGradient(last=1),
        cj.load_config("smoke"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_options_are_frozen_values(value):
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, getattr(value, field))
    assert hash(value) == hash(dataclasses.replace(value))
    assert value == dataclasses.replace(value)


LEAN = """
import sys
import capsjax
heavy = ("sklearn", "pooch", "requests", "matplotlib", "pandas", "scipy.stats", "pydantic", "IPython")
print(sorted(name for name in heavy if name in sys.modules))
rooms = ("capsjax.bench", "capsjax.study", "capsjax.reports", "capsjax.cli")
print(sorted(name for name in sys.modules if name.startswith(rooms)))
"""


def test_importing_the_package_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
    assert done.stderr == ""
