"""Load a trained run, and measure it again; nothing is trained."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from capsjax.checks import UserError, nearest
from capsjax.data import Dataset, Source, Split
from capsjax.data.classes import few
from capsjax.data.pixels import Pixels
from capsjax.data.rescaling import Rescaling
from capsjax.layers import with_iterations
from capsjax.memory import room
from capsjax.progress import Reporter, Silent
from capsjax.runs import advice, description, directory, memory
from capsjax.runs.config import Config
from capsjax.runs.crops import by_crops, check_crops
from capsjax.runs.feeds import eval_feed
from capsjax.runs.metrics_file import SPLITS
from capsjax.runs.plan import evaluation_steps, functions_of
from capsjax.runs.predictions import Predictions
from capsjax.runs.run import Run
from capsjax.runs.sources import check_image_shape, load_data, named_source, shaped_data
from capsjax.schema.text import to_tree
from capsjax.schema.tree import build
from capsjax.training import checkpoints
from capsjax.training.loop import evaluate as measure
from capsjax.training.notebook import for_python
from capsjax.training.optimisers import freeze
from capsjax.training.state import TrainState


def load(run_dir: str | Path, *, step: int | None = None, reporter: Reporter | None = None) -> Run:
    """Load a run's newest parameters, to predict with or to look into.

    Args:
        run_dir: the run's directory.
        step: load the checkpoint of this step instead, one of those that were kept
            (`training.keep_checkpoints`); None for the newest.
        reporter: told where a checkpoint is damaged or gone, and what is loaded instead; None to warn.

    Returns:
        The run.

    Raises:
        UserError: If there is no such run, or it has no checkpoint, or none of that step.
    """
    folder = Path(run_dir).absolute()
    config = directory.read_config(folder)
    if directory.is_comparison(folder) and not (folder / "checkpoints").exists():
        runs = sorted(path.parent for path in folder.glob("runs/*/config.yaml"))
        such = f", such as {runs[0]}" if runs else ""
        raise UserError(f"{folder}: got a comparison, expected a single run{such}")
    data = description.read_data(folder)
    height, width, channels = data["image_shape"]
    shape, classes = (height, width, channels), data["num_classes"]
    try:
        made = functions_of(config, shape, classes)
        initial, statistics = made.initial(0), made.statistics(0)
    except UserError as error:
        raise error.within(f"{folder / 'environment.json'}") from error
    # For the layout alone, which is that of a run of any length: what is restored takes its place.
    optimiser = freeze(config.optimiser.make(2**31 - 1), config.training.freeze)
    target = TrainState.create(initial, optimiser, statistics)
    quiet = reporter is None or type(reporter) is Silent
    say = checkpoints.warn if quiet else reporter.say
    state = checkpoints.restore(folder / "checkpoints", target, step, say=say)
    pixels, reached = Pixels.recorded(data), int(state.step)
    known = data["scale"], shape, classes, reached, pixels
    told = tuple(data.get("class_names", ())), Rescaling.recorded(data.get("rescaling"))
    shown = data.get("labels_per_image", 1)
    run = Run(config, folder, state.params, *known, state.statistics, *told, shown)
    found = run.mismatch() if step is None else None  # an earlier one is not what was tested
    if found is not None:
        call, command = advice.how_to_resume(folder, config)
        why = (
            "resume it" if reached > (directory.tested_step(folder) or 0) else "to have those again"
        )
        say(f"{folder}: {found}; {why}: {call if reporter is None else command}")
    return run


def evaluate(
    run_dir: Run | str | Path,
    data: Any = None,
    *,
    split: str = "test",
    overrides: Mapping[str, object] | None = None,
    iterations: int | Mapping[str, int] | None = None,
    crops: int = 1,
    reporter: Reporter | None = None,
) -> dict[str, float]:
    """Measure a run's newest parameters on the test split, of its own data or others.

    What it says of each example is kept in the run's directory, in `evaluations`, with what that comes to
    class by class; where that cannot be written, it is said, and the numbers are returned all the same.

    Args:
        run_dir: the run's directory, or the run.
        data: in the forms that `train` takes, arrays, a path or a `Source`: those of a run that was trained
            on such, or others, of whose test split the numbers then are, and which may have no other; None
            for the data of the run's configuration. Of a run on arrays that were changed, arrays are changed
            as those were; of one on other data that were, they are taken as they are.
        split: "train", "validation", "test", or "all" of what the data hold.
        overrides: where memory is short, `training.eval_batch_size`, on which the last digits depend, and
            `training.feed`, on which nothing does.
        iterations: r, how many iterations of routing measure the run instead of its own: of every layer that
            iterates, or of each layer by name. What it then says of each example is not kept.
        crops: 1 for the middle of each image where `crop_to` cuts out a part; 13 for that and twelve beside
            it, whose beliefs are averaged. Then the error and the number of examples alone are returned, and
            no predictions are kept.
        reporter: what tells of progress; None for a line that changes in a notebook, and silence elsewhere.

    Returns:
        Means over all test examples by name, `error`, `loss` and its parts `margin` and `reconstruction`,
        and `entropy` of the coupling in nats; and their number as `examples`.

    Raises:
        UserError: If there is no such run, or the data have images or classes that it does not know, or no
            such split, or a routing cannot make so many iterations.
    """
    if split not in (*SPLITS, "all"):
        expected = f"one of {', '.join(SPLITS)}, all{nearest(str(split), SPLITS)}"
        raise UserError(f"split: got {split!r}, expected {expected}", argument="split")
    run = run_dir if isinstance(run_dir, Run) else load(run_dir, reporter=reporter)
    reporter = for_python(reporter)
    check_crops(run.config, run.image_shape, crops)
    if isinstance(data, Mapping) and data.keys() == {"test"}:
        data = dict.fromkeys(("train", "validation", "test"), data["test"])
    dataset = load_data(run.config, shaped_data(run.config, data, run.image_shape), reporter)
    for line in dataset.left_out:
        reporter.say(f"left out: {line}")
    check_image_shape(dataset, named_source(run.config, data), run.image_shape)
    known = (run.directory.environment.get("data") or {}).get("fingerprint")
    other = "" if dataset.fingerprint() == known else _called(data, dataset)
    dataset = _in_unit(run, _numbered(run, dataset))
    labels = np.concatenate([split.labels for split in dataset.splits().values()])
    if labels.size and labels.max() >= run.num_classes:
        raise UserError(
            f"data: got labels up to {labels.max()}, expected integers from 0 to {run.num_classes - 1}: the "
            f"run knows {run.num_classes} classes, these data have {dataset.num_classes}; number the classes "
            "as the run's data do, and leave out those that it does not know"
        )
    # What these data hold of the run's classes may be fewer. Of what is not measured one example is left, for
    # which hardly any memory is asked.
    measured = _part(dataset, split)
    dataset = dataclasses.replace(
        dataset,
        train=Split(dataset.train.images[:1].copy(), dataset.train.labels[:1]),
        validation=None,
        test=measured,
        num_classes=run.num_classes,
        class_names=run.class_names,
    )
    measured_by = run.config
    if iterations is not None:
        model = with_iterations(run.config.model, iterations)
        measured_by = dataclasses.replace(run.config, model=model)
    compiled = evaluation_steps(measured_by, run.image_shape, run.num_classes)
    own = data is None or isinstance(data, str | Path | Source) or dataset.rescaling is not None
    scale = dataset.scale if own else run.unit.factor(measured.images)
    config = _measured(measured_by, overrides or {})
    memory.check_evaluation(config, dataset)
    feed = eval_feed(config, measured, scale, overlap=dataset.overlap)
    with room.advising(f"lower {memory.BATCH['evaluation']}"):
        variables = compiled.strategy.replicate(run.variables)
        if crops > 1:
            return by_crops(
                lambda part, offset: measure(
                    compiled,
                    variables,
                    eval_feed(config, measured, scale, overlap=dataset.overlap, offset=offset),
                    reporter,
                    before=part,
                    parts=crops,
                ),
                measured.labels,
            )
        numbers, lengths = measure(compiled, variables, feed, reporter)
    if lengths is not None and iterations is None:
        found = Predictions.of(
            measured, lengths, step=run.step, part=split, data=other, pairs=feed.pairs
        )
        try:
            found.save(run.folder, run.classes.tolist())
        except OSError as error:  # another's run, or a disk that is full
            reporter.say(f"predictions are not kept: {error}")
    return numbers


def _called(data: Any, dataset: Dataset) -> str:
    """Return what data are called that are not the run's own: by their file or folder, if they have one."""
    place = data if isinstance(data, str | Path) else getattr(data, "path", None)
    return Path(place).expanduser().absolute().stem if place else dataset.name


def _part(dataset: Dataset, split: str) -> Split:
    """Return a split of a dataset, or all of them as one."""
    splits = dataset.splits()
    if split in splits:
        return splits[split]
    if split != "all":
        raise UserError(
            f"split: got {split!r}, which these data do not have, expected one of {', '.join(splits)}, all",
            argument="split",
        )
    images = np.concatenate([part.images for part in splits.values()])
    return Split(images, np.concatenate([part.labels for part in splits.values()]))


def _measured(config: Config, overrides: Mapping[str, object]) -> Config:
    """Return a run's configuration with other batches that measure it, or another way to feed them."""
    other = [key for key in overrides if key not in (memory.BATCH["evaluation"], memory.FEED)]
    if other:
        raise UserError(
            f"overrides: got {other[0]}, expected {memory.BATCH['evaluation']} or {memory.FEED} alone: a run "
            "is measured as it was trained"
        )
    return build(Config, to_tree(config), source="config", overrides=overrides)


def _named(names: tuple[str | int, ...], count: int) -> tuple[str, ...]:
    """Return what classes are called: their numbers, where they have no names."""
    return tuple(str(name) for name in names or range(count))


def _numbered(run: Run, dataset: Dataset) -> Dataset:
    """Give the classes of a dataset the numbers that the run knows them by."""
    ours, theirs = (_named(of.class_names, of.num_classes) for of in (run, dataset))
    if ours == theirs or not (run.class_names or dataset.class_names):
        return dataset
    # Where one has names and the other numbers, these are the numbers of classes; numbers are names too.
    alike = bool(run.class_names and dataset.class_names)
    if not (alike or all(name.isdecimal() for name in ours + theirs)):
        return dataset
    known = {name: number for number, name in enumerate(ours)}
    seen = np.unique(np.concatenate([split.labels for split in dataset.splits().values()]))
    unknown = [theirs[label] for label in seen if theirs[label] not in known]
    if unknown:
        raise UserError(
            f"data: got classes {few(unknown)}, which the run does not know, expected some of "
            f"{few(list(ours))}: leave out what the run was not trained on"
        )
    # A name that no example has may be unknown, and is no label here.
    numbers = np.array([known.get(name, 0) for name in theirs], np.int32)

    def numbered(split: Split) -> Split:
        return Split(split.images, numbers[split.labels])

    return dataset.map_splits(numbered, num_classes=run.num_classes, class_names=run.class_names)


def _in_unit(run: Run, dataset: Dataset) -> Dataset:
    """Bring data that were rescaled by themselves, as a table is, to the unit that the run was trained on."""
    ours, theirs = run.rescaling, dataset.rescaling
    if ours is None or theirs is None or ours.as_json() == theirs.as_json():
        return dataset

    def brought(split: Split) -> Split:
        return Split(ours(theirs.inverse(split.images)), split.labels)

    return dataset.map_splits(brought, rescaling=ours)
