"""Mutations of what is written for GPUs."""

from tests.mutations.mutation import Mutation

ACCELERATORS = (
    Mutation(
        "all parents in one product, of which the last group is left out",
        "votes/together.py",
        "    if whole == j:\n",
        "    if whole <= j:\n",
        ("tests/test_together.py",),
    ),
    Mutation(
        "rows of pose matrices that the product of all parents keeps apart",
        "votes/contractions.py",
        "        return s, sum_rows(a, rows), cotangents\n",
        "        return s, a, cotangents\n",
        ("tests/test_together.py",),
    ),
)
