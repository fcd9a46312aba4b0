"""The module of a network: an image through its layers, a head and a decoder."""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from capsjax.checks import FieldError
from capsjax.layers.base import CapsuleShape, Passed, Shape
from capsjax.layers.capsnet import CapsNetConfig
from capsjax.layers.decoder import ImageDecoder, longest, longest_few
from capsjax.layers.head import ActivationHead
from capsjax.layers.inputs import check_class_labels, check_images
from capsjax.layers.model import Model, NetworkConfig, Step, around, shapes
from capsjax.layers.routed import passed
from capsjax.layers.stacks import route_at_once, stacks
from capsjax.types import Capsules, NetworkOutput, RoutingResult


class CapsNet(nnx.Module):
    """Classify images by capsules: layers by name, then a head, and a decoder that draws the image again.

    The default is the network of the 2017 paper: stem, primary capsules, class capsules whose lengths are
    the scores, decoder. Each layer is an attribute of its name.

    Args:
        image_shape: height, width and channels of the images.
        num_classes: j, the number of classes.
        config: the layers and their sizes; the default is the 2017 paper's.
        rngs: random numbers for the parameters.

    Raises:
        UserError: If the layers do not fit the images or each other.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> import capsjax as cj
        >>> network = CapsNet((8, 8, 1), 10, config=cj.load_config("digits").model, rngs=nnx.Rngs(0))
        >>> network(jnp.zeros([4, 8, 8, 1])).lengths.shape
        (4, 10)

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        num_classes: int,
        *,
        config: Model = CapsNetConfig(),
        rngs: nnx.Rngs,
    ):
        # Shapes before any array: a network that does not fit is refused before anything is drawn.
        steps = shapes(config, image_shape, num_classes)
        network = config.network()
        before = {step.name: step.shape for step in steps}
        context = dataclasses.replace(around(network, image_shape, num_classes), before=before)
        self.config = config
        self.image_shape, self.num_classes = image_shape, num_classes
        for name, layer, given, _ in steps:
            setattr(self, name, layer.build(given, context, rngs=rngs))
        last = _capsules(network, steps[-1])
        try:
            self.head = network.head.build(last, context, rngs=rngs)
        except FieldError as error:
            raise FieldError("model.head", error.field, error.given, error.expected) from error
        # Without a sigmoid to draw them by, standardised data are as good as pixels from 0 to 1.
        self._bounded = network.decoder is None or network.decoder.bounded
        decoder = network.decoder
        if decoder is not None:
            _check_drawing(decoder, steps[-1].shape, num_classes)
        # NNX decides at the first assignment whether an attribute holds parameters, so there is one.
        self.decoder = None if decoder is None else decoder.build(last, context, rngs=rngs)

    def __call__(
        self,
        images: Float[Array, "b h w c"],
        labels: Num[Array, "b"] | Num[Array, "b k"] | Num[Array, "b j"] | None = None,
        *,
        trace: bool = False,
        drawn: int = 1,
    ) -> NetworkOutput:
        """Classify a batch and draw it again.

        Args:
            images: pixels from 0 to 1, [b, h, w, c].
            labels: the classes whose capsules are drawn, as in training: their numbers, [b], or of several
                that are drawn each by itself, [b, k], k below j; a 1 for each class and 0 for the others,
                [b, j], for one image of all of them; None draws from the longest, as at evaluation.
                Nothing else depends on them.
            trace: whether to return every iteration of the routings.
            drawn: from how many of the longest capsules an image each is drawn where there are no labels, in
                the order of the classes' numbers.

        Returns:
            All that the network knows of the batch.

        Raises:
            UserError: If the images have another shape or type than the network was made for, there is
                not one class number for each; and, unless a transformation traces them, if a pixel is not
                finite or not from 0 to 1, or a label not a class.
        """
        check_images(images, self.image_shape, bounded=self._bounded)
        if labels is not None:
            check_class_labels(labels, images.shape[0], self.num_classes)
        routed = OrderedDict[str, RoutingResult]()  # of a dict, JAX sorts the names
        value: Any = images
        children: Any = None
        for name, given, gives in self._through(images, trace=trace):
            if gives.routed is not None:
                routed[name], children = gives.routed, given
            value = gives.value  # features [b, h, w, c], or capsules
        capsules: Any = value
        if not isinstance(value, Capsules):  # features: each position's are read as a pose
            capsules = Capsules(value.reshape(value.shape[0], -1, value.shape[-1]), None)
        last = next(reversed(routed.values()), None)  # of several, the one of the classes
        scores = self.head(capsules)  # [b, j]
        reconstruction = None
        if self.decoder is not None:
            with jax.named_scope("decoder"):
                mask = jnp.ones(capsules.pose.shape[:2])  # of features nothing belongs to a class
                if isinstance(value, Capsules):
                    mask = _mask(scores, labels, drawn)
                reconstruction = _draw(self.decoder, capsules.pose, mask)
        return NetworkOutput(
            lengths=scores,
            poses=capsules.pose,
            coupling=None if last is None else last.coupling,
            children=None if children is None else children.pose,
            reconstruction=reconstruction,
            trace=None if last is None else last.trace,
            layers=routed,
        )

    def passed(self, images: Float[Array, "b h w c"]) -> dict[str, Passed]:
        """Return what each layer gives, to look at: features or capsules, and what its routing did.

        Args:
            images: pixels, as those that are classified, [b, h, w, c].

        Returns:
            By the layer's name, in order.

        Raises:
            UserError: If the images do not fit.
        """
        check_images(images, self.image_shape, bounded=self._bounded)
        return OrderedDict((name, one) for name, _, one in self._through(images, trace=False))

    def _through(self, images: Array, *, trace: bool) -> Iterator[tuple[str, Any, Passed]]:
        """Yield each layer's name, what it was given and what it passes on."""
        value: Any = images
        kept: dict[str, Any] = {}  # what later layers may take by name
        network = self.config.network()
        for names in stacks(network.layers, network.routing):
            modules = {name: getattr(self, name) for name in names}
            at_once: Mapping[str, RoutingResult] = {}
            if len(names) > 1:
                at_once = route_at_once(modules, value, trace=trace)
            for name, module in modules.items():
                layer = network.layers[name]
                value = tuple(kept[one] for one in layer.takes) or value
                # A profile then says which layer an operation belongs to.
                with jax.named_scope(name):
                    gives = (
                        passed(at_once[name])
                        if at_once
                        else layer.apply(module, value, trace=trace)
                    )
                yield name, value, gives
                value = kept[name] = gives.value


def _mask(scores: Array, labels: Array | None, drawn: int) -> Array:
    """Return 1 for the capsule to draw and 0 for the others, [b, j]; of several images [b, k, j]."""
    if labels is None:
        return longest(scores) if drawn == 1 else longest_few(scores, drawn)
    if labels.shape == scores.shape:
        return labels.astype(scores.dtype)
    return jax.nn.one_hot(labels, scores.shape[-1], dtype=scores.dtype)  # [b, j] or [b, k, j]


def _draw(decoder: Any, poses: Array, mask: Array) -> Array:
    """Draw an image for each mask: the same decoder for all that an example has."""
    if mask.ndim == 2:
        return decoder(poses, mask)
    b, k, j = mask.shape
    images = decoder(jnp.repeat(poses, k, axis=0), mask.reshape(b * k, j))  # [b k, h, w, c]
    return images.reshape(b, k, *images.shape[1:])


def _capsules(network: NetworkConfig, step: Step) -> CapsuleShape:
    """Return the last capsules, or features as those of a network without capsules."""
    if isinstance(step.shape, CapsuleShape):
        return step.shape
    if isinstance(network.head, ActivationHead):  # features have none
        expected = (
            f"a last layer that gives capsules, such as dense_capsules, not {step.shape}; or, of a network "
            "without capsules, model.head linear"
        )
        key = network.key(step.name)
        raise FieldError(key, "kind", getattr(step.layer, "kind", None), expected)
    return CapsuleShape(step.shape.grid, 1, step.shape.channels)


def _check_drawing(decoder: ImageDecoder, last: Shape, num_classes: int) -> None:
    """Check that each class has a capsule to be drawn from; features are drawn from as they are."""
    if isinstance(last, CapsuleShape) and last.capsules != num_classes:
        kind = getattr(decoder, "kind", None)
        expected = (
            f"null, as the last layer gives {last}, not one capsule for each of the {num_classes} "
            "classes"
        )
        raise FieldError("model", "decoder", kind, expected)


def count_parameters(module: nnx.Module) -> int:
    """Return how many numbers a module trains."""
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))
