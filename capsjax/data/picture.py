"""One picture: what its file says of it, and its pixels at a size; Pillow reads it."""

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from capsjax import files
from capsjax.checks import UserError

# Those that hold pixels and nothing to be run: Pillow hands EPS, for one, to another program.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
MOST_PIXELS = (
    89_478_485  # of one picture: a file of few bytes may open into more than the memory has
)
LARGEST_FILE = 1 << 30
DEEP = ("I", "F")  # what Pillow calls pixels of 32 bits; of 16 bits it has "I;16" and its kin
TURNED = (5, 6, 7, 8)  # orientations by EXIF in which height and width change places

Fit = Literal["pad", "crop", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)


class Header(NamedTuple):
    """Hold what a file says of its picture, before its pixels are read.

    Attributes:
        height: rows, as it is to be seen.
        width: columns.
        channels: 1 for grey, 3 for colour.
        transparent: whether it has transparency beside them.
        bits: of one channel, 8, 16, or 32 for numbers without a known white.
        turned: whether EXIF says that it is to be turned.
        frames: whether there is more than one picture in the file.
        shortened: whether its channels have more bits than are read.
    """

    height: int
    width: int
    channels: int
    transparent: bool
    bits: int
    turned: bool
    frames: bool
    shortened: bool


class Target(NamedTuple):
    """Hold what pictures become.

    Attributes:
        height: rows.
        width: columns.
        channels: 1 grey, 3 colour, 4 colour and opacity.
        type: "uint8", "uint16" or "float32".
        fit: how a picture of other proportions fits.
    """

    height: int
    width: int
    channels: int
    type: str
    fit: Fit


def read_header(content: bytes) -> Header:
    """Read what a file says of its picture.

    Args:
        content: the bytes of the file.

    Returns:
        Its size and what its pixels are.

    Raises:
        UserError: If it is not a picture, or one of too many pixels.
    """
    with _opened(content) as image:
        turned = _orientation(image)
        width, height = image.size[::-1] if turned in TURNED else image.size
        channels, bits = _channels(image)
        rawmode = str(image.tile[0][3]) if getattr(image, "tile", None) else ""
        return Header(
            height=height,
            width=width,
            channels=channels,
            transparent=image.has_transparency_data,
            bits=bits,
            turned=turned is not None and turned in range(2, 9),
            frames=getattr(image, "n_frames", 1) > 1,
            # Pillow has no colour of 16 bits, and keeps the upper eight.
            shortened=bits == 8 and "16" in rawmode,
        )


def _orientation(image: Image.Image) -> int | None:
    """Return what EXIF says of turning, as far as it stands before the pixels."""
    if image.format == "PNG" and not {"exif", "xmp", "Raw profile type exif"} & {*image.info}:
        return None  # Pillow would decode all pixels, to look behind them
    return image.getexif().get(ExifTags.Base.Orientation)


def read_picture(content: bytes, target: Target) -> np.ndarray:
    """Read a picture's pixels: turned as EXIF says, transparency laid on black, brought to a size.

    Args:
        content: the bytes of the file.
        target: what it becomes.

    Returns:
        Pixels of the target's type, [h, w, c].

    Raises:
        UserError: If it is not a picture, or one of too many pixels, or is broken.
    """
    with _opened(content) as image:
        if image.format == "JPEG":
            side = 2 * max(target.height, target.width)  # of which the size is then made, smoothly
            image.draft(None, (side, side))
        image.load()
        image = ImageOps.exif_transpose(image)
        if target.type == "uint8":
            fitted = _fitted(_shallow(image, target.channels), target)
            return np.asarray(fitted).reshape(target.height, target.width, target.channels)
        planes = [_fitted(plane, target) for plane in _planes(image, target)]
        pixels = np.stack([np.asarray(plane) for plane in planes], axis=-1)  # [h, w, c], float32
        return np.rint(pixels).astype(np.uint16) if target.type == "uint16" else pixels


@contextlib.contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open a picture, and say of whatever goes wrong while it is open that the picture is broken."""
    if not content:
        raise UserError("an empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if math.prod(image.size) > MOST_PIXELS:
                size = f"{image.width} x {image.height} pixels"
                raise UserError(f"{size}, more than {MOST_PIXELS:,}")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"not a picture: {_begins(content)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"more than {MOST_PIXELS:,} pixels") from error
    except Exception as error:  # Pillow's readers raise whatever they meet
        said = str(error)[:200] or type(error).__name__
        raise UserError(f"a broken picture: {said}") from error


def _begins(content: bytes) -> str:
    """Say what a file is that is not a picture, as far as its first bytes tell."""
    if files.is_web_page(content):
        return "a web page"
    start = content[:64].lstrip().lower()
    if content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"avif"):
        return "HEIC or AVIF; save it as PNG"
    if start.startswith(b"%pdf"):
        return "a PDF"
    if start.startswith((b"<?xml", b"<svg")):
        return "a drawing or other XML"
    text = all(byte >= 32 or byte in b"\t\r\n" for byte in content[:64])
    return "text" if text else f"it begins with {content[:8].hex(' ')}"


def _channels(image: Image.Image) -> tuple[int, int]:
    """Return channels and bits of each, as they are stored."""
    mode = image.mode
    if mode.startswith("I;16"):
        return 1, 16
    if mode in DEEP:
        return 1, 32
    if mode == "P":
        colours = np.asarray(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return (1 if (colours == colours[:, :1]).all() else 3), 8
    return (1 if mode in ("1", "L", "LA", "La") else 3), 8


def _shallow(image: Image.Image, channels: int) -> Image.Image:
    """Return a picture of 8 bits with 1, 3 or 4 channels."""
    if image.mode.startswith("I;16"):  # upper eight bits; such a set is read in 16 bits as a rule
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if channels != 4:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image)
    return image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])


def _planes(image: Image.Image, target: Target) -> list[Image.Image]:
    """Return the channels of a picture, each by itself, as floats in the unit of the type."""
    if image.mode.startswith("I;16") or image.mode in DEEP:
        grey = Image.fromarray(np.asarray(image).astype(np.float32))
        opaque = Image.new("F", image.size, 65535.0)
        return [*[grey] * min(3, target.channels), *[opaque] * (target.channels == 4)]
    # White of 8 bits is white of 16: 255 * 257 = 65535.
    bands = np.atleast_3d(np.asarray(_shallow(image, target.channels)).astype(np.float32) * 257)
    return [Image.fromarray(np.ascontiguousarray(bands[..., c])) for c in range(target.channels)]


def _fitted(image: Image.Image, target: Target) -> Image.Image:
    """Bring a picture to a size."""
    size = (target.width, target.height)
    if image.size == size:
        return image
    across, down = size[0] / image.width, size[1] / image.height
    if target.fit == "stretch" or across == down:
        return image.resize(size, Image.Resampling.BILINEAR)
    factor = min(across, down) if target.fit == "pad" else max(across, down)
    if target.fit == "crop":  # the middle, as much of it as has the proportions
        width, height = size[0] / factor, size[1] / factor
        # By rounding, what is as wide as the picture is wider by a hair, which Pillow refuses.
        left, top = max(0.0, (image.width - width) / 2), max(0.0, (image.height - height) / 2)
        box = (left, top, min(left + width, image.width), min(top + height, image.height))
        return image.resize(size, Image.Resampling.BILINEAR, box=box)
    inner = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    scaled = image.resize(inner, Image.Resampling.BILINEAR)
    whole = Image.new(image.mode, size)  # black, and transparent where there is opacity
    whole.paste(scaled, ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return whole
