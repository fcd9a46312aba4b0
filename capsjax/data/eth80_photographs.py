"""ETH-80's photographs as they are published, 256 x 256 pixels, reduced to what is learned from."""

import io
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from capsjax.checks import UserError
from capsjax.data.archive import each_file
from capsjax.data.known import KnownFile

PUBLISHED, HALF, SIDE = 256, 64, 32  # pixels: means of blocks of 4 x 4, rounded, and then of 2 x 2
VIEW = SIDE * SIDE * 4 + 6  # bytes of a view: image, mask, category, instance, polar angle, azimuth
LARGEST = 1 << 20  # bytes of a photograph
ARCHIVE = 1 << 29  # bytes of the archive, of which there are some 300 million
CATEGORIES = ("apple", "car", "cow", "cup", "dog", "horse", "pear", "tomato")
NAMED = re.compile(
    rf"[^/]+/\d/\d+/(?P<map>maps/)?(?P<category>{'|'.join(CATEGORIES)})(?P<instance>\d+)"
    r"-(?P<polar>\d+)-(?P<azimuth>\d+)(?:-map)?\.png"
)


class Views(NamedTuple):
    """Hold every view of every object, in the order of category, instance, polar angle and azimuth.

    Attributes:
        images: [n, 32, 32, 3].
        masks: 255 where the object is, [n, 32, 32].
        category: the place in `CATEGORIES`, [n].
        instance: the number of the object, [n].
        polar: degrees from above, [n].
        azimuth: degrees from the front, [n].
    """

    images: UInt8[np.ndarray, "n h w c"]
    masks: UInt8[np.ndarray, "n h w"]
    category: UInt8[np.ndarray, "n"]
    instance: UInt8[np.ndarray, "n"]
    polar: Int[np.ndarray, "n"]
    azimuth: Int[np.ndarray, "n"]

    def pack(self) -> bytes:
        """Return all of it as bytes, array by array, little-endian."""
        small = (self.polar.astype("<i2"), self.azimuth.astype("<i2"))
        return b"".join(np.ascontiguousarray(array).tobytes() for array in (*self[:4], *small))

    @classmethod
    def unpack(cls, content: bytes, source: str) -> "Views":
        """Return what `pack` made bytes of.

        Args:
            content: the bytes.
            source: where they are from, for the message.

        Returns:
            The views.

        Raises:
            UserError: If they are not those of whole views.
        """
        n, left = divmod(len(content), VIEW)
        if left or not n:
            raise UserError(f"{source}: got {len(content)} bytes, expected a multiple of {VIEW}")
        shapes = ((n, SIDE, SIDE, 3), (n, SIDE, SIDE), (n,), (n,), (n,), (n,))
        arrays, start = [], 0
        for shape, dtype in zip(shapes, ("u1", "u1", "u1", "u1", "<i2", "<i2"), strict=True):
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(content, dtype, count, start).reshape(shape))
            start += count * np.dtype(dtype).itemsize
        return cls(*arrays)


@dataclass(frozen=True)
class Photographs(KnownFile):
    """Describe the archive of the published photographs by what they are reduced to.

    GitHub makes the archive anew whenever it is asked for, and may compress it otherwise.

    Args:
        name: its name.
        size: bytes of the packed views.
        sha256: SHA-256 of the packed views, in hexadecimal.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """What it is called."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """What its size counts."""
        return "bytes of reduced photographs"

    @property
    def limit(self) -> int:
        """The most bytes that the archive may have."""
        return ARCHIVE

    def content(self, raw: bytes, source: str) -> bytes:
        """Reduce the photographs of an archive.

        Args:
            raw: a tar archive compressed by gzip, with pictures such as `1/1/apple1-022-090.png` and their
                masks in `maps` below a folder of any name; all else is passed over.
            source: where it is from, for the message.

        Returns:
            The packed views.

        Raises:
            UserError: If the archive is broken, a picture is, or one has no mask.
        """
        images, masks = {}, {}
        for name, read in each_file(raw, source, 2 * ARCHIVE):
            match = NAMED.fullmatch(name)
            if match is None:
                continue
            category = CATEGORIES.index(match["category"])
            key = (category, int(match["instance"]), int(match["polar"]), int(match["azimuth"]))
            held, mode = (masks, "L") if match["map"] else (images, "RGB")
            held[key] = _reduced(read(LARGEST), f"{source}: {name}", mode)
        if not images or images.keys() != masks.keys():
            got = f"{len(images)} photographs of ETH-80 and {len(masks)} masks"
            raise UserError(f"{source}: got {got}, expected a mask for each")
        keys = sorted(images)
        told = np.array(keys)
        small = told[:, 0].astype(np.uint8), told[:, 1].astype(np.uint8)
        views = Views(
            np.stack([images[key] for key in keys]),
            np.stack([masks[key] for key in keys]),
            *small,
            told[:, 2],
            told[:, 3],
        )
        return views.pack()


def _reduced(raw: bytes, source: str, mode: str) -> np.ndarray:
    """Read a picture, and bring it to 32 x 32 pixels."""
    try:
        with Image.open(io.BytesIO(raw), formats=("PNG",)) as picture:
            # Before any pixel is decoded: a few bytes of PNG can hold gigabytes.
            if picture.size != (PUBLISHED, PUBLISHED):
                got = f"{picture.size[0]} x {picture.size[1]} pixels"
                raise UserError(f"{source}: got {got}, expected {PUBLISHED} x {PUBLISHED}")
            whole = picture.convert(mode)
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError) as error:  # of Pillow's readers
        raise UserError(f"{source}: got a broken picture ({error}), expected PNG") from error
    small = whole.resize((HALF, HALF), Image.Resampling.BOX)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BOX))
