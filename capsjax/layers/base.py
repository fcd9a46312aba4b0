"""What every layer is: a frozen value that says which shape it gives, and builds a Flax module."""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError
from capsjax.convolution import Padding, Precision, output_size
from capsjax.routing import Routing
from capsjax.schema.variant import Variant
from capsjax.types import Capsules, RoutingResult

Initialisation = Literal["scaled", "released", "keep_length"]
INITIALISATIONS: tuple[Initialisation, ...] = ("scaled", "released", "keep_length")


class Features(NamedTuple):
    """Describe features, an array [b, h, w, channels], without the batch.

    Attributes:
        grid: rows and columns of positions, (h, w).
        channels: features at each position.
    """

    grid: tuple[int, int]
    channels: int

    def __str__(self) -> str:
        return f"features [{self.grid[0]}, {self.grid[1]}, {self.channels}]"


class CapsuleShape(NamedTuple):
    """Describe capsules, `Capsules` of poses [b, i, d], without the batch.

    They are numbered position by position, type by type: i = (row * w + column) * types + type.

    Attributes:
        grid: rows and columns of positions, (h, w); (1, 1) of capsules that have none.
        types: capsules at each position.
        dim: d, components of a capsule's pose.
    """

    grid: tuple[int, int]
    types: int
    dim: int

    @property
    def capsules(self) -> int:
        """Return i, the number of capsules."""
        return math.prod(self.grid) * self.types

    def __str__(self) -> str:
        return f"capsules [{self.capsules}, {self.dim}]"


Shape = Features | CapsuleShape


@dataclasses.dataclass(frozen=True, kw_only=True)
class Around:
    """Hold what a network tells each of its layers.

    Args:
        image_shape: height, width and channels of the images.
        num_classes: the number of classes.
        routing: the routing of layers that name none.
        initialisation: how parameters begin.
        precision: what convolutions multiply.
        before: the shapes that the layers before give, by name.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    routing: Routing
    initialisation: Initialisation
    precision: Precision
    before: Mapping[str, Shape] = dataclasses.field(default_factory=dict)


class Passed(NamedTuple):
    """Hold what a layer gives.

    Attributes:
        value: what the next layer takes: features [b, h, w, c], or capsules.
        routed: what its routing did; None if nothing is routed.
    """

    value: Float[Array, "b h w c"] | Capsules
    routed: RoutingResult | None = None


class Layer(Variant, abc.ABC):
    """Define a layer: a frozen dataclass with a `kind`, which a configuration names it by."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Return the names of layers before whose values come in; none for that of the one before."""
        return ()

    @property
    def bounded(self) -> bool:
        """Return whether the activations of what comes out are never above 1."""
        return True

    @abc.abstractmethod
    def shape(self, given: Shape, around: Around) -> Shape:
        """Return the shape of what comes out, without making any array.

        Args:
            given: the shape of what comes in.
            around: what the network says.

        Returns:
            Features, or capsules, without the batch.

        Raises:
            FieldError: If what comes in does not fit; the network puts its own name of the layer there.
        """

    @abc.abstractmethod
    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> nnx.Module:
        """Return a Flax module of this layer, for what fits by `shape`.

        Args:
            given: the shape of what comes in.
            around: what the network says.
            rngs: random numbers for the parameters; they are not kept.

        Returns:
            A module whose parameters stand under the layer's name in the network.
        """

    def apply(self, module: Any, value: Any, *, trace: bool = False) -> Passed:
        """Call the module that `build` made: on the value alone, unless a layer says otherwise.

        Args:
            module: the module.
            value: what comes in, features [b, h, w, c] or capsules.
            trace: whether a routing returns each of its iterations.

        Returns:
            What the next layer takes, and what a routing did.
        """
        return Passed(module(value))


def take_features(layer: Layer, given: Shape) -> Features:
    """Check that features come into a layer.

    Args:
        layer: which layer, for the message.
        given: the shape of what comes in.

    Returns:
        The same shape.

    Raises:
        FieldError: If capsules come in.
    """
    if isinstance(given, Features):
        return given
    # At fault is the layer's kind, which does not go there, whatever its sizes.
    expected = f"a layer that takes capsules, as {given} come in; put it before the capsules"
    raise FieldError(type(layer).__name__, "kind", getattr(layer, "kind", None), expected)


def channels_of(given: Shape) -> Features:
    """Read what comes in as features: the components of all poses at a position are its channels.

    Args:
        given: the shape of what comes in.

    Returns:
        Features, as they are or of as many channels as the capsules of a position have components.
    """
    if isinstance(given, Features):
        return given
    return Features(given.grid, given.types * given.dim)


def as_channels(value: Any, grid: tuple[int, int]) -> Float[Array, "b h w c"]:
    """Read features, or capsules, as features.

    Args:
        value: features, [b, h, w, c], or capsules of poses [b, h w types, d].
        grid: rows and columns of their positions.

    Returns:
        Features, [b, h, w, types d].
    """
    if not isinstance(value, Capsules):
        return value
    pose: Any = value.pose
    # Capsules are numbered position by position, type by type.
    return pose.reshape(pose.shape[0], *grid, -1)


def take_capsules(layer: Layer, given: Shape) -> CapsuleShape:
    """Check that capsules come into a layer.

    Args:
        layer: which layer, for the message.
        given: the shape of what comes in.

    Returns:
        The same shape.

    Raises:
        FieldError: If features come in.
    """
    if isinstance(given, CapsuleShape):
        return given
    expected = (
        f"a layer that takes features, as {given} come in; put a layer of kind primary_capsules "
        "before it"
    )
    raise FieldError(type(layer).__name__, "kind", getattr(layer, "kind", None), expected)


class KernelError(FieldError):
    """Tell of a kernel that is larger than what comes in.

    Args:
        owner: the class of the layer.
        given: the kernel.
        size: the largest that this layer takes.
        bound: what that is, in words.
    """

    def __init__(self, owner: str, given: int, size: int, bound: str):
        self.size, self.bound = size, bound
        expected = f"{bound}: choose kernel {size} or less, or padding SAME"
        super().__init__(owner, "kernel", given, expected)


def convolved(
    layer: Layer, given: Shape, *, kernel: int, stride: int, padding: Padding
) -> tuple[int, int]:
    """Compute the grid that a convolution gives.

    Args:
        layer: whose fields `kernel` and `padding` an error names.
        given: what comes in.
        kernel: width of the square kernel.
        stride: step between positions.
        padding: "VALID" or "SAME".

    Returns:
        Rows and columns, (h, w).

    Raises:
        KernelError: If the kernel is larger than what comes in.
    """
    size, axis = min(zip(given.grid, ("height", "width"), strict=True))
    if padding == "VALID" and kernel > size:  # SAME puts zeros around, so that any kernel fits
        what = given if isinstance(given, Features) else f"grid {list(given.grid)} of the {given}"
        bound = f"at most {size}, the {axis} of the {what} that come in"
        raise KernelError(type(layer).__name__, kernel, size, bound)
    # The same for every layer that convolves, so that shapes and arrays agree.
    height, width = (output_size(size, kernel, stride, padding) for size in given.grid)
    return height, width
