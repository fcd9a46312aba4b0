"""Pixels: what they may be, and in which unit they come."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from capsjax.checks import UserError

# The digits in bytes from 0 to 16, taken for 0 to 255, have 9 % error where 2 % are right; in 0 and 1, 88 %.
DARK = 0.1
RANGE_TOLERANCE = 1e-6  # 255 * (1 / 255) may round to a little more than 1
KEEP_FINITE = "keep = np.isfinite(images).reshape(len(images), -1).all(-1)"
WHITES = (255, 1023, 4095, 65535)  # of 8, 10, 12 and 16 bits


def check_range(
    name: str,
    images: np.ndarray,
    scale: float,
    *,
    ends: tuple[float, float] | None = None,
) -> None:
    """Check that every scaled pixel is from 0 to 1.

    Args:
        name: what the images are, for the message.
        images: raw pixels of any shape, at least one.
        scale: factor that brings them to 0 to 1.
        ends: the smallest and the largest raw pixel of all splits, for the advice; by default, those
            of these images.

    Raises:
        UserError: If one is not.
    """
    low, high = (float(end) * scale for end in (images.min(), images.max()))
    if low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE:
        return
    scaled = "" if scale == 1 else f" after multiplication by scale={scale:g}"
    ends = ends or (float(images.min()), float(images.max()))
    raise UserError(
        f"{name}: pixels run from {low:g} to {high:g}{scaled}, expected 0 to 1, all that a "
        f"decoder ending in a sigmoid can draw; {unit_remedy(*ends)}"
        + ("" if scale == 1 else " with scale=1")
    )


def check_finite(images: np.ndarray) -> None:
    """Check that every pixel is a finite number.

    Args:
        images: pixels, floats [n, ...].

    Raises:
        UserError: If one is not; the first such image is named by its index.
    """
    wrong = np.flatnonzero(~np.isfinite(images.reshape(images.shape[0], -1)).all(axis=1))
    if wrong.size:
        raise UserError(
            f"images: image {wrong[0]} has a pixel that is NaN or infinite ({wrong.size} of "
            f"{images.shape[0]} images have), expected finite numbers; repair them, or keep the others "
            f"alone: {KEEP_FINITE}; images[keep], labels[keep]"
        )


def shape_remedy(given: tuple[int, ...], image_shape: tuple[int, int, int]) -> str:
    """Write how to bring images of another shape to [n, h, w, c], as code.

    Args:
        given: the shape that they have.
        image_shape: h, w and c of one image.

    Returns:
        The end of a message; empty if the shape does not say what is meant.
    """
    h, w, c = image_shape
    first = (c, h, w)
    if given == image_shape or (c == 1 and given == (h, w)):
        return "; a single image is images[None]"
    if given == first:
        return "; a single image with its channels first is np.moveaxis(images, 0, -1)[None]"
    if len(given) == 4 and given[1:] == first:
        return "; the channels come first: np.moveaxis(images, 1, -1)"
    if len(given) == 2 and given[1] == h * w * c:
        return f"; they are flat: images.reshape(-1, {h}, {w}, {c})"
    return ""


def unit_remedy(low: float, high: float) -> str:
    """Write how to bring pixels to floats from 0 to 1.

    Args:
        low: the smallest pixel.
        high: the largest pixel.

    Returns:
        The end of a message, in words and as code.
    """
    if low < 0:
        inside = low >= -1 and high <= 1
        ends = "(-1, 1)" if inside else f"({low!r}, {high!r})"
        return f"map the smallest to 0 and the largest to 1: np.interp(images, {ends}, (0, 1))"
    return f"divide them by their largest possible value: images / {white_of(high)}"


def likely_ends(low: float, high: float) -> str:
    """Return what is black and white, as far as can be told, as a configuration has it.

    Args:
        low: the smallest pixel.
        high: the largest pixel.

    Returns:
        Such as "[0, 4095]", between which all pixels are.
    """
    if low >= 0:
        return f"[0, {white_of(high)}]"
    return "[-1, 1]" if low >= -1 and high <= 1 else f"[{low!r}, {high!r}]"


def type_remedy(images: np.ndarray) -> str:
    """Return how to bring images of another type to uint8 or float32, losing nothing, as code."""
    kind = images.dtype.kind
    if kind == "b" or kind == "f" or "float" in images.dtype.name:
        return "use images.astype(np.float32)"
    if kind in "iu":
        low, high = int(images.min(initial=0)), int(images.max(initial=0))
        if low >= 0 and high <= 1:
            return "use images.astype(np.float32)"
        return "use images.astype(np.uint8)" if low >= 0 and high <= 255 else unit_remedy(low, high)
    if kind in "OUS":
        try:
            if np.isfinite(images.astype(np.float32)).all():  # numbers, kept as objects or strings
                return "use images.astype(np.float32)"
        except (TypeError, ValueError):
            pass
    return "bring them to real numbers first"


def white_of(high: float) -> str:
    """Return the largest possible value of pixels whose largest is `high`, as far as can be told."""
    white = next((white for white in WHITES if white / 2 < high <= white), high)
    return repr(int(white) if white == int(white) else white)


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Remember what pixels a run was trained on, to read others in the same unit.

    Args:
        type: "uint8" or "float32".
        low: the smallest raw pixel of the training split.
        high: the largest.
        scale: factor that brings raw pixels to 0 to 1.
    """

    type: str
    low: float
    high: float
    scale: float

    @classmethod
    def of(cls, images: np.ndarray, scale: float) -> "Pixels":
        """Describe the pixels of a training split.

        Args:
            images: raw images of any shape, at least one pixel.
            scale: the factor that brings them to 0 to 1.

        Returns:
            Their type, range and scale.
        """
        return cls(images.dtype.name, float(images.min()), float(images.max()), scale)

    @classmethod
    def recorded(cls, data: Mapping[str, Any]) -> "Pixels":
        """Read what a run's `environment.json` says; runs of before say the scale alone.

        Raises:
            UserError: If the description is there and is not what a run writes.
        """
        scale = data["scale"]
        # Bytes are the only pixels that the library itself scales.
        guess = {"type": "float32" if scale == 1 else "uint8", "low": 0.0, "high": 1 / scale}
        found = data.get("pixels", guess)
        is_one = isinstance(found, dict) and found.get("type") in ("uint8", "float32")
        if not is_one or not all(type(found.get(end)) in (int, float) for end in ("low", "high")):
            raise UserError(
                f"data.pixels: got {found!r}, expected type, low and high as a run writes them; "
                "train the run again"
            )
        return cls(found["type"], found["low"], found["high"], scale)

    def as_json(self) -> dict[str, Any]:
        """Return type and ends as plain values, for `environment.json`."""
        return {"type": self.type, "low": self.low, "high": self.high}

    def factor(self, images: np.ndarray) -> float:
        """Return the factor that brings images of the same kind to 0 to 1, whatever unit they come in.

        Bytes and their floats from 0 to 1 are told apart by type and largest pixel. What could be one
        as well as the other is refused.

        Args:
            images: pixels of any number type, [n, ...], at least one.

        Returns:
            The factor.

        Raises:
            UserError: If a pixel is not finite or out of range, or the unit cannot be told.
        """
        is_float = images.dtype.kind == "f" or "float" in images.dtype.name
        if not is_float and images.dtype.kind not in "iu":
            raise UserError(
                f"images: got type {images.dtype}, expected {self.expected}; {type_remedy(images)}"
            )
        if is_float:
            check_finite(images)
        low, high, full = float(images.min()), float(images.max()), 1 / self.scale
        fits = low >= -RANGE_TOLERANCE and high <= full + RANGE_TOLERANCE * full
        in_unit = fits and high <= 1 + RANGE_TOLERANCE
        if high == low == 0:
            return self.scale  # black in every unit
        if is_float:
            if full <= 1 or self.type == "float32":  # the type and unit of training
                if fits and not (in_unit and full > 1):
                    return self.scale
            elif in_unit:
                return 1.0
            elif fits and (images == np.rint(images)).all():  # bytes that a float type holds
                return self.scale
        elif full > 1 or self.type == "uint8":  # raw pixels
            if fits and (high > 1 or full <= 1 or self.high <= 1):
                return self.scale
        elif low >= 0 and 128 <= high <= 255:
            return 1 / 255
        raise UserError(
            f"images: got {images.dtype} from {low:g} to {high:g}, expected {self.expected}; "
            + self._remedy(is_float, low, high, full)
        )

    @property
    def expected(self) -> str:
        """What images may be, in words."""
        full = f"{1 / self.scale:g}"
        units = {
            "uint8": f"integers from 0 to {full}, or the same as floats from 0 to 1",
            "float32": f"floats from 0 to {full}"
            + (", or the same as uint8 from 0 to 255" if self.scale == 1 else ""),
        }
        return f"{units[self.type]}: the run was trained on {self.type} from {self.low:g} to {self.high:g}"

    def _remedy(self, is_float: bool, low: float, high: float, full: float) -> str:
        """Return what to do about images whose unit cannot be told."""
        if low < 0:
            return "bring them to the unit that the run was trained on"
        if is_float and high <= 1:
            return f"use images * {full:g}"
        white = white_of(max(high, full) if is_float else high)
        unit = "images.astype(np.float32)" if high <= 1 else f"images / {white}"
        other = ", images / 255 where 255 is" if not is_float and high < 128 else ""
        return f"use {unit} where {white} is white{other}"
