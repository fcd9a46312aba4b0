"""Whether a run fits into memory, told before anything is made or written; and what would fit."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from capsjax.checks import UserError
from capsjax.data import Dataset, Source, Split
from capsjax.data.derived import DerivedSource
from capsjax.data.trainable import check_geometry
from capsjax.gradients import FullGradient
from capsjax.memory import room
from capsjax.runs import advice
from capsjax.runs.config import Config
from capsjax.runs.plan import evaluation_steps, functions_of, plan
from capsjax.schema.text import to_tree
from capsjax.schema.tree import build
from capsjax.training.slicing import Epoch, batch_shapes, epoch_shapes
from capsjax.training.state import TrainState
from capsjax.training.stream import PARTS, part_shapes

BATCH: dict[room.What, str] = {
    "training": "training.batch_size",
    "evaluation": "training.eval_batch_size",
}
FEED = "training.feed"
OPTIONS = 2  # changes of the network that are named
TRIES = 4  # programs that are compiled to find what fits
FRACTIONS = range(2, 17)  # every 16th pixel in each direction is the least that is thought of


def check(config: Config, dataset: Dataset, *, folder: Path | None = None) -> None:
    """Refuse a run that does not fit into memory, before anything of it is made.

    What is compiled to find out is what the run calls.

    Args:
        config: what is to be run.
        dataset: its data.
        folder: the directory of a run that is resumed; None for one that begins.

    Raises:
        UserError: If parameters, images, a step of training or one of evaluation do not fit; it names the
            largest array and what would fit.
    """
    check_held(config, dataset, folder=folder)
    beside = _images(config, dataset) - room.size_of(_epoch(config, dataset).images)
    with _advised(config, dataset, folder):
        room.check_program(
            _training(config, dataset), "model: a training step", what="training", beside=beside
        )
    check_evaluation(config, dataset, folder=folder)


def check_held(config: Config, dataset: Dataset, *, folder: Path | None = None) -> None:
    """Refuse a run whose parameters or images do not fit into memory; nothing is compiled.

    Args:
        config: what is to be run.
        dataset: its data.
        folder: the directory of a run that is resumed; None for one that begins.

    Raises:
        UserError: If they do not fit.
    """
    with _advised(config, dataset, folder):
        plan(config, dataset).check_parameters()
        images, there = _images(config, dataset), room.available()
        if images > there:
            raise room.TooLargeError(
                f"data: got {room.written(images)} of images, expected at most the {room.written(there)} of "
                "memory that there are",
                "images",
            )


def check_evaluation(config: Config, dataset: Dataset, *, folder: Path | None = None) -> None:
    """Refuse a measurement that does not fit into memory, as `check` does.

    Args:
        config: what was run, or is to be.
        dataset: what it is measured on, with as many classes as the run knows.
        folder: the directory of a run that is resumed; None elsewhere.

    Raises:
        UserError: If it does not fit.
    """
    size, images = config.training.eval_batch_size, _images(config, dataset)
    splits = [dataset.test, *([] if dataset.validation is None else [dataset.validation])]
    with _advised(config, dataset, folder):
        for count in sorted({min(size, len(split)) for split in splits}, reverse=True):
            found = _scoring(config, dataset, count)
            room.check_program(
                found, "model: a step of evaluation", what="evaluation", beside=images
            )


@contextlib.contextmanager
def _advised(config: Config, dataset: Dataset, folder: Path | None) -> Iterator[None]:
    """Say what would fit where something does not."""
    try:
        yield
    except room.TooLargeError as error:
        call, command = _way_out(error.what, config, dataset, folder)
        raise UserError(f"{error}; {call}", on_command_line=f"{error}; {command}") from None


def what_to_lower(config: Config) -> str:
    """Say what to change where an allocation fails in training: the keys that a configuration has."""
    keys = [key for key in BATCH.values() if getattr(config.training, key.split(".")[1]) > 1]
    routing = getattr(config.model, "routing", None)
    if isinstance(getattr(routing, "gradient", None), FullGradient):
        keys.append("model.routing.num_iters")
    lower = " or ".join(filter(None, (", ".join(keys), "the size of the images")))
    return (
        f"lower {lower}, and train anew, in a new directory: a run that is resumed keeps all but "
        f"{BATCH['evaluation']} and {FEED}"
    )


def _way_out(
    what: room.What, config: Config, dataset: Dataset, folder: Path | None
) -> tuple[str, str]:
    """Say what would fit, in the words of Python and of the command line."""
    there = room.available()
    if _fits_in_parts(what, config, dataset, there):
        return (f"set {FEED} to grain, which fits",) * 2
    count = _smaller_batch(what, config, dataset, there) if what in BATCH else None
    if count is not None:
        key = BATCH[what]
        if folder is None or what == "evaluation":
            return (f"set {key} to {count}, which fits",) * 2
        got = "a run that is resumed keeps it; what fits, trained anew: "
        call, command = advice.how_to_train_anew(folder, config, {key: count})
        return got + call, got + command
    found = list(_smaller_networks(config, dataset, there)) if what == "parameters" else []
    found += _smaller_images(what, config, dataset, there)
    if found:
        return (f"what fits: {', or '.join(found)}",) * 2
    if what != "images" and _cuts_out(config, dataset):
        return ("choose a smaller size of what augment cuts out, or fewer classes",) * 2
    return ("choose smaller images or fewer classes",) * 2


def _fits_in_parts(what: room.What, config: Config, dataset: Dataset, there: float) -> bool:
    """Return whether what does not fit would where examples come part by part."""
    if what == "parameters" or dataset.overlap is not None:
        return False
    streamed = _with(config, FEED, "grain")
    if _images(streamed, dataset) >= _images(config, dataset):
        return False
    # Beside images alone half of the memory is left, for the steps.
    return _needed(what, streamed, dataset) <= (there if what in BATCH else there / 2)


def _smaller_batch(what: room.What, config: Config, dataset: Dataset, there: float) -> int | None:
    """Find a batch that fits, by compiling for it; None where even that of a single image does not."""
    key = BATCH[what]
    n = getattr(config.training, key.split(".")[1])
    if what == "evaluation":
        n = min(n, max(len(split) for split in dataset.splits().values()))
    need, slope = _needed(what, _with(config, key, n), dataset), 0.0
    for _ in range(TRIES):
        if n == 1:
            return None
        # It grows along a line, of which two points tell the slope; with a tenth to spare.
        guess = int(n - (need - 0.9 * there) / (slope or need / n))
        m, other = n, need
        n = max(1, min(guess, n - 1))
        need = _needed(what, _with(config, key, n), dataset)
        if need <= there:
            return n
        slope = (other - need) / (m - n)
    return None


def _smaller_networks(config: Config, dataset: Dataset, there: float) -> Iterator[str]:
    """Find single changes of the network after which its state leaves half of the memory."""
    found = 0
    for key, values in sorted(
        _changes(to_tree(config.model), "model"), key=lambda change: change[1] != [None]
    ):
        for value in values:
            try:
                needed = _needed("parameters", _with(config, key, value), dataset)
            except UserError:  # a value that this network cannot have
                continue
            if needed <= there / 2:
                yield f"set {key} to {'null' if value is None else value}"
                found += 1
                break
        if found == OPTIONS:
            return


def _changes(tree: Any, key: str) -> Iterator[tuple[str, list[Any]]]:
    """Go through the sizes of a network: what to leave out, what to divide, and strides to multiply."""
    if not isinstance(tree, Mapping):
        return
    for name, value in tree.items():
        inner = f"{key}.{name}"
        if name == "decoder" and value is not None:
            yield inner, [None]
        elif name in ("types", "dim", "channels") and isinstance(value, int):
            yield inner, [value // part for part in (2, 4, 8) if value // part > 1]
        elif name == "stride" and isinstance(value, int):
            yield inner, [value * factor for factor in (2, 4)]
        if name != "routing":
            yield from _changes(value, inner)


def _smaller_images(
    what: room.What, config: Config, dataset: Dataset, there: float
) -> Iterator[str]:
    """Find what canvas, or what part of the pixels fits, in code; nothing where none is known to."""
    if what == "parameters" and _cuts_out(config, dataset):
        return
    # Of the state and the images half of the memory is left, for the steps.
    most = there if what in BATCH else there / 2
    canvas = config.data.canvas if isinstance(config.data, DerivedSource) else None
    for smaller in _smaller_canvases(config.data):
        if _fits(what, config, _of_side(smaller, dataset), most):
            yield f"set data.canvas to {smaller}"
            return
    parts = FRACTIONS
    if what in BATCH:  # what each costs is compiled
        least = math.isqrt(int(_needed(what, config, dataset) / there)) + 1
        parts = range(max(2, least), FRACTIONS.stop)[:TRIES]
    for part in parts:
        smaller = _every(part, dataset)
        fits = _fits(what, config, smaller, most)
        if fits is None:
            return
        if fits:
            height, width, _ = smaller.image_shape
            code = f"images[:, ::{part}, ::{part}]"
            # Parts of what is put on a canvas leave the images as large as that is.
            on = "" if canvas is None else f" and set data.canvas to {height}"
            yield f"images of {height} x {width} pixels, {code}{on}"
            return


def _smaller_canvases(source: Source) -> Iterator[int]:
    """Go through canvases that a set can have, the largest first; none where its images are not known."""
    if not isinstance(source, DerivedSource) or source.canvas is None:
        return
    try:
        least = max(source.source.shape().image_shape[:2])
    except UserError:  # arrays, which no file gives again
        return
    sides = [least + (source.canvas - least) * part // TRIES for part in reversed(range(TRIES))]
    yield from (side for side in dict.fromkeys(sides) if side < source.canvas)


def _fits(what: room.What, config: Config, dataset: Dataset, most: float) -> bool | None:
    """Return whether images as large as these fit; None if they are too small for the run."""
    try:
        if isinstance(config.data, DerivedSource):
            config.data.check_shape(dataset.image_shape)
        check_geometry(dataset, config.max_shift, config.augment)
        return bool(_needed(what, config, dataset) <= most)
    except UserError:  # too small for what changes them, or for the convolutions
        return None


def _cuts_out(config: Config, dataset: Dataset) -> bool:
    """Return whether a network gets a part of each image, as large whatever size images have."""
    channels = dataset.image_shape[2]
    return config.input_shape((1, 1, channels)) == config.input_shape(dataset.image_shape)


def _every(part: int, dataset: Dataset) -> Dataset:
    """Return a dataset of every so many pixels in each direction; nothing is copied."""

    def fewer(split: Split) -> Split:
        return Split(split.images[:, ::part, ::part], split.labels)

    return dataset.map_splits(fewer)


def _of_side(side: int, dataset: Dataset) -> Dataset:
    """Return a dataset of as many pixels in each direction; nothing is copied."""
    return dataset.map_splits(lambda split: Split(split.images[:, :side, :side], split.labels))


def _with(config: Config, key: str, value: Any) -> Config:
    return build(Config, to_tree(config), source="config", overrides={key: value})


def _images(config: Config, dataset: Dataset) -> float:
    """Return the bytes of the images that lie there at once."""
    if config.training.feed == "grain":
        return PARTS * room.size_of(_epoch(config, dataset).images)
    return float(sum(split.images.nbytes for split in dataset.splits().values()))


def _epoch(config: Config, dataset: Dataset) -> Epoch:
    """Describe what the batches of training are cut from."""
    if config.training.feed == "grain":
        return part_shapes(dataset.train, config.training.batch_size)
    return epoch_shapes(dataset.train, dataset.overlap)


def _needed(what: room.What, config: Config, dataset: Dataset) -> float:
    """Return the bytes of the state, the images or a step, which is compiled for that."""
    images = _images(config, dataset)
    if what == "images":
        return images
    if what == "parameters":
        return plan(config, dataset).state_bytes()
    if what == "training":
        found = _training(config, dataset)
        beside = images - room.size_of(_epoch(config, dataset).images)
    else:
        found, beside = _scoring(config, dataset, config.training.eval_batch_size), images
    return room.needed_by(found, arguments=True) + beside


def _training(config: Config, dataset: Dataset) -> jax.stages.Compiled:
    """Compile steps of training, which a run of that configuration calls."""
    planned = plan(config, dataset)
    strategy, shapes = planned.compiled.strategy, planned.functions.shapes()
    state = jax.eval_shape(
        lambda params: TrainState.create(
            params, planned.optimiser, planned.functions.statistics(0)
        ),
        shapes,
    )
    given = strategy.replicated_shapes((state, _epoch(config, dataset)))
    return planned.compiled.train_steps.lower(*given, 0, 1).compile()


def _scoring(config: Config, dataset: Dataset, count: int) -> jax.stages.Compiled:
    """Compile a step of evaluation of so many images, which a run of that network calls."""
    shape, classes = dataset.image_shape, dataset.num_classes
    compiled = evaluation_steps(config, shape, classes)
    strategy = compiled.strategy
    made = functions_of(config, shape, classes)
    variables = made.shapes() | jax.eval_shape(lambda: made.statistics(0))
    batch = batch_shapes(dataset.test, count, dataset.overlap, config.augmentations)
    given = strategy.replicated_shapes(variables), strategy.shared_shapes(batch)
    return compiled.eval_step.lower(*given).compile()
