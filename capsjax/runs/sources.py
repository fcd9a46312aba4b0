"""Where a run's data come from, and what of a run may change when it is resumed."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from capsjax.checks import UserError
from capsjax.data import Arrays, Dataset, OwnData, Source, source_at
from capsjax.data.derived import DerivedSource, told_of_origin
from capsjax.data.trainable import check_classes, check_geometry, check_pixels, describe
from capsjax.display import changed_fields
from capsjax.progress import Reporter
from capsjax.runs.config import Config
from capsjax.schema.text import to_tree


def with_data(config: Config, data: Any) -> tuple[Config, Any]:
    """Return a configuration that says where its data come from, wherever it is read again.

    Args:
        config: a configuration; where its data are made from another set, what is given takes the place of
            that, unless it is a `Source`, or a `Dataset`, which is whole.
        data: the user's own arrays, which no file gives again; a path or a `Source`, which the
            configuration then names; None for the configuration's data, whose paths become absolute.

    Returns:
        The configuration, and what is left to pass on: arrays, or None where it says everything.

    Raises:
        UserError: If there is nothing at a path, or no data that can be read.
    """
    source, origin = named_source(config, data), config.data.origin()
    if source is not None:
        if isinstance(data, str | Path):
            source = config.data.with_origin(source.origin())
        return dataclasses.replace(config, data=source.located()), None
    arrays = origin if isinstance(origin, Arrays) else Arrays()
    arrays = dataclasses.replace(arrays, path=None, labels_path=None)
    # Of what is whole nothing is made, unless another process made it so.
    whole = isinstance(data, Dataset) and not isinstance(origin, Arrays)
    found = arrays if whole else config.data.with_origin(arrays)
    return dataclasses.replace(config, data=found), data


def named_source(config: Config, data: Any) -> Source | None:
    """Return where data come from; None for arrays, which no file gives again.

    Args:
        config: a configuration; where its data are of the kind that is at a path, or are made from such, its
            other fields hold.
        data: what a caller gave: arrays, a path, a `Source`, or None for the configuration's.

    Raises:
        UserError: If there is nothing at a path, or no data that can be read.
    """
    if data is None:
        return config.data
    if isinstance(data, Source):
        return data
    if not isinstance(data, str | Path):
        return None
    found, origin = source_at(data), config.data.origin()
    same = type(found) is type(origin)
    return config.data.with_origin(origin.moved_to(found)) if same else found


def shaped_data(config: Config, data: Any, image_shape: tuple[int, int, int]) -> Any:
    """Return data whose source, where it can choose, gives images of the shape that a run knows.

    Args:
        config: the run's configuration.
        data: as `named_source` takes it.
        image_shape: height, width and channels.

    Returns:
        The source, or data that have none, as they are.

    Raises:
        UserError: If there is nothing at a path, or no data that can be read.
    """
    source = named_source(config, data)
    return data if source is None else source.shaped(image_shape)


def load_data(config: Config, data: Any, reporter: Reporter) -> Dataset:
    """Load what a configuration learns from, or split the user's own arrays as it says.

    Arrays are changed as the configuration's data are, where those are made from arrays; a `Dataset` is taken
    as it is, and so are arrays for a configuration whose data are made from a set that has its own files.

    Args:
        config: a configuration.
        data: the user's own arrays, a path or a `Source`; None for the configuration's data.
        reporter: told of downloads, and of files that are read.

    Returns:
        The dataset.

    Raises:
        UserError: If a file is missing, or arrays do not fit.
    """
    source = named_source(config, data)
    if source is not None:
        return source.load(reporter.download)
    if isinstance(data, Dataset) or not isinstance(config.data.origin(), Arrays):
        return Arrays().build(data)
    return _of_arrays(config.data, data)


def _of_arrays(source: Source, data: Any) -> Dataset:
    """Make a dataset of the user's own arrays, as a source does with those of a file."""
    if isinstance(source, DerivedSource):
        return source.made(lambda inner: _of_arrays(inner, data))
    return (source if isinstance(source, Arrays) else Arrays()).build(data)


def check_image_shape(
    dataset: Dataset, source: Source | None, image_shape: tuple[int, int, int]
) -> None:
    """Check that images have the shape of those that a run was trained on.

    Args:
        dataset: the images.
        source: where they come from, so that the advice can name it; None for arrays.
        image_shape: height, width and channels that the run knows.

    Raises:
        UserError: If they do not; where they have room on a canvas of that size, whose black is 0, it says
            how they get there.
    """
    if dataset.image_shape == image_shape:
        return
    text = (
        f"data: got images {list(dataset.image_shape)}, expected {list(image_shape)}, as the run was trained "
        "on: bring all images to that size"
    )
    (*sides, channels), (canvas, width, expected) = dataset.image_shape, image_shape
    room = canvas == width and canvas >= max(sides) and channels == expected and dataset.bounded
    if source is None or not room:
        raise UserError(text)
    if isinstance(source, DerivedSource):
        by_flag, by_name = f"data.canvas {canvas}", f"dataclasses.replace(data, canvas={canvas})"
    else:
        told = changed_fields(source)
        short = to_tree({"kind": source.kind} | told) if told else source.kind
        fields = {"kind": "perturbed", "source": short, "canvas": canvas}
        by_flag = f"data {shlex.quote(json.dumps(fields))}"
        by_name = f"capsjax.data.Perturbed(source=..., canvas={canvas})"
    raise UserError(
        f"{text}, or put them in the middle of black ones: {by_name}",
        on_command_line=f"{text}, or put them in the middle of black ones: --{by_flag}",
    )


def check_data(config: Config, dataset: Dataset, data: Any, reporter: Reporter) -> None:
    """Check, before a run begins, that its data are worth training on; say what they are.

    Args:
        config: what is to be run.
        dataset: its data.
        data: the user's own arrays that they were made of; None for the configuration's.
        reporter: told what they are.

    Raises:
        UserError: If they are not; a file that they came from is named.
    """
    source = config.data.origin()
    own = isinstance(source, OwnData)
    if own:  # before what may be wrong with it
        for line in (describe(dataset), *dataset.notes):
            reporter.say(line)
    try:
        stated = isinstance(data, Dataset)  # which says its scale itself
        if own and not stated and dataset.bounded:
            check_pixels(dataset)
        with told_of_origin(config.data):
            check_geometry(dataset, config.max_shift, config.augment)
            if not dataset.bounded:
                _check_unbounded(config)
            counted = not isinstance(source, Arrays) or stated or source.num_classes is not None
            check_classes(dataset, data, stated=counted or bool(dataset.class_names))
    except UserError as error:
        if data is not None or not own or error.argument is not None:
            raise
        raise error.within(source.path or "data") from error


def _check_unbounded(config: Config) -> None:
    """Check that a network and its augmentations take data that are not from 0 to 1.

    Raises:
        UserError: If the decoder ends in a sigmoid, or an augmentation changes values between 0 and 1.
    """
    decoder = config.model.network().decoder
    if decoder is not None and decoder.bounded:
        raise UserError(
            "model.decoder: got one that ends in a sigmoid for data that are not from 0 to 1, expected none, "
            "or one that draws any numbers: set model.decoder to null, or model.decoder.output to linear",
            argument="model.decoder",
        )
    for augmentation in config.augment:
        if not augmentation.moves_only:
            raise UserError(
                f"augment: got {augmentation.kind} for data that are not from 0 to 1, expected augmentations "
                "that only move pixels; leave it out",
                argument="augment",
            )


def check_overrides(before: Config, after: Config, overrides: Mapping[str, object]) -> None:
    """Check that a resumed run changes in its length, its evaluation and where its data are alone.

    Args:
        before: the run's configuration.
        after: the same with the overrides.
        overrides: dotted keys and values, for the message.

    Raises:
        UserError: If anything else changes.
    """
    training = dataclasses.replace(
        before.training,
        epochs=after.training.epochs,
        steps=after.training.steps,
        eval_batch_size=after.training.eval_batch_size,
        feed=after.training.feed,
    )
    data = before.data.moved_to(after.data)
    if after != dataclasses.replace(before, training=training, data=data):
        places = "".join(f", data.{place}" for place in before.data.place_keys())
        got = (
            f"overrides: got {', '.join(map(str, overrides))}, expected training.epochs, training.steps, "
            f"training.eval_batch_size, training.feed{places} alone: a run is resumed as it began; to "
            "begin another with its parameters: "
        )
        raise UserError(
            f"{got}capsjax.train(config, start=run_dir)",
            on_command_line=f"{got}capsjax train CONFIG --from RUN",
        )


def check_length(before: Config, after: Config, examples: int, reached: int) -> None:
    """Check that a run that is resumed with another length is lengthened, in steps.

    Args:
        before: what was run.
        after: the same with the new length.
        examples: how many training examples there are.
        reached: the last step that was trained or tested.

    Raises:
        UserError: If it would end before the end that it had, or before what was reached.
    """
    old, new = before.training, after.training
    if (new.epochs, new.steps) == (old.epochs, old.steps):
        return
    planned, total = old.total_steps(examples), new.total_steps(examples)
    least = max(planned, reached)
    if total >= least:
        return
    field, unit = ("epochs", examples // new.batch_size) if new.steps is None else ("steps", 1)
    why = "that are trained" if reached >= planned else "that the run is to have"
    raise UserError(
        f"training.{field}: got {getattr(new, field)}, expected more than {least // unit}, the {field} "
        f"{why}: a run that is resumed can be lengthened, not shortened",
        argument=f"training.{field}",
    )
