"""CIFAR-10: 60,000 photographs of ten kinds of things, from its binary files."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_int
from capsjax.data.archive import read_tar
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.npz import Pair
from capsjax.data.published import Published, PublishedFiles

VALIDATION = 5000
RECORD = 1 + 3 * 32 * 32  # a byte of label, then red, green and blue, each row by row
PART = 10_000  # records of a file
LIMIT = 1 << 28  # bytes of the archive decompressed, of which there are 185 MB
FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TEST = f"{FOLDER}/test_batch.bin"
# The version for C programs: that for Python is a pickle, which could run code.
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "archive": KnownArchive(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Cifar10(PublishedFiles):
    """Choose CIFAR-10: of 50,000 training images the first validate and the others train; 10,000 test.

    Args:
        folder: folder with `cifar-10-binary.tar.gz`, which is read as it is and never unpacked; None to look
            in `$CAPSJAX_DATA/cifar10`, else in the user's cache, and download it if missing.
        validation: how many validate, 0 to 10,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Krizhevsky 2009.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)
    class_names: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    validation: int = VALIDATION
    kind: Literal["cifar10"] = "cifar10"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "validation", low=0, high=10_000)

    @classmethod
    def published(cls) -> Published:
        """Return the set's file, and where it is published."""
        return Published(
            "cifar10",
            FILES,
            ("https://www.cs.toronto.edu/~kriz/",),
            examples={"train": 50_000, "test": 10_000},
            licence="none stated",
            page="https://www.cs.toronto.edu/~kriz/cifar.html",
            reference="Krizhevsky 2009",
        )

    def load(self, report: Report | None = None) -> Dataset:
        """Read the archive, and download it first if it belongs into the cache and is not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, 32, 32, 3].

        Raises:
            UserError: If the file is missing, unreadable or not the published one, or no download succeeds.
        """
        content, path = self.read("archive", report)
        found = read_tar(content, path, dict.fromkeys((*TRAIN, TEST), PART * RECORD), LIMIT)
        parts = [parse_cifar(found[name], f"{path}: {name}") for name in TRAIN]
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        n = self.validation
        return Dataset(
            self.kind,
            train=Split(images[n:], labels[n:]),
            validation=Split(images[:n], labels[:n]) if n else None,
            test=Split(*parse_cifar(found[TEST], f"{path}: {TEST}")),
            num_classes=self.num_classes,
            scale=1 / 255,
            class_names=self.class_names,
        )


def parse_cifar(content: bytes, source: str) -> Pair:
    """Read images and labels from the content of a binary file of CIFAR-10.

    Args:
        content: records of a label and 3,072 pixels: red, green and blue, each row by row.
        source: where it is from, for the message.

    Returns:
        Images, uint8 [n, 32, 32, 3], and labels, int32 [n].

    Raises:
        UserError: If it is not made of whole records, or a label is above 9.
    """
    if not content or len(content) % RECORD:
        raise UserError(f"{source}: got {len(content)} bytes, expected a multiple of {RECORD}")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        place = int(labels.argmax())
        raise UserError(f"{source}: got label {labels[place]} in record {place}, expected 0 to 9")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels  # channels last
