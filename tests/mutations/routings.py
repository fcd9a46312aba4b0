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
        "interests that begin with zeros",
        "routing/interest.py",
        "        return inputs.initial\n",
        "        return 0 * inputs.initial\n",
        ("tests/routing/test_interest.py",),
    ),
    Mutation(
        "interests in closed form whose beginning gets the first cotangent alone",
        "routing/interest.py",
        "initial_bar + b_bar, votes_bar), None",
        "b_bar, votes_bar), None",
        ("tests/routing/test_interest.py",),
    ),
    Mutation(
        "a number of interests that is rounded up",
        "routing/interest.py",
        "    return number >= jnp",
        "    return 2 * number > jnp",
        ("tests/routing/test_interest.py",),
    ),
    Mutation(
        "variational couplings without the weights of the parents",
        "routing/variational.py",
        "        constant = parents.log_weight + expected / 2  # [*batch, j]",
        "        constant = expected / 2  # [*batch, j]",
        ("tests/routing/test_variational.py",),
    ),
    Mutation(
        "a variational mean without its prior",
        "routing/variational.py",
        "Posterior(shrink * mean, activation",
        "Posterior(mean, activation",
        ("tests/routing/test_variational.py",),
    ),
    Mutation(
        "Heinsen's parents that predict children divided by the root of their number",
        "routing/heinsen.py",
        '"...id,...jd->...ij", inputs.poses, predicted)',
        '"...id,...jd->...ij", inputs.poses / inputs.poses.shape[-2] ** 0.5, predicted)',
        ("tests/routing/test_heinsen.py",),
    ),
    Mutation(
        "children that are ignored for nothing",
        "routing/heinsen.py",
        "worth = use * coupling - ignore * (each_pair_once(votes) - coupling)",
        "worth = use * coupling - 0 * ignore",
        ("tests/routing/test_heinsen.py",),
    ),
    Mutation(
        "slots that average over slots instead of inputs",
        "routing/slot_attention.py",
        "mean = votes.combine(coupling / pairs.by_parent(numerics.at_least_tiny(mass)))",
        "mean = votes.combine(coupling)",
        ("tests/routing/test_slot_attention.py",),
    ),
    Mutation(
        "a GRU that resets the slot before the product",
        "routing/slot_attention.py",
        "reset * (of_h[2] + bias[3])",
        "reset * of_h[2] + bias[3]",
        ("tests/routing/test_slot_attention.py",),
    ),
    Mutation(
        "the implicit gradient of a state without that of the coupling it ends in",
        "gradients/implicit.py",
        "    return add_cotangents(by_end, step_adjoint(z)[1])",
        "    return step_adjoint(z)[1]",
        ("tests/routing/test_slot_attention.py",),
    ),
    Mutation(
        "votes by shared matrices that compare with another parent's",
        "votes/shared.py",
        'pulled = jnp.einsum(f"...je,{one}->...jd", pose, self.W)',
        'pulled = jnp.einsum(f"...je,{one}->...jd", pose[..., ::-1, :], self.W)',
        ("tests/test_shared_votes.py",),
    ),
)
