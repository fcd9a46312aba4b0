"""What a run ran on: this machine, what is installed, and the data, as plain values, written and read."""

import datetime
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from capsjax.checks import UserError
from capsjax.data import Dataset
from capsjax.data.pixels import Pixels
from capsjax.data.rescaling import Rescaling
from capsjax.runs.checkout import commit
from capsjax.runs.config import Config
from capsjax.runs.directory import brief, is_count, read_json
from capsjax.runs.metrics_file import is_finite
from capsjax.version import __version__

PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "numpy")


def describe(config: Config, dataset: Dataset) -> dict[str, Any]:
    """Describe what a run ran on: versions, devices and data.

    Args:
        config: what is run.
        dataset: its data.

    Returns:
        Plain values, for `environment.json`.
    """
    data = describe_data(dataset)
    return environment() | {"data": data, "parallel": config.training.parallel}


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Describe data, as plain values."""
    named = {"class_names": list(dataset.class_names)} if dataset.class_names else {}
    several = {"labels_per_image": dataset.labels_per_image} if dataset.overlap else {}
    brought = {} if dataset.rescaling is None else {"rescaling": dataset.rescaling.as_json()}
    return {
        "name": dataset.name,
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
        "scale": dataset.scale,
        "pixels": dataset.pixels.as_json(),
        "examples": {name: len(split) for name, split in dataset.splits().items()},
        "fingerprint": dataset.fingerprint(),
        **named,
        **brought,
        **several,
    }


def environment() -> dict[str, Any]:
    """Describe this machine and what is installed on it, as plain values."""
    import jax

    ran = commit()
    git = {} if ran is None else {"git": ran}
    return git | {
        "capsjax": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in jax.local_devices()],
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def read_data(folder: Path) -> dict[str, Any]:
    """Read what a run's `environment.json` says of its data.

    Raises:
        UserError: If there is no such file, or it does not say all that was written into it.
    """
    path = folder / "environment.json"
    found = read_json(path)
    data = found.get("data") if isinstance(found, dict) else None
    wanted = {
        "image_shape": lambda shape: (
            isinstance(shape, list) and len(shape) == 3 and all(map(is_count, shape))
        ),
        "num_classes": lambda count: is_count(count) and count > 1,
        "scale": lambda scale: is_finite(scale) and scale > 0,
        "fingerprint": lambda digest: (
            isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)
        ),
    }
    if not isinstance(data, dict) or not wanted.keys() <= set(data):
        raise UserError(
            f"{path}: got no full description of the run's data, expected {', '.join(sorted(wanted))} "
            "below data, as a run writes them; train the run again"
        )
    # Read by other versions, and by people who edit files: what is wrong is named, not met later.
    for name, is_right in wanted.items():
        if not is_right(data[name]):
            raise UserError(
                f"{path}: data.{name}: got {brief(data[name])}, expected what a run writes there; "
                "train the run again"
            )
    names = data.get("class_names", [])
    if not isinstance(names, list) or len({*map(str, names)}) not in (0, data["num_classes"]):
        raise UserError(
            f"{path}: data.class_names: got {brief(names)}, expected a name for each of the "
            f"{data['num_classes']} classes, as a run writes them; train the run again"
        )
    shown = data.get("labels_per_image", 1)
    if not is_count(shown) or shown >= data["num_classes"]:
        raise UserError(
            f"{path}: data.labels_per_image: got {brief(shown)}, expected fewer than the "
            f"{data['num_classes']} classes, as a run writes it; train the run again"
        )
    try:
        Pixels.recorded(data)
        Rescaling.recorded(data.get("rescaling"))
    except UserError as error:
        raise error.within(f"{path}") from error
    return data
