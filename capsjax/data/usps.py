"""USPS: 9,298 digits of the US postal service, 16 x 16 pixels."""

import bz2
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.npz import Pair, read_members
from capsjax.data.published import Published, PublishedFiles

TRAIN, TEST, VALIDATION = 7291, 2007, 1000
PIXELS = 256
TEXT = 1 << 26  # bytes of a file of text, of which there are 19 MB
# What LIBSVM publishes; the same numbers as one file of NumPy, which is read where it is there.
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "train": KnownArchive(
            "usps.bz2",
            6_579_383,
            "3771e9dd6ba685185f89867b6e249233dd74652389f263963b3b741e994b034f",
        ),
        "test": KnownArchive(
            "usps.t.bz2",
            1_831_726,
            "a9c0164e797d60142a50604917f0baa604f326e9a689698763793fa5d12ffc4e",
        ),
    }
)
ARRAYS = KnownArchive(
    "usps.npz", 2_408_167, "960d2b050ab9d6040aa618d833d265f5210fa537c310308d1a13bd9c6fe90002"
)
# SHA-256 of pixels (float32, 0 to 1) and labels (int32), whichever file they come from.
CONTENTS = MappingProxyType(
    {
        "train": "ba8c0eefab36c78a3c3f7d7cb6e90b429bdd9e4065a6c95eac505a30d802944d",
        "test": "d3d7fdb36ccadc59d2e9510c9af3215194b28976f5aa354045001e39b8672d52",
    }
)


@dataclass(frozen=True, kw_only=True)
class Usps(PublishedFiles):
    """Choose USPS: of 7,291 training images the first validate and the others train; 2,007 test.

    The test images are harder than the training images: they were collected later.

    Args:
        folder: folder with `usps.npz`, or with `usps.bz2` and `usps.t.bz2` as LIBSVM publishes them; None to
            look in `$CAPSJAX_DATA/usps`, else in the user's cache, and download the latter if missing.
        validation: how many validate, 0 to 3,000; with 0 all train, none is measured on the way, and
            nothing should be chosen by the run.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        LeCun et al. 1989; in this split Hastie, Tibshirani and Friedman 2009, section 11.7.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (16, 16, 1)

    validation: int = VALIDATION
    kind: Literal["usps"] = "usps"

    def __post_init__(self):
        super().__post_init__()
        check_int(self, "validation", low=0, high=3000)

    @classmethod
    def published(cls) -> Published:
        """Return the set's files, and where they are published."""
        return Published(
            "usps",
            FILES,
            ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
            examples={"train": TRAIN, "test": TEST},
            licence="none stated",
            page="https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps",
            reference="LeCun et al. 1989",
        )

    def files(self) -> Mapping[str, KnownFile]:
        """Return the file of arrays where it is there, else those that LIBSVM publishes."""
        folder = self.place().folder
        return {"whole": ARRAYS} if ARRAYS.find(folder) else self.published().files

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images float32 [n, 16, 16, 1].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
        """
        if "whole" in self.files():
            pairs = _from_arrays(*self.read("whole", report))
        else:
            pairs = {part: parse_libsvm(*self.read(part, report)) for part in FILES}
        for part, (images, labels) in pairs.items():
            found = hashlib.sha256(images.astype("<f4").tobytes() + labels.astype("<i4").tobytes())
            if found.hexdigest() != CONTENTS[part]:
                raise UserError(
                    f"{self.place().folder}: {part}: got pixels and labels of SHA-256 {found.hexdigest()}, "
                    f"expected {CONTENTS[part]}; {self.place().advice}"
                )
        (images, labels), (test_images, test_labels) = pairs["train"], pairs["test"]
        n = self.validation
        return Dataset(
            self.kind,
            train=Split(images[n:, ..., None], labels[n:]),
            validation=Split(images[:n, ..., None], labels[:n]) if n else None,
            test=Split(test_images[..., None], test_labels),
            num_classes=self.num_classes,
            scale=1.0,
        )


def parse_libsvm(content: bytes, source: str) -> Pair:
    """Read digits from LIBSVM's text, compressed by bzip2: a label from 1, then 256 pairs `i:x`, |x| <= 1.

    Args:
        content: bytes of the file.
        source: where it is from, for the message.

    Returns:
        Pixels from 0 to 1, float32 [n, 16, 16], and labels from 0, int32 [n].

    Raises:
        UserError: If it is not that.
    """
    expected = "expected lines of a label and 256 pairs such as 1:-0.631, compressed by bzip2"
    try:
        # Not bz2.decompress, which a few thousand bytes can make fill the memory.
        decompressor = bz2.BZ2Decompressor()
        text = decompressor.decompress(content, TEXT)
    except (OSError, EOFError) as error:
        raise UserError(f"{source}: got a broken file ({error}), {expected}") from error
    if not decompressor.eof:
        got = "more than can be" if len(text) == TEXT else "a truncated file"
        raise UserError(f"{source}: got {got}, {expected}")
    try:
        numbers = np.array(text.replace(b":", b" ").split(), np.float64)
        rows = numbers.reshape(-1, 1 + 2 * PIXELS)
    except ValueError as error:
        raise UserError(f"{source}: got other text ({error}), {expected}") from error
    labels, pixels = rows[:, 0], rows[:, 2::2].astype(np.float32)
    if (rows[:, 1::2] != np.arange(1, PIXELS + 1)).any() or (np.abs(pixels) > 1).any():
        raise UserError(f"{source}: got other pairs, {expected}")
    # In float32, as the file of arrays was made: the same bits.
    return ((pixels + 1) / 2).reshape(-1, 16, 16), labels.astype(np.int32) - 1


def _from_arrays(content: bytes, source: str) -> dict[str, Pair]:
    """Read the file of arrays."""
    expected = {f"x_{part}": ("float32", 3) for part in FILES}
    expected |= {f"y_{part}": ("int32", 1) for part in FILES}
    found = read_members(content, source, expected)
    return {part: (found[f"x_{part}"], found[f"y_{part}"]) for part in FILES}
