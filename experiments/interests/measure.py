"""Train and measure every arm of the experiment; see README.md.

    python experiments/interests/measure.py [--seeds N] [--beyond]

Writes a line for each run into results/selection.jsonl and, once learning rates are chosen by these, into
results/runs.jsonl; what is there is not run again. `--beyond` measures two larger learning rates than
the plan has, with the first ten seeds, into results/beyond.jsonl.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import stream

import capsjax as cj
from capsjax.routing import InterestRouting, interest_mask

RESULTS = Path(__file__).resolve().parent / "results"
DIM, INTERESTS, POWER, BATCH, STEPS, TOP = 32, 4, 8, 256, 1500, 50
RATES = (0.001, 0.003, 0.01)
SELECTION_SEEDS, SEED = (800, 801), 100
BEYOND, BEYOND_SEEDS = (0.017, 0.03), 10  # decided when every arm had chosen the largest of RATES


class Arm(NamedTuple):
    """Hold how an arm couples.

    Attributes:
        routing: the routing.
        trained: whether the first logits are trained.
    """

    routing: InterestRouting
    trained: bool = False


ARMS = {
    "random": Arm(InterestRouting(num_iters=1)),
    "stop": Arm(InterestRouting(gradient=cj.StopGradient())),
    "full": Arm(InterestRouting(gradient=cj.FullGradient())),
    "full, trained": Arm(InterestRouting(gradient=cj.FullGradient()), trained=True),
}


def initial(seed: int) -> dict[str, jax.Array]:
    """Draw embeddings, the shared matrix and the first logits."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "items": jax.random.normal(keys[0], (stream.ITEMS, DIM)) / DIM**0.5,
        "matrix": jax.random.normal(keys[1], (DIM, DIM)) / DIM**0.5,
        "logits": jax.random.normal(keys[2], (stream.LONGEST, INTERESTS)),
    }


def interests(arm: Arm, params: Mapping[str, jax.Array], users: stream.Users) -> Any:
    """Return the interests of users, and which there are.

    Args:
        arm: how behaviours are coupled.
        params: embeddings, matrix and first logits.
        users: what they did.

    Returns:
        Interests [n, 4, 32], and True for those that a user has, [n, 4].
    """
    u = params["items"][users.history]  # [n, 40, 32]
    has = interest_mask(users.there, INTERESTS)
    votes = cj.mask(
        cj.shared_votes(u, params["matrix"], parents=INTERESTS), children=users.there, parents=has
    )
    logits = params["logits"] if arm.trained else jax.lax.stop_gradient(params["logits"])
    return arm.routing(votes, params={"initial": logits}).pose, has


def loss(arm: Arm, params: Mapping[str, jax.Array], users: stream.Users) -> jax.Array:
    """Return the mean cross-entropy of the next item over all items."""
    pose, has = interests(arm, params, users)
    products = jnp.einsum("nje,ne->nj", pose, params["items"][users.target])
    # Label-aware attention: nearly the interest that suits the item best.
    attention = jax.nn.softmax(jnp.where(has, POWER * products, -jnp.inf), axis=-1)
    user = jnp.einsum("nj,nje->ne", attention, pose)
    scores = user @ params["items"].T  # [n, items]
    return optax.softmax_cross_entropy_with_integer_labels(scores, users.target).mean()


@partial(jax.jit, static_argnums=0)
def train(
    arm: Arm, rate: jax.Array, params: Any, users: stream.Users, order: jax.Array
) -> tuple[Any, jax.Array]:
    """Train for as many steps as there are rows in `order`, [steps, batch]."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, STEPS // 30, STEPS)
    optimiser = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(schedule))

    def step(carry: Any, rows: jax.Array) -> Any:
        params, state = carry
        batch = jax.tree.map(lambda array: array[rows], users)
        value, gradient = jax.value_and_grad(partial(loss, arm))(params, batch)
        updates, state = optimiser.update(gradient, state)
        params = jax.tree.map(lambda p, update: p - rate * update, params, updates)
        return (params, state), value

    (params, _), losses = jax.lax.scan(step, (params, optimiser.init(params)), order)
    return params, losses


@partial(jax.jit, static_argnums=0)
def judge(arm: Arm, params: Any, users: stream.Users) -> tuple[jax.Array, jax.Array]:
    """Return for each user whether the next item is recommended, and the share of topics that are found."""
    pose, has = interests(arm, params, users)
    scores = jnp.einsum("nje,ie->nji", pose, params["items"])
    scores = jnp.where(has[..., None], scores, -jnp.inf)
    best = scores.max(1)  # [n, items]
    least = jax.lax.top_k(best, TOP)[0][:, -1]
    hit = jnp.take_along_axis(best, users.target[:, None], 1)[:, 0] >= least
    by_topic = scores.reshape(*scores.shape[:2], stream.TOPICS, -1).mean(-1)  # [n, 4, 20]
    found = jax.nn.one_hot(by_topic.argmax(-1), stream.TOPICS) * has[..., None]
    topics = users.topics
    return hit, (topics * found.max(1)).sum(-1) / topics.sum(-1)


def run(name: str, rate: float, seed: int, split: int) -> dict[str, Any]:
    """Train an arm with a seed, and measure it on the users of a split: 1 validation, 2 test."""
    users = stream.make_users(seed, 20_000, 0)
    draw = np.random.default_rng([seed, 3])
    order = np.stack([draw.choice(20_000, BATCH, replace=False) for _ in range(STEPS)])
    params, losses = train(ARMS[name], rate, initial(seed), users, order)
    others = stream.make_users(seed, 2000 * split, split)
    # In parts of 500 users: all their products with all items at once would be gigabytes.
    parts = (
        stream.Users(*rows) for rows in zip(*(np.split(a, 4 * split) for a in others), strict=True)
    )
    judged = [judge(ARMS[name], params, part) for part in parts]
    recall, recovery = (float(np.concatenate(both).mean()) for both in zip(*judged, strict=True))
    record = {"arm": name, "seed": seed, "rate": rate, "recall": recall, "recovery": recovery}
    return record | {"loss": float(losses[-100:].mean())}


def select(measured: list[dict[str, Any]]) -> dict[str, float]:
    """Return the learning rate of each arm: of the best mean recall, the smallest of equals."""

    def mean(name: str, rate: float) -> float:
        return float(
            np.mean([m["recall"] for m in measured if (m["arm"], m["rate"]) == (name, rate)])
        )

    return {name: max(RATES, key=lambda rate: (mean(name, rate), -rate)) for name in ARMS}


def carry_out(
    path: Path, wanted: Sequence[tuple[str, float, int]], split: int
) -> list[dict[str, Any]]:
    """Make the runs that a file does not have yet, and return the lines of all.

    Args:
        path: the file, a line for each run.
        wanted: arm, learning rate and seed of each.
        split: which users measure.

    Returns:
        What was measured, in the order in which it was.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(line["arm"], line["rate"], line["seed"]) for line in lines}
    for number, one in enumerate(wanted, start=1):
        if one not in done:
            lines.append(run(*one, split))
            with path.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(f"{path.name} {number}/{len(wanted)}: {lines[-1]}", flush=True)
    return lines


def main() -> None:
    """Select, then train what is missing."""
    parser = argparse.ArgumentParser(description="Measure what detaching costs a recommender.")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument(
        "--beyond", action="store_true", help="larger learning rates, after the plan"
    )
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    tried = [(name, rate, seed) for name in ARMS for rate in RATES for seed in SELECTION_SEEDS]
    rates = select(carry_out(RESULTS / "selection.jsonl", tried, 1))
    seeds = range(SEED, SEED + given.seeds)
    carry_out(RESULTS / "runs.jsonl", [(n, rates[n], seed) for seed in seeds for n in ARMS], 2)
    if given.beyond:
        more = [(n, rate, s) for s in seeds[:BEYOND_SEEDS] for n in ARMS for rate in BEYOND]
        carry_out(RESULTS / "beyond.jsonl", more, 2)


if __name__ == "__main__":
    main()
