"""MNIST: 70,000 handwritten digits of 28 x 28 pixels."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import FieldError, UserError, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report, download
from capsjax.data.idx import parse_idx
from capsjax.data.known import KnownFile

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
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
VALIDATION = 10_000
TRAIN = 60_000  # images in the training files


@dataclass(frozen=True, kw_only=True)
class Mnist:
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

    Attributes:
        image_shape: height, width and channels of every image.
        num_classes: how many classes there are.

    Raises:
        FieldError: where a field is out of range.
    """

    folder: str | None = None
    validation: int = VALIDATION
    train_limit: int | None = None
    image_shape: ClassVar[tuple[int, int, int]] = (28, 28, 1)
    num_classes: ClassVar[int] = 10
    kind: Literal["mnist"] = "mnist"

    def __post_init__(self):
        if self.folder is not None and not (isinstance(self.folder, str) and self.folder):
            raise FieldError(
                "Mnist", "folder", self.folder, "the path of a folder as a string, or nothing"
            )
        check_int(self, "validation", low=0, high=VALIDATION)
        if self.train_limit is not None:
            check_int(self, "train_limit", low=1, high=TRAIN - self.validation)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them where they are to come from the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) as a download goes on.

        Returns:
            The dataset, images uint8 [n, 28, 28, 1].

        Raises:
            UserError: where a file is missing, unreadable or not the published one, or no download
                succeeds.
        """
        place = find_place(self.folder)
        return read_mnist(
            place, train_limit=self.train_limit, report=report, validation=self.validation
        )


@dataclass(frozen=True)
class Place:
    """Know where the files are.

    Args:
        folder: the folder that holds them.
        advice: what to do about a file there that is missing or wrong.
        is_cache: whether missing files are downloaded into it.
    """

    folder: Path
    advice: str
    is_cache: bool = False


def find_place(folder: str | None) -> Place:
    """Decide where the files are: `folder`, else `$CAPSJAX_DATA/mnist`, else the user's cache."""
    if folder is not None:
        held = os.environ.get("CAPSJAX_DATA")
        otherwise = f"read from {held}/mnist" if held else "downloaded"
        advice = f"put the published file there, or leave folder out to have it {otherwise}"
        return Place(Path(folder).expanduser(), advice)
    if root := os.environ.get("CAPSJAX_DATA"):
        advice = "put the published file there, or unset CAPSJAX_DATA to have it downloaded"
        return Place(Path(root).expanduser() / "mnist", advice)
    import pooch

    advice = "delete this file to have it downloaded again: nothing is lost"
    return Place(Path(pooch.os_cache("capsjax")) / "mnist", advice, is_cache=True)


def read_mnist(
    place: Place,
    *,
    train_limit: int | None = None,
    report: Report | None = None,
    files: Mapping[str, KnownFile] = FILES,
    mirrors: Sequence[str] = MIRRORS,
    validation: int = VALIDATION,
) -> Dataset:
    """Read the four files into a dataset.

    Args:
        place: where they are.
        train_limit: use only the first so many training examples after the validation split.
        report: receives the progress of downloads.
        files: what the files must be; the published ones by default.
        mirrors: addresses to download from.
        validation: how many of the first training images validate, or 0.

    Returns:
        The dataset, images uint8 [n, h, w, 1].

    Raises:
        UserError: as `Mnist.load` does.
    """
    arrays = {key: _read(place, file, mirrors, report) for key, file in files.items()}
    images, labels = arrays["train_images"][..., None], arrays["train_labels"]
    end = None if train_limit is None else validation + train_limit
    return Dataset(
        "mnist",
        train=Split(images[validation:end], labels[validation:end]),
        validation=Split(images[:validation], labels[:validation]) if validation else None,
        test=Split(arrays["test_images"][..., None], arrays["test_labels"]),
        num_classes=Mnist.num_classes,
        scale=1 / 255,
    )


def _read(
    place: Place, file: KnownFile, mirrors: Sequence[str], report: Report | None
) -> np.ndarray:
    path = file.find(place.folder)
    if path is None and place.is_cache:
        path = download(file, mirrors, place.folder, report=report)
    if path is None:
        raise UserError(
            f"{place.folder / file.name}.gz: is missing, also without .gz "
            f"({_describe(place.folder)}), {file.expected}; {place.advice}"
        )
    try:
        return parse_idx(file.read(path), str(path))
    except UserError as error:
        raise UserError(f"{error}; {place.advice}") from None


def _describe(folder: Path) -> str:
    """Tell what is in a folder, in a few words."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return "the folder does not exist"
    except OSError as error:
        return f"the folder cannot be read: {error.strerror or error}"
    if not names:
        return "the folder is empty"
    return "the folder has " + ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
