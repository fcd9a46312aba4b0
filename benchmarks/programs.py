"""Read what a GPU would do from a compiled program's text: launches, products, and whose they are."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

from capsjax.bench.profile import parts_of

# What launches nothing: names for memory that is there, and what the host does between launches.
FREE = frozenset(
    (
        *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all"),
        *("partition-id", "replica-id", "add-dependency", "opt-barrier", "optimization-barrier"),
        *("async-done", "async-update"),
    )
)
CALLS = frozenset(("while", "call", "conditional", "async-start"))
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)")
_SHAPE = re.compile(r"\b[a-z]+\d*\w*\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """Hold one line of a program.

    Args:
        name: what it is called.
        shape: the type of its result, as text.
        kind: the operation.
        rest: what follows the operation's opening parenthesis.
    """

    name: str
    shape: str
    kind: str
    rest: str

    def operands(self) -> list[str]:
        """Return the names of what it is given."""
        return re.findall(r"%([\w.\-]+)", self.rest.partition(")")[0])

    def called(self, *, within: str = "body|to_apply|calls") -> str | None:
        """Return the computation that it runs, if any."""
        found = re.search(rf"\b(?:{within})=%?([\w.\-]+)", self.rest)
        return found[1] if found else None

    def target(self) -> str:
        """Return what a custom call calls."""
        found = re.search(r'custom_call_target="([^"]+)"', self.rest)
        return found[1] if found else ""

    def times(self) -> int:
        """Return how often a loop goes round."""
        found = re.search(r'known_trip_count":\{"n":"(\d+)"', self.rest)
        if self.kind == "while" and found is None:
            raise ValueError(
                f"{self.name}: got a loop whose length is not known, expected one that is"
            )
        return int(found[1]) if self.kind == "while" and found else 1


@dataclasses.dataclass(frozen=True)
class Counts:
    """Hold what one execution of a program does.

    Args:
        launches: kernels that it starts, those in a loop as often as the loop goes round.
        operations: floating-point operations of its convolutions and matrix products; not what a kernel
            written by hand multiplies.
        parts: launches for each part of the work.
        kinds: launches for each kind of operation.
    """

    launches: int
    operations: int
    parts: dict[str, int]
    kinds: dict[str, int]


class Program:
    """Hold a compiled program as its computations.

    Args:
        text: the program, as `compiled.as_text()` has it.
    """

    def __init__(self, text: str):
        self.text = text
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        name = None
        for line in text.splitlines():
            if begins := _COMPUTATION.match(line):
                name = begins[2]
                self.computations[name] = []
                self.entry = name if begins[1] else self.entry
            elif line.startswith("}"):
                name = None
            elif name and (found := _INSTRUCTION.match(line.strip())):
                self.computations[name].append(Instruction(*found.groups()))
        every = [one for lines in self.computations.values() for one in lines]
        self.shapes = {one.name: one.shape for one in every}

    def count(self, layers: Iterable[str] = ()) -> Counts:
        """Count.

        Args:
            layers: what the layers of a network are called in it.
        """
        where = parts_of(self.text, layers)
        launches, operations = 0, 0
        parts: collections.Counter[str] = collections.Counter()
        kinds: collections.Counter[str] = collections.Counter()
        for one, times in self._launched(self.entry, 1):
            launches += times
            operations += times * self._operations(one)
            parts[where.get(one.name) or "other"] += times
            kinds[one.target() or one.kind] += times
        return Counts(launches, operations, dict(parts.most_common()), dict(kinds.most_common()))

    def _launched(self, computation: str, times: int) -> Iterator[tuple[Instruction, int]]:
        """Go through what is launched, each with the number of times."""
        for one in self.computations[computation]:
            if one.kind in CALLS:
                for called in filter(None, [one.called()]):
                    yield from self._launched(called, times * one.times())
            elif one.kind not in FREE:
                yield one, times

    def _operations(self, one: Instruction) -> int:
        """Count the multiplications and additions of convolutions and products, also inside a fusion."""
        if one.kind == "fusion":
            inside = one.called(within="calls")
            return sum(map(self._operations, self.computations.get(inside or "", ())))
        target = one.target()
        if one.kind == "dot" or target.startswith("__cublas$"):
            return self._product(one)
        if target.startswith("__cudnn$conv") or one.kind == "convolution":
            return self._convolution(one, target)
        return 0

    def _product(self, one: Instruction) -> int:
        contracted = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', one.rest)
        left = _sizes(self.shapes[one.operands()[0]])
        axes = re.findall(r"\d+", contracted[1] if contracted else "")
        return 2 * math.prod(_sizes(one.shape)) * math.prod(left[int(axis)] for axis in axes)

    def _convolution(self, one: Instruction, target: str) -> int:
        """Count from shapes: window times channels for each output, of whichever of the three it computes."""
        found = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.rest)
        window = re.search(r"window=\{size=([\dx]+)", one.rest)
        assert found is not None, one.rest
        assert window is not None, one.rest
        taps = math.prod(map(int, window[1].split("x")))
        left, right = (_sizes(self.shapes[name]) for name in one.operands()[:2])
        out = _sizes(one.shape)
        if target.endswith("BackwardInput"):  # the left operand is the output's cotangent
            return 2 * math.prod(left) * taps * out[found[1].index("f")]
        if target.endswith("BackwardFilter"):  # the right one
            return 2 * math.prod(right) * taps * left[found[1].index("f")]
        return 2 * math.prod(out) * taps * right[found[2].index("i")]


def _sizes(shape: str) -> list[int]:
    """Return the sizes of an array, or of the first of a tuple."""
    found = _SHAPE.search(shape)
    assert found, shape
    return [int(size) for size in found[1].split(",") if size]
