"""What CONTRIBUTING says of additions is true of the tree: where each kind of thing is, and its class."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import capsjax

ROOT = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| ([a-z ]+) \| .*?`(capsjax/[\w/<>.]+)` \| `([\w.]+)\.(\w+)`.* \|$", re.M)
ROWS = ROW.findall((ROOT / "CONTRIBUTING.md").read_text("utf-8"))


@pytest.fixture(scope="module")
def package():
    """Every module of the package, imported."""
    for found in pkgutil.walk_packages(capsjax.__path__, "capsjax."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)


def below(cls):
    for child in cls.__subclasses__():
        yield child
        yield from below(child)


def concrete(cls):
    """The classes of the package below another that nothing is left to write of."""
    return [
        c for c in below(cls) if c.__module__.startswith("capsjax.") and not inspect.isabstract(c)
    ]


def test_the_table_has_rows_for_what_a_configuration_chooses_among(package):
    from capsjax.schema.variant import Variant

    told = {f"capsjax.{module}.{name}" for _, _, module, name in ROWS}
    chosen = {f"{c.__module__}.{c.__name__}" for c in Variant.__subclasses__()}
    chosen = {name for name in chosen if name.startswith("capsjax.")}  # other tests define some
    assert chosen - told == SMALL


# Choices inside one file, which are no rooms for more.
SMALL = {"capsjax.losses.spread.MarginSchedule"}


@pytest.mark.parametrize(("what", "path", "module", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_all_that_is_there_stands_where_the_table_says(package, what, path, module, name):
    base = getattr(importlib.import_module(f"capsjax.{module}"), name)
    assert inspect.isabstract(base)
    folder, _, file = path.rpartition("/")
    found = concrete(base)
    assert found
    for cls in found:
        place = Path(inspect.getfile(cls)).relative_to(ROOT)
        assert str(place.parent) == folder, cls
        assert file in ("<name>.py", place.name), cls
