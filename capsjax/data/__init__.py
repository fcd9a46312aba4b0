"""Datasets: readers on the host, in NumPy, and transforms on the device, in JAX.

A configuration chooses a `Source`, whose `load` (of `Arrays`, also `build`) gives a `Dataset`, and
`Augmentation`s of the training images.
"""

from capsjax.data.affnist import Affnist
from capsjax.data.arrays import Arrays
from capsjax.data.augment import (
    Affine,
    AffnistLike,
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    CropTo,
    Cutout,
    Flip,
    Noise,
    Rotate,
    Shift,
    Standardise,
    affine,
)
from capsjax.data.cifar10 import Cifar10
from capsjax.data.dataset import Dataset, Split
from capsjax.data.digits import Digits
from capsjax.data.download import Report, download
from capsjax.data.eth80 import Eth80
from capsjax.data.fashion_mnist import FashionMnist
from capsjax.data.folder import PictureFolder
from capsjax.data.idx import parse_idx, read_idx
from capsjax.data.kmnist import Kmnist
from capsjax.data.known import KnownArchive, KnownFile
from capsjax.data.mnist import Mnist
from capsjax.data.npz import read_npz
from capsjax.data.overlap import Overlap
from capsjax.data.overlapping import Overlapping
from capsjax.data.own import OwnData
from capsjax.data.perturbed import Perturbed
from capsjax.data.picture_list import PictureList
from capsjax.data.pictures import PictureData
from capsjax.data.pixels import Pixels
from capsjax.data.places import source_at
from capsjax.data.published import (
    Published,
    PublishedFiles,
    PublishedSet,
    published_set,
    published_sets,
)
from capsjax.data.rescaling import Rescaling
from capsjax.data.small_norb import SmallNorb
from capsjax.data.source import DataShape, Source
from capsjax.data.svhn import Svhn
from capsjax.data.table import NumberTable
from capsjax.data.transforms import random_shift, shift, to_float
from capsjax.data.usps import Usps
from capsjax.data.viewpoints import Viewpoints

__all__ = [
    "Affine",
    "Affnist",
    "AffnistLike",
    "Arrays",
    "Augmentation",
    "Brightness",
    "Cifar10",
    "Contrast",
    "Crop",
    "CropTo",
    "Cutout",
    "DataShape",
    "Dataset",
    "Digits",
    "Eth80",
    "FashionMnist",
    "Flip",
    "Kmnist",
    "KnownArchive",
    "KnownFile",
    "Mnist",
    "Noise",
    "NumberTable",
    "Overlap",
    "Overlapping",
    "OwnData",
    "Perturbed",
    "PictureData",
    "PictureFolder",
    "PictureList",
    "Pixels",
    "Published",
    "PublishedFiles",
    "PublishedSet",
    "Report",
    "Rescaling",
    "Rotate",
    "Shift",
    "SmallNorb",
    "Source",
    "Split",
    "Standardise",
    "Svhn",
    "Usps",
    "Viewpoints",
    "affine",
    "download",
    "parse_idx",
    "published_set",
    "published_sets",
    "random_shift",
    "read_idx",
    "read_npz",
    "shift",
    "source_at",
    "to_float",
]
