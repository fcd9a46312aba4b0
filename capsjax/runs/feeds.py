"""How a run's examples come to the device, as its configuration says."""

from capsjax.data import Dataset, Split
from capsjax.data.overlap import Overlap
from capsjax.runs.config import Config
from capsjax.training.feed import EvalFeed, TrainFeed
from capsjax.training.slicing import BatchSlicer
from capsjax.training.stream import FEEDS, check_streams


def check_feed(config: Config, dataset: Dataset) -> None:
    """Check, before a run begins, that its examples can come as it says.

    Args:
        config: what is to be run.
        dataset: its data.

    Raises:
        UserError: If examples that overlap are to be streamed, or Grain is not installed.
    """
    if config.training.feed == "grain":
        check_streams(dataset.overlap)


def train_feed(config: Config, split: Split, slicer: BatchSlicer) -> TrainFeed:
    """Make what a run takes its training examples from.

    Args:
        config: the run's.
        split: the examples.
        slicer: how a batch is cut.

    Raises:
        UserError: If examples that overlap are to be streamed, or Grain is not installed.
    """
    return FEEDS[config.training.feed].train(split, slicer, config.seed)


def eval_feed(
    config: Config,
    split: Split,
    scale: float,
    *,
    overlap: Overlap | None,
    batch_size: int | None = None,
    offset: tuple[int, int] = (0, 0),
) -> EvalFeed:
    """Make what a run's measurements take their examples from.

    Args:
        config: the run's.
        split: the examples.
        scale: factor that brings raw pixels to 0 to 1.
        overlap: how each example lies over another; None where each image is an example.
        batch_size: examples in a batch; None for those of an evaluation.
        offset: pixels down and to the right of the middle, where parts are cut out.

    Raises:
        UserError: If examples that overlap are to be streamed, or Grain is not installed.
    """
    return FEEDS[config.training.feed].evaluation(
        split,
        scale,
        batch_size=config.training.eval_batch_size if batch_size is None else batch_size,
        overlap=overlap,
        augmentations=config.augmentations,
        offset=offset,
    )
