"""Mistakes in routings that are not by agreement, and in votes that children share."""

from tests.mutations.mutation import Mutation

ROUTINGS = (
    Mutation(
        "soft k-means in closed form without the votes' squares",
        "routing/k_means_vjp.py",
        "pull(-sums.squares / 2)",
        "pull(0 * sums.squares)",
        ("tests/routing/test_k_means.py",),
    ),
    Mutation(
        "soft k-means whose means are not divided by their mass",
        "routing/k_means.py",
        "coupling / pairs.by_parent(numerics.at_least_tiny(mass))",
        "coupling",
        ("tests/routing/test_k_means.py",),
    ),
    Mutation(
        "a bound on logits that is taken over pairs that are not there",
        "routing/units.py",
        "pairs.only_present(jax.lax.stop_gradient(found))",
        "jax.lax.stop_gradient(found)",
        ("tests/routing/test_conformance.py",),
    ),
    Mutation(
        "votes by shared matrices that compare with another parent's",
        "votes/shared.py",
        'pulled = jnp.einsum(f"...je,{one}->...jd", pose, self.W)',
        'pulled = jnp.einsum(f"...je,{one}->...jd", pose[..., ::-1, :], self.W)',
        ("tests/test_shared_votes.py",),
    ),
)
