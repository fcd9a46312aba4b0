"""The test images that the page of a run shows, wrong ones first, and what its network makes of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from capsjax.data import Dataset
from capsjax.layers import NetworkOutput
from capsjax.metrics.classification import Classification
from capsjax.progress import Silent
from capsjax.runs.feeds import eval_feed
from capsjax.runs.predictions import Predictions
from capsjax.runs.run import Run
from capsjax.runs.sources import load_data, shaped_data
from capsjax.study.couplings import describe_couplings
from capsjax.study.seen import LAYER, Records
from capsjax.tables import Table
from capsjax.training.feed import EvalFeed

SHOWN = 12  # test images that are shown
PREDICTED = 1000  # that are predicted, where no prediction is kept
COUPLINGS = (
    "Means over images and children. Entropy: of the couplings of a child over its parents, in nats. "
    "Agreement: of the votes with the parents' poses, weighted by the couplings. From the first: how far "
    "couplings are from those of the first iteration (total variation: 0 alike, 1 apart), which are uniform "
    "where routing begins with logits of 0, as most do; from random: from couplings as decided as these "
    "whose parents are dealt out at random."
)


class Images(NamedTuple):
    """Hold some test images.

    Attributes:
        seen: as they go into the network, of standardised ones as they were before, [n, h, w, c].
        labels: the classes of each, [n, k].
        raw: as the data have them, [n, h, w, c].
    """

    seen: np.ndarray
    labels: np.ndarray
    raw: np.ndarray


class Shown(NamedTuple):
    """Hold the test images that a page shows.

    Attributes:
        chosen: those that are drawn, wrong ones first.
        first: as many in the order of the data, which nothing chose, for what is averaged over images.
        output: what the network says of the chosen.
        of_first: what it says of the first, with every iteration of its routing.
        order: how they are chosen, in words.
    """

    chosen: Images
    first: Images
    output: NetworkOutput
    of_first: NetworkOutput
    order: str


def gather_shown(run: Run, data: object, measured: Sequence[Predictions]) -> Shown:
    """Choose the test images that a page shows, and run the network on them.

    Args:
        run: the run.
        data: the user's own arrays, if the run was trained on such.
        measured: the predictions that it keeps, as `evaluations.held` gives them; where none is of this test
            after its last step, the first thousand images are predicted.

    Returns:
        The images.

    Raises:
        UserError: If the data cannot be had.
    """
    dataset = load_data(run.config, shaped_data(run.config, data, run.image_shape), Silent())
    feed = eval_feed(run.config, dataset.test, dataset.scale, overlap=dataset.overlap)
    count = len(dataset.test)
    found = _kept(run, dataset, feed, measured)
    if found is None:
        some = _images(dataset, feed, range(min(PREDICTED, count)))
        labels = some.labels if feed.pairs is not None else some.labels[:, 0]
        found = Classification(labels, run.lengths(some.raw))
    places = wrong_first(found)[:SHOWN]
    wrong = int((~found.right).sum())
    chosen = _images(dataset, feed, places.tolist())
    first = _images(dataset, feed, range(min(SHOWN, count)))
    # With traces both, so that one program is compiled for both.
    output, of_first = (run.outputs(images.raw, trace=True) for images in (chosen, first))
    return Shown(chosen, first, output, of_first, _describe_order(wrong, len(found.labels), count))


def wrong_first(found: Classification) -> Int[np.ndarray, "n"]:
    """Order examples: wrong ones by the highest score of a wrong class, then right ones as they come.

    Args:
        found: labels and beliefs of n examples.

    Returns:
        Their places, [n].
    """
    return np.lexsort((np.where(found.right, 0.0, -_mistaken(found)), found.right))


def _mistaken(found: Classification) -> Float[np.ndarray, "n"]:
    """Return the greatest belief in a class that an example does not show."""
    others = np.array(found.lengths)
    np.put_along_axis(others, found.labels.reshape(len(others), -1), -np.inf, axis=1)
    return np.nan_to_num(others, nan=np.inf, neginf=-np.inf).max(axis=1)


def _describe_order(wrong: int, predicted: int, count: int) -> str:
    of = f"the {count}" if predicted == count else f"the first {predicted} of {count}"
    if not wrong:
        return f"None of {of} test images is wrong: these are the first."
    which = f"Of {of} test images {wrong} {'is' if wrong == 1 else 'are'} wrong"
    if wrong >= SHOWN:
        some = f"the {SHOWN} with the highest scores of wrong classes, the highest first"
        return f"{which}: these are {some}."
    return (
        f"{which}, and stand{'s' if wrong == 1 else ''} first, by the highest score of a "
        "wrong class; then right ones, in the order of the data."
    )


def _kept(
    run: Run, dataset: Dataset, feed: EvalFeed, measured: Sequence[Predictions]
) -> Classification | None:
    """Return what the run said of each of these test images after its last step, where it kept that."""
    for each in measured:
        own = not each.data and each.split == "test" and each.step == run.step
        if own and len(each.labels) == len(dataset.test):
            same = Predictions.of(
                dataset.test, each.lengths, step=run.step, part="test", pairs=feed.pairs
            )
            if same.fingerprint == each.fingerprint:
                return each.classification
    return None


def _images(dataset: Dataset, feed: EvalFeed, places: Sequence[int]) -> Images:
    """Read test images at some places, as a measurement does."""
    found: dict[int, tuple[Any, Any]] = {}
    starts = range(0, len(dataset.test), feed.batch_size)
    for start, batch in zip(starts, feed, strict=True):
        # Standardised images are shown as they were before, as the decoder draws them.
        plain = feed.pairs is not None or batch.targets is None
        seen: Any = batch.images if plain else batch.targets
        for place in places:
            if start <= place < start + feed.batch_size:
                found[place] = seen[place - start], batch.labels[place - start]
        if len(found) == len(places):
            break
    seen, labels = (np.stack([found[p][part] for p in places]) for part in (0, 1))
    if feed.pairs is not None:
        return Images(seen, labels, seen)
    raw = dataset.test.images[np.asarray(places)]
    raw = raw if dataset.rescaling is None else dataset.rescaling.inverse(raw)
    return Images(seen, labels.reshape(len(labels), -1), raw)


def coupling_records(output: NetworkOutput) -> Records:
    """Return what couplings do at each iteration, as `couplings.csv` of a comparison has it.

    Args:
        output: what a network says of images, with its traces.

    Returns:
        A record for each layer that iterates and each iteration.
    """
    return [
        {LAYER: layer, "iteration": place + 1}
        | {name: float(x[place]) for name, x in found.items()}
        for layer, found in describe_couplings(output.layers).items()
        for place in range(len(found["entropy"]))
        if len(found["entropy"]) > 1
    ]


def couplings_table(records: Records, count: int) -> Table:
    """Make the table of couplings, iteration by iteration.

    Args:
        records: as `coupling_records` gives them.
        count: of how many images.

    Returns:
        The table: a row for each layer and iteration.
    """
    names = ("entropy", "agreement", "from_uniform", "from_random")
    rows = tuple(
        (r[LAYER], str(r["iteration"]), *(f"{r[name]:.4f}" for name in names)) for r in records
    )
    headings = (
        LAYER,
        "iteration",
        "entropy, nats",
        *("agreement", "from the first", "from random"),
    )
    return Table(f"Couplings by iteration, {count} test images", headings, rows, COUPLINGS)
