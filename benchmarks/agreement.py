"""Compare every gradient mode with finite differences, and with the others, in float64.

    python benchmarks/agreement.py

For each mode, form of votes and number of iterations r: the largest difference of the gradient with respect
to u, W and bias, relative to the largest component of each. Finite differences are central, of fourth order,
of the function whose gradient the mode is: what it stops is frozen at the values that it has. Prints the
numbers of the table in docs/backpropagation.md.
"""

import argparse
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import capsjax as cj
from capsjax.gradients import GradientMode

B, N_I, N_J, D, E = 2, 5, 3, 3, 4
ITERATIONS = (1, 2, 3, 5, 10)
STEP = 5e-4

Arrays = tuple[jax.Array, jax.Array, jax.Array]
Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def arrays() -> tuple[Arrays, jax.Array]:
    """Return u, W and bias, large enough for the routing to decide, and what poses are multiplied with."""
    rng = np.random.RandomState(0)
    shapes = ([B, N_I, D], [N_I, N_J, D, E], [N_J, E])
    u, W, bias = (jnp.asarray(rng.normal(size=shape)) for shape in shapes)
    return (u, W / 2, bias / 2), jnp.asarray(rng.normal(size=[B, N_J, E]))


def votes_of(kind: str, u: jax.Array, W: jax.Array) -> cj.Votes:
    """Form votes.

    Args:
        kind: "linear" or "dense".
        u: child poses, [b, i, d].
        W: transformation matrices, [i, j, d, e].

    Returns:
        The votes.
    """
    votes = cj.predict(u, W)
    return cj.DenseVotes(votes.dense()) if kind == "dense" else votes


def loss_of(mode: GradientMode, kind: str, num_iters: int, probe: jax.Array) -> Loss:
    """Make the loss that is differentiated: the sum of the poses times a probe.

    Args:
        mode: the gradient mode of the routing.
        kind: "linear" or "dense" votes.
        num_iters: r.
        probe: what poses are multiplied with, [b, j, e].

    Returns:
        A function of u, W and bias.
    """

    def loss(u: jax.Array, W: jax.Array, bias: jax.Array) -> jax.Array:
        votes = votes_of(kind, u, W)
        found = cj.dynamic_routing(votes, num_iters=num_iters, gradient=mode, bias=bias)
        return jnp.sum(found.pose * probe)

    return loss


def frozen_loss(mode: GradientMode, num_iters: int, given: Arrays, probe: jax.Array) -> Loss:
    """Make the loss whose stopped quantities are constants, written out.

    Args:
        mode: the gradient mode, which says what is stopped.
        num_iters: r.
        given: u, W and bias, at which the constants are taken.
        probe: what poses are multiplied with, [b, j, e].

    Returns:
        A function of u, W and bias, whose plain gradient is the one that the mode is to give.
    """
    live = num_iters - 1
    if isinstance(mode, cj.StopGradient):
        live = 0
    elif isinstance(mode, cj.TruncatedGradient):
        live = mode.last
    u, W, bias = given
    # What is stopped: the logits before the live updates, of which the first coupling is made.
    logits = cj.dynamic_routing(cj.predict(u, W), num_iters=num_iters - live, bias=bias).logits

    def loss(u: jax.Array, W: jax.Array, bias: jax.Array) -> jax.Array:
        z, b = cj.predict(u, W).dense(), logits
        for _ in range(live):
            s = jnp.einsum("bij,bije->bje", jax.nn.softmax(b), z) + bias
            b = b + jnp.einsum("bije,bje->bij", z, cj.squash(s))
        s = jnp.einsum("bij,bije->bje", jax.nn.softmax(b), z) + bias
        return jnp.sum(cj.squash(s) * probe)

    return loss


def differences(loss: Loss, given: Arrays) -> list[np.ndarray]:
    """Differentiate by central differences of fourth order.

    Args:
        loss: a function of u, W and bias.
        given: where it is differentiated.

    Returns:
        Its gradients with respect to each of the three.
    """
    loss = jax.jit(loss)
    found = []
    for place, array in enumerate(given):
        gradient = np.zeros(array.shape)
        for at in np.ndindex(array.shape):

            def value(step: float, place: int = place, at: tuple[int, ...] = at) -> float:
                moved = given[place].at[at].add(step)
                return float(loss(*given[:place], moved, *given[place + 1 :]))

            near, far = value(STEP) - value(-STEP), value(2 * STEP) - value(-2 * STEP)
            gradient[at] = (8 * near - far) / (12 * STEP)  # the error is of order STEP^4
        found.append(gradient)
    return found


def distance(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest difference, relative to the largest component of each array.

    Args:
        found: gradients with respect to u, W and bias.
        expected: the same, by another way.

    Returns:
        The largest of the three.
    """
    pairs = zip(found, expected, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def rows() -> list[tuple[str, int, float, float, float, float]]:
    """Return for each mode and r: to finite differences and to the reference mode, dense and linear."""
    given, probe = arrays()
    found = []
    for num_iters in ITERATIONS:
        modes: dict[str, tuple[GradientMode, GradientMode]] = {
            "stop": (cj.StopGradient(), cj.TruncatedGradient(last=0)),
            "full": (cj.FullGradient(), cj.TruncatedGradient(last=num_iters - 1)),
            "full, remat": (cj.FullGradient(remat=True), cj.FullGradient()),
            "closed form": (cj.ClosedForm(), cj.FullGradient()),
        }
        if num_iters > 2:
            modes["truncated, 1"] = (cj.TruncatedGradient(last=1), cj.TruncatedGradient(last=1))
        for name, (mode, reference) in modes.items():
            expected = differences(frozen_loss(mode, num_iters, given, probe), given)
            gradients = {
                (kind, which): [
                    np.asarray(part)
                    for part in jax.grad(loss_of(which, kind, num_iters, probe), (0, 1, 2))(*given)
                ]
                for kind, which in itertools.product(("dense", "linear"), (mode, reference))
            }
            dense, linear = gradients["dense", mode], gradients["linear", mode]
            found.append(
                (
                    *(name, num_iters, distance(dense, expected), distance(linear, expected)),
                    max(distance(g, gradients["dense", reference]) for g in (dense, linear)),
                    distance(linear, dense),
                )
            )
    return found


def main() -> None:
    """Print the table."""
    jax.config.update("jax_enable_x64", True)
    print(
        "| mode | r | dense, to differences | linear, to differences | to its twin | dense to linear |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    for name, num_iters, *far in sorted(rows(), key=lambda row: list(row[:2])):
        print(f"| {name} | {num_iters} | " + " | ".join(f"{x:.0e}" for x in far) + " |")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    main()
