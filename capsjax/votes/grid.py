"""Which capsule of a grid may vote for which: the windows of a convolution."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from capsjax.types import PerPair
from capsjax.votes import contractions, couplings
from capsjax.votes.pairs import Pairs

Share = Literal["child", "position"]
SHARES: tuple[Share, ...] = get_args(Share)


@dataclasses.dataclass(frozen=True)
class Window:
    """Say which positions of a grid of children a grid of parents sees: a convolution's geometry.

    Args:
        kernel: rows and columns of places in a window, (k, l).
        stride: step between windows.
        grid: rows and columns of children, (h, w).
    """

    kernel: tuple[int, int]
    stride: int
    grid: tuple[int, int]

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of parents, (y, x)."""
        rows, columns = (
            (size - k) // self.stride + 1 for size, k in zip(self.grid, self.kernel, strict=True)
        )
        return rows, columns

    @property
    def places(self) -> int:
        """How many places a window has, k l."""
        return math.prod(self.kernel)

    @property
    def disjoint(self) -> bool:
        """Whether no child is seen by two windows."""
        sizes = zip(self.kernel, self.positions, strict=True)
        return all(k <= self.stride or n == 1 for k, n in sizes)

    def gather(self, x: Shaped[Array, "*lead h w b"]) -> Shaped[Array, "kl *lead y x b"]:
        """Return what windows see of a grid, place by place.

        Args:
            x: something of each child, [*lead, h, w, b].

        Returns:
            The same at each place of each window, [k l, *lead, y, x, b].
        """
        return jnp.stack([x[..., rows, columns, :] for rows, columns in self._places()])

    def scatter(
        self,
        x: Shaped[Array, "kl *lead y x b"],
        fold: Callable[[Array, Array], Array],
        nothing: float | bool,
    ) -> Shaped[Array, "*lead h w b"]:
        """Fold what windows say of each child.

        Args:
            x: something at each place of each window, [k l, *lead, y, x, b].
            fold: how what two windows say becomes one, such as `jnp.add`.
            nothing: what stands where no window sees a child.

        Returns:
            One for each child, [*lead, h, w, b].
        """
        found = jnp.full((*x.shape[1:-3], *self.grid, x.shape[-1]), nothing, x.dtype)
        start, step = jnp.asarray(nothing, x.dtype), self.stride - 1
        lead = [(0, 0, 0)] * (x.ndim - 4)
        for term, (rows, columns) in zip(x, self._places(), strict=True):
            around = [
                (at.start, size - at.stop, step)
                for at, size in zip((rows, columns), self.grid, strict=True)
            ]
            found = fold(found, jax.lax.pad(term, start, [*lead, *around, (0, 0, 0)]))
        return found

    def _places(self) -> list[tuple[slice, slice]]:
        """Return the children that each place sees in all windows, in the order of k, then l."""
        ends = [self.stride * (size - 1) + 1 for size in self.positions]
        return [
            (slice(row, row + ends[0], self.stride), slice(at, at + ends[1], self.stride))
            for row, at in itertools.product(*map(range, self.kernel))
        ]

    def counts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return how many windows see each row of children, and how many each column, along their axes."""
        rows, columns = (
            tuple(
                sum(0 <= at - self.stride * position < width for position in range(count))
                for at in range(size)
            )
            for size, width, count in zip(self.grid, self.kernel, self.positions, strict=True)
        )
        return rows, columns


@dataclasses.dataclass(frozen=True)
class Windowed(Pairs):
    """Let a child vote for all parents whose windows see it; shape is (*batch, y, x, i, j), i = k l a.

    Args:
        window: the geometry.
        share: "child" normalises a child's couplings over all its parents, at every position that sees it;
            "position" over the parents of each position, as if each window had children of its own.
    """

    window: Window = dataclasses.field(kw_only=True)
    share: Share = dataclasses.field(kw_only=True)

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading axes without positions, (*batch)."""
        return self.shape[:-4]

    @property
    def joined(self) -> bool:
        """Whether positions share children, so that the coupling of one depends on the others."""
        return self.share == "child" and not self.window.disjoint

    def sum(self, x: PerPair) -> Float[Array, "*batch y x"]:
        """Return the sum over each example's pairs; where positions share children, they are one example."""
        return self._whole(super().sum(x), jnp.sum)

    def max_abs(self, x: PerPair) -> Float[Array, "*batch y x"]:
        """Return each example's largest |x_ij|; where positions share children, they are one example."""
        return self._whole(super().max_abs(x), jnp.max)

    def _whole(self, x: Float[Array, "*batch y x"], fold: Callable[..., Array]) -> Array:
        if not self.joined:
            return x
        return jnp.broadcast_to(fold(x, axis=(-2, -1), keepdims=True), x.shape)


@dataclasses.dataclass(frozen=True)
class WindowPairs(Windowed):
    """Let a child vote for all parents whose windows see it, held as [*batch, y, x, i, j]."""

    def to_array(self, x: Shaped[Array, "*batch y x i j"]) -> Shaped[Array, "*batch y x i j"]:
        """Return it as it is."""
        return x

    def from_array(self, x: Shaped[Array, "*batch y x i j"]) -> Shaped[Array, "*batch y x i j"]:
        """Return it as it is."""
        return x

    def softmax(self, logits: PerPair, leaky: bool) -> PerPair:
        """Normalise over the parents of each child, at all positions that see it.

        Args:
            logits: b_ij, [*batch, y, x, i, j].
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, [*batch, y, x, i, j].
        """
        held = self._columns()
        return held.to_array(held.softmax(held.from_array(logits), leaky))

    def softmax_vjp(self, coupling: PerPair, cotangent: PerPair) -> PerPair:
        """Pull a cotangent of `softmax` back to the logits.

        Args:
            coupling: c_ij, [*batch, y, x, i, j].
            cotangent: c_bar, [*batch, y, x, i, j].

        Returns:
            b_bar, [*batch, y, x, i, j].
        """
        held = self._columns()
        return held.to_array(
            held.softmax_vjp(held.from_array(coupling), held.from_array(cotangent))
        )

    def _columns(self) -> "WindowColumns":
        return WindowColumns(self.shape, window=self.window, share=self.share)


@dataclasses.dataclass(frozen=True)
class WindowColumns(Windowed):
    """Let a child vote for all parents whose windows see it, held as [j, i, n], n = y x b."""

    def to_array(self, x: Shaped[Array, "j i n"]) -> Shaped[Array, "*batch y x i j"]:
        """Bring examples to the front, then positions, and parents to the end."""
        j, i, _ = x.shape
        x = x.reshape(j, i, *self.window.positions, math.prod(self.batch))
        return x.transpose(4, 2, 3, 1, 0).reshape(self.shape)  # [b, y, x, i, j]

    def from_array(self, x: Shaped[Array, "*batch y x i j"]) -> Shaped[Array, "j i n"]:
        """Bring parents to the front, positions and then examples to the end."""
        x = x.reshape(math.prod(self.batch), *self.shape[-4:]).transpose(4, 3, 1, 2, 0)
        return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))

    def softmax(self, logits: Float[Array, "j i n"], leaky: bool) -> Float[Array, "j i n"]:
        """Normalise over the types of parents, and over the windows that see a child.

        Args:
            logits: b_ij, [j, i, n].
            leaky: adds a zero logit for "none of the parents".

        Returns:
            c_ij, [j, i, n].
        """
        if not self.joined:
            return couplings.couple(logits, leaky)
        # As in `couplings.couple`, with sums and maxima that go over a child's windows too.
        largest = jax.lax.stop_gradient(
            self._by_child(jnp.maximum, contractions.reduce(jnp.maximum, logits), -jnp.inf)
        )
        largest = jnp.maximum(largest, 0) if leaky else largest  # [a, h, w, b]
        shares = jnp.exp(logits - self._by_window(largest)[None])
        whole = self._by_child(jnp.add, contractions.reduce(jnp.add, shares), 0)
        whole = whole + jnp.exp(-largest) if leaky else whole
        return shares / self._by_window(whole)[None]

    def softmax_vjp(
        self, coupling: Float[Array, "j i n"], cotangent: Float[Array, "j i n"]
    ) -> Float[Array, "j i n"]:
        """Pull a cotangent of `softmax` back to the logits: b_bar = c (c_bar - sum c c_bar).

        Args:
            coupling: c_ij, [j, i, n].
            cotangent: c_bar, [j, i, n].

        Returns:
            b_bar, [j, i, n]; the sum goes over all parents of the child.
        """
        if not self.joined:
            return couplings.couple_adjoint(coupling, cotangent)
        mean = self._by_child(jnp.add, couplings.sum_products(coupling, cotangent), 0)
        return coupling * (cotangent - self._by_window(mean)[None])

    def _by_child(
        self, fold: Callable[[Array, Array], Array], x: Float[Array, "i n"], nothing: float
    ) -> Float[Array, "a h w b"]:
        """Fold a number of each child at a position over all positions that see it."""
        places, batch = self.window.places, math.prod(self.batch)
        x = x.reshape(places, x.shape[0] // places, *self.window.positions, batch)
        return self.window.scatter(x, fold, nothing)

    def _by_window(self, x: Float[Array, "a h w b"]) -> Float[Array, "i n"]:
        """Repeat a number of each child for every window that sees it."""
        found = self.window.gather(x)  # [k l, a, y, x, b]
        return found.reshape(self.shape[-2], math.prod(found.shape[2:]))
