"""What every routing is: a frozen value whose call is a pure function of votes.

An iterative routing writes `prepare` and seven short functions, and gets the loop, the gradient modes, the
trace and the handling of types from here. A one-shot routing writes `prepare` and `route`.
"""

import abc
import dataclasses
import inspect
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from capsjax import metrics, numerics
from capsjax.checks import FieldError, UserError, check_int, check_known, nearest
from capsjax.gradients import MODES, GradientMode, StopGradient
from capsjax.gradients.base import advance, unsettled
from capsjax.types import PerPair, RoutingResult, RoutingTrace, Variant
from capsjax.votes import Votes, as_votes
from capsjax.votes.base import as_array, described

Inputs = TypeVar("Inputs")
State = TypeVar("State")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Routing(Variant, abc.ABC, Generic[Inputs]):
    """Define what a network may ask of a routing; subclasses are frozen and hashable by value."""

    def __call__(
        self,
        votes: Votes | Float[Array, "*batch i j e"],
        *,
        activation: Float[Array, "*batch i"] | None = None,
        params: PyTree = None,
        trace: bool = False,
    ) -> RoutingResult:
        """Route votes to parents.

        Computes in float32 at least; the result has the votes' type. Equal routings compile once for
        each shape.

        Args:
            votes: an operator, or an array [*batch, i, j, e].
            activation: how present each child is, [*batch, i], for routings that weigh children by it.
            params: the routing's own parameters, for routings that have any.
            trace: whether to return every iteration, as data.

        Returns:
            Poses, couplings, logits and activations of the parents.

        Raises:
            UserError: where shapes do not fit, or the routing has no use for what it was given.
        """
        if not isinstance(trace, bool):
            raise UserError(f"{type(self).__name__}: got trace {trace!r}, expected True or False")
        check_known(self)
        return _route(self, as_votes(votes), activation, params, trace)

    @abc.abstractmethod
    def prepare(
        self, votes: Votes, *, activation: Array | None = None, params: PyTree = None
    ) -> Inputs:
        """Gather the arrays that a gradient can reach, checked, as one pytree of floats."""

    @abc.abstractmethod
    def route(self, inputs: Inputs) -> RoutingResult:
        """Route prepared inputs."""

    @abc.abstractmethod
    def look(self, inputs: Inputs) -> RoutingTrace:
        """Return every iteration of the same routing, as data."""


@partial(jax.jit, static_argnums=(0, 4), inline=True)
def _route(
    routing: Routing, votes: Votes, activation: Array | None, params: PyTree, trace: bool
) -> RoutingResult:
    wide = numerics.compute_dtype(votes.dtype)
    inputs = routing.prepare(votes.arranged(), activation=activation, params=params)
    inputs = jax.tree.map(lambda array: array.astype(wide), inputs)
    result = routing.route(inputs)
    if trace:
        result = result._replace(trace=routing.look(jax.lax.stop_gradient(inputs)))
    return jax.tree.map(lambda array: array.astype(votes.dtype), result)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IterativeRouting(Routing[Inputs], Generic[Inputs, State]):
    """Define a routing that updates a state num_iters - 1 times before it reads out.

    Args:
        num_iters: r, the number of readouts of the paper: r - 1 updates, so 1 is the first coupling.
        gradient: which updates the gradient passes through.

    Raises:
        FieldError: where num_iters is below 1, the gradient is not a gradient mode, or it cannot be
            used with so many iterations.
    """

    num_iters: int = 3
    gradient: GradientMode = StopGradient()

    def __post_init__(self):
        check_int(self, "num_iters", low=1)
        if not isinstance(self.gradient, GradientMode):
            known = ", ".join(f"{mode.__name__}(...)" for mode in MODES.values())
            expected = f"a gradient mode: {known}{_meant(self.gradient)}"
            raise FieldError(type(self).__name__, "gradient", self.gradient, expected)
        try:
            self.gradient.check(self, self.num_iters - 1)
        except FieldError as error:
            error.field = "gradient" if error.field == "gradient" else f"gradient.{error.field}"
            raise

    @abc.abstractmethod
    def init(self, inputs: Inputs) -> State:
        """Return the state before the first update."""

    @abc.abstractmethod
    def update(self, t: Any, state: State, inputs: Inputs) -> State:
        """Return the state after update number t, counted from 0."""

    @abc.abstractmethod
    def couple(self, state: State, inputs: Inputs) -> PerPair:
        """Return the coupling that a state stands for, as the votes hold it."""

    @abc.abstractmethod
    def logits(self, state: State, inputs: Inputs) -> PerPair:
        """Return the routing logits that a state stands for, as the votes hold them."""

    @abc.abstractmethod
    def readout(
        self, t: Any, coupling: PerPair, inputs: Inputs
    ) -> tuple[Float[Array, "*batch j e"], Float[Array, "*batch j"]]:
        """Return the parents' poses, [*batch, j, e], and activations, [*batch, j], for a coupling."""

    @abc.abstractmethod
    def agreement(self, pose: Float[Array, "*batch j e"], inputs: Inputs) -> PerPair:
        """Return how well each vote agrees with its parent's pose; for the trace."""

    @abc.abstractmethod
    def shown(self, x: PerPair, inputs: Inputs) -> Float[Array, "*batch i j"]:
        """Return a coupling, logits or an agreement as [*batch, i, j]: mostly `votes.shown(x)`."""

    def residual(
        self, coupling: PerPair, state: State, inputs: Inputs
    ) -> Float[Array, "*batch"] | None:
        """Return how far the end of the updates is from a fixed point, [*batch]; None without one."""
        del coupling, state, inputs
        return None

    def route(self, inputs: Inputs) -> RoutingResult:
        """Let the gradient mode find the coupling, then read out, live."""
        num_updates = self.num_iters - 1
        coupling, state = self.gradient(self, inputs, num_updates)
        pose, activation = self.readout(num_updates, coupling, inputs)
        logits = self.shown(self.logits(state, inputs), inputs)
        # As data: whoever wants them zero trains towards a fixed point, which is another method.
        residual = self.residual(*jax.lax.stop_gradient((coupling, state, inputs)))
        return RoutingResult(
            pose, self.shown(coupling, inputs), logits, activation, residual=residual
        )

    def look(self, inputs: Inputs) -> RoutingTrace:
        """Go through the same iterations once more, keeping what each would read out."""

        def step(carry: tuple[State, Any], t: Array) -> tuple[tuple[State, Any], RoutingTrace]:
            state, settled = carry
            coupling = self.couple(state, inputs)
            pose, _ = self.readout(t, coupling, inputs)
            agreement = self.shown(self.agreement(pose, inputs), inputs)
            line = trace_of(self.shown(coupling, inputs), agreement)
            return advance(self, t, state, settled, inputs), line

        start = self.init(inputs), unsettled(self, inputs)
        _, trace = jax.lax.scan(step, start, jnp.arange(self.num_iters))
        return trace


def _meant(given: object) -> str:
    """Suggest the gradient mode of a name, or the value of a class."""
    for kind, mode in MODES.items():
        if given is mode or str(given).lower() == kind:
            parameters = inspect.signature(mode).parameters.values()
            needed = [f"{one.name}=..." for one in parameters if one.default is one.empty]
            return f"; did you mean {mode.__name__}({', '.join(needed)})?"
    return nearest(str(given), [mode.__name__ for mode in MODES.values()])


def trace_of(
    coupling: Float[Array, "*batch i j"], agreement: Float[Array, "*batch i j"]
) -> RoutingTrace:
    """Return one iteration's line of a trace, without the axis of iterations."""
    return RoutingTrace(
        coupling=coupling,
        entropy=metrics.coupling_entropy(coupling),
        agreement=metrics.coupled_agreement(coupling, agreement),
    )


class BiasedVotes(NamedTuple):
    """Hold what the 2017 paper's routing depends on: votes, and the released code's bias.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        bias: added to every s_j, at every iteration, [j, e]; zeros where there is none.
    """

    votes: Votes
    bias: Float[Array, "j e"]

    @classmethod
    def of(cls, name: str, votes: Votes, activation: Array | None, params: PyTree) -> "BiasedVotes":
        """Check that the bias fits the votes, and that no child activations came."""
        if activation is not None:
            raise UserError(
                f"{name}: got child activations, expected None: this routing does not weigh "
                "children by them (the length of a pose is its activation)"
            )
        shape = votes.shape[-2:]
        if params is None:
            return cls(votes, jnp.zeros(shape, votes.dtype))
        one_array = hasattr(params, "shape") or isinstance(params, list | tuple)
        bias = as_array(f"{name}: params", params) if one_array else None
        if bias is None or bias.shape != shape:
            raise UserError(
                f"{name}: got {described(params)} as the bias, expected an array {list(shape)}: one vector "
                "for each parent, [j, e]"
            )
        return cls(votes, bias)

    def readout(
        self, coupling: PerPair
    ) -> tuple[Float[Array, "*batch j e"], Float[Array, "*batch j"]]:
        """Return v_j = squash(sum_i c_ij vote_ij + bias_j), and its length."""
        s = self.votes.combine(coupling)
        pose = numerics.squash(s + jnp.broadcast_to(self.bias, s.shape))
        return pose, numerics.safe_norm(pose)
