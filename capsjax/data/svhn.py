"""SVHN: digits of house numbers, cropped from photographs of streets."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_bool, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.mat import read_mat
from capsjax.data.npz import Pair
from capsjax.data.published import Published, PublishedFiles

VALIDATION = 5000
EXTRA, FURTHER = "extra", 531_131  # images beside those that train
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
        EXTRA: KnownArchive(
            "extra_32x32.mat",
            1_329_278_602,
            "a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Svhn(PublishedFiles):
    """Choose SVHN's cropped digits: of 73,257 images some validate and the others train; 26,032 test.

    The first validate. With `extra`, 531,131 further images train, which are published beside them and
    easier: 604,388 less those that validate, 1.9 GB of pixels, which it takes some 5 GB of memory to read.

    Args:
        folder: folder with `train_32x32.mat` and `test_32x32.mat`, and `extra_32x32.mat` with `extra`; None
            to look in `$CAPSJAX_DATA/svhn`, else in the user's cache, and download them if missing.
        extra: whether the further images train, too; their file has 1.3 GB. What validates and tests is the
            same with them and without.
        validation: how many validate, 0 to 10,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Netzer et al. 2011.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)

    extra: bool = False
    validation: int = VALIDATION
    kind: Literal["svhn"] = "svhn"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "extra")
        check_int(self, "validation", low=0, high=10_000)

    def examples(self) -> Mapping[str, int]:
        """Return how many examples it has, by part."""
        every = self.published().examples
        return {**every, EXTRA: FURTHER} if self.extra else every

    def files(self) -> Mapping[str, KnownFile]:
        """Return the files that are read, by key."""
        every = self.published().files
        return {key: file for key, file in every.items() if self.extra or key != EXTRA}

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

    def flags(self) -> str:
        """Return the flags that have `capsjax data` read the same files."""
        return " --data.extra true" if self.extra else ""

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, 32, 32, 3].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
        """
        images, labels = parse_svhn(*self.read("train", report))
        test, n = parse_svhn(*self.read("test", report)), self.validation
        train = images[n:], labels[n:]
        if self.extra:
            further = parse_svhn(*self.read(EXTRA, report))
            train = tuple(map(np.concatenate, zip(train, further, strict=True)))
        return Dataset(
            f"{self.kind} extra" if self.extra else self.kind,
            train=Split(*train),
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
