"""Augmentations: random changes of training images, on the device, as frozen values of a configuration."""

from capsjax.data.augment.affine import Affine, affine
from capsjax.data.augment.affnist_like import AffnistLike
from capsjax.data.augment.base import Augmentation, augment
from capsjax.data.augment.colour import Brightness, Contrast
from capsjax.data.augment.crop import Crop
from capsjax.data.augment.crop_to import CropTo
from capsjax.data.augment.cutout import Cutout
from capsjax.data.augment.flip import Flip
from capsjax.data.augment.noise import Noise
from capsjax.data.augment.rotate import Rotate
from capsjax.data.augment.shift import Shift
from capsjax.data.augment.standardise import Standardise

__all__ = [
    "Affine",
    "AffnistLike",
    "Augmentation",
    "Brightness",
    "Contrast",
    "Crop",
    "CropTo",
    "Cutout",
    "Flip",
    "Noise",
    "Rotate",
    "Shift",
    "Standardise",
    "affine",
    "augment",
]
