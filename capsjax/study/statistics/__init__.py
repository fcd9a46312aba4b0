"""What a few paired seeds can tell: intervals, tests, equivalence, and how many more are needed."""

from capsjax.study.statistics.equivalence import Equivalence, equivalence_test
from capsjax.study.statistics.images import TwoWayDifference, two_way_difference
from capsjax.study.statistics.paired import Difference, Summary, paired_difference, summarise
from capsjax.study.statistics.pooled import Pooled, random_effects
from capsjax.study.statistics.power import power, seeds_needed
from capsjax.study.statistics.retained import RetainedGain, retained_gain
from capsjax.study.statistics.significance import holm, sign_flip_test

__all__ = [
    "Difference",
    "Equivalence",
    "Pooled",
    "RetainedGain",
    "Summary",
    "TwoWayDifference",
    "equivalence_test",
    "holm",
    "paired_difference",
    "power",
    "random_effects",
    "retained_gain",
    "seeds_needed",
    "sign_flip_test",
    "summarise",
    "two_way_difference",
]
