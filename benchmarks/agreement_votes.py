"""The kinds of votes on which `agreement_family` routes, each with what the oracles make of it.

Oracles know votes of every child for every parent, u [b, i, d] and W [i, j, d, e]. What holds less than that,
matrices that children or positions share, is written out for them, number by number.
"""

import abc
import contextlib
import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np

import capsjax as cj
from tests.oracles import numerics, window
from tests.routing import table
from tests.routing.kinds import KINDS, MASKED, Kind
from tests.routing.table import Given, Row


@dataclasses.dataclass(frozen=True)
class Held(abc.ABC):
    """Define how votes are held: what is given, what is routed, and what the oracles are told of it.

    Args:
        name: what the table calls it.
    """

    name: str

    def arrays(self, row: Row) -> Given:
        """Return what is given of a routing's row, in NumPy; here that of the conformance matrix."""
        return table.arrays(row)

    @abc.abstractmethod
    def votes(self, u: Any, W: Any) -> cj.votes.Votes:
        """Return the votes that are routed."""

    def seen(self, votes: Any, x: Any) -> Any:
        """Return something of the children as the routing takes it."""
        del votes
        return x

    def plain(self, x: Any) -> Any:
        """Return a result of the routing with the leading axes of the oracle's."""
        return x

    def written_out(self, given: Given) -> Given:
        """Return what is given as the oracles take it."""
        return given

    @property
    def alike(self) -> Any:
        """What is the same of kinds whose gradients by differences are the same."""
        return self

    @contextlib.contextmanager
    def told(self) -> Any:
        """Within it, the oracles know which child has which parents."""
        yield


@dataclasses.dataclass(frozen=True)
class OfMatrix(Held):
    """A kind of votes of the conformance matrix."""

    kind: Kind

    def votes(self, u: Any, W: Any) -> cj.votes.Votes:
        """Return the votes that are routed."""
        return self.kind(u, W)

    @property
    def alike(self) -> Any:
        """Which child may vote for which parent: all else leaves the differences as they are."""
        return self.kind.allowed

    @contextlib.contextmanager
    def told(self) -> Any:
        """Within it, the oracles know which child has which parents."""
        with numerics.pairs(self.kind.allowed):
            yield


@dataclasses.dataclass(frozen=True)
class Shared(Held):
    """Children share the matrix of each parent."""

    def arrays(self, row: Row) -> Given:
        """Return what is given of a routing's row, in NumPy."""
        given = table.arrays(row)
        return given._replace(W=given.W[0])

    def votes(self, u: Any, W: Any) -> cj.votes.Votes:
        """Return the votes that are routed."""
        return cj.shared_votes(u, W)

    def written_out(self, given: Given) -> Given:
        """Return what is given as the oracles take it."""
        return given._replace(W=np.stack([given.W] * given.u.shape[1]))


@dataclasses.dataclass(frozen=True)
class Convolution(Held):
    """Windows of pose matrices, p = 2, with a stride and an overlap: one column of children is seen twice.

    Args:
        share: what the couplings of a child add up to 1 over.
    """

    share: cj.votes.grid.Share
    grid: ClassVar = (2, 5)
    kernel: ClassVar = (2, 3)
    stride: ClassVar = 2
    sizes: ClassVar = {"i": 6, "j": 2, "d": 4, "e": 4, "g": 3, "h": 4, "f": 3}

    def arrays(self, row: Row) -> Given:
        """Return what is given of a routing's row, in NumPy."""
        rng = np.random.RandomState(0)
        u = rng.normal(size=(1, *self.grid, 1, 2, 2)) / 2  # [b, h, w, a, p, d]
        W = rng.normal(size=(*self.kernel, 1, self.sizes["j"], 2, 2))  # [k, l, a, j, d, e]
        params = {
            name: rng.normal(size=[self.sizes[axis] for axis in axes]) / 2
            for name, axes in row.params.items()
        }
        return Given(u, W, rng.uniform(0.2, 1, size=u.shape[:4]), params)

    def votes(self, u: Any, W: Any) -> cj.votes.Votes:
        """Return the votes that are routed."""
        return cj.window_votes(u, W, stride=self.stride, share=self.share)

    def seen(self, votes: Any, x: Any) -> Any:
        """Return something of the children as the routing takes it: for each window what it sees."""
        # Of poses the rows are parts of one vector.
        return votes.seen(x.reshape(*x.shape[:4], -1) if x.ndim == 6 else x)

    def plain(self, x: Any) -> Any:
        """Return a result with positions among the examples."""
        return x.reshape(-1, *x.shape[3:])

    def written_out(self, given: Given) -> Given:
        """Return what is given as the oracles take it."""
        return Given(*window.apart(*given[:3], self.stride), given.params)

    @contextlib.contextmanager
    def told(self) -> Any:
        """Within it, the oracles know which child has which parents."""
        coupled = window.coupling(self.grid, self.kernel, self.stride, self.share)
        with numerics.couplings(coupled):
            yield


ALL: tuple[Held, ...] = (
    *(OfMatrix(kind.name, kind) for kind in (*KINDS, MASKED)),
    Shared("shared"),
    Convolution("window", "child"),
    Convolution("position", "position"),
)
SOME = tuple(held for held in ALL if held.name in ("linear", "window"))


def cotangents(result: Any) -> Any:
    """Draw a cotangent for every part of a result."""
    rng = np.random.RandomState(1)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), result)
