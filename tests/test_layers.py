"""Who may import whom: a file imports from lower levels only, and nothing goes round in a circle.

A new file or folder directly under `capsjax/` has to be given its place in `PLACES` below.
"""

import dataclasses
import pathlib
import sys

import pytest

import capsjax
from tests.rooms import ROOT, drawn_in, imports_of, module_name, picture

PACKAGE = pathlib.Path(capsjax.__file__).parent

# Which level each file or folder directly under `capsjax/` is on; it may import from lower levels only, and
# those in one line know nothing of each other, apart from what PLACES says.
L0 = {
    "types",
    "checks",
    "display",
    "files",
    "progress",
    "memory",
    "schema",
    "signals",
    "streams",
    "tables",
}
L1 = {
    "numerics",
    "votes",
    "losses",
    "metrics",
    "convolution",
    "gradients",
    "data",
}
L2 = {"routing"}
L4 = {"layers"}
L5 = {"training"}
L6 = {"runs"}
L7 = ("bench", "study", "reports")  # each may use those before it
L8 = {"cli", "__init__", "__main__"}
BELOW = L0 | L1 | L2 | L4 | L5
LEVELS = {
    "L0": L0,
    "L1": L1,
    "L2": L2,
    "L4": L4,
    "L5": L5,
    "L6": L6,
    "L7": set(L7),
    "L8": {"cli"},
}

JAX = {"jax", "jaxtyping", "chex"}
# Pooch downloads with requests, and lets its errors through; PIL is Pillow, which reads pictures.
READERS = JAX | {"numpy", "sklearn", "pooch", "requests", "PIL", "scipy"}
TRAINING = JAX | {"numpy", "flax", "optax", "orbax", "rich"}
ANY = None


@dataclasses.dataclass(frozen=True)
class Place:
    """What a file, or every file of a folder, may import, beside the standard library and `version`.

    Args:
        inside: files and folders of capsjax.
        outside: other packages; ANY for whatever is installed.
    """

    inside: set[str]
    outside: set[str] | None = ANY


PLACES = {
    "version": Place(set(), set()),
    "display": Place(set(), set()),
    "signals": Place(set(), set()),
    "streams": Place(set(), set()),
    "checks": Place(set(), JAX),
    "files": Place({"checks"}, set()),
    "memory": Place({"checks"}, {"jax"}),
    "progress": Place({"checks"}, {"rich"}),
    "tables": Place({"checks"}, {"rich"}),
    # What everything has in common; it may say how a mistake is told.
    "types": Place({"checks", "display"}, JAX),
    # The configuration engine: the only room that knows pydantic and yaml.
    "schema": Place({"checks"}, {"pydantic", "pydantic_core", "yaml"}),
    "numerics": Place(L0, JAX),
    "gradients": Place(L0 | {"numerics"}, JAX),
    "votes": Place(L0 | {"numerics"}, JAX),
    "losses": Place(L0 | {"numerics"}, JAX | {"numpy"}),
    "metrics": Place(L0 | {"numerics", "losses"}, JAX | {"numpy", "sklearn"}),
    "convolution": Place(L0 | {"numerics"}, JAX | {"numpy"}),
    "data": Place(L0 | {"numerics"}, READERS),
    "routing": Place(L0 | L1 - {"data"}, JAX),
    "layers": Place(L0 | L1 | L2, JAX | {"flax", "numpy"}),
    "training": Place(L0 | L1, TRAINING),
    "runs": Place(BELOW),
    **{name: Place(BELOW | L6 | set(L7[:place])) for place, name in enumerate(L7)},
    # The command line imports JAX, and what needs it, only when a command computes.
    "cli": Place(BELOW | L6 | set(L7)),
    "__init__": Place(BELOW | L6 | set(L7)),
    "__main__": Place(BELOW | L6 | set(L7) | {"cli"}),
}


def problems(root, places):
    """List every import that goes up or sideways, every file without a place, and every circle."""
    found, edges = [], {}
    for file in sorted(root.rglob("*.py")):
        name = module_name(root, file)
        unit = name.split(".")[0]
        if unit not in places:
            found.append(f"{name}: has no place, add it to PLACES")
            continue
        place = places[unit]
        inside, outside = imports_of(root, file)
        edges[name] = inside - {name}
        for other in sorted(inside):
            target = other.split(".")[0]
            if target not in {unit, "version"} | place.inside:
                found.append(f"{name}: may not import {other}")
        if place.outside is not None:
            outside -= sys.stdlib_module_names
            found += [
                f"{name}: may not import {other}" for other in sorted(outside - place.outside)
            ]
    return found + circles(edges)


def circles(edges):
    """List the circles that a walk along imports runs into."""
    found, done = [], set()

    def walk(name, path):
        if name in path:
            found.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for other in sorted(edges.get(name, ())):
                walk(other, [*path, name])
            done.add(name)

    for name in sorted(edges):
        walk(name, [])
    return found


def test_every_file_imports_from_lower_levels_only():
    assert problems(PACKAGE, PLACES) == []


def test_the_picture_of_the_rooms_is_true():
    """`python -m tests.rooms` draws it anew."""
    assert drawn_in((ROOT / "CONTRIBUTING.md").read_text("utf-8")) == picture(PACKAGE, LEVELS)


def test_pydantic_and_yaml_are_imported_by_the_schema_only():
    for file in PACKAGE.rglob("*.py"):
        _, outside = imports_of(PACKAGE, file)
        unit = module_name(PACKAGE, file).split(".")[0]
        assert unit == "schema" or not outside & {"pydantic", "pydantic_core", "yaml"}, file


def test_flax_is_imported_by_layers_training_and_the_top_only():
    allowed = {"layers", "training"} | L6 | set(L7) | L8
    for file in PACKAGE.rglob("*.py"):
        _, outside = imports_of(PACKAGE, file)
        if "flax" in outside:
            assert module_name(PACKAGE, file).split(".")[0] in allowed, file


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"votes.py": "from capsjax.numerics import x", "numerics.py": ""}, []),
        (
            {"numerics.py": "def f():\n    from capsjax import votes", "votes.py": ""},
            ["numerics: may not import votes"],
        ),
        (
            {"gradients/__init__.py": "import capsjax.votes", "votes.py": ""},
            ["gradients: may not import votes"],
        ),
        (
            {"routing/base.py": "from capsjax.data import idx", "data/idx.py": ""},
            ["routing.base: may not import data.idx"],
        ),
        (
            {"training/step.py": "from capsjax.layers.layers import X", "layers/layers.py": ""},
            ["training.step: may not import layers.layers"],
        ),
        (
            {"training/loop.py": "from capsjax.routing import X", "routing/__init__.py": ""},
            ["training.loop: may not import routing"],
        ),
        ({"votes.py": "import flax.nnx"}, ["votes: may not import flax"]),
        ({"votes.py": "import math, jax"}, []),
        ({"losses.py": "from capsjax import squash"}, ["losses: may not import __init__"]),
        ({"helpers.py": ""}, ["helpers: has no place, add it to PLACES"]),
        (
            {
                "routing/a.py": "from capsjax.routing import b",
                "routing/b.py": "from capsjax.routing.a import x",
            },
            ["routing.a -> routing.b -> routing.a"],
        ),
    ],
)
def test_each_kind_of_mistake_would_be_found(tmp_path, files, expected):
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert problems(tmp_path, PLACES) == expected
