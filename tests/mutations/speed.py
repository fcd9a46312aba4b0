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
    Mutation(
        "agreement of the first rows of poses alone",
        "votes/written_out.py",
        "    places = ((k, row) for row in range(rows) for k in range(d))\n",
        "    places = ((k, row) for row in range(1) for k in range(d))\n",
        ("tests/test_written_out.py",),
    ),
    Mutation(
        "cotangents of children that forget what they are added to",
        "votes/written_out.py",
        "    terms = [] if start is None else [start]",
        "    terms = [] if start is None else [0 * start]",
        ("tests/test_written_out.py",),
    ),
    Mutation(
        "half precision added up one by one",
        "votes/written_out.py",
        "    return all(jnp.finfo(x.dtype).bits >= 32 for x in arrays)\n",
        "    return all(jnp.finfo(x.dtype).bits >= 16 for x in arrays)\n",
        ("tests/test_written_out.py",),
    ),
    Mutation(
        "operands that are made again wherever they are read",
        "votes/written_out.py",
        'inlineable="false"',
        'inlineable="true"',
        ("tests/test_written_out.py",),
    ),
)
