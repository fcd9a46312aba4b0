"""A stream of users with known interests, made from a seed."""

from typing import NamedTuple

import numpy as np

ITEMS, TOPICS, LONGEST, SHORTEST, MOST = 2000, 20, 40, 8, 4
NOISE = 0.1  # of what a user did has nothing to do with their topics
PER_TOPIC = ITEMS // TOPICS


class Users(NamedTuple):
    """Hold what users did.

    Attributes:
        history: items in the order of time, [n, 40]; 0 where there are fewer, see `there`.
        there: True for a behaviour, False for padding, [n, 40].
        target: the item that comes next, [n].
        topics: True for the topics that a user has, [n, 20].
    """

    history: np.ndarray
    there: np.ndarray
    target: np.ndarray
    topics: np.ndarray


def topic_of(item: np.ndarray) -> np.ndarray:
    """Return the topics of items; item t · 100 + k is the one of rank k in topic t."""
    return item // PER_TOPIC


def make_users(seed: int, count: int, part: int) -> Users:
    """Draw users.

    Args:
        seed: of the stream.
        count: how many.
        part: which of several independent sets with this seed: 0 train, 1 validation, 2 test.

    Returns:
        The users.
    """
    draw = np.random.default_rng([seed, part])
    # Their topics are the first of a random order; their weights have a symmetric Dirichlet distribution.
    numbers = draw.integers(1, MOST + 1, count)  # [n]
    order = draw.random((count, TOPICS)).argsort(-1)  # [n, 20]
    topics = np.zeros((count, TOPICS), bool)
    weights = np.zeros((count, TOPICS))
    for place in range(MOST):
        rows = np.flatnonzero(numbers > place)
        topics[rows, order[rows, place]] = True
        weights[rows, order[rows, place]] = draw.gamma(2.0, size=len(rows))
    weights /= weights.sum(-1, keepdims=True)

    def items(length: int) -> np.ndarray:
        """Draw items of the users' topics, [n, length]."""
        bounds = weights.cumsum(-1)[:, None]  # [n, 1, 20]
        topic = (draw.random((count, length, 1)) * bounds[..., -1:] >= bounds).sum(-1)
        popularity = 1 / (1 + np.arange(PER_TOPIC))
        rank = draw.choice(PER_TOPIC, size=topic.shape, p=popularity / popularity.sum())
        return np.minimum(topic, TOPICS - 1) * PER_TOPIC + rank

    history = items(LONGEST)
    noise = draw.random(history.shape) < NOISE
    history = np.where(noise, draw.integers(0, ITEMS, history.shape), history)
    lengths = draw.integers(SHORTEST, LONGEST + 1, count)
    there = np.arange(LONGEST) < lengths[:, None]
    target = items(1)[:, 0]
    return Users(
        np.where(there, history, 0).astype(np.int32), there, target.astype(np.int32), topics
    )
