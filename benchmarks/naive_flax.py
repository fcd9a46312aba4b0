"""The 2017 network as one writes it in Flax at first: `nnx.Conv`, the array of votes, automatic gradients."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


def squash(s: jax.Array) -> jax.Array:
    """Squash vectors on the last axis, with the usual small constant against division by zero."""
    square = jnp.sum(s**2, axis=-1, keepdims=True)
    return square / (1 + square) * s / jnp.sqrt(square + 1e-8)


class NaiveCapsNet(nnx.Module):
    """The 2017 network with its decoder; couplings are held constant."""

    def __init__(self, rngs: nnx.Rngs):
        self.stem = nnx.Conv(1, 256, (9, 9), padding="VALID", rngs=rngs)
        self.primary = nnx.Conv(256, 256, (9, 9), strides=2, padding="VALID", rngs=rngs)
        self.weight = nnx.Param(0.01 * jax.random.normal(rngs.params(), (1152, 10, 8, 16)))
        sizes = ((160, 512), (512, 1024), (1024, 784))
        self.decoder = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in sizes)

    def __call__(self, images: jax.Array, chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return lengths [b, 10], and drawings [b, 784] of the chosen classes [b, 10]."""
        x = self.primary(nnx.relu(self.stem(images)))  # [b, 6, 6, 256]
        u = squash(x.reshape(x.shape[0], 1152, 8))  # [b, i, d]
        votes = jnp.einsum("bid,ijde->bije", u, self.weight[...])  # [b, i, j, e]
        logits, constant = jnp.zeros(votes.shape[:3]), jax.lax.stop_gradient(votes)
        for _ in range(2):
            coupling = jax.nn.softmax(logits, axis=-1)  # [b, i, j]
            pose = squash(jnp.einsum("bij,bije->bje", coupling, constant))  # [b, j, e]
            logits = logits + jnp.einsum("bije,bje->bij", constant, pose)  # [b, i, j]
        poses = squash(jnp.einsum("bij,bije->bje", jax.nn.softmax(logits, axis=-1), votes))
        x = (poses * chosen[..., None]).reshape(x.shape[0], -1)  # [b, j e]
        first, second, third = self.decoder
        drawn = nnx.sigmoid(third(nnx.relu(second(nnx.relu(first(x))))))
        return jnp.sqrt(jnp.sum(poses**2, axis=-1) + 1e-8), drawn


def make_step(batch: int):
    """Return a compiled training step, its first arguments, and what makes the next arguments."""
    model = NaiveCapsNet(nnx.Rngs(0))
    graph, params = nnx.split(model, nnx.Param)
    optimiser = optax.adam(1e-3)
    images = jax.random.uniform(jax.random.key(0), (batch, 28, 28, 1))
    chosen = jax.nn.one_hot(jnp.arange(batch) % 10, 10)

    def loss(params: nnx.State) -> jax.Array:
        lengths, drawn = nnx.merge(graph, params)(images, chosen)
        short, long = nnx.relu(0.9 - lengths) ** 2, nnx.relu(lengths - 0.1) ** 2
        margin = jnp.sum(chosen * short + 0.5 * (1 - chosen) * long, axis=-1)
        error = jnp.sum((drawn - images.reshape(batch, -1)) ** 2, axis=-1)
        return jnp.mean(margin + 0.0005 * error)

    def step(params: nnx.State, opt_state: optax.OptState) -> tuple[nnx.State, optax.OptState]:
        updates, opt_state = optimiser.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return jax.jit(step, donate_argnums=(0, 1)), (params, optimiser.init(params))
