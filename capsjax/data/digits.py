"""Handwritten digits, 8 x 8 pixels, as they come with scikit-learn: no download, a second to read."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.source import DataShape, Source

TRAIN, VALIDATION = 1097, 200  # of 1797; the other 500 test


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """Choose the 1797 digits of 8 x 8 pixels that scikit-learn ships, in a fixed split.

    Args:
        kind: its name in a configuration.

    Attributes:
        image_shape: height, width and channels of every image.
        num_classes: how many classes there are.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (8, 8, 1)
    num_classes: ClassVar[int] = 10
    kind: Literal["digits"] = "digits"

    def shape(self) -> DataShape:
        """Return the shape of the images and the number of classes."""
        return DataShape(self.image_shape, self.num_classes)

    def load(self, report: Report | None = None) -> Dataset:
        """Read the digits: 1097 to train, 200 to validate, 500 to test, uint8 from 0 to 16.

        Args:
            report: unused, as nothing is downloaded.

        Returns:
            The dataset, images [n, 8, 8, 1].
        """
        del report
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = images.reshape(-1, *self.image_shape).astype(np.uint8)
        # RandomState's stream is frozen for ever; that of default_rng may change with NumPy.
        order = np.random.RandomState(0).permutation(len(images))
        train, validation, test = (
            Split(images[part], labels[part])
            for part in np.split(order, [TRAIN, TRAIN + VALIDATION])
        )
        return Dataset(
            self.kind, train, validation, test, num_classes=self.num_classes, scale=1 / 16
        )
