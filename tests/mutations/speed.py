"""Mutations of what is done in another way because it is faster, or takes less memory."""

from tests.mutations.mutation import Mutation

SPEED = (
    Mutation(
        "a convolution that is differentiated in the form of its value",
        "convolution/__init__.py",
        "        return jax.jvp(differentiated, primals, tangents)\n",
        "        return jax.jvp(value, primals, tangents)\n",
        ("tests/test_strips.py",),
    ),
    Mutation(
        "strips that begin one pixel apart",
        "convolution/direct.py",
        "        starts = range(0, columns * stride * c, stride * c)\n",
        "        starts = range(0, columns * c, c)\n",
        ("tests/test_convolution.py",),
    ),
    Mutation(
        "blocks of children that all begin with the first",
        "votes/child_blocks.py",
        "jax.lax.dynamic_slice_in_dim(x, number * size, size, 1)",
        "jax.lax.dynamic_slice_in_dim(x, 0 * number, size, 1)",
        ("tests/test_child_blocks.py",),
    ),
    Mutation(
        "cotangents of the last block of children alone",
        "votes/child_blocks.py",
        "        return found + more, _put(bar, number, of_these)\n",
        "        return more, _put(bar, number, of_these)\n",
        ("tests/test_child_blocks.py",),
    ),
)
