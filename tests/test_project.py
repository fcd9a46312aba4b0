"""The files around the package agree with each other and with the package."""

import re
import tomllib
from pathlib import Path

import yaml

import capsjax

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PIN = re.compile(r'([a-z0-9-]+)==([0-9][0-9a-z.]*)(?: ; python_version (<|>=) "3\.12")?')


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def pins(python: str) -> dict[str, str]:
    """The pins of constraints.txt that apply to a Python version; each package may occur once."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        match = PIN.fullmatch(line)
        assert match, f"not an exact pin: {line!r}"
        name, version, side = match.groups()
        if side is None or (side == "<") == (numbers(python) < (3, 12)):
            assert name not in found, f"{name} is pinned twice for Python {python}"
            found[name] = version
    return found


def pythons() -> list[str]:
    label = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    found = [label.fullmatch(line) for line in PROJECT["project"]["classifiers"]]
    return [match[1] for match in found if match]


def test_every_requirement_is_pinned_no_lower_than_its_floor():
    groups = PROJECT["dependency-groups"]
    requirements = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(r for group in groups.values() for r in group if isinstance(r, str)),
    ]
    for python in pythons():
        pinned = pins(python)
        for requirement in requirements:
            name, floor = requirement.split(">=")
            assert numbers(pinned[name]) >= numbers(floor), (python, requirement)


def test_the_workflow_tests_every_python_that_is_promised():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == pythons()
    assert f">={pythons()[0]}" == PROJECT["project"]["requires-python"]


def test_the_citation_names_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == capsjax.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")


def test_the_changelog_opens_with_what_is_unreleased():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## \[(.+?)\]", changelog, re.M)
    assert headings[0] == "Unreleased"
