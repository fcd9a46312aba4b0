"""Train and measure every arm of the experiment; see README.md.

    python experiments/interests/measure.py [--seeds N]

Writes results/selection.json, then results/runs.jsonl, a line for each arm and seed; what is there is not run
again.
"""

import argparse
import json
from collections.abc import Callable, Mapping
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


def main(run: Callable[..., dict[str, Any]] = run) -> None:
    """Select, then train what is missing."""
    parser = argparse.ArgumentParser(description="Measure what detaching costs a recommender.")
    parser.add_argument("--seeds", type=int, default=30)
    count = parser.parse_args().seeds
    chosen, runs = RESULTS / "selection.json", RESULTS / "runs.jsonl"
    RESULTS.mkdir(exist_ok=True)
    if not chosen.exists():
        measured = [run(a, rate, s, 1) for a in ARMS for rate in RATES for s in SELECTION_SEEDS]
        chosen.write_text(
            json.dumps({"rates": select(measured), "measured": measured}, indent=1) + "\n"
        )
    rates = json.loads(chosen.read_text())["rates"]
    lines = runs.read_text().splitlines() if runs.exists() else []
    done = {(line["arm"], line["seed"]) for line in map(json.loads, lines)}
    for seed in range(SEED, SEED + count):
        for name in ARMS:
            if (name, seed) not in done:
                record = run(name, rates[name], seed, 2)
                with runs.open("a") as file:
                    file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
