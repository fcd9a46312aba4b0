"""MNIST, and what the sets that are published as it is have in common."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report, read_known
from capsjax.data.idx import decompress, parse_idx
from capsjax.data.known import KnownFile, Place
from capsjax.data.published import Published, PublishedFiles

VALIDATION = 10_000
TRAIN = 60_000  # images in the training files
EXAMPLES = MappingProxyType({"train": TRAIN, "test": 10_000})


@dataclass(frozen=True, kw_only=True)
class MnistFamily(PublishedFiles, abc.ABC):
    """Choose a set in MNIST's form: 60,000 images to train and 10,000 to test, 28 x 28 pixels, ten classes.

    Of the training images the first validate and the others train. The four IDX files, plain or compressed,
    are looked for in `folder`, else in the set's folder below `$CAPSJAX_DATA`, else in the user's cache, and
    downloaded there if missing. An empty CAPSJAX_DATA counts as none.

    Args:
        folder: folder with the four files, or None to look as above.
        validation: how many validate, 0 to 10,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        train_limit: train on this many images only, the first that do not validate, from 1; None for
            all.
        kind: its name in a configuration.

    Attributes:
        image_shape: height, width and channels of every image.
        num_classes: how many classes there are.

    Raises:
        FieldError: If a field is out of range.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)

    validation: int = VALIDATION
    train_limit: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "validation", low=0, high=VALIDATION)
        if self.train_limit is not None:
            check_int(self, "train_limit", low=1, high=TRAIN - self.validation)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, 28, 28, 1].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download
                succeeds.
        """
        return read_family(
            self.place(),
            self.published(),
            train_limit=self.train_limit,
            report=report,
            validation=self.validation,
        )


def read_family(
    place: Place,
    published: Published,
    *,
    train_limit: int | None = None,
    report: Report | None = None,
    validation: int = VALIDATION,
) -> Dataset:
    """Read the four files into a dataset.

    Args:
        place: where they are.
        published: what they must be.
        train_limit: use only this many training examples, the first after the validation split.
        report: receives the progress of downloads.
        validation: the number of training images, the first ones, that validate, or 0.

    Returns:
        The dataset, images uint8 [n, h, w, 1].

    Raises:
        UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
    """

    def read(key: str) -> np.ndarray:
        content, path = read_known(place, published.files[key], published.mirrors, report=report)
        try:
            return parse_idx(decompress(content, path), path)
        except UserError as error:
            raise UserError(f"{error}; {place.advice}") from None

    # An axis of one channel: images are [n, h, w, c] everywhere.
    arrays = {key: read(key) for key in published.files}
    images, labels = arrays["train_images"][..., None], arrays["train_labels"]
    # The first images validate, whatever the limit: runs on more or fewer images share their validation.
    end = None if train_limit is None else validation + train_limit
    return Dataset(
        published.name,
        train=Split(images[validation:end], labels[validation:end]),
        validation=Split(images[:validation], labels[:validation]) if validation else None,
        test=Split(arrays["test_images"][..., None], arrays["test_labels"]),
        num_classes=MnistFamily.num_classes,  # a limit may leave some classes without an example
        scale=1 / 255,
    )


MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Sizes and SHA-256 of the decompressed files: mirrors compress them differently.
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "train_images": KnownFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        "train_labels": KnownFile(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        "test_images": KnownFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        "test_labels": KnownFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Mnist(MnistFamily):
    """Choose MNIST: of 60,000 training images the first validate and the others train; 10,000 test.

    The four IDX files, plain or compressed, are looked for in `folder`, else in `$CAPSJAX_DATA/mnist`,
    else in the user's cache, and downloaded there if missing. An empty CAPSJAX_DATA counts as none.

    Args:
        folder: folder with the four files, or None to look as above.
        validation: how many validate, 0 to 10,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        train_limit: train on this many images only, the first that do not validate, from 1; None for
            all.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.
    """

    kind: Literal["mnist"] = "mnist"

    @classmethod
    def published(cls) -> Published:
        """Return MNIST's files, their mirrors and their licence."""
        return Published(
            "mnist",
            FILES,
            MIRRORS,
            examples=EXAMPLES,
            licence="CC BY-SA 3.0",
            page="https://yann.lecun.com/exdb/mnist/",
            reference="LeCun, Cortes and Burges 1998",
        )
