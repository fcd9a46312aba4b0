"""What the machine can do at best, from what the scripts measured of it: matrix products and a copy."""

from collections.abc import Iterable
from typing import Any

import numpy as np

BATCH = 128
# Operations of a step at that batch in direct form, without the first input gradient.
OPERATIONS = 153e9


def product_rate(products: Iterable[dict[str, Any]]) -> float:
    """Return operations a second of matrix products: the fastest library's median.

    Args:
        products: what was measured of each library, the job with its size and the seconds of each round.
    """
    return max(2 * p["job"]["size"] ** 3 / float(np.median(p["seconds"])) for p in products)


def matrix_rate(run: dict[str, Any]) -> float:
    """Return the machine's float32 matrix rate in operations a second."""
    found = run["groups"]["machine"].values()
    return product_rate(one for one in found if one["job"]["who"] == "matrix product")


def bandwidth(run: dict[str, Any]) -> float:
    """Return the bytes a second that a copy reads and writes."""
    found = run["groups"]["machine"]["copy"]
    # Float32, read once and written once.
    return 2 * 4 * found["job"]["size"] / float(np.median(found["seconds"]))
