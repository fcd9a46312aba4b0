"""Flax modules, thin shells around the functions: parameters in, one function called, arrays out."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import UserError
from capsjax.convolution import Precision, conv2d, output_size
from capsjax.modules.architecture import DecoderConfig, Initialisation, PrimaryConfig, StemConfig
from capsjax.modules.initialisers import (
    KeepLength,
    bias_initialiser,
    kernel_initialiser,
    transformation_initialiser,
)
from capsjax.numerics import safe_norm, squash
from capsjax.routing import Routing, Sizes
from capsjax.types import Capsules, RoutingResult
from capsjax.votes import VoteForm, form_votes


class Stem(nnx.Module):
    """Convolve pixels into features, with a ReLU.

    Args:
        channels: channels of the image.
        config: the convolution.
        initialisation: how the parameters begin.
        precision: what is multiplied; see `conv2d`.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        channels: int,
        config: StemConfig,
        *,
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.config, self.precision = config, precision
        shape = (config.kernel, config.kernel, channels, config.channels)
        draw = kernel_initialiser(initialisation, stddev=0.05)
        self.kernel = nnx.Param(draw(rngs.params(), shape))
        self.bias = nnx.Param(bias_initialiser(initialisation)(rngs.params(), shape[-1:]))

    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b ho wo f"]:
        """Return features, [b, ho, wo, channels]."""
        config = self.config
        x = conv2d(
            images,
            self.kernel[...],
            stride=config.stride,
            padding=config.padding,
            precision=self.precision,
        )
        return jax.nn.relu(x + self.bias[...].reshape(1, 1, 1, -1))


class PrimaryCapsules(nnx.Module):
    """Convolve features into the poses of the first capsules.

    A capsule's components are channels of one position: channels are read as [types, dim], and the
    children are numbered position by position, type by type.

    Args:
        channels: channels of the features.
        config: the convolution and the capsules.
        initialisation: how the parameters begin.
        precision: what is multiplied; see `conv2d`.
        rngs: random numbers for the parameters.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.
    """

    def __init__(
        self,
        channels: int,
        config: PrimaryConfig,
        *,
        initialisation: Initialisation,
        precision: Precision = "float32",
        rngs: nnx.Rngs,
    ):
        self.config, self.precision = config, precision
        shape = (config.kernel, config.kernel, channels, config.types * config.dim)
        draw = kernel_initialiser(initialisation, stddev=0.1)
        self.kernel = nnx.Param(draw(rngs.params(), shape))
        self.bias = nnx.Param(bias_initialiser(initialisation)(rngs.params(), shape[-1:]))

    def __call__(self, features: Float[Array, "b h w c"]) -> Float[Array, "b i d"]:
        """Return child poses u_i, i = ho * wo * types, [b, i, d]."""
        config = self.config
        x = conv2d(
            features,
            self.kernel[...],
            stride=config.stride,
            padding=config.padding,
            precision=self.precision,
        )
        x = config.coupling * x + self.bias[...].reshape(1, 1, 1, -1)
        return squash(x.reshape(x.shape[0], -1, config.dim))


class DenseCapsules(nnx.Module):
    """Connect every child capsule to every parent by a transformation matrix, and route.

    Args:
        num_children: i.
        num_parents: j.
        child_dim: d.
        parent_dim: e.
        routing: how children choose among parents.
        bias: whether the routing's optional parameters are trained: for routing by agreement the bias,
            [j, e], added to s_j at every iteration.
        form: how the votes are held; see `form_votes`.
        initialisation: how the parameters begin: `KeepLength(l)`, with parents as long as children of length
            l, or as those of a network do.
        rngs: random numbers for the parameters.

    Reference:
        Sabour, Frosst and Hinton 2017, section 2.
    """

    def __init__(
        self,
        num_children: int,
        num_parents: int,
        child_dim: int,
        parent_dim: int,
        *,
        routing: Routing,
        bias: bool = False,
        form: VoteForm = "auto",
        initialisation: Initialisation | KeepLength = KeepLength(),
        rngs: nnx.Rngs,
    ):
        self.routing, self.form = routing, form
        shape = (num_children, num_parents, child_dim, parent_dim)
        draw = transformation_initialiser(initialisation)
        self.weight = nnx.Param(draw(rngs.params(), shape))
        start = bias_initialiser(initialisation)
        known = routing.parameters(Sizes(num_children, num_parents, child_dim, parent_dim))
        self.trained = tuple(name for name, one in known.items() if bias or not one.optional)
        for name in self.trained:
            draw_one = known[name].init or start
            setattr(self, name, nnx.Param(draw_one(rngs.params(), known[name].shape)))

    def __call__(
        self, children: Capsules | Float[Array, "b i d"], *, trace: bool = False
    ) -> RoutingResult:
        """Route children.

        Args:
            children: capsules, or their poses alone, [b, i, d], whose lengths are then the activations.
            trace: whether to return every iteration, as data.
        """
        poses, activation = (
            children if isinstance(children, Capsules) else (children, safe_norm(children))
        )
        if poses is None:
            raise UserError("DenseCapsules: got capsules without poses, expected poses [b, i, d]")
        takes = {"poses": poses, "activation": activation}
        return self.routing(
            form_votes(poses, self.weight[...], self.form),
            **{name: takes[name] for name in self.routing.takes},
            params={name: getattr(self, name)[...] for name in self.trained},
            trace=trace,
        )


class Decoder(nnx.Module):
    """Draw an image from class capsules of which all but one are masked with zeros.

    Args:
        num_classes: j.
        dim: e, components of a class capsule's pose.
        image_shape: height, width and channels of the image.
        config: the hidden layers.
        initialisation: how the parameters begin.
        rngs: random numbers for the parameters.

    Reference:
        Sabour, Frosst and Hinton 2017, section 4.1 and figure 2.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        image_shape: tuple[int, int, int],
        config: DecoderConfig,
        *,
        initialisation: Initialisation,
        rngs: nnx.Rngs,
    ):
        self.image_shape = image_shape
        sizes = (num_classes * dim, *config.hidden, math.prod(image_shape))
        self.layers = nnx.List(
            nnx.Linear(
                size,
                next_size,
                kernel_init=kernel_initialiser(initialisation, stddev=0.1),
                bias_init=bias_initialiser(initialisation),
                rngs=rngs,
            )
            for size, next_size in itertools.pairwise(sizes)
        )

    def __call__(
        self, poses: Float[Array, "b j e"], mask: Float[Array, "b j"]
    ) -> Float[Array, "b h w c"]:
        """Draw images with pixels from 0 to 1.

        Args:
            poses: class capsules, [b, j, e].
            mask: 1 for the capsule to draw, 0 for the others, [b, j].
        """
        x = (poses * mask[:, :, None]).reshape(poses.shape[0], -1)
        for layer in list(self.layers)[:-1]:
            x = jax.nn.relu(layer(x))
        x = jax.nn.sigmoid(list(self.layers)[-1](x))
        return x.reshape(-1, *self.image_shape)


def primary_count(
    image_shape: tuple[int, int, int], stem: StemConfig, primary: PrimaryConfig
) -> int:
    """Return i, the number of primary capsules for images of a shape (h, w, c)."""
    positions = 1
    for pixels in image_shape[:2]:
        size = output_size(pixels, stem.kernel, stem.stride, stem.padding)
        positions *= output_size(size, primary.kernel, primary.stride, primary.padding)
    return positions * primary.types


def longest(lengths: Float[Array, "b j"]) -> Float[Array, "b j"]:
    """Return a mask that keeps the longest capsule of each example, [b, j]."""
    return jax.nn.one_hot(jnp.argmax(lengths, axis=-1), lengths.shape[-1], dtype=lengths.dtype)
