"""A traced number is refused where only a constant could be made of it, and what the error offers works."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.bench.routing import RoutingSizes
from capsjax.checks import FieldError, UserError
from capsjax.layers import DecoderConfig, PrimaryConfig
from capsjax.losses import LinearMargin, MarginLoss, SpreadLoss
from capsjax.routing.agreement import BiasedVotes
from capsjax.routing.parameters import Parameter
from capsjax.training.optimisers import Adam, Constant, Piecewise

U = np.random.default_rng(0).normal(size=(2, 5, 3))
W = np.random.default_rng(1).normal(size=(5, 4, 3, 6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unchecked(cj.DynamicRouting):
    """A routing of one's own, whose number nothing checks."""

    factor: Any = 1.0
    kind: Literal["unchecked"] = "unchecked"


MAKERS = {
    "FixedPointRouting.inverse_temperature": lambda x: cj.FixedPointRouting(inverse_temperature=x),
    "FixedPointRouting.damping": lambda x: dataclasses.replace(cj.FixedPointRouting(), damping=x),
    "DynamicRouting.tolerance": lambda x: cj.dynamic_routing(jnp.ones((2, 3, 4)), tolerance=x),
    "DynamicRouting.leaky": lambda x: cj.DynamicRouting(leaky=x),
    "DynamicRouting.num_iters": lambda x: cj.DynamicRouting(num_iters=x),
    "TruncatedGradient.last": lambda x: cj.TruncatedGradient(last=x),
    "ImplicitGradient.tolerance": lambda x: cj.ImplicitGradient(tolerance=x),
    "ImplicitGradient.solver": lambda x: cj.ImplicitGradient(solver=x),
    "Unchecked.factor": lambda x: Unchecked(factor=x)(jnp.ones((2, 3, 4))),
    "MarginLoss.positive_margin": lambda x: MarginLoss(positive_margin=x),
    "MarginLoss.margin": lambda x: MarginLoss(margin=x),
    "SpreadLoss.margin": lambda x: SpreadLoss(margin=x),
    "LinearMargin.start": lambda x: LinearMargin(start=x),
    "PrimaryConfig.coupling": lambda x: PrimaryConfig(coupling=x),
    "DecoderConfig.hidden": lambda x: DecoderConfig(hidden=(8, x)),
    "Adam.beta1": lambda x: Adam(beta1=x),
    "Adam.schedule": lambda x: Adam(schedule=x),
    "Constant.rate": lambda x: Constant(rate=x),
    "Piecewise.boundaries": lambda x: Piecewise(boundaries=(x,)),
    "RoutingSizes.batch": lambda x: RoutingSizes(batch=x),
}
TRANSFORMS = {
    "grad": lambda function: jax.grad(function)(0.5),
    "jvp": lambda function: jax.jvp(function, (0.5,), (1.0,)),
    "jit": lambda function: jax.jit(function)(0.5),
    "vmap": lambda function: jax.vmap(function)(jnp.full(2, 0.5)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("field", MAKERS)
def test_a_tracer_is_refused_by_name(field, transform, as_installed):
    def function(x):
        MAKERS[field](x)
        return x

    with pytest.raises(FieldError) as caught:
        TRANSFORMS[transform](function)
    message = str(caught.value)
    assert message.startswith(f"{field}: got ")
    assert "a traced float32[]" in message
    assert "a static argument of jax.jit (static_argnames)" in message
    assert "\n" not in message


def test_a_tracer_in_an_override_is_refused(as_installed):
    for transform in TRANSFORMS.values():
        with pytest.raises(UserError, match=r"rate: got a traced float32\[\]\n.*static_argnames"):
            transform(lambda x: cj.load_config("smoke", {"optimiser.schedule.rate": x}) and x)


def test_a_number_of_jax_s_that_is_not_traced_is_a_number(as_installed):
    routing = cj.FixedPointRouting(damping=jnp.asarray(0.5), inverse_temperature=np.float64(2))
    assert routing == cj.FixedPointRouting(damping=0.5, inverse_temperature=2.0)


class TemperedVotes(NamedTuple):
    """Votes, and the inverse temperature as an array."""

    votes: cj.Votes
    inverse_temperature: Any

    def readout(self, coupling):
        return BiasedVotes.of(self.votes, {}).readout(coupling)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedTemperature(cj.FixedPointRouting):
    """The fixed point of `FixedPointRouting`, with its number as `params`."""

    kind: Literal["trained_temperature"] = "trained_temperature"

    def parameters(self, sizes):
        return {"beta": Parameter((), "one number")}

    def prepare(self, votes, children, params):
        return TemperedVotes(votes, params["beta"])

    def _asked(self, parents, inputs):
        return inputs.votes.agreement(inputs.inverse_temperature * parents.pose)


class TestWhatTheErrorOffers:
    def test_a_static_argument_and_a_number_from_outside(self, as_installed):
        @functools.partial(jax.jit, static_argnames="x")
        def static(votes, x):
            return cj.FixedPointRouting(inverse_temperature=x)(votes).pose

        x = 2.0
        votes = cj.predict(jnp.asarray(U, jnp.float32), jnp.asarray(W, jnp.float32))
        outside = jax.jit(lambda votes: cj.FixedPointRouting(inverse_temperature=x)(votes).pose)
        np.testing.assert_array_equal(static(votes, x=x), outside(votes))

    @pytest.mark.parametrize(
        "mode", [cj.FullGradient(), cj.ImplicitGradient(tolerance=1e-13), cj.StopGradient()]
    )
    def test_differences_and_an_array_give_the_same_derivative(self, mode, x64, as_installed):
        votes, h = cj.predict(jnp.asarray(U), jnp.asarray(W)), 1e-6
        options = {"gradient": mode, "num_iters": 500}

        @functools.partial(jax.jit, static_argnums=0)
        def total(x):
            routing = cj.FixedPointRouting(inverse_temperature=x, **options)
            return jnp.sum(routing(votes).activation[..., 0])

        trained = TrainedTemperature(**options)
        found = jax.grad(lambda x: jnp.sum(trained(votes, params=x).activation[..., 0]))(0.2)
        difference = (total(0.2 + h) - total(0.2 - h)) / (2 * h)
        assert abs(difference) > 0.01
        expected = 0 if mode == cj.StopGradient() else difference
        np.testing.assert_allclose(found, expected, rtol=1e-6)
