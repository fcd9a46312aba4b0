"""What a routing may ask of votes: a linear operator in the coupling, and what follows from it."""

import abc
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from capsjax.checks import UserError
from capsjax.display import as_table, one_line
from capsjax.numerics import add_cotangents, described
from capsjax.types import PerPair
from capsjax.votes.pairs import AllPairs, Pairs
from capsjax.votes.sharding import vary_as


def is_placeholder(given: Any) -> bool:
    """Return whether it is an axis, or None, as it stands for an array in `in_axes` of `jax.vmap`.

    Votes can be made of them, for that, and of nothing else that is not an array; they cannot be used.
    """
    return given is None or (isinstance(given, int) and not isinstance(given, bool))


def check_floating(call: str, u: Any, W: Any) -> None:
    """Check that votes are held as two arrays of floating-point numbers.

    Args:
        call: what makes such votes, for the message.
        u: what is given as children's poses.
        W: what is given as transformation matrices.

    Raises:
        UserError: If they are anything else.
    """
    if not all(hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.floating) for x in (u, W)):
        got = f"u {described(u)} and W {described(W)}"
        raise UserError(f"{call}: got {got}, expected floating-point arrays")


@functools.cache  # asked for at every crossing of a transformation
def _field_names(cls: type) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the fields that hold arrays, and those that are static."""
    fields = dataclasses.fields(cls)
    static = tuple(field.name for field in fields if field.metadata.get("static", False))
    return tuple(field.name for field in fields if field.name not in static), static


class Masks(NamedTuple):
    """Hold which capsules are there.

    Attributes:
        children: True for a child that is there, [*batch, i]; None if all are.
        parents: True for a parent that is there, [*batch, j]; None if all are.
    """

    children: Bool[Array, "*batch i"] | None = None
    parents: Bool[Array, "*batch j"] | None = None


class Fit(NamedTuple):
    """Hold a Gaussian for each parent, fitted to its votes.

    Attributes:
        mean: [*batch, j, e].
        variance: in units of unit^2, the floor included, [*batch, j, e].
        distance: of each vote from its parent's mean, in units of the variance, as held; None if not asked.
    """

    mean: Float[Array, "*batch j e"]
    variance: Float[Array, "*batch j e"]
    distance: PerPair | None


@dataclasses.dataclass(frozen=True)
class Votes(abc.ABC):
    """Define what a routing may ask of votes; a pytree whose leaves are its arrays.

    A class writes `shape`, `dtype` and `combine`, and `pairs` where not every child votes for every parent.
    Everything else is derived from `combine` by reverse mode, and overridden where something is faster:

    combine(c) is dT/dv and agreement(v) is dT/dc of T = sum_ij c_ij vote_ij . v_j; scatter(c, m) is dD/dp and
    distance(m, p) is dD/dc of D = sum_ij c_ij sum_h p_jh (vote_ijh - m_jh)^2. fit(w, c) is all three in turn.

    Logits, couplings and agreements are held as `pairs` say. Fields that are not arrays are marked as
    `static` in their metadata.

    Args:
        masks: which children and parents are there; see `mask`.
    """

    masks: Masks | None = dataclasses.field(default=None, kw_only=True, repr=False)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_pytree_node(cls, cls._flatten, cls._unflatten)

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    def _flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        arrays, static = _field_names(type(self))
        return tuple(getattr(self, n) for n in arrays), tuple(getattr(self, n) for n in static)

    @classmethod
    def _unflatten(cls, static: tuple[Any, ...], arrays: tuple[Any, ...]) -> Any:
        # Transformations rebuild votes around placeholders, which no check of shapes would let pass.
        votes = object.__new__(cls)
        names = itertools.chain(*_field_names(cls))
        for name, value in zip(names, (*arrays, *static), strict=True):
            object.__setattr__(votes, name, value)
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
    def combine(self, coupling: PerPair) -> Float[Array, "*batch j e"]:
        """Weigh and sum: s_j = sum_i c_ij vote_ij. Coupling as held; returns s, [*batch, j, e]."""

    @property
    def pairs(self) -> Pairs:
        """Which child may vote for which parent, and how a number for each pair is held."""
        return AllPairs(self.shape[:-1], *self._masks())

    def zeros(self) -> PerPair:
        """Return the logits that every forward pass starts from, all zero, as held."""
        # A loop's carry has one type: inside `jax.shard_map` zeros have to vary as what they will become.
        return vary_as(self.pairs.zeros(self.dtype), self)

    def couple(self, logits: PerPair, leaky: bool = False) -> PerPair:
        """Normalise logits over each child's parents: c_ij = exp b_ij / sum_k exp b_ik.

        Args:
            logits: b_ij, as held.
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, as held; exactly 0 for a child or a parent that is not there.
        """
        return self.pairs.couple(logits, leaky)

    def agreement(self, pose: Float[Array, "*batch j e"]) -> PerPair:
        """Compare: a_ij = vote_ij . v_j. Pose [*batch, j, e]; returns a, as held."""
        # `combine` is linear in the coupling, so its reverse mode is the same at any coupling.
        return jax.vjp(self.combine, self.zeros())[1](pose)[0]

    def agreements(self, poses: Sequence[Float[Array, "*batch j e"]]) -> list[PerPair]:
        """Compare several poses, each [*batch, j, e]; returns one agreement for each, as held."""
        return [self.agreement(pose) for pose in poses]

    def adjoint(
        self,
        couplings: Sequence[PerPair],
        poses: Sequence[Float[Array, "*batch j e"]],
        accumulate: Any,
    ) -> tuple[Float[Array, "*batch j e"], Any]:
        """Differentiate T = sum_kij c_kij vote_ij . v_kj with respect to v_0 and to the votes' own arrays.

        Both contractions are derivatives of that form, so their adjoints need nothing else.

        Args:
            couplings: c_k, each as held.
            poses: v_k, one for each coupling, [*batch, j, e].
            accumulate: votes of cotangents, to which those of these votes' arrays are added, or None.

        Returns:
            `combine` of the first coupling, [*batch, j, e]; and the cotangents, in the arrays' places.
        """
        # c=c: a lambda in a loop would see the last coupling only.
        sums, pulls = zip(
            *(jax.vjp(lambda v, c=c: v.combine(c), self) for c in couplings), strict=True
        )
        for pull, pose in zip(pulls, poses, strict=True):
            more = pull(pose)[0]
            accumulate = more if accumulate is None else add_cotangents(accumulate, more)
        return sums[0], accumulate

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

    def _shared(self, total: Float[Array, "*batch j e"], leaky: bool) -> Float[Array, "*batch j e"]:
        """Divide sums of votes by the number of parents, for a class where every child has the same ones."""
        parents, shares = self._masks().parents, self.shape[-2] + leaky
        if parents is None:
            return total / shares
        # An example without any parent has no sum to divide.
        shares = jnp.maximum(jnp.sum(parents, axis=-1, dtype=total.dtype) + leaky, 1)  # [*batch]
        return jnp.where(parents[..., None], total / shares[..., None, None], 0)

    def dense(self) -> Float[Array, "*batch i j e"]:
        """Form every vote, [*batch, i, j, e]: component h is the agreement with unit vector h."""
        poses = (*self.shape[:-3], *self.shape[-2:])  # (*batch, j, e)

        def component(unit: Float[Array, "e"]) -> Float[Array, "*batch i j"]:
            everywhere = jnp.broadcast_to(unit.reshape(*[1] * (len(poses) - 1), -1), poses)
            return self.pairs.to_array(self.agreement(everywhere))

        return jax.vmap(component, out_axes=-1)(jnp.eye(self.shape[-1], dtype=self.dtype))

    def scatter(
        self,
        coupling: PerPair,
        centre: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> Float[Array, "*batch j e"]:
        """Weigh and sum squared deviations: sum_i c_ij (vote_ijh - m_jh)^2 / unit^2.

        About a centre, not as a difference of moments: in float32 that loses a small variance beside a large
        mean, and can be negative.

        Args:
            coupling: c_ij, as held.
            centre: m_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch], so that no square overflows; None
                for 1.

        Returns:
            One sum for each component of each parent, [*batch, j, e].
        """
        squares = jnp.square(self._deviations(centre, unit))  # [*batch, i, j, e]
        # [*batch, j, e]
        return jnp.einsum("...ij,...ije->...je", self.pairs.to_array(coupling), squares)

    def distance(
        self,
        centre: Float[Array, "*batch j e"],
        precision: Float[Array, "*batch j e"],
        unit: Float[Array, "*batch"] | None = None,
    ) -> PerPair:
        """Measure weighted squared distances: sum_h p_jh (vote_ijh - m_jh)^2 / unit^2.

        Args:
            centre: m_j, [*batch, j, e].
            precision: p_j, [*batch, j, e].
            unit: what deviations of each example are measured in, [*batch]; None for 1.

        Returns:
            One distance for each pair, as held.
        """
        squares = jnp.square(self._deviations(centre, unit))  # [*batch, i, j, e]
        # [*batch, i, j], then as held
        return self.pairs.from_array(jnp.einsum("...ije,...je->...ij", squares, precision))

    def fit(
        self,
        weight: PerPair,
        share: PerPair,
        floor: Float[Array, "*batch"],
        unit: Float[Array, "*batch"],
        distances: bool = False,
    ) -> Fit:
        """Fit a Gaussian to each parent's votes, and measure how far from it each vote is.

        m_j = sum_i w_ij vote_ij,   s_jh = `scatter` of share c about m + floor,   and `distance` with 1 / s

        Args:
            weight: w_ij, of each vote in its parent's mean, as held.
            share: c_ij, of each squared deviation in its variance, as held.
            floor: what is added to variances, in squared units, [*batch].
            unit: what deviations of each example are measured in, [*batch].
            distances: whether they are asked for.

        Returns:
            Means and variances, [*batch, j, e], and distances, as held.
        """
        mean = self.combine(weight)  # [*batch, j, e]
        variance = self.scatter(share, mean, unit) + floor[..., None, None]  # [*batch, j, e]
        apart = self.distance(mean, 1 / variance, unit) if distances else None
        return Fit(mean, variance, apart)

    def _deviations(
        self, centre: Float[Array, "*batch j e"], unit: Float[Array, "*batch"] | None
    ) -> Float[Array, "*batch i j e"]:
        """Return (vote_ij - m_j) / unit."""
        found = self.dense() - jnp.expand_dims(centre, -3)  # [*batch, i, j, e]
        return found if unit is None else found / unit[..., None, None, None]

    def bound(self) -> Float[Array, "*batch"]:
        """Return a number that no component of an example's votes exceeds in size, [*batch]."""
        pairs = self.pairs
        largest = pairs.from_array(jnp.max(jnp.abs(self.dense()), axis=-1, initial=0))
        return pairs.max_abs(pairs.only_present(largest))

    def cleared(self) -> "Votes":
        """Return the votes with zeros for what the masks leave out, so that no NaN there reaches a sum."""
        return self

    def arranged(self) -> "Votes":
        """Return equal votes, with their arrays laid out to be contracted many times."""
        return self

    def _masks(self) -> Masks:
        """Return the masks, or two of None, having checked that they fit."""
        masks = self.masks or Masks()
        *batch, i, j, _ = self.shape
        for name, given, size in (("children", masks.children, i), ("parents", masks.parents, j)):
            if given is not None and given.shape != (*batch, size):
                raise UserError(
                    f"mask: got {name} {list(given.shape)} for votes {list(self.shape)}, expected "
                    f"{[*batch, size]}; where jax.vmap goes over masked votes, in_axes names the masks too: "
                    f"{type(self).__name__}(..., masks=0)"
                )
        return masks

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
