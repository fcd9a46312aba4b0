"""Routing under every transformation: spread over devices, forward mode, second derivatives, export."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import capsjax as cj
from capsjax.checks import UserError
from capsjax.layers import CapsNet, CapsNetConfig, ConvConfig, PrimaryConfig
from capsjax.votes import form_votes
from tests.routing.kinds import formed

RNG = np.random.RandomState(0)
B, N_I, N_J, D, E = 8, 5, 4, 3, 6
U = jnp.asarray(RNG.normal(size=(B, N_I, D)), jnp.float32)
W = jnp.asarray(RNG.normal(size=(N_I, N_J, D, E)), jnp.float32)
BIAS = jnp.asarray(RNG.normal(size=(N_J, E)), jnp.float32)

VOTES = {"linear": cj.predict, "dense": lambda u, W: cj.DenseVotes(formed(u, W))}
ROUTINGS = {
    "uniform": cj.UniformRouting(),
    "stop": cj.DynamicRouting(),
    "truncated": cj.DynamicRouting(gradient=cj.TruncatedGradient(last=1)),
    "full": cj.DynamicRouting(gradient=cj.FullGradient()),
    "remat": cj.DynamicRouting(gradient=cj.FullGradient(remat=True)),
    "closed form": cj.DynamicRouting(gradient=cj.ClosedForm()),
    "tolerance": cj.DynamicRouting(num_iters=20, tolerance=1e-3),
    "cg": cj.FixedPointRouting(num_iters=40, gradient=cj.ImplicitGradient()),
    "neumann": cj.FixedPointRouting(num_iters=40, gradient=cj.ImplicitGradient(solver="neumann")),
}
UNBIASED = ["closed form", "full"]
CASES = [pytest.param(name, kind, id=f"{name}-{kind}") for name in ROUTINGS for kind in VOTES]


def loss(name, kind, u, W, bias):
    found = ROUTINGS[name](VOTES[kind](u, W), params=bias, trace=True)
    return jnp.sum(found.pose**2) + jnp.sum(found.trace.entropy) + jnp.sum(found.coupling**3)


@functools.cache
def on_one_device(name, kind):
    return jax.jit(jax.grad(functools.partial(loss, name, kind), argnums=(0, 1, 2)))(U, W, BIAS)


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)


@pytest.mark.usefixtures("four_devices")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_inside_shard_map_with_its_default_checks(name, kind):
    """The gradient of what all devices have is the sum over them, without any psum by the user."""
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))

    def local(u, W, bias):
        return jax.grad(functools.partial(loss, name, kind), argnums=(0, 1, 2))(u, W, bias)

    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(P("x"), P(), P()), out_specs=(P("x"), P(), P())
    )
    close(jax.jit(spread)(U, W, BIAS), on_one_device(name, kind))


@pytest.mark.usefixtures("four_devices")
@pytest.mark.parametrize("name", UNBIASED)
def test_inside_shard_map_without_a_bias_and_with_a_mask(name):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    there = jnp.arange(N_I)[None] < jnp.arange(1, B + 1)[:, None]

    def local(u, there, W):
        def total(u, W):
            votes = cj.mask(cj.predict(u, W), children=there)
            return jnp.sum(ROUTINGS[name](votes).pose ** 2)

        return jax.grad(total, argnums=(0, 1))(u, W)

    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(P("x"), P("x"), P()), out_specs=(P("x"), P())
    )
    close(jax.jit(spread)(U, there, W), jax.jit(local)(U, there, W))


@pytest.mark.usefixtures("four_devices")
def test_a_mask_that_every_device_has_leaves_the_batch_spread():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        u, W_ = jax.device_put(U, P("x")), jax.device_put(W, P())
        there = jax.device_put(jnp.ones((B, N_I), bool), P())

        @jax.jit
        def pose(u, W, there):
            return cj.dynamic_routing(cj.mask(cj.predict(u, W), children=there)).pose

        spec = jax.typeof(pose(u, W_, there)).sharding.spec
        assert spec == P("x", None, None)


@pytest.mark.usefixtures("four_devices")
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_on_a_mesh_with_explicit_axes(name, kind):
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        u, W_, bias = jax.device_put(U, P("x")), jax.device_put(W, P()), jax.device_put(BIAS, P())
        gradient = jax.jit(jax.grad(functools.partial(loss, name, kind), argnums=(0, 1, 2)))
        close(gradient(u, W_, bias), on_one_device(name, kind))
        pose = ROUTINGS[name](VOTES[kind](u, W_), params=bias).pose
        assert jax.typeof(pose).sharding.spec == P("x", None, None)


class TestForwardMode:
    @pytest.mark.parametrize("examples", [2, 20])
    def test_dense_votes_have_it_for_any_number_of_examples(self, examples):
        """And it is the transpose of reverse mode."""
        u = jnp.tile(U[:2], (examples // 2, 1, 1))

        def pose(W):
            return ROUTINGS["full"](VOTES["dense"](u, W)).pose

        out, tangent = jax.jvp(pose, (W,), (jnp.cos(W),))
        (bar,) = jax.vjp(pose, W)[1](jnp.sin(out))
        np.testing.assert_allclose(
            jnp.vdot(tangent, jnp.sin(out)), jnp.vdot(bar, jnp.cos(W)), rtol=1e-4
        )

    @pytest.mark.parametrize("examples", [4, 16, 128])
    @pytest.mark.parametrize("name", ["full", "closed form", "cg"])
    def test_what_lacks_it_says_so_and_the_way_out_works(self, name, examples, as_installed):
        u = jnp.tile(U[:2], (examples // 2, 1, 1))

        def forward(routing, votes):
            return jax.jvp(lambda W: routing(votes(u, W)).pose, (W,), (W,))[1]

        with pytest.raises(UserError, match=r"routing: got forward mode .*DenseVotes\(votes.dense"):
            forward(ROUTINGS[name], cj.predict)
        way_out = cj.DynamicRouting(gradient=cj.FullGradient())
        found = forward(way_out, lambda u, W: cj.DenseVotes(cj.predict(u, W).dense()))
        assert np.any(np.asarray(found))

    @pytest.mark.parametrize("name", sorted(ROUTINGS))
    @pytest.mark.parametrize(
        ("kind", "call"),
        [
            ("linear", lambda f: jax.jit(lambda W: jax.jvp(f, (W,), (W,)))),
            ("linear", lambda f: lambda W: jax.jvp(jax.jit(f), (W,), (W,))),
            ("linear", lambda f: jax.jit(jax.jacfwd(f))),
            ("linear", lambda f: jax.jacfwd(jax.jit(f))),
            ("linear", lambda f: jax.jit(jax.hessian(lambda W: jnp.sum(f(W))))),
            ("linear", lambda f: lambda W: jax.linearize(f, W)[1](W)),
            ("dense", lambda f: jax.jit(jax.jacfwd(f))),
        ],
    )
    def test_it_is_refused_in_words_wherever_jit_is(self, name, kind, call, as_installed):
        """Also where a program is lowered long after the routing was called; nothing is compiled."""
        if kind == "dense" and name not in ("closed form", "cg", "neumann"):
            return  # has it
        routed = call(lambda W: ROUTINGS[name](VOTES[kind](U, W)).pose)
        with pytest.raises(UserError, match="routing: got forward mode"):
            routed(W)

    def test_reverse_mode_passes_in_every_order(self):
        """Batched before or after it is differentiated: what refuses forward mode is not in the way."""

        def one(u, W):
            return jnp.sum(ROUTINGS["closed form"](cj.predict(u, W)).pose[..., 0])

        whole = jax.jit(jax.grad(one, argnums=1))(U, W)
        each = jax.jit(jax.vmap(jax.grad(one, argnums=1), (0, None)))(U, W)
        total = jax.jit(jax.grad(lambda W: jnp.sum(jax.vmap(one, (0, None))(U, W))))(W)
        mapped = jax.jit(jax.grad(lambda W: jnp.sum(jax.lax.map(lambda u: one(u, W), U))))(W)
        close([jnp.sum(each, 0), total, mapped], [whole] * 3)


class TestSecondDerivatives:
    @pytest.mark.parametrize("name", ["stop", "full"])
    def test_the_hessian_is_that_of_dense_votes(self, name, x64, as_installed):
        """Forward mode over reverse: linear votes say so; reverse over reverse they have."""
        u, small = jnp.asarray(U, jnp.float64)[:2], jnp.asarray(W, jnp.float64)[:, :2, :, :2]

        def total(kind):
            return lambda x: jnp.sum(ROUTINGS[name](VOTES[kind](u, x)).activation[:, 0])

        found = jax.jit(jax.hessian(total("dense")))(small)
        twice = jax.jit(jax.jacrev(jax.grad(total("linear"))))(small)
        np.testing.assert_allclose(found, twice, rtol=1e-9, atol=1e-12)
        assert float(jnp.linalg.norm(found)) > 1e-2
        with pytest.raises(UserError, match="routing: got forward mode"):
            jax.hessian(total("linear"))(small)

    @pytest.mark.parametrize("routing", [cj.EMRouting, cj.VariationalRouting])
    def test_gaussians_are_differentiated_twice_as_with_dense_votes(self, routing, x64):
        """In reverse mode, where each fit of them has a backward pass of its own."""
        routing = routing(num_iters=2, gradient=cj.FullGradient())
        sizes = cj.routing.Sizes(i=N_I, j=N_J, d=D, e=E)
        known = routing.parameters(sizes).items()
        trained = {name: jnp.full(one.shape, 0.1, jnp.float64) for name, one in known}
        u = jnp.asarray(U, jnp.float64)[:2]
        present = jnp.linspace(0.3, 0.9, 2 * N_I, dtype=jnp.float64).reshape(2, N_I)

        def steepness(kind):
            def total(x):
                found = routing(VOTES[kind](u, x), activation=present, params=trained)
                return jnp.sum(jnp.sin(found.pose)) + jnp.sum(found.activation)

            return lambda x: jnp.sum(jax.grad(total)(x) ** 2)

        given = jnp.asarray(W, jnp.float64)
        linear, dense = (jax.jit(jax.grad(steepness(kind)))(given) for kind in ("linear", "dense"))
        np.testing.assert_allclose(linear, dense, rtol=1e-8, atol=1e-11)
        assert float(jnp.linalg.norm(dense)) > 1e-2

    @pytest.mark.parametrize("kind", sorted(VOTES))
    @pytest.mark.parametrize("again", [jax.grad, jax.jacfwd])
    def test_the_implicit_gradient_is_refused_twice(self, kind, again, as_installed):
        def once(x):
            def total(x):
                return jnp.sum(ROUTINGS["cg"](VOTES[kind](U, x)).activation[:, 0])

            return jnp.sum(jax.grad(total)(x) ** 2)

        refused = r"ImplicitGradient: got a second derivative|routing: got forward mode"
        with pytest.raises(UserError, match=refused):
            again(once)(W)


class TestExport:
    def test_the_number_of_examples_may_be_a_symbol(self, as_installed):
        shape = jax.ShapeDtypeStruct((*export.symbolic_shape("b"), N_I, D), jnp.float32)

        def pose(u):
            return ROUTINGS["full"](form_votes(u, W)).pose

        exported = export.export(jax.jit(pose))(shape)
        for u in (U, U[:3]):
            np.testing.assert_allclose(exported.call(u), pose(u), rtol=1e-5, atol=1e-6)


class TestHugeVotes:
    """Numbers nearly as large as the type allows: finite in value and gradient."""

    @pytest.mark.parametrize("mode", [cj.StopGradient(), cj.FullGradient()])
    def test_the_routing_of_the_docs_takes_them_as_it_stands(self, mode, as_installed):
        page = Path(__file__).parents[2] / "docs" / "extending.md"
        code = page.read_text("utf-8").split("```python\n")[1].split("```")[0]
        names = {"__name__": "extending"}
        exec(compile(code, str(page), "exec"), names)
        routing = names["TemperedRouting"](temperature=0.7, gradient=mode)

        @jax.jit
        def total(u, W):
            return jnp.sum(routing(cj.predict(1e10 * u, W)).pose[..., 0])

        for leaf in jax.tree.leaves(jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(U, W)):
            assert np.all(np.isfinite(leaf))

    @pytest.mark.parametrize("mode", [cj.FullGradient(), cj.ClosedForm()])
    def test_equal_votes_of_4e36_have_a_finite_gradient(self, mode):
        def total(votes):
            return jnp.sum(cj.dynamic_routing(votes, gradient=mode).pose[..., 0])

        assert np.all(np.isfinite(jax.jit(jax.grad(total))(jnp.full((2, 5, 3, 4), 4e36))))


class TestForm:
    def test_votes_are_formed_only_where_they_are_small(self):
        few = jnp.ones((16, 1152, 8)), jnp.ones((1152, 10, 8, 16))
        assert jax.eval_shape(form_votes, *few).shape == (16, 1152, 10, 16)
        kinds = [jax.eval_shape(form_votes, u, few[1]) for u in (few[0][:4], few[0])]
        assert [type(votes) for votes in kinds] == [cj.DenseVotes, cj.LinearVotes]

    def test_the_form_has_a_name_in_the_configuration(self, as_installed):
        for name, kind in (("dense", cj.DenseVotes), ("linear", cj.LinearVotes)):
            config = cj.load_config("smoke", {"model.votes": name})
            assert config.model.votes == name
            assert isinstance(form_votes(U, W, config.model.votes), kind)
        with pytest.raises(UserError, match=r"(?s)model\.votes.*one of auto, linear, dense"):
            cj.load_config("smoke", {"model.votes": "danse"})


def test_a_network_draws_from_every_class_that_is_labelled(as_installed):
    from flax import nnx

    config = CapsNetConfig(
        stem=ConvConfig(channels=4, kernel=3),
        primary=PrimaryConfig(types=2, dim=4, kernel=3),
        dim=4,
    )
    network = CapsNet((8, 8, 1), 3, config=config, rngs=nnx.Rngs(0))
    images = jnp.asarray(RNG.uniform(size=(2, 8, 8, 1)), jnp.float32)
    one = network(images, jnp.array([0, 2])).reconstruction
    same = network(images, jnp.array([[1, 0, 0], [0, 0, 1]])).reconstruction
    np.testing.assert_array_equal(one, same)
    both = network(images, jnp.array([[1, 1, 0], [0, 1, 1]])).reconstruction
    assert not np.allclose(both, one)
    with pytest.raises(UserError, match=r"CapsNet: got labels .*other numbers than 0 and 1"):
        network(images, jnp.array([[1, 2, 0], [0, 1, 1]]))
