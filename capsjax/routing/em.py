"""EM routing, procedure 1 of the 2018 paper."""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn.initializers import constant
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import LARGEST_FLOAT, FieldError, check_choice, check_float, plain
from capsjax.routing.converging import ConvergingRouting
from capsjax.routing.parameters import Parameter, Sizes
from capsjax.routing.units import in_squared_units, unit_of
from capsjax.types import Capsules, PerPair
from capsjax.votes import Votes

# Of the released code: how much of the mean before stays, and what is added to a parent's mass.
MOMENTUM, LEAST_MASS = 0.1, 1e-5
LOG_2PI = math.log(2 * math.pi)


class EMInputs(NamedTuple):
    """Hold what EM routing depends on.

    Attributes:
        votes: the votes, of shape (*batch, i, j, e).
        activation: how present each child is, [*batch, i].
        beta_u: cost of describing a unit of a parent's mass by no Gaussian, [j].
        beta_a: cost of not having a parent at all, [j].
    """

    votes: Votes
    activation: Float[Array, "*batch i"]
    beta_u: Float[Array, "j"]
    beta_a: Float[Array, "j"]


class EMState(NamedTuple):
    """Hold what passes from one iteration to the next.

    Attributes:
        logits: b_ij, as held.
        weight: by how much each vote counts in its parent's mean, as held, so far; None in the paper's form,
            whose means remember nothing.
    """

    logits: PerPair
    weight: PerPair | None


class Gaussians(NamedTuple):
    """Hold what the M-step finds.

    Attributes:
        pose: mean mu_j, [*batch, j, e].
        activation: a_j, [*batch, j].
        log_activation: log a_j, [*batch, j].
        variance: sigma_j^2 / unit^2, [*batch, j, e].
        unit: what variances are measured in, 1 unless votes are huge, [*batch].
        weight: by how much each vote counts in the mean, as held.
        distance: sum_h (V_ijh - mu_jh)^2 / sigma_jh^2, as held; None where no E-step follows.
    """

    pose: Float[Array, "*batch j e"]
    activation: Float[Array, "*batch j"]
    log_activation: Float[Array, "*batch j"]
    variance: Float[Array, "*batch j e"]
    unit: Float[Array, "*batch"]
    weight: PerPair
    distance: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class EMRouting(ConvergingRouting[EMInputs, EMState]):
    """Fit a Gaussian to each parent's votes, and couple a child to the parents that explain its votes.

    R is the softmax of the logits b over the parents, b = 0 at first. Each of r readouts is an M-step, with
    r_ij = R_ij a_i,

    mu_jh = sum_i r_ij V_ijh / sum_i r_ij

    sigma_jh^2 = sum_i r_ij (V_ijh - mu_jh)^2 / sum_i r_ij + floor

    cost_jh = (beta_u,j + log sigma_jh) sum_i r_ij

    a_j = logistic(lambda_t (beta_a,j - sum_h cost_jh)),   lambda_t = final_lambda (1 - 0.95^(t+1))

    for t = 0, 1, ..., r - 1, and between two of them is an E-step,

    b_ij = log a_j + sum_h log N(V_ijh; mu_jh, sigma_jh)

    The poses are the means. The paper gives no schedule of lambda and no floor: this schedule is its
    authors', and the floor keeps a parent with a single child finite. Without any mass, a pose is 0.
    The E-step after the last M-step, which the paper computes, would be used by nothing.

    `form="released"` is the authors' code. Its means move: 0.9 of the above and 0.1 of the mean of the
    iteration before, 0 at first; masses are larger by 1e-5; and the activation is

    a_j = logistic(lambda_t (-sum_h (log sigma_jh^2 + s_j (log 2 pi + 1)) sum_i r_ij - 5000 b_j))

    with trained s, `sigma_bias`, and b, `activation_bias`: the paper's with 2 lambda_t,
    beta_u = s (log 2 pi + 1) / 2 and beta_a = -2500 b, so that an optimiser's step on b moves a_j thousands
    of times as far. Both begin at 0.5, as between its convolutional capsules; its class capsules begin at
    2 and 1, by `start`, with a fourth of final_lambda. Its floor is 5e-4. Between convolutional capsules it
    normalises R over positions, for each type of parent by itself; here all parents of a child share it, as
    in the paper.

    The coupling that a gradient mode treats is R; the last M-step is always live. Holding R constant is
    *another* gradient here, not a shorter one, since a variance depends on R in the first order.

    Args:
        num_iters: r, the number of M-steps; r - 1 E-steps.
        gradient: how the gradient treats the coupling R.
        tolerance: if given, an example's E-steps end once another would move none of its couplings by more
            than this; with `StopGradient()`.
        final_lambda: what the inverse temperature lambda_t tends to, above 0. In the released form, with b
            begun at 0.5, a_j begins near logistic(-2500 (1 - 0.95^r) final_lambda), cost apart: above 0.03
            begin b at 0, by `start`.
        floor: what is added to every variance, above 0, in squared units of the votes.
        form: "paper", or "released" for what the authors' code computes.
        start: what every parent's two parameters begin at: beta_u and beta_a, or s and b; None for 0 and 0,
            in the released form 0.5 and 0.5.
        kind: its name in a configuration.

    Raises:
        FieldError: If a number is out of range, or the gradient does not fit.

    Reference:
        Hinton, Sabour and Frosst 2018, "Matrix capsules with EM routing", section 3, procedure 1; lambda_t:
        the authors' answer on OpenReview, as quoted in IBM's implementation; the released form:
        google-research, capsule_em/em_layers.py.
    """

    takes = frozenset({"activation"})

    final_lambda: float = 0.01
    floor: float = 1e-4
    form: Literal["paper", "released"] = "paper"
    start: tuple[float, float] | None = None
    kind: Literal["em"] = "em"

    def __post_init__(self):
        super().__post_init__()
        check_float(self, "final_lambda", low=0, open_low=True)
        check_float(self, "floor", low=0, open_low=True)
        check_choice(self, "form", ("paper", "released"))
        self._check_start()

    def parameters(self, sizes: Sizes) -> dict[str, Parameter]:
        """Describe two numbers for every parent: beta_u and beta_a, or the released code's biases."""
        released = self.form == "released"
        names = ("sigma_bias", "activation_bias") if released else ("beta_u", "beta_a")
        start = self.start or ((0.5, 0.5) if released else (0.0, 0.0))
        axes = "one number for each parent, [j]"
        return {
            name: Parameter((sizes.j,), axes, constant(value, jnp.float32))
            for name, value in zip(names, start, strict=True)
        }

    def _check_start(self) -> None:
        """Check that there are two finite numbers, if any."""
        if self.start is None:
            return
        start = tuple(map(plain, self.start)) if isinstance(self.start, tuple) else ()
        numbers = all(type(x) in (int, float) and abs(x) <= LARGEST_FLOAT for x in start)
        if numbers and len(start) == 2:
            object.__setattr__(self, "start", start)
            return
        expected = "two finite numbers, such as (2.0, 1.0), or None for those of the form"
        in_config = "two finite numbers, such as [2.0, 1.0], or null for those of the form"
        raise FieldError("EMRouting", "start", self.start, expected, in_config)

    def prepare(self, votes: Votes, children: Capsules, params: Mapping[str, Array]) -> EMInputs:
        """Take the votes, the children's activations and both betas.

        Args:
            votes: the votes, arranged to be contracted many times.
            children: their activation, [*batch, i].
            params: `beta_u` and `beta_a`, or `sigma_bias` and `activation_bias`, [j] each.

        Returns:
            Votes, activations, beta_u and beta_a.
        """
        activation = jnp.asarray(children.activation)
        if self.form == "paper":
            return EMInputs(votes, activation, params["beta_u"], params["beta_a"])
        beta_u = params["sigma_bias"] * (LOG_2PI + 1) / 2
        return EMInputs(votes, activation, beta_u, -2500 * params["activation_bias"])

    def init(self, inputs: EMInputs) -> EMState:
        """Return b = 0, and means that remember nothing yet."""
        logits = inputs.votes.zeros()
        return EMState(logits, None if self.form == "paper" else logits)

    def logits(self, state: EMState) -> PerPair:
        """Return b_ij, as held."""
        return state.logits

    def readout(self, t: Any, coupling: PerPair, state: EMState, inputs: EMInputs) -> Gaussians:
        """Fit the Gaussians to the votes: the M-step.

        Args:
            t: number of the M-step, counted from 0, on which lambda_t depends.
            coupling: R_ij, as held.
            state: what moving means remember.
            inputs: votes, activations and betas.

        Returns:
            Means and variances [*batch, j, e], activations and their logarithms [*batch, j].
        """
        return self._maximise(t, coupling, state, inputs, distances=False)

    def _maximise(
        self, t: Any, coupling: PerPair, state: EMState, inputs: EMInputs, *, distances: bool
    ) -> Gaussians:
        """Fit the Gaussians, and measure the distances if they are asked for."""
        votes = inputs.votes
        mass, share = self._shares(coupling, inputs)
        weight = share
        # Weights are remembered, not means: what a mode stops is R, and the votes stay live.
        if state.weight is not None:
            weight = (1 - MOMENTUM) * weight + MOMENTUM * state.weight
        unit = unit_of(votes)
        floor = in_squared_units(self.floor, unit)  # [*batch]
        mean, variance, distance = votes.fit(weight, share, floor, unit, distances)
        log_sigma = 0.5 * jnp.log(variance) + jnp.log(unit)[..., None, None]  # [*batch, j, e]
        beta_u, beta_a = (
            jnp.broadcast_to(beta, mass.shape) for beta in (inputs.beta_u, inputs.beta_a)
        )
        cost = jnp.sum(beta_u[..., None] + log_sigma, axis=-1) * mass  # [*batch, j]
        factor = 1 if self.form == "paper" else 2  # the released code has log sigma^2 for log sigma
        logit = factor * self.final_lambda * (1 - 0.95 ** (t + 1)) * (beta_a - cost)
        # log a_j from its logit: the logarithm of an activation that underflows would be -inf.
        log_activation = jax.nn.log_sigmoid(logit)
        activation = jax.nn.sigmoid(logit)
        return Gaussians(mean, activation, log_activation, variance, unit, weight, distance)

    @partial(jax.checkpoint, prevent_cse=False, static_argnums=0)
    def _shares(
        self, coupling: PerPair, inputs: EMInputs
    ) -> tuple[Float[Array, "*batch j"], PerPair]:
        """Weigh children by coupling and activation: each parent's mass, and every child's share of it.

        Reverse mode makes the shares again from the coupling, rather than keep three numbers for each pair;
        in the last readout, which no loop holds, the compiler may keep them.
        """
        pairs = inputs.votes.pairs
        assigned = coupling * pairs.by_child(inputs.activation)
        mass = pairs.sum_children(assigned)  # [*batch, j]
        if self.form == "released":
            mass = mass + LEAST_MASS
        return mass, assigned / pairs.by_parent(numerics.at_least_tiny(mass))

    def update(self, t: Any, state: EMState, inputs: EMInputs) -> EMState:
        """Fit the Gaussians, then compare each vote with its parent's: the E-step after an M-step.

        b_ij = log a_j + sum_h log N(V_ijh; mu_jh, sigma_jh)

        Args:
            t: number of both, counted from 0.
            state: logits, which are replaced, and weights.
            inputs: votes, activations and betas.

        Returns:
            The new logits and weights, as held.
        """
        coupling = self.couple(state, inputs)
        parents = self._maximise(t, coupling, state, inputs, distances=True)
        unit = parents.unit[..., None]
        spread = jnp.log(2 * math.pi * parents.variance) + 2 * jnp.log(unit)[..., None]
        constant = parents.log_activation - 0.5 * jnp.sum(spread, axis=-1)  # [*batch, j]
        logits = inputs.votes.pairs.by_parent(constant) - 0.5 * parents.distance
        return EMState(logits, None if state.weight is None else parents.weight)
