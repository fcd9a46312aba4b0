"""Mistakes to make on purpose."""

from tests.mutations.kernels import KERNELS
from tests.mutations.mathematics import MATHEMATICS
from tests.mutations.own_data import OWN_DATA
from tests.mutations.routings import ROUTINGS
from tests.mutations.runs import RUNS
from tests.mutations.values import VALUES

MUTATIONS = (*MATHEMATICS, *ROUTINGS, *KERNELS, *VALUES, *RUNS, *OWN_DATA)
