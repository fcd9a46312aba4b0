"""A run's directory: made new, never written over, and readable by anyone later."""

import datetime
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from capsjax import files
from capsjax.checks import LARGEST_INT, UserError
from capsjax.data import Arrays, Dataset
from capsjax.data.pixels import Pixels
from capsjax.runs.checkout import commit
from capsjax.runs.config import LARGEST_CONFIG, Config
from capsjax.runs.metrics_file import is_finite, read_metrics, strict
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build
from capsjax.version import __version__

LARGEST_JSON = 16 * files.MEGABYTE
PACKAGES = ("jax", "jaxlib", "flax", "optax", "chex", "orbax-checkpoint", "numpy")


def create(
    out: Path | None, name: str, *, stopped: Callable[[Path], Config | None] | None = None
) -> Path:
    """Make a new directory for a run.

    Args:
        out: where; None for `runs/<name>-<UTC time>` below the working directory.
        name: what the run is called.
        stopped: finds the configuration of what stopped in a directory and can be resumed; it returns None
            if nothing can.

    Returns:
        The directory, which is empty, as an absolute path.

    Raises:
        UserError: If it exists already, or cannot be made.
    """
    now = datetime.datetime.now(datetime.UTC)
    stem = Path("runs") / f"{name}-{now:%Y%m%dT%H%M%SZ}"
    folder, count = stem if out is None else out, 1
    try:
        while True:
            try:
                folder.mkdir(parents=True)
                return folder.absolute()
            except FileExistsError:
                if out is not None or not folder.is_dir():
                    raise
                # Another run began in the same second, maybe between a look and the making.
                count += 1
                folder = stem.with_name(f"{stem.name}-{count}")
    except FileExistsError as error:
        came = f"out: got {str(folder)!r}, which exists, expected a new directory; "
        config = stopped(folder) if stopped is not None else None
        if config is None:
            raise UserError(f"{came}choose another, or leave it out", argument="out") from error
        call, command = how_to_resume(folder, config)
        came += (
            f"to resume the {'comparison' if is_comparison(folder) else 'run'} that stopped there: "
        )
        raise UserError(came + call, on_command_line=came + command, argument="out") from error
    except OSError as error:
        raise UserError(
            f"out: got {str(folder)!r}, which cannot be made ({error.strerror}), expected a place to "
            "write",
            argument="out",
        ) from error


def is_comparison(folder: Path) -> bool:
    """Return whether a directory is a comparison's, finished or not."""
    return (folder / "runs").is_dir() or (folder / "comparison.json").exists()


def tested_step(folder: Path) -> int | None:
    """Return the step after which a run was last tested; None if it was not."""
    lines = [line for line in read_metrics(folder / "metrics.jsonl") if line["split"] == "test"]
    return lines[-1]["step"] if lines else None


def stopped_run(folder: Path) -> Config | None:
    """Return the configuration of a run that stopped before its end; None if there is no such run.

    A run that was tested and then lengthened has its end where its configuration says now.
    """
    try:
        config, tested = read_config(folder), tested_step(folder)
        if (folder / "runs").is_dir():  # of a comparison, whatever else it is
            return None
        if tested is None:
            return config
        examples = read_data(folder).get("examples", {}).get("train", 0)
        return config if config.training.total_steps(examples) > tested else None
    except (UserError, OSError):
        return None


def comparison_of(folder: Path) -> Path | None:
    """Return the comparison that a run belongs to; None for a run by itself."""
    run = folder.absolute()
    whole = run.parent.parent
    # Runs of no comparison lie in a folder of that name too.
    named = run.parent.name == "runs" and re.fullmatch(r".+-seed\d+", run.name)
    files_there = (whole / "config.yaml").exists() and (whole / "environment.json").exists()
    return whole if named and files_there else None


def has_arrays(config: Config) -> bool:
    """Return whether a run's data are arrays that only Python has; arrays of a file are not."""
    return isinstance(config.data, Arrays) and config.data.path is None


def how_to_resume(
    folder: Path, config: Config, overrides: Mapping[str, object] | None = None
) -> tuple[str, str]:
    """Say how to resume a run, or a comparison.

    A run that is part of a comparison and was never tested is resumed with the whole of it: by itself it
    would lack what the comparison measures on the way.

    Args:
        folder: its directory.
        config: what was run.
        overrides: dotted keys of the configuration that are to change, with their values.

    Returns:
        The call in Python, and the command: that call again, if only Python has the run's arrays.
    """
    whole = comparison_of(folder)
    if whole is not None and not overrides and tested_step(folder) is None:
        folder = whole
    name, word = "capsjax.resume", "compare" if (folder / "runs").is_dir() else "train"
    changes = f", overrides={json.dumps(overrides)}" if overrides else ""
    if has_arrays(config):
        call = f"{name}({str(folder)!r}, data{changes}), with the data it began with"
        return call, f"in Python, {call}"
    # A folder that begins like a flag is one only behind an equals sign.
    flag = "--resume=" if str(folder).startswith("-") else "--resume "
    command = f"capsjax {word} {flag}{shlex.quote(str(folder))}{_flags(overrides or {})}"
    return f"{name}({str(folder)!r}{changes})", command


def how_to_train_anew(
    folder: Path, config: Config, changes: Mapping[str, object]
) -> tuple[str, str]:
    """Say how to train a run's configuration again, in another directory.

    Args:
        folder: its directory.
        config: what was run.
        changes: dotted keys of the configuration that are to change, with their values.

    Returns:
        The call in Python, and the command: that call again, if only Python has the run's arrays.
    """
    try:
        start = read_json(folder / "environment.json").get("start", {}).get("folder")
    except (UserError, AttributeError):
        start = None
    source = str(folder / "config.yaml")
    overrides = f", {json.dumps(changes)}" if changes else ""
    data = ", data" if has_arrays(config) else ""
    begin = f", start={start!r}" if start else ""
    call = f"capsjax.train(capsjax.load_config({source!r}{overrides}){data}{begin})"
    if data:
        return call, f"in Python, {call}"
    begin = f" --from {shlex.quote(start)}" if start else ""
    return call, f"capsjax train {shlex.quote(source)}{_flags(changes)}{begin}"


def _flags(overrides: Mapping[str, object]) -> str:
    return "".join(
        f" --{key} {shlex.quote(f'{value:g}' if isinstance(value, float) else str(value))}"
        for key, value in overrides.items()
    )


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
    return {
        "name": dataset.name,
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
        "scale": dataset.scale,
        "pixels": dataset.pixels.as_json(),
        "examples": {name: len(split) for name, split in dataset.splits().items()},
        "fingerprint": dataset.fingerprint(),
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


def write_config(folder: Path, config: Config) -> None:
    """Write the fully resolved configuration: running it again is the same run.

    Args:
        folder: the run's directory.
        config: what is run.
    """
    # Under another name until it is whole: a run that is resumed meanwhile reads the old one.
    part = folder / "config.yaml.part"
    part.write_text(dump(config), encoding="utf-8")
    part.replace(folder / "config.yaml")


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all.

    Args:
        path: the file.
        values: what to write; a number that is not finite becomes null.
    """
    part = path.with_name(path.name + ".part")
    text = json.dumps(strict(values), indent=2, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def read_config(folder: Path, overrides: Mapping[str, object] | None = None) -> Config:
    """Read the configuration of a run.

    Args:
        folder: the run's directory.
        overrides: changes to it, as `load_config` takes them.

    Returns:
        The configuration.

    Raises:
        UserError: If the directory is not a run's.
    """
    path = folder / "config.yaml"
    if not os.path.lexists(path):
        raise UserError(
            f"{folder}: got {'a directory without config.yaml' if folder.is_dir() else 'no directory'}, "
            "expected a run's directory, such as runs/digits-20260131T120000Z"
        )
    text = files.read_text(path, LARGEST_CONFIG, "the configuration that a run writes, YAML")
    tree = read_yaml(text, str(path))
    # A default that has changed since: what was written without the key meant the old one.
    data = tree.get("data") if isinstance(tree, dict) else None
    if isinstance(data, dict) and data.get("kind") == "arrays":
        data.setdefault("stratified", False)  # what was written before there was a choice
    return build(Config, tree, source=str(path), overrides=overrides)


def read_json(path: Path) -> Any:
    """Read plain values.

    Raises:
        UserError: If there is no such file, it is not a plain one or too large, or it is not JSON.
    """
    return files.read_json(path, LARGEST_JSON, "the JSON that a run writes; train the run again")


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
            isinstance(shape, list) and len(shape) == 3 and all(map(_is_count, shape))
        ),
        "num_classes": lambda count: _is_count(count) and count > 1,
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
                f"{path}: data.{name}: got {_brief(data[name])}, expected what a run writes there; "
                "train the run again"
            )
    try:
        Pixels.recorded(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return data


def read_comparison(folder: Path) -> dict[str, Any]:
    """Read what a comparison found.

    Returns:
        What `comparison.json` says: `modes`, the names of its arms, `seeds`, `iterations`, `test_error` and
        `cost` by arm, the records of `alignment`, and, where it was written since arms need not be modes,
        `reference` and `beginning`.

    Raises:
        UserError: If there is no such file, or it does not say all that was written into it.
    """
    path = folder / "comparison.json"
    found = read_json(path)

    def numbers(values: Any, count: int | None = None) -> bool:
        right = isinstance(values, list) and (count is None or len(values) == count)
        return (
            right and len(values) > 0 and all(value is None or is_finite(value) for value in values)
        )

    def of_every_mode(values: Any, is_right: Callable[[Any], bool], but: Any = ()) -> bool:
        return isinstance(values, dict) and all(
            is_right(values.get(mode)) for mode in found["modes"] if mode not in but
        )

    def lost() -> list[str]:
        """Name the arms of which every run failed, so that there was nothing to time."""
        return [m for m, values in found["test_error"].items() if set(values) == {None}]

    def is_cost(cost: Any) -> bool:
        right = isinstance(cost, dict) and numbers(cost.get("seconds"))
        return right and all(map(is_finite, cost["seconds"])) and is_finite(cost.get("temp_bytes"))

    def is_record(record: Any) -> bool:
        words, counts = ("mode", "group"), ("seed", "epoch")
        return (
            isinstance(record, dict)
            and all(isinstance(record.get(name), str) for name in words)
            and all(_is_count(record.get(name), low=0) for name in counts)
            and numbers([record.get("cosine", ""), record.get("norm_ratio", "")])
        )

    wanted: dict[str, Callable[[Any], bool]] = {
        "modes": lambda modes: (
            isinstance(modes, list)
            and all(isinstance(mode, str) for mode in modes)
            and ("full" in modes or ("reference" in found and len(modes) > 0))
        ),
        "seeds": lambda seeds: numbers(seeds) and all(_is_count(seed, low=0) for seed in seeds),
        "iterations": _is_count,
        "test_error": lambda errors: of_every_mode(
            errors, lambda values: numbers(values, len(found["seeds"]))
        ),
        "cost": lambda costs: of_every_mode(costs, is_cost, but=lost()),
        "alignment": lambda records: isinstance(records, list) and all(map(is_record, records)),
        "beginning": lambda told: isinstance(told, dict) and all(map(_is_beginning, told.values())),
    }
    for name, is_right in wanted.items():
        value = found.get(name) if isinstance(found, dict) else None
        there = name != "beginning" or (isinstance(found, dict) and name in found)
        if there and not is_right(value):
            raise UserError(
                f"{path}: {name}: got {_brief(value)}, expected what a comparison writes there; run the "
                "comparison again"
            )
    return found


def _is_beginning(told: Any) -> bool:
    """Tell whether a comparison may have written of an arm that it begins otherwise than the others."""
    groups = told.get("parameters") if isinstance(told, dict) else None
    named = isinstance(groups, list) and all(isinstance(group, str) for group in groups)
    return named and isinstance(told.get("batches"), bool)


def _is_count(value: Any, low: int = 1) -> bool:
    return type(value) is int and low <= value <= LARGEST_INT


def _brief(value: Any) -> str:
    text = repr(value)
    return "nothing" if value is None else text if len(text) <= 60 else f"{text[:57]}..."
