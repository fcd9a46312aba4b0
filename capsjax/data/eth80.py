"""ETH-80: 80 objects of 8 categories, each photographed from 41 sides."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

import numpy as np

from capsjax.checks import UserError, check_bool
from capsjax.data.dataset import Dataset
from capsjax.data.download import Report
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.npz import read_members
from capsjax.data.published import Published
from capsjax.data.source import DataShape
from capsjax.data.viewpoints import Seen, Viewpoints

OBJECTS = 5  # of each category that train; the other five test
FRONT, LEVEL = 45, 66  # degrees
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "whole": KnownArchive(
            "eth80_32.npz",
            7_594_678,
            "12f55fc1b1c76e68befa3bda22ac0bb536a23f44ed8a2dd00fc821e56838b0c2",
        )
    }
)
ARRAYS = MappingProxyType(
    {
        "images": ("uint8", 4),
        "category": ("uint8", 1),
        "instance": ("uint8", 1),
        "polar": ("int16", 1),
        "azimuth": ("int16", 1),
        "names": ("<U", 1),
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
        folder: folder with `eth80_32.npz`, or None to look in `$CAPSJAX_DATA/eth80`, else in the user's
            cache; nobody publishes the photographs in this form.
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
    class_names: ClassVar[tuple[str, ...]] = (
        "apple",
        "car",
        "cow",
        "cup",
        "dog",
        "horse",
        "pear",
        "tomato",
    )

    colour: bool = False
    kind: Literal["eth80"] = "eth80"

    def __post_init__(self):
        super().__post_init__()
        check_bool(self, "colour")

    @classmethod
    def published(cls) -> Published:
        """Return the set's file, and what it was made of."""
        return Published(
            "eth80",
            FILES,
            examples={"all": 3280},
            licence="for research, cite the authors",
            page="https://github.com/Kai-Xuan/ETH-80",
            reference="Leibe and Schiele 2003",
            obtain="it holds the photographs of Kai-Xuan/ETH-80 on GitHub, commit 9243466, brought to "
            "64 x 64 and then to 32 x 32 by means of blocks, and what their names say",
        )

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
        content, path = self.read("whole", report)
        found = read_members(content, path, ARRAYS)
        lengths = {len(found[name]) for name in ARRAYS if name != "names"}
        if len(lengths) > 1 or tuple(found["names"].tolist()) != self.class_names:
            got = f"arrays of {sorted(lengths)} examples, categories {found['names'].tolist()}"
            raise UserError(f"{path}: got {got}, expected one number, and {list(self.class_names)}")
        images, category, instance = found["images"], found["category"], found["instance"]
        if not self.colour:
            # Thirds of a level of grey: rounded to bytes, nearest neighbours are others here and there.
            images = images.sum(-1, keepdims=True, dtype=np.uint16) / np.float32(3 * 255)
        # By rank within the category, not by number: those of cars have gaps.
        trains = np.zeros(len(images), bool)
        for number in range(self.num_classes):
            ours = category == number
            trains |= ours & np.isin(instance, np.unique(instance[ours])[:OBJECTS])
        azimuth = found["azimuth"] % 360  # 338 degrees are as far from the front as 22
        seen = Seen(
            images,
            category.astype(np.int32),
            instance.astype(np.int32),
            trains,
            front=np.minimum(azimuth, 360 - azimuth) <= FRONT,
            level=found["polar"] >= LEVEL,  # 0 is from above, 90 from the side
        )
        return self.divided(seen)
