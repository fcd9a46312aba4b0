"""What is special to EM routing as its authors' code has it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import FieldError

RNG = np.random.RandomState(3)
B, N_I, N_J, D, E = 2, 6, 3, 2, 4
U, W = RNG.normal(size=(B, N_I, D)), RNG.normal(size=(N_I, N_J, D, E))
A = RNG.uniform(0.1, 1, size=(B, N_I))
BIASES = {
    "sigma_bias": RNG.uniform(0.2, 1, size=N_J),
    "activation_bias": RNG.normal(size=N_J) / 1000,
}


def route(num_iters=3, form="released", params=BIASES, **options):
    routing = cj.EMRouting(num_iters=num_iters, form=form, **options)
    arrays = jax.tree.map(jnp.asarray, (U, W, A, params))
    return routing(cj.predict(*arrays[:2]), activation=arrays[2], params=arrays[3])


def test_its_first_activation_is_the_paper_s_under_other_names(x64):
    """lambda = 2 beta, beta_u = sigma_bias (log 2 pi + 1) / 2, beta_a = -2500 activation_bias."""
    # Votes about a mean of 0, so that nine tenths of it is the same.
    votes = jnp.asarray(np.concatenate([V := RNG.normal(size=(N_I, N_J, E)), -V])[None])
    a = jnp.ones((1, 2 * N_I))
    betas = {
        "beta_u": jnp.asarray(BIASES["sigma_bias"] * (math.log(2 * math.pi) + 1) / 2),
        "beta_a": jnp.asarray(-2500 * BIASES["activation_bias"]),
    }
    biases = jax.tree.map(jnp.asarray, BIASES)
    released = cj.EMRouting(num_iters=1, form="released")(votes, activation=a, params=biases)
    paper = cj.EMRouting(num_iters=1, final_lambda=0.02)(votes, activation=a, params=betas)
    # But for the 1e-5 of the mass.
    np.testing.assert_allclose(released.activation, paper.activation, rtol=1e-5)


def test_a_mean_remembers_a_tenth_of_the_one_before(x64):
    first, second = route(num_iters=1), route(num_iters=2)
    r = np.asarray(second.coupling) * A[..., None]
    share = r / (r.sum(1, keepdims=True) + 1e-5)
    own = np.einsum("bij,bid,ijde->bje", share, U, W)
    np.testing.assert_allclose(second.pose, 0.9 * own + 0.1 * np.asarray(first.pose), rtol=1e-10)


def test_a_bias_moves_an_activation_thousands_of_times_as_far_as_a_beta(x64):
    def slope(form, name, params):
        params = jax.tree.map(jnp.zeros_like, params)

        def total(params):
            return jnp.sum(route(form=form, params=params).activation)

        return np.abs(jax.grad(total)(params)[name]).max()

    betas = {"beta_u": np.zeros(N_J), "beta_a": np.zeros(N_J)}
    released = slope("released", "activation_bias", BIASES)
    assert released > 4000 * slope("paper", "beta_a", betas)


def test_a_tolerance_ends_the_updates_of_the_moving_mean_too():
    """Its state has two arrays, both of which stay as they are once an example has converged."""
    least = route(num_iters=1)
    found = route(num_iters=9, tolerance=2.0)
    np.testing.assert_allclose(found.pose, least.pose, rtol=1e-6)


@pytest.mark.parametrize("form", ["paper", "released"])
def test_each_form_trains_its_own_two_numbers(form):
    known = cj.EMRouting(form=form).parameters(cj.routing.Sizes(N_I, N_J, D, E))
    names = {"paper": {"beta_u", "beta_a"}, "released": {"sigma_bias", "activation_bias"}}
    assert set(known) == names[form]
    starts = {float(one.init(jax.random.key(0), one.shape)[0]) for one in known.values()}
    assert starts == {0.0 if form == "paper" else 0.5}
    own = cj.EMRouting(form=form, start=(2, -1.5)).parameters(cj.routing.Sizes(N_I, N_J, D, E))
    found = [one.init(jax.random.key(0), one.shape) for one in own.values()]
    assert list(own) == list(known)  # in the order that the documentation has
    assert [x.tolist() for x in found] == [[2.0] * N_J, [-1.5] * N_J]


@pytest.mark.parametrize(
    "start",
    [
        (1.0,),
        (1.0, 2.0, 3.0),
        (1.0, float("inf")),
        (1.0, float("nan")),
        (10**400, 1),
        (1.0, 1e39),
        (1.0, True),
        2.0,
        "21",
    ],
)
def test_a_start_is_two_finite_numbers(start, as_installed):
    with pytest.raises(FieldError, match=r"EMRouting\.start: got .*, expected two finite numbers"):
        cj.EMRouting(form="released", start=start)


@pytest.mark.parametrize("final_lambda", [0.03, 0.1])
def test_its_bias_begins_activations_where_a_logistic_has_little_slope(final_lambda):
    def begun(bias):
        biases = {"sigma_bias": jnp.full(N_J, 0.5), "activation_bias": jnp.full(N_J, bias)}
        found = route(num_iters=2, params=biases, final_lambda=final_lambda, floor=5e-4)
        return np.asarray(found.activation)

    expected = 1 / (1 + math.exp(2500 * 0.0975 * final_lambda))
    np.testing.assert_allclose(begun(0.5), expected, rtol=0.2)
    np.testing.assert_allclose(begun(0.0), 0.5, atol=0.4)
