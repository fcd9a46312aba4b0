"""smallNORB: 50 toys of 5 categories, each photographed in stereo from 162 sides in 6 lights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import FieldError, UserError
from capsjax.data.dataset import Dataset
from capsjax.data.download import Report
from capsjax.data.idx import decompress
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.published import Published
from capsjax.data.source import DataShape
from capsjax.data.viewpoints import Seen, Viewpoints

PAIRS, SIDE = 24_300, 96  # of each part, and pixels of an image
TYPES = {0x1E3D4C55: "u1", 0x1E3D4C54: "<i4", 0x1E3D4C51: "<f4", 0x1E3D4C53: "<f8"}
FAMILIAR_AZIMUTHS = (30, 32, 34, 0, 2, 4)  # in steps of ten degrees: 300 to 340, and 0 to 40
FAMILIAR_ELEVATIONS = (0, 1, 2)  # 30, 35 and 40 degrees above the ground
LIMIT = 1 << 29  # bytes of a file decompressed, of which the images have 448 MB
PREFIX = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
# Sizes and SHA-256 of the compressed files, as they are published.
SUMS = {
    "train_dat": (
        131_896_188,
        "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
    ),
    "train_cat": (348, "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa"),
    "train_info": (71_052, "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32"),
    "test_dat": (130_799_817, "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474"),
    "test_cat": (347, "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff"),
    "test_info": (10_428, "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2"),
}


def _file(key: str) -> KnownArchive:
    part, what = key.split("_")
    return KnownArchive(f"{PREFIX[part]}-{what}.mat.gz", *SUMS[key])


FILES: Mapping[str, KnownFile] = MappingProxyType({key: _file(key) for key in SUMS})


@dataclass(frozen=True, kw_only=True)
class SmallNorb(Viewpoints):
    """Choose smallNORB, 48,600 pairs of photographs; the left and the right one are the channels of an image.

    The objects 4, 6, 7, 8 and 9 of each category train, the others test, as they are published. With
    `protocol` azimuth the views from 300, 320, 340, 0, 20 and 40 degrees are learned from, with elevation
    those from 30, 35 and 40 degrees above the ground (8,100 pairs of all objects that train, in both).

    Args:
        folder: folder with the six files, compressed as they are published; None to look in
            `$CAPSJAX_DATA/small_norb`, else in the user's cache, and download them if missing.
        size: height and width of images: 96 as published; 48, the means of 2 x 2 pixels; or 32, the middle
            of the latter, as the papers cut it out for testing.
        protocol: what is new in testing beside the objects: nothing ("objects"), "azimuth" or "elevation".
        views: which views of the test objects test: "novel" or "familiar"; with `protocol` objects all do.
        validation: how many of the five objects of each category that train validate instead, 0 to 4.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range, or asks for familiar views where there are no others.

    Reference:
        LeCun, Huang and Bottou 2004; the protocols Hinton, Sabour and Frosst 2018, section 5.2.
    """

    num_classes: ClassVar[int] = 5
    image_shape: ClassVar[tuple[int, int, int]] = (48, 48, 2)
    class_names: ClassVar[tuple[str, ...]] = ("animal", "human", "airplane", "truck", "car")

    size: Literal[96, 48, 32] = 48
    kind: Literal["small_norb"] = "small_norb"

    def __post_init__(self):
        super().__post_init__()
        if self.size not in (SIDE, 48, 32):  # from Python: a configuration is checked before
            raise FieldError(type(self).__name__, "size", self.size, "96, 48 or 32")

    @classmethod
    def published(cls) -> Published:
        """Return the set's files, and where they are published."""
        return Published(
            "small_norb",
            FILES,
            ("https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",),
            examples={"train": PAIRS, "test": PAIRS},
            licence="for research, not to be sold",
            page="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
            reference="LeCun, Huang and Bottou 2004",
        )

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes; nothing is read."""
        return DataShape((self.size, self.size, 2), self.num_classes)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the files, and download them first if they belong into the cache and are not there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The dataset, images uint8 [n, size, size, 2].

        Raises:
            UserError: If a file is missing, unreadable or not the published one, or no download succeeds.
        """
        parts = [self._part(part, report) for part in PREFIX]
        images, category, info = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        trains = np.arange(len(images)) < len(parts[0][0])
        instance, elevation, azimuth = info[:, 0], info[:, 1], info[:, 2]
        seen = Seen(
            images,
            category,
            instance,
            trains,
            front=np.isin(azimuth, FAMILIAR_AZIMUTHS),
            level=np.isin(elevation, FAMILIAR_ELEVATIONS),
        )
        return self.divided(seen)

    def _part(self, part: str, report: Report | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read the images of a part, reduced, with their categories and what is told of them."""

        def read(what: str) -> np.ndarray:
            content, path = self.read(f"{part}_{what}", report)
            return parse_norb(decompress(content, path, LIMIT), path)

        category, info, images = read("cat"), read("info"), read("dat")
        n = len(category)
        shapes = {"cat": category.shape, "info": info.shape, "dat": images.shape}
        if list(shapes.values()) != [(n,), (n, 4), (n, 2, SIDE, SIDE)]:
            got = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise UserError(
                f"{self.place().folder}: {part}: got {got}, expected cat [n], info [n, 4] and "
                f"dat [n, 2, {SIDE}, {SIDE}]"
            )
        return self._reduced(images), category, info

    def _reduced(self, images: np.ndarray) -> np.ndarray:
        """Bring images [n, 2, 96, 96] to [n, size, size, 2]."""
        if self.size < SIDE:
            # Sums of four bytes, and half of four: the mean, rounded.
            halves = images[..., ::2, ::2].astype(np.uint16) + 2
            for row, column in ((0, 1), (1, 0), (1, 1)):
                halves += images[..., row::2, column::2]
            images = (halves // 4).astype(np.uint8)
        cut = (images.shape[-1] - self.size) // 2
        images = images[..., cut : cut + self.size, cut : cut + self.size]
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def parse_norb(content: bytes, source: str) -> np.ndarray:
    """Read an array in NORB's matrix format: a magic number, the sizes of the axes, the values.

    All is little-endian. Of fewer than three axes three sizes are written all the same.

    Args:
        content: the file, decompressed.
        source: where it is from, for the message.

    Returns:
        The array.

    Raises:
        UserError: If it is truncated, of another format, or longer than it says.
    """
    magic, ndim = (int(n) for n in np.frombuffer(content[:8].ljust(8, b"\0"), "<u4"))
    if magic not in TYPES or not 1 <= ndim <= 8:
        raise UserError(
            f"{source}: starts with the bytes {content[:8].hex(' ')}, expected a magic number of NORB's "
            "format such as 55 4c 3d 1e, and the number of axes"
        )
    header, dtype = 8 + 4 * max(3, ndim), np.dtype(TYPES[magic])
    sizes = np.frombuffer(content[8:header].ljust(header - 8, b"\0"), "<u4")
    shape = tuple(int(size) for size in sizes[:ndim])
    # Before anything is allocated: sizes may lie.
    size = header + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        problem = "is truncated" if len(content) < size else "has trailing bytes"
        raise UserError(
            f"{source}: {problem}: found {len(content)} bytes, expected {size} for an array of "
            f"shape {list(shape)}"
        )
    return np.frombuffer(content, dtype, offset=header).reshape(shape)
