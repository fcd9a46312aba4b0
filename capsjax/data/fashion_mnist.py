"""Fashion-MNIST: 70,000 pictures of clothes in MNIST's form."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from capsjax.data.known import KnownFile
from capsjax.data.mnist import EXAMPLES, MnistFamily
from capsjax.data.published import Published

# The address in the authors' own README; there is no https there, so the checksums are what is trusted.
MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
# Sizes and SHA-256 of the decompressed files: mirrors compress them differently.
FILES: Mapping[str, KnownFile] = MappingProxyType(
    {
        "train_images": KnownFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        "train_labels": KnownFile(
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        "test_images": KnownFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        "test_labels": KnownFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class FashionMnist(MnistFamily):
    """Choose Fashion-MNIST: of 60,000 training images the first validate and the others train; 10,000 test.

    The four IDX files, plain or compressed, are looked for in `folder`, else in
    `$CAPSJAX_DATA/fashion_mnist`, else in the user's cache, and downloaded there if missing.

    Args:
        folder: folder with the four files, or None to look as above.
        validation: how many validate, 0 to 10,000; with 0 all train.
        train_limit: train on this many images only, the first that do not validate, from 1; None for all.
        kind: its name in a configuration.

    Raises:
        FieldError: If a field is out of range.

    Reference:
        Xiao, Rasul and Vollgraf 2017; MIT licence.
    """

    kind: Literal["fashion_mnist"] = "fashion_mnist"

    @classmethod
    def published(cls) -> Published:
        """Return the set's files, where they are published, and their licence."""
        return Published(
            "fashion_mnist",
            FILES,
            MIRRORS,
            examples=EXAMPLES,
            licence="MIT",
            page="https://github.com/zalandoresearch/fashion-mnist",
            reference="Xiao, Rasul and Vollgraf 2017",
        )
