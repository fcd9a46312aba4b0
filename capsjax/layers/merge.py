"""Where branches of a network begin and meet: a layer that takes what layers before gave, by name."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx

from capsjax.checks import FieldError, check_choice
from capsjax.layers.base import Around, CapsuleShape, Features, Layer, Shape, take_capsules
from capsjax.types import Capsules

By = Literal["add", "concatenate", "weigh"]
BYS: tuple[By, ...] = ("add", "concatenate", "weigh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeConfig(Layer):
    """Describe what becomes of the values of layers before.

    Of a single layer it is what that layer gave, for a branch that begins there.

    Args:
        of: the names of the layers.
        by: "add" for the sum of features or of poses, whose activations are averaged, and are not the lengths
            of the sums; "concatenate" for channels, or capsules, side by side; "weigh" for class capsules
            that each branch has of its own: their poses side by side, and the sum of their activations, each
            branch's times a trained weight.
        kind: its name in a configuration.

    Reference:
        Rajasegaran et al. 2019, section 3.3, for sums and capsules side by side; Byerly, Kalganova and Dear
        2021, section 3, for weights.
    """

    of: tuple[str, ...] = ()
    by: By = "add"
    kind: Literal["merge"] = "merge"

    def __post_init__(self):
        check_choice(self, "by", BYS)
        names = self.of if isinstance(self.of, tuple) else ()
        if not names or not all(isinstance(name, str) for name in names):
            expected = "a tuple of at least one name of a layer"
            raise FieldError("MergeConfig", "of", self.of, expected)

    @property
    def takes(self) -> tuple[str, ...]:
        """Name the layers that are merged."""
        return self.of

    @property
    def bounded(self) -> bool:
        """Return whether activations are not summed: of a single layer they stay as they are."""
        return self.by != "weigh" or len(self.of) == 1

    def shape(self, given: Shape, around: Around) -> Shape:
        """Compute the shape of what comes out.

        Args:
            given: not used, as the layers are named.
            around: what the network says, the shapes of the layers before among it.

        Returns:
            That of each, for sums; more channels, or capsules without positions; class capsules of more
            components.

        Raises:
            FieldError: If the shapes do not go together.
        """
        shapes = [around.before[name] for name in self.of]
        first = shapes[0]
        if len(shapes) == 1:
            return first
        if self.by == "weigh":
            capsules = [take_capsules(self, shape) for shape in shapes]
            self._check(shapes, same=[(c.grid, c.types) for c in capsules])
            dim = sum(capsule.dim for capsule in capsules)
            return CapsuleShape(capsules[0].grid, capsules[0].types, dim)
        if self.by == "add":
            self._check(shapes, same=shapes)
            return first
        if isinstance(first, Features):
            self._check(shapes, same=[(type(shape), shape.grid) for shape in shapes])
            channels = sum(shape.channels for shape in shapes if isinstance(shape, Features))
            return Features(first.grid, channels)
        capsules = [shape for shape in shapes if isinstance(shape, CapsuleShape)]
        # Of one dimension, so that one layer can transform them all.
        self._check(shapes, same=[(type(s), getattr(s, "dim", None)) for s in shapes])
        return CapsuleShape((1, 1), sum(capsule.capsules for capsule in capsules), first.dim)

    def _check(self, shapes: list[Shape], *, same: list[Any]) -> None:
        if any(one != same[0] for one in same):
            what = {
                "add": "of one shape, to be added",
                "concatenate": "of one grid, or capsules of one dimension, to stand side by side",
                "weigh": "that give as many capsules each, such as one of each class",
            }[self.by]
            came = ", ".join(f"{name} {shape}" for name, shape in zip(self.of, shapes, strict=True))
            expected = f"layers {what}, not {came}; or another `by`"
            raise FieldError("MergeConfig", "of", list(self.of), expected)

    def build(self, given: Shape, around: Around, *, rngs: nnx.Rngs) -> "Merge":
        """Make the weights, if any.

        Args:
            given: not used.
            around: not used.
            rngs: not used, as weights begin at 1.

        Returns:
            A module from a tuple of features or capsules to one.
        """
        del given, around, rngs
        return Merge(self)


class Merge(nnx.Module):
    """Add, put side by side or weigh what several layers gave.

    Args:
        config: which layers, and how.
    """

    def __init__(self, config: MergeConfig):
        self.config = config
        weighs = config.by == "weigh" and len(config.of) > 1
        self.weight = nnx.Param(jnp.ones(len(config.of), jnp.float32)) if weighs else None  # [n]

    def __call__(self, values: Any) -> Any:
        """Return features [b, h, w, c], or capsules, of a tuple of such."""
        by, first = self.config.by, values[0]
        if len(values) == 1:
            return first
        if not isinstance(first, Capsules):  # [b, h, w, c]
            return sum(values) if by == "add" else jnp.concatenate(values, axis=-1)
        poses = [jnp.asarray(value.pose) for value in values]  # [b, i, d]
        activations = [jnp.asarray(value.activation) for value in values]  # [b, i]
        if self.weight is not None:
            scores = jnp.stack(activations, axis=-1) @ self.weight[...]  # sum_n w_n a_nj, [b, j]
            return Capsules(jnp.concatenate(poses, axis=-1), scores)
        if by == "add":  # the mean, so that what is from 0 to 1 stays there
            mean = jnp.mean(jnp.stack(activations), axis=0)
            return Capsules(jnp.sum(jnp.stack(poses), axis=0), mean)
        return Capsules(jnp.concatenate(poses, axis=1), jnp.concatenate(activations, axis=1))
