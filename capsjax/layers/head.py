"""How the last capsules become a score of each class, from 0 to 1."""

import abc
import dataclasses
from typing import Literal, get_args

import jax
from flax import nnx
from jaxtyping import Array, Float

from capsjax.checks import FieldError, check_bool, check_choice
from capsjax.layers.base import Around, CapsuleShape, Initialisation
from capsjax.layers.initialisers import bias_initialiser, kernel_initialiser
from capsjax.schema.variant import Variant
from capsjax.types import Capsules

Scores = Literal["sigmoid", "softmax"]
SCORES: tuple[Scores, ...] = get_args(Scores)


class Head(Variant, abc.ABC):
    """Define how the last capsules become a score of each class: a frozen dataclass with a `kind`."""

    @abc.abstractmethod
    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> nnx.Module:
        """Return a Flax module from `Capsules` to scores from 0 to 1, [b, classes].

        Args:
            given: the last capsules.
            around: what the network says.
            rngs: random numbers for the parameters.

        Returns:
            The module.

        Raises:
            FieldError: If the capsules do not fit.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActivationHead(Head):
    """Score a class by the activation of its capsule: the length of its pose, or EM routing's a_j.

    Args:
        output: "none" for activations as they are; "softmax" where lengths may be above 1, as homogeneous
            vector capsules', and each image is of one class.
        kind: its name in a configuration.
    """

    output: Literal["none", "softmax"] = "none"
    kind: Literal["activation"] = "activation"

    def __post_init__(self):
        check_choice(self, "output", ("none", "softmax"))

    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> nnx.Module:
        """Make a module without parameters.

        Args:
            given: the last capsules.
            around: what the network says, the number of classes among it.
            rngs: not used, as nothing is random.

        Returns:
            A module from capsules to their activations, [b, j].

        Raises:
            FieldError: If there is not one capsule for each class.
        """
        # A capsule more would be a score without a class, one less a class without a score.
        if given.capsules != around.num_classes:
            expected = (
                f"a head that maps {given} to {around.num_classes} classes, such as linear; or let the last "
                "layer have one capsule of each class (types null)"
            )
            raise FieldError("ActivationHead", "kind", self.kind, expected)
        return Activations(self.output)


class Activations(nnx.Module):
    """Return the activations of capsules, or the shares of their exponentials.

    Args:
        output: "none" or "softmax".
    """

    def __init__(self, output: Literal["none", "softmax"] = "none"):
        self.output = output

    def __call__(self, capsules: Capsules) -> Float[Array, "b j"]:
        """Return a_j, [b, j]."""
        if capsules.activation is None:
            raise TypeError("Activations: got capsules without activations, expected [b, j]")
        scores = capsules.activation  # [b, j]
        return scores if self.output == "none" else jax.nn.softmax(scores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearHead(Head):
    """Score each class by a linear map of the poses of all last capsules, or of its own capsule's alone.

    Args:
        shared: whether there is one map for all classes, from the pose of a class's capsule to its score.
        output: "sigmoid" for each class by itself; "softmax" where each image is of one class, for scores
            whose sum is 1, as the loss of kind likelihood takes them.
        kind: its name in a configuration.

    Reference:
        Tsai, Srivastava, Goh and Salakhutdinov 2020, section 4.2, for a map that class capsules share.
    """

    shared: bool = False
    output: Scores = "sigmoid"
    kind: Literal["linear"] = "linear"

    def __post_init__(self):
        check_bool(self, "shared")
        check_choice(self, "output", SCORES)

    def build(self, given: CapsuleShape, around: Around, *, rngs: nnx.Rngs) -> "LinearScores":
        """Make the linear map.

        Args:
            given: the last capsules.
            around: what the network says, the number of classes among it.
            rngs: random numbers for the parameters.

        Returns:
            A module from capsules to scores, [b, classes].

        Raises:
            FieldError: If one map is to be shared, and there is not one capsule for each class.
        """
        if self.shared and given.capsules != around.num_classes:
            expected = (
                f"false, as {given} come in, not one for each of the {around.num_classes} classes; or let "
                "the last layer have one capsule of each class (types null)"
            )
            raise FieldError("LinearHead", "shared", True, expected)
        size, scores = given.capsules * given.dim, around.num_classes
        return LinearScores(
            *((given.dim, 1) if self.shared else (size, scores)),
            output=self.output,
            initialisation=around.initialisation,
            rngs=rngs,
        )


class LinearScores(nnx.Module):
    """Map the poses of capsules to scores.

    Args:
        size: numbers in all poses of an example; or in one, for a map that all capsules share.
        num_classes: how many scores; 1 for each capsule, of a map that they share.
        output: what follows the map, "sigmoid" or "softmax".
        initialisation: how the parameters begin.
        rngs: random numbers for the parameters.
    """

    def __init__(
        self,
        size: int,
        num_classes: int,
        *,
        output: Scores = "sigmoid",
        initialisation: Initialisation,
        rngs: nnx.Rngs,
    ):
        self.size, self.output = size, output
        self.map = nnx.Linear(
            size,
            num_classes,
            kernel_init=kernel_initialiser(initialisation, stddev=0.1),
            bias_init=bias_initialiser(initialisation),
            rngs=rngs,
        )

    def __call__(self, capsules: Capsules) -> Float[Array, "b k"]:
        """Return scores from 0 to 1, [b, classes]."""
        if capsules.pose is None:
            raise TypeError("LinearScores: got capsules without poses, expected [b, j, e]")
        # One row of all poses, or a row for each capsule of a map that they share.
        rows = capsules.pose.reshape(capsules.pose.shape[0], -1, self.size)
        scores = self.map(rows).reshape(rows.shape[0], -1)  # [b, classes]
        # By a sigmoid several classes may be present; both give the scores from 0 to 1 that losses take.
        return jax.nn.sigmoid(scores) if self.output == "sigmoid" else jax.nn.softmax(scores)
