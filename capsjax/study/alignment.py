"""How far one gradient points where another does: group by group, example by example, after the optimiser."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from capsjax.training.state import Params, TrainState, group_of
from capsjax.training.step import LossFunction, weighted_sums
from capsjax.types import Batch


class Alignment(NamedTuple):
    """Compare a gradient with a reference, over one group of parameters.

    Attributes:
        cosine: cosine of the angle between them, 1 where they point the same way; 0 if one is zero.
        norm_ratio: length of the gradient over that of the reference.
    """

    cosine: Any
    norm_ratio: Any

    @property
    def share(self) -> Any:
        """Which part of the reference, along itself, the gradient lacks: 1 - cosine norm_ratio.

        Of a stop gradient beside the full one it is what flows through the couplings, projected:
        (full - stop) . full / |full|^2. What the other part lacks in direction is not in it.
        """
        return 1 - self.cosine * self.norm_ratio


class Analysis(NamedTuple):
    """Compare a gradient with a reference in all the ways that matter for training, group by group.

    Attributes:
        gradient: the gradients themselves.
        update: what the optimiser makes of either, in the same state: momentum, which both share, included.
        response: by how much either moves what the optimiser would do without a gradient: u(g) - u(0). It has
            the optimiser's scale of each parameter, and none of the momentum.
        examples: the gradients of single examples, [n] each; nothing where a batch normalises.
        entropy: of the couplings of these examples, in nats, [n].
        alone: other gradients beside the same reference, by name, all parameters together.
    """

    gradient: dict[str, Alignment]
    update: dict[str, Alignment]
    response: dict[str, Alignment]
    examples: dict[str, Alignment]
    entropy: Float[Array, "n"]
    alone: dict[str, Alignment]


def align(gradient: Params, reference: Params) -> dict[str, Alignment]:
    """Compare two gradients, group by group and, as "all", together.

    Args:
        gradient: arrays under dotted parameter names.
        reference: the same for the gradient that is compared with.

    Returns:
        For each group, cosine and ratio of lengths.

    Example:
        >>> import jax.numpy as jnp
        >>> align({"a.b": jnp.array([2.0, 0.0])}, {"a.b": jnp.array([1.0, 0.0])})["a"].norm_ratio.item()
        2.0
    """
    groups: dict[str, list[str]] = {"all": list(gradient)}
    for name in gradient:
        groups.setdefault(group_of(name), []).append(name)
    return {group: _align(gradient, reference, names) for group, names in groups.items()}


def _align(gradient: Params, reference: Params, names: list[str]) -> Alignment:
    ours = jnp.concatenate([gradient[name].ravel() for name in names])  # [n]
    theirs = jnp.concatenate([reference[name].ravel() for name in names])  # [n]
    lengths = jnp.sqrt(jnp.sum(ours**2)), jnp.sqrt(jnp.sum(theirs**2))
    # A group that gets no gradient, such as a decoder's without reconstruction loss, has no direction.
    product = lengths[0] * lengths[1]
    cosine = jnp.where(product > 0, jnp.sum(ours * theirs) / jnp.where(product > 0, product, 1), 0)
    return Alignment(cosine, lengths[0] / jnp.where(lengths[1] > 0, lengths[1], 1))


def _gradient(
    loss: LossFunction, params: Params, batch: Batch, fixed: Params
) -> tuple[Params, Float[Array, ""]]:
    """Return the gradient of the mean loss of a batch, and the mean entropy of its couplings."""

    def mean_loss(params: Params) -> tuple[Any, Any]:
        sums = weighted_sums(loss(params | fixed, batch), batch.weights)
        return sums["loss"] / sums["count"], sums.get("entropy", jnp.nan) / sums["count"]

    return jax.grad(mean_loss, has_aux=True)(params)


def make_analysis(
    loss: LossFunction,
    reference: LossFunction,
    optimiser: optax.GradientTransformation,
    *,
    alone: Mapping[str, LossFunction] | None = None,
    examples: int = 16,
) -> Callable[[TrainState, Batch], Analysis]:
    """Make a function that compares the gradients of two losses, and what an optimiser makes of them.

    An optimiser that divides by the size of past gradients, as Adam does, divides a constant ratio of lengths
    away; which way the parameters are moved is the angle between updates.

    Args:
        loss: from parameters and a batch to values of each example, `loss` among them.
        reference: the same, whose gradient is compared with.
        optimiser: what trains, at a learning rate above 0: in the first step of a warm-up every update is 0.
        alone: losses, by name, of which the gradient alone is compared, with the same reference.
        examples: how many single examples of a batch are looked at; each costs two gradients.

    Returns:
        A compiled function from a state of training and a batch to the analysis.
    """

    def updates(state: TrainState, gradient: Params) -> Params:
        made: Any = optimiser.update(gradient, state.opt_state, state.params)[0]
        return made

    @jax.jit
    def analyse(state: TrainState, batch: Batch) -> Analysis:
        def both(batch: Batch) -> tuple[Params, Params, Float[Array, ""]]:
            ours, _ = _gradient(loss, state.params, batch, state.statistics)
            theirs, entropy = _gradient(reference, state.params, batch, state.statistics)
            return ours, theirs, entropy

        def of_example(example: Batch) -> tuple[dict[str, Alignment], Float[Array, ""]]:
            ours, theirs, entropy = both(example)
            return align(ours, theirs), entropy

        ours, theirs, _ = both(batch)
        moved, other = updates(state, ours), updates(state, theirs)
        still = updates(state, jax.tree.map(jnp.zeros_like, ours))
        responses = (jax.tree.map(jnp.subtract, update, still) for update in (moved, other))
        singles, entropy = {}, jnp.zeros(0)
        if not state.statistics:  # else an example's gradient is that of its batch
            count = min(examples, len(batch.labels))
            # One after another: their gradients together would be as many copies of the parameters.
            chosen = jax.tree.map(lambda x: x[:count, None], batch)  # [n, 1, ...]
            singles, entropy = jax.lax.map(of_example, chosen)
        others = {
            name: align(_gradient(each, state.params, batch, state.statistics)[0], theirs)["all"]
            for name, each in (alone or {}).items()
        }
        return Analysis(
            align(ours, theirs), align(moved, other), align(*responses), singles, entropy, others
        )

    return analyse
