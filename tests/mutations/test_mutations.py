"""The mutations still fit the code; `run.py` beside this file makes them and takes minutes."""

import ast
from pathlib import Path

import pytest

import capsjax
from tests.mutations.mutations import MUTATIONS

PACKAGE = Path(capsjax.__file__).resolve().parent
HERE = Path(__file__).resolve().parent


def test_there_are_enough_and_each_has_a_name_of_its_own():
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 12


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_each_changes_the_code_and_leaves_it_valid(mutation):
    source = (PACKAGE / mutation.path).read_text("utf-8")
    assert source.count(mutation.old) == 1
    mutant = source.replace(mutation.old, mutation.new)
    assert ast.dump(ast.parse(mutant)) != ast.dump(ast.parse(source))
    assert all((HERE.parents[1] / test).exists() for test in mutation.tests)
