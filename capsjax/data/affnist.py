"""affNIST: MNIST's test digits on 40 x 40 pixels, each changed by 32 random affine maps."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_int
from capsjax.data.archive import read_zip
from capsjax.data.dataset import Dataset, Split
from capsjax.data.derived import put_on_canvas
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.mat import read_mat
from capsjax.data.mnist import VALIDATION, Mnist
from capsjax.data.npz import Pair
from capsjax.data.published import Published, PublishedFiles

SIDE = 40
MEMBER, NAME = "test.mat", "affNISTdata"
LARGEST = 1 << 31  # bytes of the file in the archive: images alone are 512 MB
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "test": KnownArchive(
            "test.mat.zip",
            121_743_191,
            "2cde38ec83ee2ebfd7b901f8be5a09efb17a1bda04771f9b4905751eb945c01a",
        )
    }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Affnist(PublishedFiles):
    """Choose affNIST's 320,000 transformed test images, and MNIST on the same canvas to learn from.

    As capsule papers use it: nothing of affNIST is learned from. MNIST's training images are put into the
    middle of 40 x 40 pixels, to be moved by `max_shift: 6` in training, and some of them validate. A run on
    translated MNIST is measured by `capsjax evaluate RUN --data affnist`.

    Args:
        folder: folder with affNIST's `test.mat.zip`, of `32x/transformed`, which is read as it is and never
            unpacked; None to look in `$CAPSJAX_DATA/affnist`, else in the user's cache, and download it if
            missing.
        mnist: folder with MNIST's four files; None to look where `Mnist` looks.
        validation: how many of MNIST's training images validate, 0 to 10,000.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Tieleman 2013; the protocol Sabour, Frosst and Hinton 2017, section 5.2.
    """

    places: ClassVar[tuple[str, ...]] = ("folder", "mnist")
    image_shape: ClassVar[tuple[int, int, int]] = (SIDE, SIDE, 1)

    mnist: str | None = None
    validation: int = VALIDATION
    kind: Literal["affnist"] = "affnist"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "validation", low=0, high=VALIDATION)

    @classmethod
    def published(cls) -> Published:
        """Return the set's file, and where it is published."""
        return Published(
            "affnist",
            FILES,
            ("https://www.cs.toronto.edu/~tijmen/affNIST/32x/transformed/",),
            examples={"train": 60_000, "test": 320_000},
            licence="none stated",
            page="https://www.cs.toronto.edu/~tijmen/affNIST/",
            reference="Tieleman 2013",
        )

    @property
    def _digits(self) -> Mnist:
        return Mnist(folder=self.mnist, validation=self.validation)

    def missing(self) -> list[str]:
        """Return what the files that are not there are called, MNIST's among them."""
        return super().missing() + self._digits.missing()

    def fetch(self, report: Report | None = None) -> list[Path]:
        """Download the files of both sets that are not there, each to where it is looked for.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The files that came.

        Raises:
            UserError: If a file is there already and is not the published one, or no download succeeds.
        """
        return super().fetch(report) + self._digits.fetch(report)

    def verify(self) -> list[tuple[str, KnownFile]]:
        """Read every file of both sets, and check that it is the published one.

        Returns:
            Path and description of each.

        Raises:
            UserError: If a file is missing, unreadable or not the published one.
        """
        return super().verify() + self._digits.verify()

    def load(self, report: Report | None = None) -> Dataset:
        """Read both sets, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, 40, 40, 1].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
        """
        images, labels = parse_affnist(*self.read("test", report))
        digits = self._digits.load(report)
        canvas = digits.map_splits(lambda part: put_on_canvas(part, self.image_shape))
        return dataclasses.replace(canvas, name=self.kind, test=Split(images, labels))


def parse_affnist(content: bytes, source: str) -> Pair:
    """Read images and labels from the content of an archive of affNIST.

    Args:
        content: a zip archive with `test.mat`: a struct affNISTdata with image, bytes [1600, n], each column
            an image row by row, and label_int [1, n].
        source: where it is from, for the message.

    Returns:
        Images, uint8 [n, 40, 40, 1], and labels, int32 [n].

    Raises:
        UserError: If it is not that.
    """
    file = read_zip(content, source, {MEMBER: LARGEST})[MEMBER]
    held = read_mat(file, f"{source}: {MEMBER}", {NAME: (("struct",), 2)})[NAME]
    names = held.dtype.names or ()
    if held.size != 1 or not {"image", "label_int"} <= {*names}:
        got = f"{held.size} of fields {', '.join(names) or 'of no name'}"
        raise UserError(f"{source}: got {got}, expected a struct with image and label_int")
    images, labels = (np.asarray(held[name].item()) for name in ("image", "label_int"))
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[0] != SIDE * SIDE:
        got = f"image {images.dtype} {list(images.shape)}"
        raise UserError(f"{source}: got {got}, expected bytes [{SIDE * SIDE}, n]")
    if labels.size != images.shape[1] or labels.dtype.kind not in "uif":
        got = f"label_int {labels.dtype} {list(labels.shape)}"
        raise UserError(f"{source}: got {got}, expected a number for each of {images.shape[1]}")
    return images.T.reshape(-1, SIDE, SIDE, 1), labels.ravel().astype(np.int32)
