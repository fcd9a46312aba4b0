"""Small files of pictures, each made by what it is called."""

import numpy as np
from PIL import Image


def shade(value, size=(6, 4), mode="L"):
    """A picture of one value; `size` is width and height."""
    return Image.new(mode, size, value)


def class_folders(folder, counts, size=(6, 4), mode="L"):
    """Folders of PNGs: `counts` maps names of classes to numbers; no two pictures are alike."""
    number = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            pixels = np.random.RandomState(number).randint(0, 256, (size[1], size[0]), np.uint8)
            image = Image.fromarray(pixels).convert(mode)
            image.save(folder / name / f"{place:03d}.png")
            number += 1
    return folder
