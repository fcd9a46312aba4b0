"""A trained run as a value: its network and metrics, and what it says of images."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Shaped

from capsjax.checks import UserError
from capsjax.data.pixels import Pixels, shape_remedy
from capsjax.data.rescaling import Rescaling
from capsjax.display import rows_as_table
from capsjax.layers import CapsNet, NetworkOutput, Passed
from capsjax.metrics.classification import longest_classes
from capsjax.runs import advice
from capsjax.runs.batches import Predictor
from capsjax.runs.config import Config
from capsjax.runs.folder import Folder
from capsjax.runs.plan import functions_of
from capsjax.training.state import Params


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold a trained run.

    Attributes:
        config: what was run.
        folder: its directory, an absolute path.
        params: the trained parameters, under their dotted names.
        scale: factor that brings the data's raw pixels to 0 to 1.
        image_shape: height, width and channels of the images that it takes; of those that the network gets
            after `crop_to`, `config.input_shape(image_shape)`.
        num_classes: the number of classes.
        step: the number of steps that they were trained.
        pixels: what pixels it was trained on; None for those that the scale tells.
        statistics: the running statistics beside the parameters, under their dotted names; empty of most
            networks.
        class_names: what its data call each class, by its number; empty where they call it by that number.
        rescaling: how raw pixels became those that it was trained on; None where they were as they are.
        labels_per_image: how many classes each image shows that it was trained on.
    """

    config: Config
    folder: Path
    params: Params
    scale: float
    image_shape: tuple[int, int, int]
    num_classes: int
    step: int
    pixels: Pixels | None = None
    statistics: Params = dataclasses.field(default_factory=dict)
    class_names: tuple[str | int, ...] = ()
    rescaling: Rescaling | None = None
    labels_per_image: int = 1

    def __repr__(self) -> str:
        facts = ", ".join(self._facts().values())
        return f"Run({str(self.folder)!r}, {facts})"

    def _repr_html_(self) -> str:
        return rows_as_table(f"Run {self.folder}", self._facts())

    def _facts(self) -> dict[str, str]:
        """Say in a few words what the run is and how it did."""
        count = sum(value.size for value in self.params.values())
        facts = {
            "network": f"{count:,} parameters",
            "images": f"images {list(self.image_shape)} of {self.num_classes} classes",
            "trained": f"step {self.step}",
        }
        try:
            return facts | {"test": f"test error {100 * self.test['error']:.2f} %"}
        except (UserError, OSError):  # not tested yet, or its folder is gone: still a value to show
            return facts

    @property
    def unit(self) -> Pixels:
        """What pixels the run was trained on."""
        return self.pixels or Pixels.recorded({"scale": self.scale})

    @functools.cached_property
    def model(self) -> CapsNet:
        """The network, a Flax module with the trained parameters, as it is at evaluation."""
        # The layout alone: numbers that are drawn would give way to the trained ones.
        network = nnx.eval_shape(
            lambda: CapsNet(
                self.config.input_shape(self.image_shape),
                self.num_classes,
                config=self.config.model,
                rngs=nnx.Rngs(0),
            )
        )
        found, state = self.variables, nnx.state(network, (nnx.Param, nnx.BatchStat))
        flat = {
            path: variable.replace(found[".".join(map(str, path))])
            for path, variable in nnx.to_flat_state(state)
        }
        nnx.update(network, nnx.from_flat_state(flat))
        network.eval()
        return network

    @property
    def variables(self) -> Params:
        """All that the network's functions take, parameters and running statistics."""
        return self.params | self.statistics

    @property
    def directory(self) -> Folder:
        """What its directory says of configuration, environment, metrics, checkpoints, how to resume."""
        return Folder(self.folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every line of the run's metrics, in the order of steps."""
        return self.directory.metrics

    @property
    def test(self) -> dict[str, Any]:
        """The line of the test split, with its `error`, `loss` and so on, of these parameters."""
        tested = self.directory.tested
        if tested is None or tested["step"] != self.step:
            call, command = advice.how_to_resume(self.folder, self.config)
            untested = "got no test line in metrics.jsonl, expected a finished run"
            got = f"{self.folder}: {self.mismatch() or untested}; resume it: "
            raise UserError(got + call, on_command_line=got + command)
        return tested

    def mismatch(self) -> str | None:
        """Say where the run was tested after another step than that of these parameters.

        So it is where the last checkpoint of a finished run is gone or damaged, or where a run stopped while
        it was lengthened; None elsewhere.
        """
        tested = self.directory.tested
        if tested is None or tested["step"] == self.step:
            return None
        if self.step > tested["step"]:
            return (
                f"got a run of {tested['step']} steps that stopped at step {self.step} while it was "
                "lengthened, expected one that is tested after its last step"
            )
        return (
            f"got the parameters of step {self.step}, expected those of step {tested['step']}, "
            "after which the run was tested"
        )

    def outputs(self, images: np.ndarray, *, trace: bool = False) -> NetworkOutput:
        """Run the network on images, as many at once as `training.eval_batch_size` says.

        Args:
            images: pixels of the type that the run was trained on, [n, h, w, c], or [n, h, w] where there
                is one channel, n from 0; the same images in the other type, bytes or floats from 0 to 1, are
                brought to that unit.
            trace: whether to return every iteration of the routing.

        Returns:
            All that the network knows of them.

        Raises:
            UserError: If their shape is not that of several of the data's images, a pixel is not finite
                or out of range, or their unit cannot be told.
        """
        predictor, raw = self._predictor(images)
        return predictor.outputs(raw, trace=trace)

    def passed(self, images: np.ndarray) -> dict[str, Passed]:
        """Return what each layer gives for images as `outputs` takes them, all at once: a few, to look at.

        Args:
            images: pixels, [n, h, w, c] or [n, h, w].

        Returns:
            What each layer gives, features [n, h, w, c] or capsules, with what its routing did or None, in
            order, by name.

        Raises:
            UserError: If the images do not fit.
        """
        predictor, raw = self._predictor(images)
        graph, state = nnx.split(self.model)
        program = jax.jit(lambda state, images: nnx.merge(graph, state).passed(images))
        return program(state, predictor.prepared(raw))

    def lengths(self, images: np.ndarray) -> Float[np.ndarray, "n j"]:
        """Return the belief in each class, [n, j], for images as `outputs` takes them.

        Class capsules' lengths or activations, from 0 to 1, in the order of `classes`.
        """
        predictor, raw = self._predictor(images)
        return predictor.lengths(raw)

    @functools.cached_property
    def classes(self) -> Shaped[np.ndarray, "j"]:
        """What the data call each class, in the order of class numbers, as `predict` returns it, [j]."""
        return np.array(self.class_names) if self.class_names else np.arange(self.num_classes)

    def predict(self, images: np.ndarray) -> Shaped[np.ndarray, "n *k"]:
        """Classify images as `outputs` takes them, [n, h, w, c] or [n, h, w].

        Returns the classes, [n], as the data call them: by class numbers, or by names such as those of the
        folders that they came from. Of a run on images that show k classes each, k of them, [n, k].

        Many images take the memory of one batch. Whatever their number, at most two sizes of a batch are
        compiled: 16 for a few, and `training.eval_batch_size`.
        """
        return self.named(self.lengths(images))

    def named(self, lengths: Float[np.ndarray, "n j"]) -> Shaped[np.ndarray, "n *k"]:
        """Say which classes are the longest, as `predict` does.

        Args:
            lengths: the belief in each class, [n, j].

        Returns:
            The class of each example, [n]; of images that show k classes those of the k longest, in the
            order of class numbers, [n, k].
        """
        numbers = longest_classes(lengths, self.labels_per_image)
        return self.classes[numbers] if self.class_names else numbers

    def _predictor(self, images: np.ndarray) -> tuple[Predictor, np.ndarray]:
        """Check images, and say what they go through."""
        try:
            raw = np.asarray(images)
        except ValueError as error:  # lists of unequal lengths
            raise UserError(
                f"images: got lists of unequal lengths ({error}), expected "
                f"[n, {', '.join(map(str, self.image_shape))}]; bring all images to one size"
            ) from None
        given, raw = raw.shape, raw[..., None] if raw.ndim == 3 else raw
        if raw.ndim != 4 or raw.shape[1:] != self.image_shape:
            raise UserError(
                f"images: got {list(given)}, expected [n, {', '.join(map(str, self.image_shape))}]"
                + shape_remedy(given, self.image_shape)
            )
        if self.rescaling is not None:
            raw, scale = self.rescaling.checked(raw), 1.0
        else:
            scale = self.unit.factor(raw) if raw.size else self.scale
        config = self.config
        made = functions_of(config, self.image_shape, self.num_classes)
        ways = config.training.eval_batch_size, self.labels_per_image, config.augmentations
        return Predictor(made.apply, self.variables, scale, *ways), raw
