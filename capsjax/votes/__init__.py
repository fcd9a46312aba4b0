"""Votes as a linear operator: routing touches them only through two contractions.

`combine` weighs the votes by a coupling and sums them over children; `agreement` compares each vote
with its parent's pose. Both are partial derivatives of one form that is linear in each of its four
arguments, T(c, u, W, v) = sum_ij c_ij (W_ij u_i) . v_j, and so are their adjoints.
"""

import math
from typing import Literal, get_args

import jax
from jaxtyping import Array, Float

from capsjax.checks import UserError, nearest
from capsjax.votes.base import Votes, as_array
from capsjax.votes.dense import DenseVotes
from capsjax.votes.linear import LinearVotes, predict

__all__ = [
    "FORMS",
    "DenseVotes",
    "LinearVotes",
    "VoteForm",
    "Votes",
    "as_votes",
    "form_votes",
    "predict",
]

VoteForm = Literal["auto", "linear", "dense"]
FORMS: tuple[str, ...] = get_args(VoteForm)
EXAMPLES = 16  # from which on linear votes fill the vector units of a CPU


def form_votes(
    u: Float[Array, "*batch i d"], W: Float[Array, "i j d e"], form: VoteForm = "auto"
) -> Votes:
    """Predict each parent's pose from each child's, in the form that routing is to work on.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, [i, j, d, e].
        form: "linear" never forms the votes; "dense" forms them once; "auto" takes what is faster on a CPU,
            by the number of examples and the sizes of poses, and linear votes elsewhere.

    Returns:
        The votes, of shape (*batch, i, j, e); equal to rounding in every form.

    Raises:
        UserError: where the form is unknown or the shapes do not fit.
    """
    if form not in FORMS:
        raise UserError(
            f"votes: got form {form!r}, expected one of {', '.join(FORMS)}"
            + nearest(str(form), FORMS)
        )
    votes = predict(u, W)
    if form == "auto":
        form = faster_form(votes) if jax.default_backend() == "cpu" else "linear"
    return DenseVotes(votes.dense()) if form == "dense" else votes


def faster_form(votes: LinearVotes) -> Literal["linear", "dense"]:
    """Choose for a CPU: linear votes where examples fill the vector units and d is no larger than e.

    An iteration goes over d numbers for each example, child and parent with linear votes, over e with dense
    ones; see docs/decisions/0006 for what was measured.
    """
    examples, (_, _, d, e) = math.prod(votes.u.shape[:-2]), votes.W.shape
    return "linear" if examples >= EXAMPLES and d <= e else "dense"


def as_votes(votes: Votes | Float[Array, "*batch i j e"]) -> Votes:
    """Take votes as they are, or an array [*batch, i, j, e] as dense votes."""
    return votes if isinstance(votes, Votes) else DenseVotes(as_array("votes", votes))
