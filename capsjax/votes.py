"""Votes as a linear operator: routing touches them only through two contractions.

`combine` weighs the votes by a coupling and sums them over children; `agreement` compares each vote
with its parent's pose. Both are partial derivatives of one form that is linear in each of its four
arguments, T(c, u, W, v) = sum_ij c_ij (W_ij u_i) . v_j, and so are their adjoints.
"""

import abc
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from capsjax import numerics
from capsjax.checks import UserError


@dataclasses.dataclass(frozen=True)
class Votes(abc.ABC):
    """Define what a routing may ask of votes; a pytree whose leaves are its arrays."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def _flatten(self) -> tuple[tuple[Any, ...], None]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self)), None

    @classmethod
    def _unflatten(cls, _: None, leaves: tuple[Any, ...]) -> Any:
        # Transformations rebuild votes around placeholders, which no check of shapes would let pass.
        votes = object.__new__(cls)
        for field, leaf in zip(dataclasses.fields(cls), leaves, strict=True):
            object.__setattr__(votes, field.name, leaf)
        return votes

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape that `dense()` has, (*batch, i, j, e)."""

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype:
        """The type that results have."""

    @abc.abstractmethod
    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""

    @abc.abstractmethod
    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""

    @abc.abstractmethod
    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, [*batch, i, j, e]."""

    @abc.abstractmethod
    def agreements(self, poses: Float[Array, "k *batch j e"]) -> Float[Array, "k *batch i j"]:
        """Compare k poses at once, [k, *batch, j, e]; returns [k, *batch, i, j]."""

    @abc.abstractmethod
    def adjoint(
        self, couplings: Float[Array, "k *batch i j"], poses: Float[Array, "k *batch j e"]
    ) -> tuple[Float[Array, "*batch j e"], "Votes"]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj by v_0 and by the votes' own arrays.

        Both contractions are derivatives of that form, so their adjoints need nothing else.

        Args:
            couplings: c, [k, *batch, i, j].
            poses: v, [k, *batch, j, e].

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the derivatives by the votes' arrays, in
            their place.
        """

    def couple_adjoint(
        self, coupling: Float[Array, "*batch i j"], cotangent: Float[Array, "*batch i j"]
    ) -> Float[Array, "*batch i j"]:
        """Pull a cotangent of `couple` back to the logits, [*batch, i, j]."""
        return numerics.couple_adjoint(coupling, cotangent)

    def astype(self, dtype: DTypeLike) -> "Votes":
        """Return the same votes computed in another type."""
        return jax.tree.map(lambda array: array.astype(dtype), self)

    def zeros(self) -> Float[Array, "*batch i j"]:
        """Return the logits that every forward pass starts from, all zero, [*batch, i, j]."""
        # Behind a barrier: else the compiler spends seconds to evaluate the first softmax itself.
        return jax.lax.optimization_barrier(jnp.zeros(self.shape[:-1], self.dtype))

    def couple(
        self, logits: Float[Array, "*batch i j"], leaky: bool = False
    ) -> Float[Array, "*batch i j"]:
        """Normalise logits [*batch, i, j] over each child's parents; see `numerics.couple`."""
        return numerics.couple(logits, leaky)


@dataclasses.dataclass(frozen=True)
class DenseVotes(Votes):
    """Hold the votes themselves, as an array.

    Args:
        array: vote of child i for parent j, [*batch, i, j, e].

    Raises:
        UserError: where the array has fewer than three axes or is not floating point.
    """

    array: Float[Array, "*batch i j e"]

    def __post_init__(self):
        if self.array.ndim < 3 or not jnp.issubdtype(self.array.dtype, jnp.floating):
            raise UserError(
                f"votes: got {self.array.dtype}{list(self.array.shape)}, expected a floating-point "
                "array [*batch, i, j, e]: children, parents and pose on the last three axes"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, (*batch, i, j, e)."""
        return self.array.shape

    @property
    def dtype(self) -> jnp.dtype:
        """The type of the array."""
        return self.array.dtype

    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""
        return jnp.einsum("...ij,...ije->...je", coupling, self.array)

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""
        return jnp.einsum("...ije,...je->...ij", self.array, pose)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Return the array."""
        return self.array

    def agreements(self, poses: Float[Array, "k *batch j e"]) -> Float[Array, "k *batch i j"]:
        """Compare k poses at once, [k, *batch, j, e]; returns [k, *batch, i, j]."""
        return jnp.einsum("...ije,k...je->k...ij", self.array, poses)

    def adjoint(
        self, couplings: Float[Array, "k *batch i j"], poses: Float[Array, "k *batch j e"]
    ) -> tuple[Float[Array, "*batch j e"], "Votes"]:
        """Return `combine` of the first coupling, and sum_k c_kij v_kj in the place of the array."""
        outer = jnp.einsum("k...ij,k...je->...ije", couplings, poses)
        return self.combine(couplings[0]), dataclasses.replace(self, array=outer)


@dataclasses.dataclass(frozen=True)
class LinearVotes(Votes):
    """Hold children's poses and transformation matrices, and never form the votes W_ij u_i.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, one for each child and parent, [i, j, d, e].

    Raises:
        UserError: where the shapes do not fit, or are not floating point.
    """

    u: Float[Array, "*batch i d"]
    W: Float[Array, "i j d e"]

    def __post_init__(self):
        u, W = self.u, self.W
        fits = u.ndim >= 2 and W.ndim == 4 and u.shape[-2:] == (W.shape[0], W.shape[2])
        if not fits:
            raise UserError(
                f"predict: got u {list(u.shape)} and W {list(W.shape)}, expected u [*batch, i, d] and "
                "W [i, j, d, e]: the same number of children i and the same child dimension d"
            )
        if not all(jnp.issubdtype(array.dtype, jnp.floating) for array in (u, W)):
            raise UserError(f"predict: got {u.dtype} and {W.dtype}, expected floating-point arrays")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the votes would have, (*batch, i, j, e)."""
        return (*self.u.shape[:-1], self.W.shape[1], self.W.shape[3])

    @property
    def dtype(self) -> jnp.dtype:
        """The type that the votes would have."""
        return jnp.promote_types(self.u.dtype, self.W.dtype)

    def combine(self, coupling: Float[Array, "*batch i j"]) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij W_ij u_i. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""
        self._check_batch("combine", "a coupling", coupling)
        dtype = jnp.promote_types(self.dtype, coupling.dtype)
        flat = _combine(*(x.astype(dtype) for x in (_flat(coupling, 2), _flat(self.u, 2), self.W)))
        return flat.reshape(*self.shape[:-3], *flat.shape[1:])

    def agreement(self, pose: Float[Array, "*batch j e"]) -> Float[Array, "*batch i j"]:
        """Compare: a_ij = (W_ij u_i) . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""
        self._check_batch("agreement", "a pose", pose)
        dtype = jnp.promote_types(self.dtype, pose.dtype)
        flat = _agreement(*(x.astype(dtype) for x in (_flat(pose, 2), _flat(self.u, 2), self.W)))
        return flat.reshape(*self.shape[:-3], *flat.shape[1:])

    def _examples(self) -> int:
        return math.prod(self.shape[:-3])

    def _check_batch(self, name: str, what: str, given: Array) -> None:
        """Refuse leading axes that only multiply to the same number of examples."""
        if given.shape[:-2] != self.shape[:-3]:
            raise UserError(
                f"LinearVotes.{name}: got {what} {list(given.shape)} for votes {list(self.shape)}, "
                "expected the same leading axes"
            )

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, vote_ij = W_ij u_i, [*batch, i, j, e]."""
        return jnp.einsum("...id,ijde->...ije", self.u, self.W)

    def agreements(self, poses: Float[Array, "k *batch j e"]) -> Float[Array, "k *batch i j"]:
        """Compare k poses at once, [k, *batch, j, e]; returns [k, *batch, i, j]."""
        k = poses.shape[0]
        found = _agreements(
            poses.reshape(k, self._examples(), *poses.shape[-2:]), _flat(self.u, 2), self.W
        )
        return found.reshape(k, *self.shape[:-1])

    def adjoint(
        self, couplings: Float[Array, "k *batch i j"], poses: Float[Array, "k *batch j e"]
    ) -> tuple[Float[Array, "*batch j e"], "Votes"]:
        """Return `combine` of the first coupling, and the derivatives by u and W in their place."""
        k = poses.shape[0]
        c = couplings.reshape(k, self._examples(), *couplings.shape[-2:])
        v = poses.reshape(k, self._examples(), *poses.shape[-2:])
        s, u_bar, W_bar = _adjoints(c, _flat(self.u, 2), self.W, v)
        bars = dataclasses.replace(self, u=u_bar.reshape(self.u.shape), W=W_bar)
        return s.reshape(poses.shape[1:]), bars


def predict(u: Float[Array, "*batch i d"], W: Float[Array, "i j d e"]) -> LinearVotes:
    """Predict each parent's pose from each child's: vote_ij = W_ij u_i.

    The result is an operator: routing needs only its two contractions, so the array
    [*batch, i, j, e] is not formed unless `.dense()` asks for it.

    Args:
        u: child poses, [*batch, i, d].
        W: transformation matrices, the trained parameter, [i, j, d, e].

    Returns:
        The votes, of shape (*batch, i, j, e).

    Raises:
        UserError: where the shapes do not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> predict(jnp.ones([4, 6, 8]), jnp.ones([6, 3, 8, 16])).shape
        (4, 6, 3, 16)

    Reference:
        Sabour, Frosst and Hinton 2017, equation 2.
    """
    return LinearVotes(u, W)


def as_votes(votes: Votes | Float[Array, "*batch i j e"]) -> Votes:
    """Take votes as they are, or an array [*batch, i, j, e] as dense votes."""
    return votes if isinstance(votes, Votes) else DenseVotes(jnp.asarray(votes))


def _flat(x: Array, trailing: int) -> Array:
    """Gather all leading axes into one."""
    kept = x.shape[x.ndim - trailing :]
    return x.reshape(math.prod(x.shape[: x.ndim - trailing]), *kept)


def _matrices(W: Float[Array, "i j d e"]) -> Float[Array, "j id e"]:
    """Put the parents in front, to be gone over one by one, each W_j one matrix."""
    i, j, d, e = W.shape
    return jnp.swapaxes(W, 0, 1).reshape(j, i * d, e)


def _children_first(matrices: Float[Array, "j id e"], shape: tuple[int, ...]) -> Array:
    i, j, d, e = shape
    return jnp.swapaxes(matrices.reshape(j, i, d, e), 0, 1)


def _weigh(c: Float[Array, "b i"], u: Float[Array, "b i d"]) -> Float[Array, "b id"]:
    return (c[:, :, None] * u).reshape(u.shape[0], u.shape[1] * u.shape[2])


def _pull(
    v: Float[Array, "b e"], matrix: Float[Array, "id e"], u: Float[Array, "b i d"]
) -> Float[Array, "b i d"]:
    """Pull a parent's pose back to its children: W_ij^T v_j."""
    return (v @ matrix.T).reshape(u.shape)


@jax.custom_vjp
def _combine(
    c: Float[Array, "b i j"], u: Float[Array, "b i d"], W: Float[Array, "i j d e"]
) -> Float[Array, "b j e"]:
    """dT/dv: for each parent, the product of (c_ij u_i), [b, i d], with W_j, [i d, e]."""
    parents = jnp.moveaxis(c, 2, 0), _matrices(W)
    s = jax.lax.map(lambda parent: _weigh(parent[0], u) @ parent[1], parents)
    return jnp.moveaxis(s, 0, 1)


@jax.custom_vjp
def _agreement(
    v: Float[Array, "b j e"], u: Float[Array, "b i d"], W: Float[Array, "i j d e"]
) -> Float[Array, "b i j"]:
    """dT/dc: for each parent, (v_j W_j^T), [b, i d], times u, summed over d."""

    def one(parent: tuple[Array, Array]) -> Array:
        pose, matrix = parent
        return jnp.sum(_pull(pose, matrix, u) * u, axis=-1)

    return jnp.moveaxis(jax.lax.map(one, (jnp.moveaxis(v, 1, 0), _matrices(W))), 0, 2)


def _adjoint(
    c: Float[Array, "b i j"],
    u: Float[Array, "b i d"],
    W: Float[Array, "i j d e"],
    v: Float[Array, "b j e"],
    *,
    of_coupling: bool,
) -> tuple[Array, Array, Array]:
    """Return dT/dc (or dT/dv), dT/du and dT/dW in one pass over the parents.

    Reverse mode needs two of T's three small gradients at a time: `combine` those by c, u, W, where v
    is its cotangent; `agreement` those by v, u, W, where c is its cotangent.
    """

    def one(u_bar: Array, parent: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        coupling, matrix, pose = parent
        pulled = _pull(pose, matrix, u)
        weighed = _weigh(coupling, u)
        small = jnp.sum(pulled * u, axis=-1) if of_coupling else weighed @ matrix
        return u_bar + coupling[:, :, None] * pulled, (small, weighed.T @ pose)

    parents = jnp.moveaxis(c, 2, 0), _matrices(W), jnp.moveaxis(v, 1, 0)
    u_bar, (small, matrices_bar) = jax.lax.scan(one, jnp.zeros_like(u), parents)
    small = jnp.moveaxis(small, 0, 2 if of_coupling else 1)
    return small, u_bar, _children_first(matrices_bar, W.shape)


def _agreements(
    v: Float[Array, "k b j e"], u: Float[Array, "b i d"], W: Float[Array, "i j d e"]
) -> Float[Array, "k b i j"]:
    """Return dT/dc of k poses, in one pass over the parents."""

    def one(parent: tuple[Array, Array]) -> Array:
        poses, matrix = parent
        return jnp.stack([jnp.sum(_pull(pose, matrix, u) * u, axis=-1) for pose in poses])

    return jnp.moveaxis(jax.lax.map(one, (jnp.moveaxis(v, 2, 0), _matrices(W))), 0, 3)


def _adjoints(
    c: Float[Array, "k b i j"],
    u: Float[Array, "b i d"],
    W: Float[Array, "i j d e"],
    v: Float[Array, "k b j e"],
) -> tuple[Float[Array, "b j e"], Float[Array, "b i d"], Float[Array, "i j d e"]]:
    """Return dT/dv_0, dT/du and dT/dW of k couplings and poses, in one pass over the parents."""

    def one(u_bar: Array, parent: tuple[Array, Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        couplings, matrix, poses = parent
        weighed = [_weigh(coupling, u) for coupling in couplings]
        for coupling, pose in zip(couplings, poses, strict=True):
            u_bar = u_bar + coupling[:, :, None] * _pull(pose, matrix, u)
        terms = (x.T @ pose for x, pose in zip(weighed, poses, strict=True))
        return u_bar, (weighed[0] @ matrix, functools.reduce(jnp.add, terms))

    parents = jnp.moveaxis(c, 3, 0), _matrices(W), jnp.moveaxis(v, 2, 0)
    u_bar, (s, matrices_bar) = jax.lax.scan(one, jnp.zeros_like(u), parents)
    return jnp.moveaxis(s, 0, 1), u_bar, _children_first(matrices_bar, W.shape)


def _combine_forward(c: Array, u: Array, W: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _combine(c, u, W), (c, u, W)


def _combine_backward(
    saved: tuple[Array, Array, Array], s_bar: Array
) -> tuple[Array, Array, Array]:
    return _adjoint(*saved, s_bar, of_coupling=True)


def _agreement_forward(v: Array, u: Array, W: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    return _agreement(v, u, W), (v, u, W)


def _agreement_backward(
    saved: tuple[Array, Array, Array], a_bar: Array
) -> tuple[Array, Array, Array]:
    v, u, W = saved
    return _adjoint(a_bar, u, W, v, of_coupling=False)


_combine.defvjp(_combine_forward, _combine_backward)
_agreement.defvjp(_agreement_forward, _agreement_backward)
