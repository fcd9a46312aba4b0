"""The sum of votes under their agreement with a sum of poses, in one step, and its reverse mode."""

from jaxtyping import Array, Float

from capsjax.kernels import children
from capsjax.votes import contractions
from capsjax.votes.platforms import Forms, chosen


def attend(
    total: Float[Array, "j e b"], u: Float[Array, "i d b"], W: Float[Array, "j id e"], leaky: bool
) -> Float[Array, "j e b"]:
    """Weigh by agreement and sum: `combine` under the softmax of the agreement with a sum of poses.

    Args:
        total: S, [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        leaky: whether a zero logit stands for "none of the parents".

    Returns:
        s, [j, e, b].
    """
    return chosen(_ATTEND, (u, W), (total, u, W), leaky=leaky)


def _attend(total: Array, u: Array, W: Array, leaky: bool) -> Array:
    coupling = contractions.couple(contractions.agreement(total, u, W), leaky)
    return contractions.combine(coupling, u, W)


def attend_adjoint(
    total: Float[Array, "j e b"],
    s_bar: Float[Array, "j e b"],
    u: Float[Array, "i d b"],
    W: Float[Array, "j id e"],
    accumulate: contractions.Cotangents,
    leaky: bool,
) -> tuple[Float[Array, "j e b"], contractions.Cotangents]:
    """Pull a cotangent of `attend` back to all that it is made of.

    Args:
        total: S, [j, e, b].
        s_bar: the cotangent, [j, e, b].
        u: child poses, [i, d, b].
        W: transformation matrices, [j, i d, e].
        accumulate: what those of u, [i, d, b], and of W, [j, i d, e], are added to.
        leaky: as in `attend`.

    Returns:
        That of S, [j, e, b]; and those of u and W, added to `accumulate`.
    """
    given = total, s_bar, u, W, accumulate
    return chosen(_ATTEND_ADJOINT, (u, W), given, leaky=leaky)


def _attend_adjoint(
    total: Array,
    s_bar: Array,
    u: Array,
    W: Array,
    accumulate: contractions.Cotangents,
    leaky: bool,
) -> tuple[Array, contractions.Cotangents]:
    logits, c_bar = contractions.agreements([total, s_bar], u, W)
    coupling = contractions.couple(logits, leaky)
    b_bar = contractions.couple_adjoint(coupling, c_bar)
    weights, poses = [b_bar, coupling], [total, s_bar]
    total_bar, _, found = contractions.adjoint(weights, u, W, poses, accumulate)
    return total_bar, found


_ATTEND = Forms(_attend, None, children.attend)
_ATTEND_ADJOINT = Forms(_attend_adjoint, None, children.attend_adjoint)
