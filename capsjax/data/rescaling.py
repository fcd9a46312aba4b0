"""How raw values became what a network takes, so that a run brings later ones to the same unit."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from capsjax.checks import UserError
from capsjax.data.pixels import RANGE_TOLERANCE, check_finite

BLOCK = (
    1024  # examples that are brought to float64 at once, for exact differences in the memory of few
)


@dataclasses.dataclass(frozen=True, eq=False)
class Rescaling:
    """Bring raw values to those that a network takes: x = (raw - centre) / width.

    Args:
        centre: what becomes 0, of a shape that goes with one example [h, w, c].
        width: what becomes 1, less the centre; above 0.
        bounded: whether what comes out is from 0 to 1, as a decoder that ends in a sigmoid draws; else it
            is any finite number.
    """

    centre: np.ndarray
    width: np.ndarray
    bounded: bool = True

    @classmethod
    def of_range(cls, low: float, high: float) -> "Rescaling":
        """Return what brings a range to 0 to 1.

        Args:
            low: what becomes 0.
            high: what becomes 1, above it.

        Returns:
            The rescaling.
        """
        return cls(np.array(low, np.float64), np.array(high - low, np.float64))

    @classmethod
    def unbounded(cls) -> "Rescaling":
        """Return what leaves values as they are, whatever they are."""
        return cls(np.array(0.0), np.array(1.0), bounded=False)

    def inverse(self, values: np.ndarray) -> np.ndarray:
        """Return the raw values of those that a network takes [n, h, w, c], float64."""
        return values.astype(np.float64) * self.width + self.centre

    @classmethod
    def recorded(cls, found: Any) -> "Rescaling | None":
        """Read what a run's `environment.json` says; None where it says nothing.

        Raises:
            UserError: If it is not what a run writes.
        """
        if found is None:
            return None
        try:
            made = cls(
                np.asarray(found["centre"], np.float64),
                np.asarray(found["width"], np.float64),
                found["bounded"],
            )
            right = np.isfinite(made.centre).all() and (made.width > 0).all()
            right = right and isinstance(made.bounded, bool)
        except (TypeError, ValueError, KeyError):
            made, right = None, False
        if made is None or not right:
            raise UserError(
                f"data.rescaling: got {str(found)[:80]}, expected centre, width and bounded as a run writes "
                "them; train the run again"
            )
        return made

    def as_json(self) -> Mapping[str, Any]:
        """Return it as plain values, for `environment.json`."""
        return {
            "centre": self.centre.tolist(),
            "width": self.width.tolist(),
            "bounded": self.bounded,
        }

    def checked(self, raw: np.ndarray) -> np.ndarray:
        """Return what the network takes of raw values [n, h, w, c], and check that it can take it.

        Raises:
            UserError: If a value is not a finite number, or beyond what becomes 0 to 1.
        """
        made = self(raw)
        check_finite(made)
        if (
            self.bounded
            and made.size
            and not (made.min() >= -RANGE_TOLERANCE and made.max() <= 1 + RANGE_TOLERANCE)
        ):
            low, high = float(self.centre), float(self.centre + self.width)
            raise UserError(
                f"images: got {raw.dtype} from {raw.min():g} to {raw.max():g}, expected values from "
                f"{low:g}, black in what the run was trained on, to {high:g}, white"
            )
        return made

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return what the network takes of raw values [n, h, w, c], float32.

        Raises:
            UserError: If the values are not numbers.
        """
        if raw.dtype.kind not in "biuf" and "float" not in raw.dtype.name:
            raise UserError(f"images: got type {raw.dtype}, expected numbers")
        made = np.empty(raw.shape, np.float32)
        for start in range(0, len(raw), BLOCK):
            part = slice(start, start + BLOCK)
            made[part] = (raw[part].astype(np.float64) - self.centre) / self.width
        return made
