"""Handwritten digits, 8 x 8 pixels, as they come with scikit-learn: no download, a second to read."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from capsjax.data.dataset import Dataset, Split
from capsjax.data.download import Report
from capsjax.data.published import Published, PublishedSet

TRAIN, VALIDATION, TEST = 1097, 200, 500


@dataclass(frozen=True, kw_only=True)
class Digits(PublishedSet):
    """Choose the 1797 digits of 8 x 8 pixels that scikit-learn ships, in a fixed split.

    Args:
        kind: its name in a configuration.

    Attributes:
        image_shape: height, width and channels of every image.
        num_classes: how many classes there are.
    """

    image_shape: ClassVar[tuple[int, int, int]] = (8, 8, 1)
    kind: Literal["digits"] = "digits"

    @classmethod
    def published(cls) -> Published:
        """Return where the digits are from: scikit-learn holds them, so there are no files."""
        return Published(
            "digits",
            files={},
            examples={"train": TRAIN + VALIDATION, "test": TEST},
            licence="CC BY 4.0",
            page="https://archive.ics.uci.edu/dataset/80",
            reference="Alpaydin and Kaynak 1998",
        )

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
