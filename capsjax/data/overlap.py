"""Images that show two classes: two images of others laid over each other, on the device."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

TOGETHER = 2  # images that lie over each other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
    """Say how two images of different classes lie over each other.

    x = min(1, a + b), a and b each moved by whole pixels, uniform over {-m, ..., m}^2

    Args:
        shift: m; what leaves the image is lost, and what comes in is 0.
        seed: of the pairs that judge, which are always the same; those that train are drawn anew in every
            step, from the seed of the run.

    Reference:
        Sabour, Frosst and Hinton 2017, section 6, with m = 4; their released code has m = 6.
    """

    shift: int
    seed: int = 0


class Others(NamedTuple):
    """Hold where the examples of other classes are, for each example of n.

    Attributes:
        order: the examples, class after class, [n].
        after: the place in `order` that follows the last of its class, for each example, [n].
        count: how many examples are of other classes than its own, for each example, [n].
    """

    order: Int[Array, "n"]
    after: Int[Array, "n"]
    count: Int[Array, "n"]


class Pairs(NamedTuple):
    """Hold which images lie over each other, and where.

    Attributes:
        places: the two examples, that of the lower class number first, [n, 2].
        offsets: by how much each is moved, pixels down and to the right, [n, 2, 2].
    """

    places: Int[Array, "n 2"]
    offsets: Int[Array, "n 2 2"]


def others_of(labels: Int[np.ndarray, "n"]) -> Others:
    """Find, for every example, those of other classes: in `order`, behind its own class and around the end.

    Args:
        labels: class numbers of at least two classes, [n].

    Returns:
        Where they are.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[order], labels, side="right")
    starts = np.searchsorted(labels[order], labels, side="left")
    count = len(labels) - (ends - starts)
    return Others(*(jnp.asarray(part, jnp.int32) for part in (order, ends, count)))


def draw_pairs(
    key: Array, chosen: Int[Array, "b"], labels: Int[Array, "n"], others: Others
) -> Int[Array, "b 2"]:
    """Draw for each chosen example one of another class; all of those are equally likely.

    Args:
        key: random key.
        chosen: examples, [b].
        labels: class numbers of all examples, [n].
        others: as `others_of` the labels gives it.

    Returns:
        Both examples, that of the lower class number first, [b, 2].
    """
    drawn = jax.random.randint(key, chosen.shape, 0, others.count[chosen])  # [b]
    other = others.order[(others.after[chosen] + drawn) % labels.shape[0]]
    pair = jnp.stack([chosen, other], -1)  # [b, 2]
    # In the order in which a decoder draws the classes that it believes in.
    return jnp.where((labels[chosen] < labels[other])[:, None], pair, pair[:, ::-1])


def fixed_pairs(labels: Int[np.ndarray, "n"], overlap: Overlap) -> Pairs:
    """Draw the pairs that judge: each example once, beside another that is drawn.

    Args:
        labels: class numbers of at least two classes, [n].
        overlap: its shift and its seed.

    Returns:
        The pairs, in the order of the examples; the same for the same labels.
    """
    beside, moved = jax.random.split(jax.random.key(overlap.seed))
    known, n = jnp.asarray(labels), len(labels)
    places = draw_pairs(beside, jnp.arange(n), known, others_of(labels))
    # The upper end of `randint` is excluded.
    offsets = jax.random.randint(moved, (n, TOGETHER, 2), -overlap.shift, overlap.shift + 1)
    return Pairs(places, offsets)


def lay_over(parts: Float[Array, "b k h w c"]) -> Float[Array, "b h w c"]:
    """Add up the images that lie over each other; what is brighter than white is white.

    Args:
        parts: pixels from 0 to 1 of k images for each example, [b, k, h, w, c].

    Returns:
        Pixels from 0 to 1, [b, h, w, c].
    """
    return jnp.minimum(parts.sum(axis=1), 1)
