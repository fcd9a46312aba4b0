"""Inverted attention over several layers at once, each updated from the poses of the update before."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.gradients import FullGradient, GradientMode, StopGradient
from capsjax.numerics import compute_dtype
from capsjax.routing.base import Parents, only_present, trace_iteration
from capsjax.routing.inverted_attention import InvertedAttentionRouting, NormalisedVotes
from capsjax.routing.parameters import Sizes, named
from capsjax.types import Capsules, RoutingResult, RoutingTrace
from capsjax.votes import Votes

Form = Callable[[Float[Array, "*batch i d"]], Votes]
LAYER = InvertedAttentionRouting(num_iters=1)


def concurrent_attention(
    pose: Float[Array, "*batch i d"],
    votes: Sequence[Form],
    params: Sequence[Mapping[str, Array]],
    *,
    num_iters: int = 2,
    gradient: GradientMode = FullGradient(),
    names: Sequence[str] = (),
    trace: bool = False,
) -> tuple[RoutingResult, ...]:
    """Route a stack of layers concurrently, by inverted dot-product attention.

    One pass from layer to layer with uniform couplings, then num_iters - 1 updates, of all layers at once:
    with the poses p_0, p_1, ..., p_L of the update before, and p_0 given,

    c_l = softmax over the parents of V_l . p_{l+1} / sqrt(e),   V_l = votes_l(p_l)

    p_{l+1} <- LayerNorm(sum_i c_l V_l)

    With one layer it is `InvertedAttentionRouting`; with several an update passes news up by one layer alone,
    where routing layer after layer passes them to the top.

    Here the poses are what couplings are made from and also the signal, so that a mode which stops the state
    would never train the lower layers. Holding the coupling constant means to stop each coupling where it is
    used, at every update, and the poses never: `StopGradient()`. `FullGradient()` is through everything. No
    other mode has a meaning here.

    Args:
        pose: poses of the lowest children, p_0, [*batch, i, d].
        votes: for each layer what makes votes of its children's poses, such as `lambda u: predict(u, W)`.
        params: `gain` and `offset` of each layer, [e] each.
        num_iters: readouts of each layer, the paper's t; 1 is the uniform pass.
        gradient: `FullGradient()`, which the released code runs, or `StopGradient()`.
        names: what a profile calls the layers; by default level0, level1 and so on.
        trace: whether to return every readout, as data.

    Returns:
        A result for each layer, the lowest first, with the coupling that its pose was read out by.

    Raises:
        UserError: If there is no layer, their number differs, or the gradient or a shape does not fit.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from capsjax.votes import predict
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> W = [jax.random.normal(keys[0], [6, 5, 4, 4]), jax.random.normal(keys[1], [5, 3, 4, 4])]
        >>> scale = {"gain": jnp.ones(4), "offset": jnp.zeros(4)}
        >>> forms = [lambda u, w=w: predict(u, w) for w in W]
        >>> u = jax.random.normal(keys[2], [2, 6, 4])
        >>> [layer.pose.shape for layer in concurrent_attention(u, forms, [scale, scale])]
        [(2, 5, 4), (2, 3, 4)]

    Reference:
        Tsai, Srivastava, Goh and Salakhutdinov 2020, "Capsules with inverted dot-product attention routing",
        section 3.
    """
    if type(num_iters) is not int or num_iters < 1:
        raise UserError(f"concurrent_attention: got num_iters {num_iters!r}, expected at least 1")
    if not votes or len(votes) != len(params):
        got = f"{len(votes)} of votes and {len(params)} of params"
        raise UserError(f"concurrent_attention: got {got}, expected one of both for each layer")
    if names and len(names) != len(votes):
        got = f"{len(names)} names of {len(votes)} layers"
        raise UserError(f"concurrent_attention: got {got}, expected one of each layer, or none")
    if not isinstance(gradient, FullGradient | StopGradient):
        expected = (
            "FullGradient() or StopGradient(): the state is the poses, which no mode may stop"
        )
        raise UserError(f"concurrent_attention: got gradient {gradient!r}, expected {expected}")
    dtype = pose.dtype
    pose = pose.astype(compute_dtype(dtype))
    scopes = names or [f"level{n}" for n in range(len(votes))]
    seen: list[list[RoutingTrace]] = [[] for _ in votes]  # of each layer, a line for each readout
    found: list[RoutingResult] = []
    for _ in range(num_iters):
        before, found = found, []
        for n, (form, own, scope) in enumerate(zip(votes, params, scopes, strict=True)):
            # The first pass goes from layer to layer; the others take the poses of the pass before.
            lower = (before or found)[n - 1].pose if n else pose
            with jax.named_scope(scope):
                inputs = _prepared(form(lower), own)
                found.append(_attend(inputs, before[n] if before else None, gradient))
                if trace:
                    seen[n].append(_line(*jax.lax.stop_gradient((inputs.votes, found[n]))))
    lines = (jax.tree.map(lambda *x: jnp.stack(x), *lines) if trace else None for lines in seen)
    results = [one._replace(trace=line) for one, line in zip(found, lines, strict=True)]
    return tuple(jax.tree.map(lambda array: array.astype(dtype), one) for one in results)


def _prepared(votes: Votes, params: Mapping[str, Array]) -> NormalisedVotes:
    """Check a layer's parameters, and lay its votes out."""
    *_, i, j, e = votes.shape
    arrays = named("concurrent_attention", params, LAYER.parameters(Sizes(i, j, None, e)))
    return LAYER.prepare(votes.arranged(), Capsules(None, None), arrays)


def _attend(
    inputs: NormalisedVotes, before: RoutingResult | None, gradient: GradientMode
) -> RoutingResult:
    """Read a layer out of its children's votes, coupled by its own poses before; at first uniformly."""
    logits = inputs.votes.zeros()
    if before is not None:
        logits = LAYER.respond(0, logits, Parents(before.pose, before.activation), inputs)
    coupling = inputs.votes.couple(logits)
    if isinstance(gradient, StopGradient):
        coupling = jax.lax.stop_gradient(coupling)
    pose, activation = LAYER.parents(0, coupling, inputs)
    to_array = inputs.votes.pairs.to_array
    result = RoutingResult(pose, to_array(coupling), to_array(logits), activation)
    return only_present(result, inputs.votes)


def _line(votes: Votes, result: RoutingResult) -> RoutingTrace:
    """Return a readout's line of the trace."""
    agreement = votes.pairs.to_array(votes.agreement(result.pose))
    return trace_iteration(votes.pairs, result.coupling, agreement)
