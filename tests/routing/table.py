"""What the conformance matrix knows of each routing: to add a routing, add a row."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from capsjax.gradients import (
    ClosedForm,
    FullGradient,
    GradientMode,
    ImplicitGradient,
    StopGradient,
    TruncatedGradient,
)
from capsjax.routing import DynamicRouting, FixedPointRouting, Routing, UniformRouting
from capsjax.votes import DenseVotes, Votes, predict
from tests.oracles import fixed_point
from tests.oracles import routing as oracle


@dataclasses.dataclass(frozen=True)
class Row:
    """Describe a routing to the matrix.

    Args:
        name: what its tests are called by.
        routing: the routing, with its default gradient mode if it iterates.
        oracle: (u, W, params) -> Result, slow and in float64.
        frozen: (u, W, params, mode) -> the function (u, W, params) -> Result whose gradient the
            mode's is: what the mode stops is held at the values that it has for these arrays.
        gradient: (u, W, params, bars, mode) -> du, dW, dparams by hand; `bars` is a Result's cotangent.
        trace: (u, W, params) -> Trace.
        params: shape of its own parameters, from the parents j and their dimensions e.
        modes: gradient modes that it allows, but for those that `test_identities.py` shows to be
            the same as one of these; none for a routing without iterations.
        refused: modes that it refuses, each with a pattern of the message.
        leaky: whether a child's couplings may add up to less than one.
        residual: whether it says how far it is from a fixed point.
    """

    name: str
    routing: Routing
    oracle: Callable[..., Any]
    frozen: Callable[..., Any]
    gradient: Callable[..., Any]
    trace: Callable[..., Any]
    params: Callable[[int, int], tuple[int, ...]] = lambda j, e: (j, e)
    modes: tuple[GradientMode, ...] = ()
    refused: tuple[tuple[GradientMode, str], ...] = ()
    leaky: bool = False
    residual: bool = False

    def with_mode(self, mode: GradientMode | None) -> Routing:
        return self.routing if mode is None else dataclasses.replace(self.routing, gradient=mode)


def _last(mode: GradientMode, num_iters: int) -> int:
    """How many of the last updates a mode lets the gradient through."""
    if isinstance(mode, TruncatedGradient):
        return mode.last
    return 0 if isinstance(mode, StopGradient) else num_iters - 1


def _dynamic(name: str, num_iters: int, leaky: bool, modes: tuple[GradientMode, ...]) -> Row:
    sizes = {"num_iters": num_iters, "leaky": leaky}
    return Row(
        name,
        DynamicRouting(num_iters=num_iters, leaky=leaky),
        oracle=lambda u, W, bias: oracle.dynamic_routing(u, W, bias, **sizes),
        frozen=lambda u, W, bias, mode: oracle.dynamic_frozen(
            u, W, bias, last=_last(mode, num_iters), **sizes
        ),
        gradient=lambda u, W, bias, bars, mode: oracle.dynamic_gradient(
            u, W, bias, bars, last=_last(mode, num_iters), **sizes
        ),
        trace=lambda u, W, bias: oracle.dynamic_trace(u, W, bias, **sizes),
        modes=modes,
        refused=(
            (
                TruncatedGradient(last=num_iters),
                rf"TruncatedGradient\.last: got {num_iters}, expected at most {num_iters - 1}: "
                rf"num_iters = {num_iters} makes {num_iters - 1} updates of the logits",
            ),
            (
                ImplicitGradient(),
                r"DynamicRouting\.gradient: got ImplicitGradient\(.*declares no fixed point",
            ),
        ),
        leaky=leaky,
    )


def _fixed_point(
    name: str, num_iters: int, beta: float, damping: float, leaky: bool, modes: tuple
) -> Row:
    """Iterations enough to be at the fixed point, to rounding in float64."""
    sizes = {"num_iters": num_iters, "beta": beta, "damping": damping, "leaky": leaky}

    def gradient(u, W, bias, bars, mode):
        if isinstance(mode, ImplicitGradient):
            return fixed_point.implicit_gradient(u, W, bias, bars, **sizes)
        return fixed_point.gradient(u, W, bias, bars, last=_last(mode, num_iters), **sizes)

    return Row(
        name,
        FixedPointRouting(
            num_iters=num_iters, inverse_temperature=beta, damping=damping, leaky=leaky
        ),
        oracle=lambda u, W, bias: fixed_point.routing(u, W, bias, **sizes),
        frozen=lambda u, W, bias, mode: fixed_point.frozen(
            u, W, bias, last=_last(mode, num_iters), **sizes
        ),
        gradient=gradient,
        trace=lambda u, W, bias: fixed_point.trace(u, W, bias, **sizes),
        modes=modes,
        refused=(
            (ClosedForm(), r"FixedPointRouting\.gradient: got ClosedForm.* no backward pass"),
        ),
        leaky=leaky,
        residual=True,
    )


TABLE = (
    _dynamic(
        "dynamic",
        3,
        False,
        (
            StopGradient(),
            TruncatedGradient(last=1),
            FullGradient(),
            FullGradient(remat=True),
            ClosedForm(),
        ),
    ),
    _dynamic("dynamic_leaky", 3, True, (StopGradient(), FullGradient(), ClosedForm())),
    _fixed_point(
        *("fixed_point", 45, 0.2, 0.0, False),
        (
            StopGradient(),
            TruncatedGradient(last=1),
            FullGradient(),
            ImplicitGradient(tolerance=1e-13),
        ),
    ),
    _fixed_point(
        *("fixed_point_leaky", 40, 0.1, 0.2, True),
        (StopGradient(), ImplicitGradient(solver="neumann", tolerance=1e-13)),
    ),
    Row(
        "uniform",
        UniformRouting(),
        oracle=oracle.uniform_routing,
        frozen=lambda u, W, bias, mode: oracle.uniform_routing,
        gradient=lambda u, W, bias, bars, mode: oracle.dynamic_gradient(
            u, W, bias, bars, last=0, num_iters=1
        ),
        trace=lambda u, W, bias: oracle.dynamic_trace(u, W, bias, num_iters=1),
    ),
)


def dense(u: jax.Array, W: jax.Array) -> Votes:
    return DenseVotes(jnp.einsum("...id,ijde->...ije", u, W))


VOTES: dict[str, Callable[[jax.Array, jax.Array], Votes]] = {"dense": dense, "linear": predict}

B, N_I, N_J, D, E = 2, 3, 4, 2, 3


def arrays(row: Row, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Child poses, matrices and the routing's own parameters, large enough for it to decide."""
    rng = np.random.RandomState(seed)
    u = rng.normal(size=(B, N_I, D))
    W = rng.normal(size=(N_I, N_J, D, E))
    return u, W, rng.normal(size=row.params(N_J, E)) / 2


def bars(seed: int = 1) -> oracle.Result:
    """A cotangent for every part of a result."""
    rng = np.random.RandomState(seed)
    return oracle.Result(
        pose=rng.normal(size=(B, N_J, E)),
        coupling=rng.normal(size=(B, N_I, N_J)),
        logits=rng.normal(size=(B, N_I, N_J)),
        activation=rng.normal(size=(B, N_J)),
    )
