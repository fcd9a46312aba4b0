"""Datasets: readers on the host, in NumPy, and transforms on the device, in JAX.

A configuration chooses one of `Digits`, `Mnist` and `Arrays`; its `load` (of `Arrays`, its `build`)
gives a `Dataset`.
"""

from capsjax.data.arrays import Arrays
from capsjax.data.dataset import Dataset, Split
from capsjax.data.digits import Digits
from capsjax.data.download import Report, download
from capsjax.data.idx import parse_idx, read_idx
from capsjax.data.known import KnownFile
from capsjax.data.mnist import Mnist
from capsjax.data.npz import read_npz
from capsjax.data.pixels import Pixels
from capsjax.data.transforms import random_shift, shift, to_float

__all__ = [
    "Arrays",
    "Dataset",
    "Digits",
    "KnownFile",
    "Mnist",
    "Pixels",
    "Report",
    "Split",
    "download",
    "parse_idx",
    "random_shift",
    "read_idx",
    "read_npz",
    "shift",
    "to_float",
]
