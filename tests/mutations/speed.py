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
)
