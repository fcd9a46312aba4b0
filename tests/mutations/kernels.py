"""Mutations of what is compiled for GPUs."""

from tests.mutations.mutation import Mutation

KERNELS = (
    Mutation(
        "a pass over children that holds the coupling constant",
        "kernels/children.py",
        "        return c[:, None, :] * cotangent + b_bar[:, None, :] * held\n",
        "        return c[:, None, :] * cotangent + 0 * b_bar[:, None, :] * held\n",
        ("tests/kernels",),
    ),
    Mutation(
        "all parents in one product, of which the last group is left out",
        "kernels/parents.py",
        "    if whole == j:\n",
        "    if whole <= j:\n",
        ("tests/kernels",),
    ),
    Mutation(
        "rows of pose matrices that the products of all parents keep apart",
        "votes/contractions.py",
        "    return s, sum_rows(a, rows), cotangents\n",
        "    return s, a, cotangents\n",
        ("tests/kernels",),
    ),
)
