"""Votes as a linear operator: routing touches them only through two contractions.

`combine` weighs the votes by a coupling and sums them over children; `agreement` compares each vote
with its parent's pose. Both are partial derivatives of one form that is linear in each of its four
arguments, T(c, u, W, v) = sum_ij c_ij (W_ij u_i) . v_j, and so are their adjoints.
"""

import math
from typing import Any, Literal, get_args

from jaxtyping import Array, Float

from capsjax.checks import UserError, nearest
from capsjax.votes.base import Votes
from capsjax.votes.contractions import accelerated
from capsjax.votes.dense import DenseVotes, as_votes
from capsjax.votes.grid import SHARES, Share, Window
from capsjax.votes.linear import LinearVotes, predict
from capsjax.votes.masks import mask
from capsjax.votes.pairs import AllPairs, Pairs
from capsjax.votes.shared import SharedVotes, shared_votes
from capsjax.votes.window import WindowVotes, window_votes

__all__ = [
    "FORMS",
    "SHARES",
    "AllPairs",
    "DenseVotes",
    "LinearVotes",
    "Pairs",
    "Share",
    "SharedVotes",
    "VoteForm",
    "Votes",
    "Window",
    "WindowVotes",
    "as_votes",
    "form_votes",
    "mask",
    "predict",
    "shared_votes",
    "window_votes",
]

VoteForm = Literal["auto", "linear", "dense"]
FORMS: tuple[str, ...] = get_args(VoteForm)
LANES = 16  # components of a pose; rows of fewer take as long, with dense votes
START = 8  # examples in whose time a row of them begins, with linear votes
# Numbers up to which votes may be formed where that is faster, kept several times over: 16 MB on a CPU, and
# on a GPU 1 GB (docs/decisions/0019).
LARGEST, LARGEST_ACCELERATED = 2**22, 2**28


def form_votes(
    u: Float[Array, "*batch i d"], W: Float[Array, "i j d e"], form: VoteForm = "auto"
) -> Votes:
    """Predict each parent's pose from each child's, in the form that routing is to work on.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, [i, j, d, e].
        form: "linear" never forms the votes; "dense" forms them once; "auto" takes what is faster, on a CPU
            by the number of examples and the sizes of poses, elsewhere dense ones up to 1 GB.

    Returns:
        The votes, of shape (*batch, i, j, e); equal to rounding in every form.

    Raises:
        UserError: If the form is unknown or the shapes do not fit.
    """
    if form not in FORMS:
        raise UserError(
            f"votes: got form {form!r}, expected one of {', '.join(FORMS)}"
            + nearest(str(form), FORMS)
        )
    votes = predict(u, W)
    if form == "auto":
        form = faster_form(math.prod(u.shape[:-2]), *W.shape)
    return DenseVotes(votes.dense()) if form == "dense" else votes


def faster_form(examples: Any, i: int, j: int, d: int, e: int) -> Literal["linear", "dense"]:
    """Choose dense votes if they are small, and on a CPU only if linear ones take longer.

    An iteration goes over d numbers for each example, child and parent with linear votes, in rows of
    examples that take some time to begin; with dense ones over e, in rows of e that are filled up to whole
    vectors. Fitted to what benchmarks/votes.py measured (docs/decisions/0022). On a GPU memory is fast, and
    small products are not (docs/decisions/0019).

    Args:
        examples: their number; or a symbol for any, under `jax.export`.
        i: children.
        j: parents.
        d: components of a child's pose.
        e: components of a parent's pose.

    Returns:
        The name of the faster form.
    """
    if not isinstance(examples, int):
        return "linear"
    size = examples * i * j * e
    if accelerated():
        return "dense" if size <= LARGEST_ACCELERATED else "linear"
    linear, dense = d * (1 + START / max(examples, 1)), -(-e // LANES) * LANES
    return "dense" if linear > dense and size <= LARGEST else "linear"
