"""Mistakes in images that show two classes: who is paired, what is right, what is drawn."""

from tests.mutations.mutation import Mutation

PAIRS = (
    Mutation(
        "pixels beside the last that a map moves out of the image",
        "data/augment/affnist_like.py",
        "reach = jnp.abs(matrix).sum(-1)",
        "reach = 0 * jnp.abs(matrix).sum(-1)",
        ("tests/data/test_affnist_like.py",),
    ),
    Mutation(
        "pairs of one class",
        "data/overlap.py",
        "others.order[(others.after[chosen] + drawn) % labels.shape[0]]",
        "others.order[drawn % labels.shape[0]]",
        ("tests/data/test_overlapping.py",),
    ),
    Mutation(
        "the image of one class beside the label of the other",
        "data/overlap.py",
        "pair, pair[:, ::-1])",
        "pair, pair)",
        ("tests/data/test_overlapping.py",),
    ),
    Mutation(
        "pixels brighter than white",
        "data/overlap.py",
        "jnp.minimum(parts.sum(axis=1), 1)",
        "parts.sum(axis=1)",
        ("tests/data/test_overlapping.py",),
    ),
    Mutation(
        "pairs that judge which no seed changes",
        "data/overlap.py",
        "jax.random.split(jax.random.key(overlap.seed))",
        "jax.random.split(jax.random.key(0))",
        ("tests/data/test_overlapping.py",),
    ),
    Mutation(
        "an example that is right when one of its two classes is",
        "metrics/error.py",
        "found(output.lengths, batch.labels).all(axis=-1)",
        "found(output.lengths, batch.labels).any(axis=-1)",
        ("tests/metrics/test_several.py",),
    ),
    Mutation(
        "the mean over both images that were drawn",
        "losses/base.py",
        "reconstruction = reconstruction.sum(axis=-1)",
        "reconstruction = reconstruction.mean(axis=-1)",
        ("tests/metrics/test_several.py",),
    ),
)
