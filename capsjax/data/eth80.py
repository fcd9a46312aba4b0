"""ETH-80: 80 objects of 8 categories, each photographed from 41 sides."""

import gzip
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_bool
from capsjax.data.dataset import Dataset
from capsjax.data.download import Report
from capsjax.data.eth80_photographs import CATEGORIES, Photographs, Views
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.npz import read_members
from capsjax.data.published import Published
from capsjax.data.source import DataShape
from capsjax.data.viewpoints import Seen, Viewpoints

OBJECTS = 5  # of each category that train; the other five test
FRONT, LEVEL = 45, 66  # degrees
SIZE, SHA256 = 13_454_560, "1556454e496fa3d8a9e5c4c794103e921fef3631a9b3749d761d067575d299cc"
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {"photographs": Photographs("9243466b9ca5f15765c88fdaf17c4f10c15a8574.tar.gz", SIZE, SHA256)}
)
# The same reduced: as it is kept once it was downloaded, and as a file of NumPy.
PACKED = KnownFile("eth80_32", SIZE, SHA256)
ARRAYS = KnownArchive(
    "eth80_32.npz", 7_594_678, "12f55fc1b1c76e68befa3bda22ac0bb536a23f44ed8a2dd00fc821e56838b0c2"
)
MEMBERS = MappingProxyType(
    {
        "images": ("uint8", 4),
        "masks": ("uint8", 3),
        "category": ("uint8", 1),
        "instance": ("uint8", 1),
        "polar": ("int16", 1),
        "azimuth": ("int16", 1),
    }
)


@dataclass(frozen=True, kw_only=True)
class Eth80(Viewpoints):
    """Choose ETH-80, 3,280 photographs reduced to 32 x 32 pixels, in the protocols of smallNORB.

    Of each category the five objects of the lowest numbers train, the other five test. With `protocol`
    azimuth the 13 views from within 45 degrees of the front are learned from (520 images of all objects that
    train), with elevation the 28 views from a polar angle of 66 degrees and more, from the side rather than
    from above (1,120 images). All of that includes the objects that validate.

    Args:
        folder: folder with `eth80_32.npz`, or with the archive of the photographs as GitHub gives it; None to
            look in `$CAPSJAX_DATA/eth80`, else in the user's cache. If missing there the archive of 300 MB is
            downloaded, and the photographs are kept as they are reduced.
        colour: whether images keep their three channels; False for their mean, in grey.
        protocol: what is new in testing beside the objects: nothing ("objects"), "azimuth" or "elevation".
        views: which views of the test objects test: "novel" or "familiar"; with `protocol` objects all do.
        validation: how many of the five objects of each category that train validate instead, 0 to 4.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range, or asks for familiar views where there are no others.

    Reference:
        Leibe and Schiele 2003; the protocols Hinton, Sabour and Frosst 2018, section 5.2.
    """

    num_classes: ClassVar[int] = 8
    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 1)
    class_names: ClassVar[tuple[str, ...]] = CATEGORIES

    colour: bool = False
    kind: Literal["eth80"] = "eth80"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "colour")

    @classmethod
    def published(cls) -> Published:
        """Return the archive of the photographs, and where it is published."""
        return Published(
            "eth80",
            FILES,
            ("https://github.com/Kai-Xuan/ETH-80/archive/",),
            examples={"all": 3280},
            licence="for research, cite the authors",
            page="https://github.com/Kai-Xuan/ETH-80",
            reference="Leibe and Schiele 2003",
        )

    def files(self) -> Mapping[str, KnownFile]:
        """Return the reduced photographs where they are there, else the archive."""
        folder = self.place().folder
        for key, file in (("arrays of NumPy", ARRAYS), ("packed", PACKED)):
            if file.find(folder):
                return {key: file}
        return self.published().files

    def fetch(self, report: Report | None = None) -> list[Path]:
        """Download the photographs, and keep them reduced, unless they are there.

        Args:
            report: receives (name, bytes done, bytes in all or None) during a download.

        Returns:
            The file that came.

        Raises:
            UserError: If a file is there already and is not the known one, or no download succeeds.
        """
        came = super().fetch(report)
        if not came:
            return came
        content = self.published().files["photographs"].read(came[0])
        kept = self.place().folder / PACKED.names[0]
        part = kept.with_name(f".{kept.name}.{os.getpid()}.part")  # another process may fetch too
        part.write_bytes(gzip.compress(content))
        part.replace(kept)  # under its name it is whole
        # What was downloaded just now, forty times as large.
        came[0].unlink(missing_ok=True)
        return [kept]

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes; nothing is read."""
        height, width, channels = self.image_shape
        return DataShape((height, width, 3 if self.colour else channels), self.num_classes)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the file.

        Args:
            report: receives the progress of a download.

        Returns:
            The dataset, images float32 [n, 32, 32, 1] from 0 to 1, or in colour uint8 [n, 32, 32, 3].

        Raises:
            UserError: If the file is missing, unreadable or not the known one.
        """
        if self.place().is_cache and self.missing():
            self.fetch(report)
        key = next(iter(self.files()))
        content, path = self.read(key, report)
        found = _arrays(content, path) if key == "arrays of NumPy" else Views.unpack(content, path)
        images, category, instance = found.images, found.category, found.instance
        if not self.colour:
            # Thirds of a level of grey: rounded to bytes, nearest neighbours are others here and there.
            images = images.sum(-1, keepdims=True, dtype=np.uint16) / np.float32(3 * 255)
        # By rank within the category, not by number: those of cars have gaps.
        trains = np.zeros(len(images), bool)
        for number in range(self.num_classes):
            ours = category == number
            trains |= ours & np.isin(instance, np.unique(instance[ours])[:OBJECTS])
        azimuth = found.azimuth % 360  # 338 degrees are as far from the front as 22
        seen = Seen(
            images,
            category.astype(np.int32),
            instance.astype(np.int32),
            trains,
            front=np.minimum(azimuth, 360 - azimuth) <= FRONT,
            level=found.polar >= LEVEL,  # 0 is from above, 90 from the side
        )
        return self.divided(seen)


def _arrays(content: bytes, source: str) -> Views:
    """Read the file of NumPy."""
    found = read_members(content, source, MEMBERS)
    lengths = {len(array) for array in found.values()}
    if len(lengths) > 1:
        got = f"arrays of {sorted(lengths)} examples"
        raise UserError(f"{source}: got {got}, expected one number of them")
    return Views(**found)
