"""Mistakes to make on purpose."""

from tests.mutations.mathematics import MATHEMATICS
from tests.mutations.runs import RUNS

MUTATIONS = (*MATHEMATICS, *RUNS)
