"""Where class capsules get their support from in an image, and what a decoder draws of their poses."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from capsjax.checks import UserError
from capsjax.data import to_float
from capsjax.data.augment.base import judged
from capsjax.layers import shapes
from capsjax.layers.base import CapsuleShape
from capsjax.progress import Silent
from capsjax.reports.comparison import Comparison
from capsjax.runs import evaluation
from capsjax.runs.folder import Folder
from capsjax.runs.run import Run
from capsjax.runs.sources import load_data
from capsjax.study.design import run_folder
from capsjax.study.observation import routed_alike

MOST = 4  # arms whose networks are loaded
ALIKE = 30  # test images of one class, whose poses say how far a component goes


class Moved(NamedTuple):
    """Hold what a decoder draws while a component of a pose takes values that it has in other images.

    Attributes:
        component: the one of the label's pose that changes most of what is drawn.
        own: its value in the image.
        low: its smallest value over test images of the class.
        high: its largest value over them.
        count: of how many images these are.
        drawn: the reconstruction of the pose as it is, with the smallest and with the largest value, [3, h,
            w, c].
    """

    component: int
    own: float
    low: float
    high: float
    count: int
    drawn: Float[np.ndarray, "3 h w c"]


class Support(NamedTuple):
    """Hold what a network makes of some test images.

    Attributes:
        arm: what its arm is called.
        maps: what the children at each position add to the length of each class capsule, at each of the r
            readouts, [r, b, h, w, j].
        predicted: the class that each image is taken for, [b].
        moved: what its decoder draws of the first image while a component of the label's pose moves; None
            without a decoder, or where the test shows no other value of it.
    """

    arm: str
    maps: Float[np.ndarray, "r b h w j"]
    predicted: Int[np.ndarray, "b"]
    moved: Moved | None


class Supported(NamedTuple):
    """Hold what the arms of a comparison make of the same test images.

    Attributes:
        found: what each arm makes of them.
        images: their pixels, from 0 to 1, [b, h, w, c].
        labels: their classes, [b].
        numbers: which images of the test they are, [b].
        missing: sentences about what is left out.
    """

    found: list[Support]
    images: np.ndarray
    labels: np.ndarray
    numbers: list[int]
    missing: list[str]


NO_GRID = "without children at several positions that vote for each class by matrices of their own"
OTHER_SIZE = "whose networks get images of another size than the first"
GONE = "whose first run is not there"
NOTHING = Supported([], np.zeros((0, 1, 1, 1)), np.zeros(0, int), [], [])


def gather_support(comparison: Comparison, folder: Path) -> Supported:
    """Load the first seed of the arms of the first cell, and look where support comes from.

    Args:
        comparison: its numbers.
        folder: its directory, whose runs are loaded; nothing is trained.

    Returns:
        What at most four arms make of two test images, and why others are left out.
    """
    group, left = comparison.groups[0], {NO_GRID: [], OTHER_SIZE: [], GONE: []}
    runs: dict[str, Run] = {}
    for name in [n for n in group.names if comparison.comparable(n, group)][:MOST]:
        path = folder / "runs" / run_folder(name, comparison.seeds[0])
        try:
            if has_grid(path):  # asked before anything is loaded, which takes longer
                runs[name] = evaluation.load(path, reporter=Silent())
            else:
                left[NO_GRID].append(comparison.arms[name].arm)
        except UserError:  # gone, or stopped before its first checkpoint
            left[GONE].append(comparison.arms[name].arm)
    if not runs:
        return NOTHING._replace(missing=_in_words(left))
    first = next(iter(runs.values()))
    try:
        dataset = load_data(first.config, None, Silent())
    except UserError as error:
        why = f"This is left out, since the data cannot be had: {error}."
        return NOTHING._replace(missing=[why])
    if dataset.overlap is not None:
        why = "This is left out of images that show several classes, which share their children."
        return NOTHING._replace(missing=[why])
    numbers = chosen_images(comparison, list(runs), len(dataset.test))
    images, labels = dataset.test.images[numbers], dataset.test.labels[numbers]
    same = np.flatnonzero(dataset.test.labels == labels[0])
    looked = np.concatenate([images, dataset.test.images[same[same != numbers[0]][: ALIKE - 1]]])
    raw = looked if dataset.rescaling is None else dataset.rescaling.inverse(looked)
    found = []
    for name, run in runs.items():
        arm = comparison.arms[name].arm
        if _input_shape(run) != _input_shape(first):
            left[OTHER_SIZE].append(arm)
        elif (one := support_of(run, arm, raw, labels)) is None:
            left[NO_GRID].append(arm)
        else:
            found.append(one)
    # As a decoder draws them: what networks get, such as a part, but from 0 to 1.
    given, drawn = judged(first.config.augmentations, to_float(images, dataset.scale))
    shown = np.asarray(given if drawn is None else drawn)
    return Supported(found, shown, labels, numbers, _in_words(left))


def _input_shape(run: Run) -> tuple[int, int, int]:
    return run.config.input_shape(run.image_shape)


def _in_words(left: Mapping[str, list[str]]) -> list[str]:
    return [f"Left out: {', '.join(arms)}, {why}." for why, arms in left.items() if arms]


def has_grid(folder: Path) -> bool:
    """Return whether the class capsules of a run have children at several positions; nothing is loaded.

    Raises:
        UserError: If there is no such run.
    """
    found = Folder(folder)
    shape = found.config.input_shape(found.image_shape)
    given = shapes(found.config.model, shape, found.num_classes or 1)[-1].given
    return isinstance(given, CapsuleShape) and given.grid != (1, 1)


def chosen_images(comparison: Comparison, names: list[str], count: int) -> list[int]:
    """Choose the first test image that some arms get wrong and some right, and the first that all get right.

    Args:
        comparison: its numbers.
        names: of the arms.
        count: how many test images there are.

    Returns:
        Their numbers in the test; the first ones in place of what there is not.
    """
    wrong = [comparison.wrong[name][0] for name in names if comparison.wrong.get(name)]
    known = [each for each in wrong if each is not None and len(each) == count]
    wanted: list[int] = []
    if known:
        together = np.stack(known)  # [arms, images]
        for which in (together.any(0) & ~together.all(0), ~together.any(0)):
            wanted += np.flatnonzero(which)[:1].tolist()
    return list(dict.fromkeys([*wanted, *range(min(2, count))]))[:2]


def support_of(
    run: Run, arm: str, images: np.ndarray, labels: Int[np.ndarray, "b"]
) -> Support | None:
    """Measure what the children at each position add to the length of each class capsule.

    s_j = sum_i c_ij vote_ij; child i adds c_ij vote_ij . s_j / |s_j|, and all of them together |s_j|

    Args:
        run: a run of the arm.
        arm: what it is called.
        images: as the run takes them, [b + n, h, w, c]; those after the first b are of the first one's class,
            and tell how far its pose can be moved.
        labels: the classes of the first b.

    Returns:
        The support; None where no child at a position has a matrix for each class.
    """
    # The mode does not matter here, and arms that differ in it alone share what is compiled.
    run = dataclasses.replace(run, config=routed_alike(run.config) or run.config)
    last = shapes(run.config.model, _input_shape(run), run.num_classes)[-1]
    weight = run.params.get(f"{last.name}.weight")
    if weight is None or not isinstance(last.given, CapsuleShape):
        return None
    output, b = run.outputs(images, trace=True), len(labels)
    if output.children is None or output.coupling is None:
        return None
    coupling = output.coupling[None] if output.trace is None else output.trace.coupling
    u, W = np.asarray(output.children[:b], np.float64), np.asarray(weight, np.float64)
    c = np.asarray(coupling[:, :b], np.float64)  # [r, b, i, j]
    if W.ndim != 4 or W.shape[:3] != (u.shape[1], c.shape[-1], u.shape[2]):
        return None
    added = added_lengths(c, np.einsum("bid,ijde->bije", u, W))  # [r, b, i, j]
    (h, w), types = last.given.grid, last.given.types
    maps = added.reshape(*c.shape[:2], h, w, types, -1).sum(-2)  # over types, [r, b, h, w, j]
    predicted = np.asarray(output.lengths[:b]).argmax(-1)
    return Support(arm, maps, predicted, _while_moved(run, output, labels))


def added_lengths(
    coupling: Float[np.ndarray, "r b i j"], votes: Float[np.ndarray, "b i j e"]
) -> Float[np.ndarray, "r b i j"]:
    """Return what each child adds to the length of each parent's sum, whose sum over children is that length.

    Args:
        coupling: coupling coefficients at each readout.
        votes: the votes, the same at each.

    Returns:
        c_ij vote_ij . s_j / |s_j|; 0 where s_j is.
    """
    s = np.einsum("rbij,bije->rbje", coupling, votes)  # [r, b, j, e]
    direction = s / np.maximum(np.linalg.norm(s, axis=-1, keepdims=True), 1e-12)
    return coupling * np.einsum("bije,rbje->rbij", votes, direction)


def _while_moved(run: Run, output: Any, labels: np.ndarray) -> Moved | None:
    """Let the decoder draw the first image with each component of its label's pose moved, and take one."""
    if output.reconstruction is None:
        return None
    poses, label = np.asarray(output.poses), int(labels[0])  # [b + n, j, e]
    # Of the image and those after the ones that are shown, which are of its class.
    same = np.concatenate([poses[:1], poses[len(labels) :]])[:, label]  # [1 + n, e]
    low, high = same.min(0), same.max(0)
    if (low == high).all():
        return None
    e, places = same.shape[1], np.arange(same.shape[1])
    moved = poses[:1].repeat(1 + 2 * e, axis=0)  # as it is, then each lowest, then each highest
    moved[1 + places, label, places] = low
    moved[1 + e + places, label, places] = high
    mask = np.eye(poses.shape[1], dtype=moved.dtype)[[label] * len(moved)]  # [1 + 2 e, j]
    decoder: Any = run.model.decoder
    drawn = np.asarray(decoder(jnp.asarray(moved), jnp.asarray(mask)))
    changes = np.abs(drawn[1 + e :] - drawn[1 : 1 + e]).reshape(e, -1).sum(-1)
    k = int(changes.argmax())
    value, bounds = float(same[0, k]), (float(low[k]), float(high[k]))
    return Moved(k, value, *bounds, len(same), drawn[[0, 1 + k, 1 + e + k]])
