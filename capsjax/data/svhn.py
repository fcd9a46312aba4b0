"""SVHN: digits of house numbers, cropped from photographs of streets."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.mat import read_mat
from capsjax.data.npz import Pair
from capsjax.data.published import Published, PublishedFiles

VALIDATION = 5000
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "train": KnownArchive(
            "train_32x32.mat",
            182_040_794,
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        ),
        "test": KnownArchive(
            "test_32x32.mat",
            64_275_384,
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Svhn(PublishedFiles):
    """Choose SVHN's cropped digits: of 73,257 images some validate and the others train; 26,032 test.

    The first validate. The 531,131 further images that are published beside them are not used.

    Args:
        folder: folder with `train_32x32.mat` and `test_32x32.mat`; None to look in `$CAPSJAX_DATA/svhn`,
            else in the user's cache, and download them if missing.
        validation: how many validate, 0 to 10,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Netzer et al. 2011.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    validation: int = VALIDATION
    kind: Literal["svhn"] = "svhn"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "validation", low=0, high=10_000)

    @classmethod
    def published(cls) -> Published:
        """Return the set's files, and where they are published."""
        return Published(
            "svhn",
            FILES,
            ("http://ufldl.stanford.edu/housenumbers/",),
            examples={"train": 73_257, "test": 26_032},
            licence="not for commercial use",
            page="http://ufldl.stanford.edu/housenumbers/",
            reference="Netzer et al. 2011",
        )

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, 32, 32, 3].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
        """
        (images, labels), test = (parse_svhn(*self.read(part, report)) for part in FILES)
        n = self.validation
        return Dataset(
            self.kind,
            train=Split(images[n:], labels[n:]),
            validation=Split(images[:n], labels[:n]) if n else None,
            test=Split(*test),
            num_classes=self.num_classes,
            scale=1 / 255,
        )


def parse_svhn(content: bytes, source: str) -> Pair:
    """Read images and labels from the content of a file of cropped digits.

    Args:
        content: a file of MATLAB with X [32, 32, 3, n] of bytes, and y [n, 1] from 1 to 10, which is digit 0.
        source: where it is from, for the message.

    Returns:
        Images, uint8 [n, 32, 32, 3], and labels, int32 [n].

    Raises:
        UserError: If it is not that.
    """
    whole = ("uint8", "int32", "double")  # of numbers that are labels
    found = read_mat(content, source, {"X": (("uint8",), 4), "y": (whole, 2)})
    images, labels = found["X"], found["y"].ravel().astype(np.int32)
    if images.shape[:3] != (32, 32, 3) or images.shape[3] != len(labels):
        got = f"X {list(images.shape)} and y {list(found['y'].shape)}"
        raise UserError(f"{source}: got {got}, expected X [32, 32, 3, n] and y [n, 1]")
    if labels.size and not (labels.min() >= 1 and labels.max() <= 10):
        raise UserError(
            f"{source}: got labels from {labels.min()} to {labels.max()}, expected 1 to 10"
        )
    return np.ascontiguousarray(images.transpose(3, 0, 1, 2)), labels % 10
