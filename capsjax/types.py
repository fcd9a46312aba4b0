"""The vocabulary: what flows from a batch through routing to a loss, and the letters of shapes.

Shapes use the letters of the papers everywhere: `i` child capsules of `d` dimensions, `j` parent
capsules of `e` dimensions, `*batch` any leading axes, and `r` routing iterations; `b` examples of images
`h w c`.
"""

from typing import NamedTuple

from jaxtyping import Array, Float, Int

from capsjax.display import as_table, one_line

# A number for each child and parent, a logit, coupling or agreement, as the votes' `pairs` hold it:
# [*batch, i, j], or in a layout of their own, which `Pairs.to_array` turns into that.
PerPair = Float[Array, "..."]
# What is measured of each example, by name: one number or several. Never a mean: batches that a device
# shares out, or that end in padding, are averaged once, over the examples there are.
PerExample = dict[str, Float[Array, "b ..."]]


class Capsules(NamedTuple):
    """Hold capsules: what one layer gives and the next one takes.

    Attributes:
        pose: poses, [*batch, i, d]; None if only activations are asked for.
        activation: how present each capsule is, 0 to 1, [*batch, i]; None if only poses are asked for.
    """

    pose: Float[Array, "*batch i d"] | None
    activation: Float[Array, "*batch i"] | None


class RoutingTrace(NamedTuple):
    """Show each iteration of a routing, as data: no gradient flows into it.

    Attributes:
        coupling: coupling coefficients at each readout, the r-th being the result's, [r, *batch, i, j].
        entropy: entropy of a child's coupling, averaged over children, in nats, [r, *batch].
        agreement: coupled agreement of votes with poses, sum_ij c_ij (vote . pose_j) / i, [r, *batch].
    """

    coupling: Float[Array, "r *batch i j"]
    entropy: Float[Array, "r *batch"]
    agreement: Float[Array, "r *batch"]

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)


class RoutingResult(NamedTuple):
    """Hold what a routing computes.

    Attributes:
        pose: parent poses v_j, whose length is the activation, [*batch, j, e].
        coupling: coupling coefficients c_ij, normalised over each child's parents, [*batch, i, j].
        logits: routing logits b_ij that gave the coupling; zero when num_iters = 1, [*batch, i, j].
        activation: how present each parent is, here the length of its pose, [*batch, j].
        trace: every iteration as data, or None unless asked for.
        residual: by how much one more update, undamped, would move the coupling that it moves most, as data,
            [*batch]; None unless the routing has a fixed point or a tolerance.
    """

    pose: Float[Array, "*batch j e"]
    coupling: Float[Array, "*batch i j"]
    logits: Float[Array, "*batch i j"]
    activation: Float[Array, "*batch j"]
    trace: RoutingTrace | None = None
    residual: Float[Array, "*batch"] | None = None

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)


NONE: dict[str, RoutingResult] = {}


class NetworkOutput(NamedTuple):
    """Hold all that a network knows of a batch; compilation drops what nobody uses.

    Attributes:
        lengths: lengths of the class capsules, or what else the head says: the network's belief in each
            class, 0 to 1, [b, j].
        poses: class capsules v_j, [b, j, e]; of a network without capsules its last features, those of each
            position, [b, h w, c].
        coupling: coupling coefficients of the last iteration of the last layer that routes, [b, i, j]; None
            if none does.
        children: poses that came into that layer, of a `CapsNet` the primary capsules u_i, [b, i, d]; None if
            there is none.
        reconstruction: what the decoder drew, pixels from 0 to 1, [b, h, w, c], or an image for each of k
            classes, [b, k, h, w, c]; None without a decoder.
        trace: every iteration of that layer's routing as data; None unless asked for.
        layers: what the routing of each layer did, by the layer's name, in order; the last is that one.
    """

    lengths: Float[Array, "b j"]
    poses: Float[Array, "b j e"]
    coupling: Float[Array, "b i j"] | None
    children: Float[Array, "b i d"] | None
    reconstruction: Float[Array, "b *k h w c"] | None
    trace: RoutingTrace | None
    layers: dict[str, RoutingResult] = NONE

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)


class Batch(NamedTuple):
    """Hold some examples.

    Attributes:
        images: pixels from 0 to 1, or standardised, [b, h, w, c].
        labels: class numbers, [b]; of images that show k different classes, [b, k].
        weights: 1 for an example, 0 for padding that fills a batch up, [b].
        progress: the share of the run's steps that is done, the same for all, [b]; None at evaluation, where
            all of them are.
        targets: what a decoder is to draw, an image for each label, [b, k, h, w, c], or the images before
            they were standardised, [b, h, w, c]; None for the images.
    """

    images: Float[Array, "b h w c"]
    labels: Int[Array, "b *k"]
    weights: Float[Array, "b"]
    progress: Float[Array, "b"] | None = None
    targets: Float[Array, "b *k h w c"] | None = None

    def __repr__(self) -> str:
        return one_line(self)

    def _repr_html_(self) -> str:
        return as_table(self)
