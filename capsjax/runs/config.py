"""What a run is: one tree of frozen values, from YAML and flags, checked before anything starts."""

import dataclasses
import html
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from capsjax import files
from capsjax.checks import FieldError, UserError, check_int, check_type, nearest
from capsjax.data import Augmentation, Shift, Source
from capsjax.data.augment.base import ValueAugmentation, prepared_shape
from capsjax.data.places import EXPECTED as DATA
from capsjax.data.places import may_be_data
from capsjax.display import changed
from capsjax.layers import CapsNetConfig, Model
from capsjax.losses import Loss, MarginLoss
from capsjax.metrics import ALWAYS, Metric
from capsjax.runs.comparing import CompareConfig
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build
from capsjax.training.config import TrainingConfig
from capsjax.training.optimisers import Adam, Optimiser

# What a line of metrics holds beside the loss of the classes and the metrics.
COLUMNS = (
    "split",
    "step",
    "loss",
    "reconstruction",
    "examples",
    "images_per_second",
    "count",
)
LARGEST_CONFIG = 1 << 17  # bytes of a file; those that ship have some 2,000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Describe a run.

    Args:
        data: what to learn from.
        model: the network.
        training: how long, and how.
        seed: random seed of initial parameters, order and shifts.
        max_shift: pixels by which a training image may move in each direction, filled with zeros: short for
            a `shift` that comes before everything in `augment`.
        augment: how training images are changed at random, in this order; `standardise` and `crop_to` prepare
            those that judge too.
        loss: what to minimise.
        metrics: what to measure beside the loss, the error and the entropy of the coupling.
        optimiser: how.
        compare: what `compare` compares.
    """

    data: Source
    training: TrainingConfig
    model: Model = CapsNetConfig()
    seed: int = 0
    max_shift: int = 0
    augment: tuple[Augmentation, ...] = ()
    loss: Loss = MarginLoss()
    metrics: tuple[Metric, ...] = ()
    optimiser: Optimiser = Adam()
    compare: CompareConfig = CompareConfig()

    def __post_init__(self):
        check_type(self, "data", Source, "a source of data such as Digits(), Mnist() or Arrays()")
        check_type(self, "training", TrainingConfig, "TrainingConfig(...)")
        check_type(self, "model", Model, "CapsNetConfig(...) or NetworkConfig(...)")
        check_int(self, "seed", low=0, high=2**31 - 1)
        check_int(self, "max_shift", low=0)
        _check_values(self, "augment", Augmentation, "augmentations such as Flip()")
        _check_order(self)
        check_type(self, "loss", Loss, "a loss such as MarginLoss() or SpreadLoss()")
        _check_values(self, "metrics", Metric, "metrics such as TopKError(k=3)")
        _check_columns(self)
        check_type(self, "optimiser", Optimiser, "an optimiser such as Adam() or SGD()")
        check_type(self, "compare", CompareConfig, "CompareConfig(...)")

    @property
    def augmentations(self) -> tuple[Augmentation, ...]:
        """How training images are changed at random: the shift of `max_shift`, and then `augment`."""
        shift = (Shift(pixels=self.max_shift),) if self.max_shift else ()
        return (*shift, *self.augment)

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the shape in which the network gets the data's images [h, w, c]."""
        return prepared_shape(self.augment, image_shape)

    def __repr__(self) -> str:
        return changed(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(dump(self))}</pre>"


def _check_values(owner: Config, field: str, kind: type, expected: str) -> None:
    """Check that a field is a tuple of values of a class."""
    given = getattr(owner, field)
    if not (isinstance(given, tuple) and all(isinstance(value, kind) for value in given)):
        raise FieldError("Config", field, given, f"a tuple of {expected}", f"a list of {expected}")


def _check_order(config: Config) -> None:
    """Check that what a decoder draws, the images before they are standardised, lies as they do."""
    standardised = False
    for number, augmentation in enumerate(config.augment):
        if standardised and not isinstance(augmentation, ValueAugmentation):
            expected = (
                "brightness, contrast or noise alone after standardise, of which a decoder draws the image "
                "before: move it before standardise, or leave it out"
            )
            raise FieldError("Config", f"augment.{number}.kind", augmentation.kind, expected)
        standardised = standardised or not augmentation.keeps_range


def _check_columns(config: Config) -> None:
    """Check that no two numbers of a line of metrics have one name."""
    taken = {*COLUMNS, config.loss.kind, *(metric.name for metric in ALWAYS)}
    for number, metric in enumerate(config.metrics):
        if metric.name in taken:
            expected = f"another metric: a line of metrics has {metric.name!r} without it already"
            raise FieldError("Config", f"metrics.{number}", metric, expected)
        taken.add(metric.name)


def load_config(name: str | Path, overrides: Mapping[str, object] | None = None) -> Config:
    """Read a configuration.

    Args:
        name: a path to a YAML file, or the name of one that ships with the package, such as "digits".
        overrides: dotted keys and their values: plain ones, mappings, or parts of a configuration. A mapping
            changes the fields that it names and leaves the others; where it changes a `kind`, the others
            have their defaults. A part of a configuration, such as `ClosedForm()`, is taken whole.

    Returns:
        The configuration.

    Raises:
        UserError: If there is no such file, or something in it is not as it should be.

    Example:
        >>> from capsjax import ClosedForm
        >>> overrides = {"model.routing.num_iters": 5, "model.routing.gradient": ClosedForm()}
        >>> load_config("digits", overrides).model.routing.num_iters
        5
        >>> load_config("digits", {"training": {"epochs": 3}}).training.batch_size  # as the file says
        64
    """
    path = find_config(name)
    text = files.read_text(path, LARGEST_CONFIG, "a configuration, YAML")
    tree = read_yaml(text, str(name))
    return build(Config, tree, source=str(name), overrides=overrides)


def find_config(name: str | Path) -> Path:
    """Find a configuration's file: a path, or the name of one that ships with the package.

    Raises:
        UserError: If there is neither.
    """
    shipped = shipped_configs()
    if str(name) in shipped:
        return shipped[str(name)]
    if not isinstance(name, str | Path):
        raise UserError(f"got {name!r}, expected a path or one of {', '.join(shipped)}")
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    if path.is_dir():
        raise UserError(
            f"{name}: got a directory, expected a file, such as a run's {path / 'config.yaml'}"
        )
    known = ", ".join(shipped) + nearest(str(name), shipped)
    message = told = f"{name}: got no such file, expected a path to a YAML file or one of {known}"
    if path.suffix.lower() not in (".yaml", ".yml"):  # the command line takes data in its place
        told = f"{name}: got no such file or folder, expected data: {DATA}"
        told += "" if may_be_data(path) else f"; or a configuration: a YAML file or one of {known}"
    raise UserError(message, on_command_line=told)


def shipped_configs() -> dict[str, Path]:
    """Return the configurations that ship with the package, by name."""
    package = Path(str(resources.files("capsjax")))
    # A wheel carries them inside the package; a checkout has them beside it.
    folders = [package / "configs", package.parent / "configs"]
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
