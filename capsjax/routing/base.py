"""What every routing is: a frozen value whose call is a pure function of votes.

A one-shot routing writes `prepare` and `route`. One that iterates derives from `LogitRouting`, whose state is
the routing logits, or from `IterativeRouting`, whose state is anything, and gets the loop, the gradient
modes, the trace and the handling of types.
"""

import abc
import dataclasses
import inspect
from collections.abc import Mapping
from functools import partial
from typing import (
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    runtime_checkable,
)

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from capsjax import metrics, numerics
from capsjax.checks import FieldError, UserError, check_int, check_known, nearest
from capsjax.gradients import GradientMode, StopGradient
from capsjax.gradients.base import masked_update, none_converged
from capsjax.numerics import as_numbers, described
from capsjax.routing.parameters import Parameter, Sizes, named
from capsjax.schema.variant import Variant
from capsjax.types import Capsules, PerPair, RoutingResult, RoutingTrace
from capsjax.votes import Pairs, Votes, WindowVotes, as_votes
from capsjax.votes.sharding import over_mesh


@runtime_checkable
class HasVotes(Protocol):
    """Name the one field that the inputs of every routing have."""

    @property
    def votes(self) -> Votes:
        """The votes that are routed."""
        ...


Inputs = TypeVar("Inputs", bound=HasVotes)
State = TypeVar("State")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing(Variant, abc.ABC, Generic[Inputs]):
    """Define what a network may ask of a routing; subclasses are frozen and hashable by value.

    Attributes:
        takes: what the routing wants of the children beside their votes: "poses", "activation".
        activations: what a parent's activation says: "own", how present it is, from 0 to 1; "shares", its
            part of 1, which all parents share; "none", nothing, as poses are normalised.
    """

    takes: ClassVar[frozenset[str]] = frozenset()
    activations: ClassVar[Literal["own", "shares", "none"]] = "own"

    def __call__(
        self,
        votes: Votes | Float[Array, "*batch i j e"],
        *,
        poses: Float[Array, "*batch i d"] | None = None,
        activation: Float[Array, "*batch i"] | None = None,
        params: PyTree = None,
        trace: bool = False,
    ) -> RoutingResult:
        """Route votes to parents.

        Computes in float32 at least; the result has the votes' type. Equal routings compile once for
        each shape.

        Args:
            votes: an operator, or an array [*batch, i, j, e].
            poses: the children's poses, [*batch, i, d], for routings that take them; of window votes, as
                activations too, those of each window, `votes.seen(x)` of x on the grid of the children.
            activation: how present each child is, [*batch, i], for routings that weigh children by it.
            params: the routing's own parameters by name, as `parameters` describes them; an array, if
                there is only one.
            trace: whether to return every iteration, as data.

        Returns:
            Poses, couplings, logits and activations of the parents.

        Raises:
            UserError: If shapes do not fit, or the routing has no use for what it was given, or misses
                something.
        """
        if not isinstance(trace, bool):
            raise UserError(f"{type(self).__name__}: got trace {trace!r}, expected True or False")
        check_known(self)  # a tracer has no hash, and the routing is a static argument below
        votes = as_votes(votes)
        children = self._children(votes, poses, activation)
        *_, i, j, e = votes.shape
        d = None if children.pose is None else children.pose.shape[-1]
        arrays = named(type(self).__name__, params, self.parameters(Sizes(i, j, d, e)))
        route = partial(_route, self, trace=trace)
        result, seen = over_mesh(route, (votes, children, arrays), votes.shape[:-3])
        return result._replace(trace=seen)

    def _children(self, votes: Votes, poses: Any, activation: Any) -> Capsules:
        """Check what was given of the children beside their votes."""
        owner, (*batch, i, _, _) = type(self).__name__, votes.shape
        found, given = {}, {"poses": poses, "activation": activation}
        why = {
            "poses": "this routing looks at their votes alone",
            "activation": "this routing does not weigh children by them (the length of a pose is its "
            "activation)",
        }
        for name, value in given.items():
            what = f"child {name}" if name == "poses" else "child activations"
            axes = [*batch, i, "d"] if name == "poses" else [*batch, i]
            wanted = f"an array [{', '.join(map(str, axes))}]"
            if isinstance(votes, WindowVotes):
                grid = f"[*batch, h, w, a{', d' if name == 'poses' else ''}]"
                wanted += f", which votes.seen(x) makes of x {grid} on the grid of the children"
            if value is None and name in self.takes:
                raise UserError(f"{owner}: got no {what}, expected {name}= {wanted}")
            if value is not None and name not in self.takes:
                raise UserError(f"{owner}: got {what}, expected None: {why[name]}")
            array = None if value is None else as_numbers(f"{owner}: {name}", value)
            fixed = array is None or array.shape[: len(batch) + 1] == (*batch, i)
            if not fixed or (array is not None and array.ndim != len(axes)):
                raise UserError(f"{owner}: got {described(array)} as {what}, expected {wanted}")
            found[name] = array
        return Capsules(found["poses"], found["activation"])

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe what the routing trains, by name; the caller holds the arrays. Nothing, by default.

        Args:
            sizes: children i, parents j, and the dimensions d and e of their poses.

        Returns:
            The shape and the beginning of each array.
        """
        del sizes
        return {}

    @abc.abstractmethod
    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> Inputs:
        """Gather every array that a gradient can reach, as one pytree of floats with a field `votes`.

        What a routing takes from elsewhere, such as an array in a closure, escapes the gradient modes.

        Args:
            votes: the votes, arranged to be contracted many times, float32 or float64.
            children: what `takes` names, otherwise None.
            params: the parameters by name; optional ones may be missing.

        Returns:
            What every other method of the routing computes from.
        """

    @abc.abstractmethod
    def route(self, inputs: Inputs) -> RoutingResult:
        """Route prepared inputs."""

    def trace(self, inputs: Inputs) -> RoutingTrace:
        """Return every iteration of the same routing, as data; here the only one."""
        result, pairs = self.route(inputs), inputs.votes.pairs
        agreement = pairs.to_array(inputs.votes.agreement(result.pose))
        line = trace_iteration(pairs, result.coupling, agreement)
        return jax.tree.map(lambda array: jnp.expand_dims(array, 0), line)


# Inlined into whatever calls it: a network's step is one program, in which the compiler sees all of it.
@partial(jax.jit, static_argnums=0, static_argnames="trace", inline=True)
def _route(
    routing: Routing, votes: Votes, children: Capsules, params: dict[str, Array], *, trace: bool
) -> tuple[RoutingResult, RoutingTrace | None]:
    wide = numerics.compute_dtype(votes.dtype)

    # Masks, which are Boolean, stay as they are.
    def widen(array: Array) -> Array:
        return array.astype(wide) if jnp.issubdtype(array.dtype, jnp.floating) else array

    children = _cleared(children, votes)
    # Laid out and widened once, before the loop: the iterations read the votes many times.
    given = jax.tree.map(widen, (votes.arranged(), children, params))
    inputs = routing.prepare(*given)
    result = only_present(routing.route(inputs), inputs.votes)
    seen = routing.trace(jax.lax.stop_gradient(inputs)) if trace else None
    # Back to the votes' type here, where the result leaves: inside, no iteration rounds to half precision.
    return jax.tree.map(lambda array: array.astype(votes.dtype), (result, seen))


def _cleared(children: Capsules, votes: Votes) -> Capsules:
    """Put zeros for children that are not there, so that no NaN of theirs reaches a sum."""
    present = votes.pairs.children
    if present is None:
        return children
    pose, activation = children
    return Capsules(
        None if pose is None else jnp.where(present[..., None], pose, 0),
        None if activation is None else jnp.where(present, activation, 0),
    )


def only_present(result: RoutingResult, votes: Votes) -> RoutingResult:
    """Put zeros, of which no gradient passes, for capsules and pairs that are not there.

    Args:
        result: what was routed.
        votes: the votes, whose masks say what is there.

    Returns:
        The result, with zeros for the rest.
    """
    pairs = votes.pairs
    present = pairs.present()
    if present is None:
        return result
    here = pairs.to_array(present)
    # The coupling is 0 there already; what asks for it must not reach the gradient modes either.
    coupling, logits = (jnp.where(here, x, 0) for x in (result.coupling, result.logits))
    result = result._replace(coupling=coupling, logits=logits)
    if pairs.parents is None:
        return result
    return result._replace(
        pose=jnp.where(pairs.parents[..., None], result.pose, 0),
        activation=jnp.where(pairs.parents, result.activation, 0),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterativeRouting(Routing[Inputs], Generic[Inputs, State]):
    """Define a routing that updates a state num_iters - 1 times before it reads out.

    Args:
        num_iters: r, the number of readouts of the paper: r - 1 updates, so 1 is the first coupling.
        gradient: which updates the gradient passes through.

    Raises:
        FieldError: If num_iters is below 1, the gradient is not a gradient mode, or it cannot be
            used with that number of iterations.
    """

    num_iters: int = 3
    gradient: GradientMode = StopGradient()

    def __post_init__(self):
        check_int(self, "num_iters", low=1)
        if not isinstance(self.gradient, GradientMode):
            known = ", ".join(f"{mode.__name__}(...)" for mode in GradientMode.variants())
            expected = f"a gradient mode: {known}{_suggested_mode(self.gradient)}"
            raise FieldError(type(self).__name__, "gradient", self.gradient, expected)
        try:
            self.gradient.check(self, self.num_iters - 1)
        except FieldError as error:
            # The mode names its own field, which is a field within this routing's `gradient`.
            error.field = "gradient" if error.field == "gradient" else f"gradient.{error.field}"
            raise

    @abc.abstractmethod
    def init(self, inputs: Inputs) -> State:
        """Return the state before the first update."""

    @abc.abstractmethod
    def update(self, t: Any, state: State, inputs: Inputs) -> State:
        """Make one update.

        Args:
            t: number of the update, counted from 0.
            state: what it begins with.
            inputs: what `prepare` returned.

        Returns:
            The new state, of the same shapes and types.
        """

    def couple(self, state: State, inputs: Inputs) -> PerPair:
        """Normalise the logits of a state over each child's parents: c = softmax(b).

        Args:
            state: what `init` or `update` returned.
            inputs: what `prepare` returned.

        Returns:
            c_ij, as held.
        """
        return inputs.votes.couple(self.logits(state))

    @abc.abstractmethod
    def readout(self, t: Any, coupling: PerPair, state: State, inputs: Inputs) -> Any:
        """Read the parents out.

        Args:
            t: number of the readout, counted from 0.
            coupling: c_ij, as held.
            state: what the coupling was made from.
            inputs: what `prepare` returned.

        Returns:
            A record with the parents' `pose`, [*batch, j, e], and `activation`, [*batch, j].
        """

    def logits(self, state: Any) -> PerPair:
        """Return the routing logits that a state stands for, as held; here the state itself."""
        return state

    def pairs(self, inputs: Inputs) -> Pairs:
        """Return which child votes for which parent: what a tolerance and a fixed point sum over."""
        return inputs.votes.pairs

    def residual(
        self, coupling: PerPair, state: State, inputs: Inputs
    ) -> Float[Array, "*batch"] | None:
        """Measure how far the end of the updates is from a fixed point.

        Args:
            coupling: the last c_ij, as held.
            state: what it was made from.
            inputs: what `prepare` returned.

        Returns:
            The largest change that one more update would make to a coupling, [*batch]; None if the routing
            has no fixed point.
        """
        del coupling, state, inputs
        return None

    def route(self, inputs: Inputs) -> RoutingResult:
        """Let the gradient mode find the coupling, then read out, live."""
        num_updates, pairs = self.num_iters - 1, inputs.votes.pairs
        coupling, state = self.gradient(self, inputs, num_updates)
        parents = self.readout(num_updates, coupling, state, inputs)
        logits = pairs.to_array(self.logits(state))
        # As data: to train it towards zero would be another method.
        residual = self.residual(*jax.lax.stop_gradient((coupling, state, inputs)))
        return RoutingResult(
            parents.pose, pairs.to_array(coupling), logits, parents.activation, residual=residual
        )

    def trace(self, inputs: Inputs) -> RoutingTrace:
        """Go through the same iterations once more, keeping what each would read out."""
        pairs = inputs.votes.pairs

        def step(carry: tuple[State, Any], t: Array) -> tuple[tuple[State, Any], RoutingTrace]:
            state, converged = carry  # an example that has converged shows its last line again
            coupling = self.couple(state, inputs)
            pose = self.readout(t, coupling, state, inputs).pose
            agreement = pairs.to_array(inputs.votes.agreement(pose))
            line = trace_iteration(pairs, pairs.to_array(coupling), agreement)
            return masked_update(self, t, state, converged, inputs), line

        start = self.init(inputs), none_converged(self, inputs)
        # One update more than the routing makes, whose result nobody reads: a scan has equal steps.
        _, trace = jax.lax.scan(step, start, jnp.arange(self.num_iters))
        return trace


def _suggested_mode(given: object) -> str:
    """Suggest the gradient mode of a name, or the value of a class."""
    modes = GradientMode.variants()
    for mode in modes:
        kind = getattr(mode, "kind", None)
        if given is mode or str(given).lower() == kind:
            parameters = inspect.signature(mode).parameters.values()
            needed = [f"{one.name}=..." for one in parameters if one.default is one.empty]
            return f"; did you mean {mode.__name__}({', '.join(needed)})?"
    return nearest(str(given), [mode.__name__ for mode in modes])


def trace_iteration(
    pairs: Pairs, coupling: Float[Array, "*batch i j"], agreement: Float[Array, "*batch i j"]
) -> RoutingTrace:
    """Return one iteration's line of a trace, without the axis of iterations.

    Args:
        pairs: which children are there: means are over those.
        coupling: coupling coefficients, [*batch, i, j].
        agreement: votes compared with their parents' poses, [*batch, i, j].

    Returns:
        Coupling [*batch, i, j], entropy and coupled agreement [*batch].
    """
    entropy = metrics.coupling_entropy(coupling)
    agreed = metrics.coupled_agreement(coupling, agreement)
    if pairs.children is not None:
        # A child that is not there adds 0 to both sums, and should not count in the means.
        share = jnp.mean(pairs.children, axis=-1, dtype=entropy.dtype)
        share = jnp.where(share > 0, share, 1)
        entropy, agreed = entropy / share, agreed / share
    return RoutingTrace(coupling=coupling, entropy=entropy, agreement=agreed)


class Parents(NamedTuple):
    """Hold what a readout gives, where the response needs no more.

    Attributes:
        pose: parent poses, [*batch, j, e].
        activation: how present each parent is, [*batch, j].
    """

    pose: Float[Array, "*batch j e"]
    activation: Float[Array, "*batch j"]
