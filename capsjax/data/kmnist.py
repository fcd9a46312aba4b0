"""KMNIST: 70,000 hand-written Japanese characters of ten kinds, in MNIST's form."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.mnist import EXAMPLES, MnistFamily
from capsjax.data.published import Published

# Sizes and SHA-256 of the compressed files, as corrected and published anew in February 2019.
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "train_images": KnownArchive(
            "train-images-idx3-ubyte.gz",
            18_165_135,
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        ),
        "train_labels": KnownArchive(
            "train-labels-idx1-ubyte.gz",
            29_497,
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        ),
        "test_images": KnownArchive(
            "t10k-images-idx3-ubyte.gz",
            3_041_136,
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        ),
        "test_labels": KnownArchive(
            "t10k-labels-idx1-ubyte.gz",
            5_120,
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Kmnist(MnistFamily):
    """Choose KMNIST: of 60,000 training images the first validate and the others train; 10,000 test.

    The four IDX files, compressed as they are published, are looked for in `folder`, else in
    `$CAPSJAX_DATA/kmnist`, else in the user's cache, and downloaded there if missing. The classes 0 to 9 are
    o, ki, su, tsu, na, ha, ma, ya, re and wo.

    Args:
        folder: folder with the four files, or None to look as above.
        validation: how many validate, 0 to 10,000; with 0 all train.
        train_limit: train on this many images only, the first that do not validate, from 1; None for all.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Clanuwat et al. 2018; CC BY-SA 4.0.
    """

    kind: Literal["kmnist"] = "kmnist"

    @classmethod
    def published(cls) -> Published:
        """Return the set's files, where they are published, and their licence."""
        return Published(
            "kmnist",
            FILES,
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            examples=EXAMPLES,
            licence="CC BY-SA 4.0",
            page="http://codh.rois.ac.jp/kmnist/",
            reference="Clanuwat et al. 2018",
        )
