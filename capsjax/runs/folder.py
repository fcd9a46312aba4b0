"""What the directory of a run or a comparison says, as one value: reports ask it alone."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsjax.checks import UserError
from capsjax.runs import advice, description, directory
from capsjax.runs.config import Config
from capsjax.runs.metrics_file import last_line, read_metrics
from capsjax.schema.text import dump
from capsjax.training import checkpoints


@dataclasses.dataclass(frozen=True)
class Folder:
    """Answer for the directory of a run or a comparison, finished or not.

    Files are read when they are asked for, and nothing is loaded, compiled or trained. Configuration and
    environment, which do not change while a run is trained, are read once.

    Args:
        path: the directory.
    """

    path: Path

    @functools.cached_property
    def config(self) -> Config:
        """What was run."""
        return directory.read_config(self.path)

    @property
    def settings(self) -> str:
        """The configuration in full, as YAML."""
        return dump(self.config)

    @functools.cached_property
    def environment(self) -> dict[str, Any]:
        """What `environment.json` says of machine, versions, data and command; nothing if there is none."""
        path = self.path / "environment.json"
        found = directory.read_json(path) if path.exists() else {}
        return found if isinstance(found, dict) else {}

    @property
    def data_name(self) -> str:
        """What `environment.json` calls the data."""
        data = self.environment.get("data")
        return str(data.get("name", "data")) if isinstance(data, dict) else "data"

    @property
    def num_classes(self) -> int | None:
        """The number of class capsules J, if the directory tells it."""
        data = self.environment.get("data")
        found = data.get("num_classes") if isinstance(data, dict) else None
        return found if isinstance(found, int) and found > 1 else None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of the images that it was trained on, [h, w, c].

        Raises:
            UserError: If there is no such run.
        """
        height, width, channels = description.read_data(self.path)["image_shape"]
        return height, width, channels

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every line of a run's metrics, in the order of steps; none if it is not begun, or gone."""
        return read_metrics(self.path / "metrics.jsonl")

    @property
    def tested(self) -> dict[str, Any] | None:
        """The last line of the test split; None if the run was not tested."""
        return last_line(self.metrics, "test")

    @property
    def step(self) -> int | None:
        """The step of a run's newest checkpoint; None if there is none."""
        return max(self.steps, default=None)

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints that were kept, ascending."""
        return checkpoints.steps(self.path / "checkpoints")

    @property
    def is_comparison(self) -> bool:
        """Whether it is a comparison's, finished or not."""
        return directory.is_comparison(self.path)

    @property
    def is_finished_comparison(self) -> bool:
        """Whether it holds what a comparison found."""
        return (self.path / "comparison.json").exists()

    @property
    def stopped(self) -> Config | None:
        """The configuration of a run that stopped before its end; None if there is no such run.

        A run that was tested and then lengthened has its end where its configuration says now.
        """
        try:
            config, tested = self.config, self.tested
            if (self.path / "runs").is_dir():  # of a comparison, whatever else it is
                return None
            if tested is None:
                return config
            examples = description.read_data(self.path).get("examples", {}).get("train", 0)
            return config if config.training.total_steps(examples) > tested["step"] else None
        except (UserError, OSError):
            return None

    def how_to_resume(self, overrides: Mapping[str, object] | None = None) -> tuple[str, str]:
        """Say how to resume the run, or the comparison.

        Args:
            overrides: dotted keys of the configuration that are to change, with their values.

        Returns:
            The call in Python, and the command, as `advice.how_to_resume`.
        """
        return advice.how_to_resume(self.path, self.config, overrides)
