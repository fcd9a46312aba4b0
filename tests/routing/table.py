"""What the conformance matrix knows of each routing: to add a routing, add a row."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from capsjax.gradients import (
    ClosedForm,
    FullGradient,
    GradientMode,
    ImplicitGradient,
    StopGradient,
    TruncatedGradient,
)
from capsjax.routing import (
    DynamicRouting,
    EMRouting,
    FixedPointRouting,
    HeinsenRouting,
    InterestRouting,
    InvertedAttentionRouting,
    Routing,
    SelfAttentionRouting,
    SelfRouting,
    Sizes,
    SlotAttentionRouting,
    SoftKMeansRouting,
    UniformRouting,
    VariationalRouting,
)
from tests.oracles import (
    em,
    em_released,
    fixed_point,
    heinsen,
    interest,
    inverted_attention,
    k_means,
    self_attention,
    self_routing,
    slot_attention,
    variational,
)
from tests.oracles import routing as oracle

NEAR = {"num_iters": 30, "beta": 0.05}
BIAS = MappingProxyType({"bias": "je"})


@dataclasses.dataclass(frozen=True)
class Row:
    """Describe a routing to the matrix; `given` is a `Given`: u, W, activation, params.

    Args:
        name: what its tests are called by.
        routing: the routing, with its default gradient mode if it iterates.
        oracle: (*given) -> Result, slow and in float64.
        trace: (*given) -> Trace.
        frozen: (*given, mode) -> the function (*given) -> Result whose gradient the mode's is: what the
            mode stops is held at the values that it has for these arrays.
        gradient: (*given, bars, mode) -> du, dW, dparams by hand, where there is such an oracle; `bars` is
            a Result's cotangent.
        params: its own parameters, each with the letters of its axes.
        modes: gradient modes that it allows, but for those that `test_identities.py` shows to be
            the same as one of these; none for a routing without iterations.
        refused: modes that it refuses, each with a pattern of the message.
        leaky: whether a child's couplings may add up to less than one.
        residual: whether it says how far it is from a fixed point.
        kinds: the kinds of votes that it is tried on, by name.
        start: parameters that the first coupling comes from; where they are 0, it is uniform.
    """

    name: str
    routing: Routing
    oracle: Callable[..., Any]
    trace: Callable[..., Any]
    frozen: Callable[..., Any]
    gradient: Callable[..., Any] | None = None
    params: Mapping[str, str] = dataclasses.field(default_factory=lambda: BIAS)
    modes: tuple[GradientMode, ...] = ()
    refused: tuple[tuple[GradientMode, str], ...] = ()
    leaky: bool = False
    residual: bool = False
    kinds: tuple[str, ...] = ("dense", "linear", "ragged")
    start: tuple[str, ...] = ()

    def with_mode(self, mode: GradientMode | None) -> Routing:
        return self.routing if mode is None else dataclasses.replace(self.routing, gradient=mode)


class Given(NamedTuple):
    """Hold what is routed: child poses, matrices, child activations, the routing's own parameters."""

    u: Any
    W: Any
    activation: Any
    params: dict[str, Any]


def _last(mode: GradientMode | None, num_iters: int) -> int:
    """How many of the last updates a mode lets the gradient through."""
    if isinstance(mode, TruncatedGradient):
        return mode.last
    return 0 if isinstance(mode, StopGradient) else num_iters - 1


def _live(frozen: Callable) -> Callable:
    """Let an oracle's function of u, W and bias take what is given."""
    return lambda u, W, a, p: frozen(u, W, p["bias"])


def _dynamic(name: str, num_iters: int, leaky: bool, modes: tuple[GradientMode, ...]) -> Row:
    sizes = {"num_iters": num_iters, "leaky": leaky}
    return Row(
        name,
        DynamicRouting(num_iters=num_iters, leaky=leaky),
        oracle=lambda u, W, a, p: oracle.dynamic_routing(u, W, p["bias"], **sizes),
        trace=lambda u, W, a, p: oracle.dynamic_trace(u, W, p["bias"], **sizes),
        frozen=lambda u, W, a, p, mode: _live(
            oracle.dynamic_frozen(u, W, p["bias"], last=_last(mode, num_iters), **sizes)
        ),
        gradient=lambda u, W, a, p, bars, mode: oracle.dynamic_gradient(
            u, W, p["bias"], bars, last=_last(mode, num_iters), **sizes
        ),
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

    def gradient(u, W, a, p, bars, mode):
        if isinstance(mode, ImplicitGradient):
            return fixed_point.implicit_gradient(u, W, p["bias"], bars, **sizes)
        return fixed_point.gradient(u, W, p["bias"], bars, last=_last(mode, num_iters), **sizes)

    return Row(
        name,
        FixedPointRouting(
            num_iters=num_iters, inverse_temperature=beta, damping=damping, leaky=leaky
        ),
        oracle=lambda u, W, a, p: fixed_point.routing(u, W, p["bias"], **sizes),
        trace=lambda u, W, a, p: fixed_point.trace(u, W, p["bias"], **sizes),
        frozen=lambda u, W, a, p, mode: _live(
            fixed_point.frozen(u, W, p["bias"], last=_last(mode, num_iters), **sizes)
        ),
        gradient=gradient,
        modes=modes,
        refused=(
            (ClosedForm(), r"FixedPointRouting\.gradient: got ClosedForm.* no backward pass"),
        ),
        leaky=leaky,
        residual=True,
    )


def _em(form: str, num_iters: int, modes: tuple[GradientMode, ...], **options: float) -> Row:
    sizes = {"num_iters": num_iters, **options}
    own = em if form == "paper" else em_released
    names = EMRouting(form=form).parameters(Sizes(1, 1, 1, 1))
    return Row(
        "em" if form == "paper" else "em_released",
        EMRouting(form=form, **sizes),
        oracle=lambda *given: own.routing(*given, **sizes),
        trace=lambda *given: own.trace(*given, **sizes),
        frozen=lambda u, W, a, p, mode: own.frozen(
            u, W, a, p, last=_last(mode, num_iters), **sizes
        ),
        params=MappingProxyType(dict.fromkeys(names, "j")),
        modes=modes,
        refused=(
            (ClosedForm(), r"EMRouting\.gradient: got ClosedForm.* no backward pass"),
            (ImplicitGradient(), r"EMRouting\.gradient: .*declares no fixed point"),
        ),
    )


def _through_updates(name: str, routing: Routing, own: Any, **options: Any) -> Row:
    """A routing of three iterations that neither derives its gradient nor comes to rest."""
    return Row(
        name,
        routing,
        oracle=lambda *given: own.routing(*given, num_iters=3),
        trace=lambda *given: own.trace(*given, num_iters=3),
        frozen=lambda *given: own.frozen(*given[:-1], last=_last(given[-1], 3), num_iters=3),
        modes=(StopGradient(), TruncatedGradient(last=1), FullGradient()),
        refused=(
            (
                ClosedForm(),
                rf"{type(routing).__name__}\.gradient: got ClosedForm.* no backward pass",
            ),
            (ImplicitGradient(), rf"{type(routing).__name__}\.gradient: .*declares no fixed point"),
        ),
        **options,
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
    # A high lambda: at its default the activations of three children would all be near one half.
    _em(
        *("paper", 3),
        (StopGradient(), TruncatedGradient(last=1), FullGradient(), FullGradient(remat=True)),
        final_lambda=5.0,
        floor=0.2,
    ),
    # A low one: 5000 times a bias of one half is to leave an activation between 0 and 1.
    _em(
        *("released", 3),
        (StopGradient(), TruncatedGradient(last=1), FullGradient()),
        final_lambda=0.01,
        floor=0.2,
    ),
    _through_updates(
        "inverted_attention",
        InvertedAttentionRouting(num_iters=3),
        inverted_attention,
        params=MappingProxyType({"gain": "e", "offset": "e"}),
    ),
    Row(
        "self_attention",
        SelfAttentionRouting(),
        oracle=self_attention.routing,
        trace=self_attention.trace,
        frozen=lambda *given: self_attention.frozen(*given[:-1], last=_last(given[-1], 2)),
        params=MappingProxyType({"prior": "ij"}),
        modes=(StopGradient(), FullGradient()),
        refused=(
            (ClosedForm(), r"SelfAttentionRouting\.gradient: got ClosedForm.* no backward pass"),
            (ImplicitGradient(), r"SelfAttentionRouting\.gradient: .*declares no fixed point"),
            (TruncatedGradient(last=2), r"last: got 2, expected at most 1"),
        ),
    ),
    # Iterations enough to be at the fixed point, to rounding in float64; without centres, which
    # `test_k_means.py` begins with.
    Row(
        "soft_k_means",
        SoftKMeansRouting(num_iters=30, inverse_temperature=0.05),
        oracle=lambda *given: k_means.routing(*given, **NEAR),
        trace=lambda *given: k_means.trace(*given, **NEAR),
        frozen=lambda *given: k_means.frozen(*given[:-1], last=_last(given[-1], 30), **NEAR),
        params=MappingProxyType({}),
        modes=(
            StopGradient(),
            TruncatedGradient(last=1),
            FullGradient(),
            ClosedForm(),
            ImplicitGradient(tolerance=1e-13),
        ),
        residual=True,
        kinds=("ragged",),
    ),
    Row(
        "slot_attention",
        SlotAttentionRouting(num_iters=3, hidden=3),
        oracle=lambda *given: slot_attention.routing(*given, num_iters=3),
        trace=lambda *given: slot_attention.trace(*given, num_iters=3),
        frozen=lambda *given: slot_attention.frozen(
            *given[:-1], last=_last(given[-1], 3), num_iters=3
        ),
        params=MappingProxyType(
            {
                "slots": "je",
                "key": "de",
                "query": "ee",
                "mlp_in": "ef",
                "mlp_out": "fe",
                **dict.fromkeys(("gru_input", "gru_slot"), "gee"),
                "gru_bias": "he",
                **dict.fromkeys(("query_gain", "query_offset", "mlp_gain", "mlp_offset"), "e"),
                "mlp_in_bias": "f",
                "mlp_out_bias": "e",
            }
        ),
        modes=(StopGradient(), TruncatedGradient(last=1), FullGradient()),
        refused=(
            (ClosedForm(), r"SlotAttentionRouting\.gradient: got ClosedForm.* no backward pass"),
            (ImplicitGradient(), r"solver: got 'cg', expected 'neumann'"),
        ),
        residual=True,
        kinds=("linear",),
        start=("slots",),
    ),
    Row(
        "interest",
        InterestRouting(num_iters=3),
        oracle=lambda *given: interest.routing(*given, num_iters=3),
        trace=lambda *given: interest.trace(*given, num_iters=3),
        frozen=lambda *given: interest.frozen(*given[:-1], last=_last(given[-1], 3), num_iters=3),
        params=MappingProxyType({"initial": "ij"}),
        modes=(StopGradient(), TruncatedGradient(last=1), FullGradient(), ClosedForm()),
        refused=((ImplicitGradient(), r"InterestRouting\.gradient: .*declares no fixed point"),),
        kinds=("linear",),
        start=("initial",),
    ),
    _through_updates(
        "heinsen",
        HeinsenRouting(num_iters=3),
        heinsen,
        params=MappingProxyType(
            {
                "score": "id",
                "score_bias": "i",
                "use": "ij",
                "ignore": "ij",
                "predict": "ed",
                "predict_scale": "jd",
                "predict_bias": "jd",
                **dict.fromkeys(("similar", "similar_bias"), "ij"),
            }
        ),
        kinds=("ragged",),
    ),
    _through_updates(
        "variational",
        VariationalRouting(num_iters=3),
        variational,
        params=MappingProxyType({"beta_u": "j", "beta_a": "j"}),
        kinds=("linear",),
    ),
    Row(
        "self",
        SelfRouting(),
        oracle=self_routing.routing,
        trace=self_routing.trace,
        frozen=lambda *given_and_mode: self_routing.routing,
        params=MappingProxyType({"route": "ijd", "offset": "ij"}),
    ),
    Row(
        "uniform",
        UniformRouting(),
        oracle=lambda u, W, a, p: oracle.uniform_routing(u, W, p["bias"]),
        trace=lambda u, W, a, p: oracle.dynamic_trace(u, W, p["bias"], num_iters=1),
        frozen=lambda *given_and_mode: _live(oracle.uniform_routing),
        gradient=lambda u, W, a, p, bars, mode: oracle.dynamic_gradient(
            u, W, p["bias"], bars, last=0, num_iters=1
        ),
    ),
)

B, N_I, N_J, D, E = 2, 3, 4, 2, 3
# Of slot attention the gates and their biases, and the width of the MLP.
SIZES = {"i": N_I, "j": N_J, "d": D, "e": E, "g": 3, "h": 4, "f": 3}


def arrays(row: Row, seed: int = 0) -> Given:
    """Return arrays that are large enough for the routing to decide."""
    rng = np.random.RandomState(seed)
    u = rng.normal(size=(B, N_I, D))
    W = rng.normal(size=(N_I, N_J, D, E))
    params = {
        name: rng.normal(size=[SIZES[axis] for axis in axes]) / 2
        for name, axes in row.params.items()
    }
    return Given(u, W, rng.uniform(0.2, 1, size=(B, N_I)), params)


def bars(seed: int = 1) -> oracle.Result:
    """A cotangent for every part of a result."""
    rng = np.random.RandomState(seed)
    return oracle.Result(
        pose=rng.normal(size=(B, N_J, E)),
        coupling=rng.normal(size=(B, N_I, N_J)),
        logits=rng.normal(size=(B, N_I, N_J)),
        activation=rng.normal(size=(B, N_J)),
    )


def reordered(row: Row, given: Given, axis: str, order: np.ndarray) -> Given:
    """Return what is given with its children ("i") or its parents ("j") in another order."""
    u, W, a, params = given
    if axis == "i":
        u, W, a = u[:, order], W[order], a[:, order]
    else:
        W = W[:, order]
    params = {
        name: array.take(order, row.params[name].index(axis)) if axis in row.params[name] else array
        for name, array in params.items()
    }
    return Given(u, W, a, params)
