"""What a network is, as a frozen value: layers by name, a head, a decoder; and the shapes in it."""

import abc
import dataclasses
import functools
import keyword
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, cast

from flax import nnx

from capsjax.checks import FieldError, check_choice, check_type, nearest
from capsjax.convolution import PRECISIONS, Precision
from capsjax.data.trainable import channels_first
from capsjax.layers.base import (
    INITIALISATIONS,
    Around,
    Features,
    Initialisation,
    KernelError,
    Layer,
    Shape,
)
from capsjax.layers.decoder import ImageDecoder
from capsjax.layers.head import ActivationHead, Head
from capsjax.layers.stacks import stacks
from capsjax.routing import DynamicRouting, Routing
from capsjax.schema.named import Named
from capsjax.schema.tree import merge
from capsjax.schema.variant import Variant

# Names that the module, a profile or a comparison has for other things.
OF_MODULE = ("head", "decoder", "config", "image_shape", "num_classes")
TAKEN = frozenset((*OF_MODULE, "all", "batch", "loss", "optimiser", "other"))


@dataclasses.dataclass(frozen=True)
class Model(Variant, abc.ABC):
    """Define a network: a frozen dataclass with a `kind`; "capsnet" if none is named."""

    assumed_kind: ClassVar[str | None] = "capsnet"

    @property
    @abc.abstractmethod
    def routing(self) -> Routing:
        """Return the routing of layers that name none."""

    @abc.abstractmethod
    def network(self) -> "NetworkConfig":
        """Return it written out, layer by layer."""

    @abc.abstractmethod
    def key(self, name: str) -> str:
        """Return where a configuration says what a layer is, such as "model.layers.stem"."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(Model):
    """Describe a network as layers by name, in order, with a head and a decoder.

    A layer's name is that of its parameters, of its routing's results, of its part of a profile, and of
    what `training.freeze` takes.

    Args:
        layers: the layers by name, from the image on; the last gives capsules.
        routing: the routing of layers that name none.
        head: how the last capsules become a score of each class: "activation" or "linear".
        decoder: what draws the reconstruction from the class capsules, or None for none.
        initialisation: "keep_length" for weights scaled by fan-in, biases of 0, and capsules about as long
            as those that they are made of, so that a deep stack begins alive; "scaled" and "released" as a
            `CapsNetConfig` has them.
        precision: what the convolutions multiply, "float32" or "bfloat16".
        kind: its name in a configuration.

    Raises:
        FieldError: If there is no layer, or a name cannot be one.
    """

    layers: Mapping[str, Layer]
    routing: Routing = DynamicRouting()
    head: Head = ActivationHead()
    decoder: ImageDecoder | None = None
    initialisation: Initialisation = "keep_length"
    precision: Precision = "float32"
    kind: Literal["network"] = "network"

    def __post_init__(self):
        check_choice(self, "initialisation", INITIALISATIONS)
        check_choice(self, "precision", PRECISIONS)
        check_type(self, "routing", Routing, "a routing such as DynamicRouting()")
        check_type(self, "head", Head, "a head such as ActivationHead()")
        if self.decoder is not None:
            check_type(self, "decoder", ImageDecoder, "DecoderConfig(...) or None")
        check_type(self, "layers", Mapping, "a mapping from names to layers")
        if not self.layers:
            raise FieldError("NetworkConfig", "layers", {}, "at least one layer, by name")
        for name, layer in self.layers.items():
            _check_name(name)
            if not isinstance(layer, Layer):
                expected = "a layer such as ConvConfig(...) or DenseConfig(...)"
                raise FieldError("NetworkConfig", f"layers.{name}", layer, expected)
        _check_order(self.layers)
        # Hashable and in order: the network is a static argument where it is compiled.
        object.__setattr__(self, "layers", Named(self.layers))

    @classmethod
    def completed(cls, tree: Mapping[str, Any]) -> Mapping[str, Any]:
        """Let a layer's routing without a kind be the network's, with what it names changed."""
        # So that `--model.layers.NAME.routing.num_iters 5` need not say again which routing it is.
        whole, layers = tree.get("routing", DynamicRouting.kind), tree.get("layers")
        if not isinstance(layers, Mapping):
            return tree

        def filled(layer: Any) -> Any:
            own = layer.get("routing") if isinstance(layer, Mapping) else None
            if not isinstance(own, Mapping) or "kind" in own:
                return layer
            return {**layer, "routing": merge({"routing": whole}, {"routing": own})["routing"]}

        return {**tree, "layers": {name: filled(layer) for name, layer in layers.items()}}

    def network(self) -> "NetworkConfig":
        """Return the network itself."""
        return self

    def key(self, name: str) -> str:
        """Return where a configuration says what a layer is."""
        return f"model.layers.{name}"


def _check_name(name: object) -> None:
    # A layer is an attribute of the module, and its name the first part of its parameters' names.
    usable = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
    if usable and not name.startswith("_") and name not in TAKEN and not hasattr(nnx.Module, name):
        return
    expected = (
        "a name of letters, digits and underscores, such as conv1, that is none of "
        + ", ".join(sorted({*TAKEN, *(word for word in dir(nnx.Module) if word[0] != "_")}))
    )
    raise FieldError("NetworkConfig", "layers", name, expected)


def _check_order(layers: Mapping[str, Layer]) -> None:
    """Check that what a layer takes by name comes before it."""
    before: list[str] = []
    for name, layer in layers.items():
        for taken in layer.takes:
            if taken not in before:
                expected = (
                    f"names of layers before it, of {', '.join(before)}{nearest(taken, before)}"
                    if before
                    else "another layer to begin with"
                )
                raise FieldError("NetworkConfig", f"layers.{name}.of", taken, expected)
        before.append(name)


class Step(NamedTuple):
    """Hold a layer of a network with what comes in and what comes out, without the batch.

    Attributes:
        name: the layer's name.
        layer: the layer.
        given: the shape of what comes in.
        shape: the shape of what comes out.
    """

    name: str
    layer: Layer
    given: Shape
    shape: Shape


def around(network: NetworkConfig, image_shape: tuple[int, int, int], num_classes: int) -> Around:
    """Gather what a network tells each of its layers.

    Args:
        network: the network, as layers by name.
        image_shape: height, width and channels of the images.
        num_classes: the number of classes.

    Returns:
        The same for all layers.
    """
    return Around(
        image_shape=image_shape,
        num_classes=num_classes,
        routing=network.routing,
        initialisation=network.initialisation,
        precision=network.precision,
    )


def shapes(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> tuple[Step, ...]:
    """Follow the shape of an image through a network, without making any array.

    Args:
        model: the network.
        image_shape: height, width and channels of the images.
        num_classes: the number of classes.

    Returns:
        Each layer with what comes in and what comes out, in order.

    Raises:
        FieldError: If something does not fit; it names the layer's key.
    """
    network = model.network()
    tuple(stacks(network.layers, network.routing, key=model.key))  # refuses what cannot be one
    steps, problem = _follow(network, image_shape, num_classes)
    if problem is None:
        return steps
    name, error = problem
    expected = error.expected
    if isinstance(error, KernelError) and not channels_first(image_shape):
        misfit = functools.partial(_misfit, network, steps, name, image_shape, num_classes)
        expected = f"{error.bound}: {_advice(error, name, misfit, model)}"
    raise _named(error, expected, model.key(name), image_shape) from error


def _follow(
    network: NetworkConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    known: tuple[Step, ...] = (),
) -> tuple[tuple[Step, ...], tuple[str, FieldError] | None]:
    """Return the steps up to the first layer that does not fit, and its name and error if there is one."""
    before: dict[str, Shape] = {step.name: step.shape for step in known}
    context = dataclasses.replace(around(network, image_shape, num_classes), before=before)
    steps = list(known)
    image = Features((image_shape[0], image_shape[1]), image_shape[2])  # its channels
    shape: Shape = known[-1].shape if known else image
    for name, layer in list(network.layers.items())[len(known) :]:
        try:
            given, shape = shape, layer.shape(shape, context)
        except FieldError as error:
            return tuple(steps), (name, error)
        before[name] = shape
        steps.append(Step(name, layer, given, shape))
    return tuple(steps), None


def _advice(error: KernelError, name: str, misfit: Callable[..., str | None], model: Model) -> str:
    """Say which kernels of a layer, or which padding, let all layers fit; else what this layer needs."""
    fitting = [n for n in range(1, error.size + 1) if misfit(kernel=n) is None]
    ways = ["padding SAME"] if misfit(padding="SAME") is None else []
    other = misfit(kernel=error.size)
    if fitting:
        less = " or less" if len(fitting) == fitting[-1] else ""
        after = f", for {model.key(other)}" if other is not None and other != name else ""
        ways.insert(0, f"kernel {fitting[-1]}{less}{after}")
    if ways:
        return f"choose {', or '.join(ways)}"
    alone = ", which alone is not enough" if other != name else ""
    return f"choose kernel {error.size} or less, or padding SAME{alone}"


def _misfit(
    network: NetworkConfig,
    steps: tuple[Step, ...],
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    **fields: object,
) -> str | None:
    """Return the first layer that does not fit where fields of one are changed; None if all fit."""
    try:
        layer: Any = dataclasses.replace(cast(Any, network.layers[name]), **fields)
        changed = dataclasses.replace(network, layers={**network.layers, name: layer})
        problem = _follow(changed, image_shape, num_classes, steps)[1]
    except (TypeError, ValueError):  # a layer of one's own without such a field, or with a rule
        return name
    return None if problem is None else problem[0]


def _named(
    error: FieldError, expected: str, key: str, image_shape: tuple[int, int, int]
) -> FieldError:
    """Return a layer's error under the layer's own key, with the images that led to it."""
    height, width, channels = image_shape
    if channels_first(image_shape):
        expected = (
            f"{error.expected.partition(':')[0]}; if the channels come first, images are "
            f"np.moveaxis(images, 1, -1), and image_shape is {(width, channels, height)}"
        )
    else:
        expected += f"; the images are [{height}, {width}, {channels}]"
    return FieldError(key, error.field, error.given, expected)
