"""Sets of objects seen from many sides, and what is asked of them: new objects, azimuths, elevations."""

import abc
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Num

from capsjax.checks import FieldError, check_choice, check_int
from capsjax.data.dataset import Dataset, Split
from capsjax.data.published import PublishedFiles

PROTOCOLS = ("objects", "azimuth", "elevation")


class Seen(NamedTuple):
    """Hold images of objects, and from where each was seen.

    Attributes:
        images: bytes, or floats from 0 to 1, [n, h, w, c].
        category: class numbers, [n].
        instance: the number of the object within its category, [n].
        trains: whether it is an object to learn from, [n].
        front: whether it is seen from an azimuth that the protocol of azimuths learns from, [n].
        level: whether it is seen from an elevation that the protocol of elevations learns from, [n].
    """

    images: Num[np.ndarray, "n h w c"]
    category: Int[np.ndarray, "n"]
    instance: Int[np.ndarray, "n"]
    trains: Bool[np.ndarray, "n"]
    front: Bool[np.ndarray, "n"]
    level: Bool[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class Viewpoints(PublishedFiles, abc.ABC):
    """Define a set of objects seen from many sides, some of which train and others test.

    With `protocol` objects all views are learned from, and all views of other objects test. With azimuth or
    elevation the views of some azimuths or elevations are learned from, the familiar ones, and of the other
    objects the novel views test, or the familiar ones, so that both errors can be told of one run:
    `capsjax evaluate RUN --data.views familiar`. Objects that validate are never learned from.

    Args:
        folder: folder with the files, or None to look in the set's own, as every published set does.
        protocol: what is new in testing beside the objects: nothing ("objects"), "azimuth" or "elevation".
        views: which views of the test objects test: "novel" or "familiar"; with `protocol` objects all do.
        validation: how many of the objects of each category that train validate instead, the ones of the
            highest numbers, by views as they are learned from; 0 to 4, and with 0 nothing should be
            chosen by the run.
        kind: its name in a configuration.

    Attributes:
        class_names: what the categories are called, by class number.

    Raises:
        FieldError: If a field is out of range, or asks for familiar views where there are no others.

    Reference:
        Hinton, Sabour and Frosst 2018, section 5.2, on smallNORB.
    """

    class_names: ClassVar[tuple[str, ...]]

    protocol: Literal["objects", "azimuth", "elevation"] = "objects"
    views: Literal["novel", "familiar"] = "novel"
    validation: int = 1

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "protocol", PROTOCOLS)
        check_choice(self, "views", ("novel", "familiar"))
        if self.protocol == "objects" and self.views == "familiar":
            expected = (
                "novel with protocol objects, of which all views are learned from, and all test"
            )
            raise FieldError(type(self).__name__, "views", self.views, expected)
        check_int(self, "validation", low=0, high=4)

    def divided(self, seen: Seen) -> Dataset:
        """Split images as the protocol says.

        Args:
            seen: all of them.

        Returns:
            The dataset.
        """
        alike = np.ones_like(seen.trains)
        familiar = {"objects": alike, "azimuth": seen.front, "elevation": seen.level}[self.protocol]
        tested = ~familiar if self.protocol != "objects" and self.views == "novel" else familiar
        # Whole objects validate: another view of one that is learned from would be easier than a new one.
        held = np.zeros_like(seen.trains)
        for category in range(self.num_classes):
            ours = seen.trains & (seen.category == category)
            numbers = np.unique(seen.instance[ours])
            chosen = numbers[len(numbers) - self.validation :]
            held |= ours & np.isin(seen.instance, chosen)

        def split(chosen: np.ndarray) -> Split:
            return Split(seen.images[chosen], seen.category[chosen])

        about = [self.protocol] if self.protocol != "objects" else []
        about += [self.views] if self.views != "novel" else []
        return Dataset(
            " ".join([self.kind, *about]),
            train=split(seen.trains & ~held & familiar),
            validation=split(held & familiar) if self.validation else None,
            test=split(~seen.trains & tested),
            num_classes=self.num_classes,
            scale=1 / 255 if seen.images.dtype == np.uint8 else 1.0,
            class_names=self.class_names,
        )
