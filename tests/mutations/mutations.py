"""Mistakes to make on purpose."""

from tests.mutations.accelerators import ACCELERATORS
from tests.mutations.feeds import FEEDS
from tests.mutations.mathematics import MATHEMATICS
from tests.mutations.own_data import OWN_DATA
from tests.mutations.pairs import PAIRS
from tests.mutations.published import PUBLISHED
from tests.mutations.routings import ROUTINGS
from tests.mutations.runs import RUNS
from tests.mutations.speed import SPEED
from tests.mutations.studies import STUDIES
from tests.mutations.values import VALUES

MUTATIONS = (
    *MATHEMATICS,
    *ROUTINGS,
    *ACCELERATORS,
    *SPEED,
    *VALUES,
    *RUNS,
    *FEEDS,
    *OWN_DATA,
    *PAIRS,
    *PUBLISHED,
    *STUDIES,
)
