"""What a routing may ask of votes."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Shaped

from capsjax import numerics
from capsjax.checks import UserError
from capsjax.display import as_table, one_line
from capsjax.types import PerPair


def as_array(name: str, given: Any) -> Array:
    """Take an array, or lists of numbers as one.

    Raises:
        UserError: where it is neither.
    """
    try:
        return given if isinstance(given, jax.Array) else jnp.asarray(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: got {described(given)}, expected an array") from error


def described(given: Any) -> str:
    """Describe in short what came for an array."""
    if hasattr(given, "dtype"):
        return f"{given.dtype}{list(given.shape)}"
    return "None" if given is None else f"a {type(given).__name__}"


def is_placeholder(given: Any) -> bool:
    """Tell an axis, or None, as it stands for an array in `in_axes` of `jax.vmap`.

    Votes can be made of them, for that, and of nothing else that is no array; they cannot be used.
    """
    return given is None or (isinstance(given, int) and not isinstance(given, bool))


@dataclasses.dataclass(frozen=True)
class Votes(abc.ABC):
    """Define what a routing may ask of votes; a pytree whose leaves are its arrays.

    Logits, couplings and agreements are [*batch, i, j] unless a class says otherwise: who routes makes
    them with `zeros`, `couple` and `agreement`, uses them in `combine`, and returns them `shown`.
    Fields that are no arrays are marked as `static` in their metadata.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    @classmethod
    def _names(cls, static: bool) -> list[str]:
        return [
            field.name
            for field in dataclasses.fields(cls)
            if field.metadata.get("static", False) == static
        ]

    def _flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        arrays, static = (
            tuple(getattr(self, name) for name in self._names(kind)) for kind in (False, True)
        )
        return arrays, static

    @classmethod
    def _unflatten(cls, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
        # Transformations rebuild votes around placeholders, which no check of shapes would let pass.
        votes = object.__new__(cls)
        names = [*cls._names(False), *cls._names(True)]
        for name, value in zip(names, [*arrays, *static], strict=True):
            object.__setattr__(votes, name, value)
        return votes

    def _check_pairs(self, given: Array) -> None:
        """Refuse a coupling that is not [*batch, i, j], even where it would broadcast."""
        self._check("combine", "a coupling", given, self.shape[:-1], "[*batch, i, j]")

    def _check_poses(self, given: Array) -> None:
        """Refuse poses that are not [*batch, j, e], even where they would broadcast."""
        shape = *self.shape[:-3], *self.shape[-2:]
        self._check("agreement", "a pose", given, shape, "[*batch, j, e]")

    def _check(self, name: str, what: str, given: Array, shape: tuple[int, ...], axes: str) -> None:
        if jnp.shape(given) != shape:
            raise UserError(
                f"{type(self).__name__}.{name}: got {what} {list(jnp.shape(given))} for votes "
                f"{list(self.shape)}, expected {list(shape)}: {axes}"
            )

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape that `dense()` has, (*batch, i, j, e)."""

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype:
        """The type that results have."""

    @abc.abstractmethod
    def combine(self, coupling: PerPair) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling [*batch, i, j]; returns s, [*batch, j, e]."""

    @abc.abstractmethod
    def agreement(self, pose: Float[Array, "*batch j e"]) -> PerPair:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, [*batch, i, j]."""

    @abc.abstractmethod
    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, [*batch, i, j, e]."""

    @abc.abstractmethod
    def agreements(self, poses: Sequence[Float[Array, "*batch j e"]]) -> list[PerPair]:
        """Compare several poses at once, each [*batch, j, e]; returns as many agreements."""

    @abc.abstractmethod
    def adjoint(
        self,
        couplings: Sequence[PerPair],
        poses: Sequence[Float[Array, "*batch j e"]],
        onto: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj by v_0 and by the votes' own arrays.

        Both contractions are derivatives of that form, so their adjoints need nothing else.

        Args:
            couplings: c_k, each as `couple` makes them.
            poses: v_k, as many, each [*batch, j, e].
            onto: what the derivatives by the arrays are added to.

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the derivatives by the votes' arrays, in
            their place.
        """

    def uniform(self, leaky: bool = False) -> Float[Array, "*batch j e"]:
        """Weigh and sum by the first coupling, in which a child divides itself equally among its parents.

        Children may have different numbers of parents, so the coupling is asked for; where all have the same
        number, a class may be faster.

        Args:
            leaky: whether a share is left for none of the parents.

        Returns:
            s_j = sum_i vote_ij / (number of i's parents, and one more when leaky), [*batch, j, e].
        """
        return self.combine(self.couple(self.zeros(), leaky))

    def couple_adjoint(self, coupling: PerPair, cotangent: PerPair) -> PerPair:
        """Pull a cotangent of `couple` back to the logits."""
        return numerics.couple_adjoint(coupling, cotangent)

    def arranged(self) -> "Votes":
        """Return equal votes, with their arrays laid out to be contracted many times."""
        return self

    def arrange(self, x: Float[Array, "*batch i j"]) -> PerPair:
        """Return what `shown` shows as [*batch, i, j] as these votes hold it."""
        return x

    def shown(self, x: PerPair) -> Float[Array, "*batch i j"]:
        """Return logits, a coupling or an agreement of these votes as [*batch, i, j]."""
        return x

    def spread(self, x: Shaped[Array, "*batch"]) -> Shaped[Array, "..."]:
        """Repeat a value of each example, [*batch], for all its pairs, as these votes hold them."""
        return jnp.broadcast_to(x[..., None, None], self.shape[:-1])

    def largest(self, x: PerPair) -> Float[Array, "*batch"]:
        """Return the largest |x_ij| of each example's pairs, [*batch]; 0 where there are none."""
        return jnp.max(jnp.abs(x), axis=(-2, -1), initial=0)

    def inner(self, x: PerPair, y: PerPair) -> Float[Array, "*batch"]:
        """Return the sum of x_ij y_ij over each example's pairs, [*batch]."""
        return jnp.sum(x * y, axis=(-2, -1))

    def astype(self, dtype: DTypeLike) -> "Votes":
        """Return the same votes computed in another type."""
        return jax.tree.map(lambda array: array.astype(dtype), self)

    def zeros(self) -> PerPair:
        """Return the logits that every forward pass starts from, all zero, [*batch, i, j]."""
        # Behind a barrier: else the compiler spends seconds to evaluate the first softmax itself.
        return jax.lax.optimization_barrier(jnp.zeros(self.shape[:-1], self.dtype))

    def couple(self, logits: PerPair, leaky: bool = False) -> PerPair:
        """Normalise logits [*batch, i, j] over each child's parents; see `numerics.couple`."""
        return numerics.couple(logits, leaky)
