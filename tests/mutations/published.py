"""Mistakes in published sets: which views and objects are learned from, and what is checked of files."""

from tests.mutations.mutation import Mutation

PUBLISHED = (
    Mutation(
        "views to validate by of the objects that are learned from",
        "data/viewpoints.py",
        "            train=split(seen.trains & ~held & familiar),\n",
        "            train=split(seen.trains & familiar),\n",
        ("tests/data/test_eth80.py",),
    ),
    Mutation(
        "novel views among those that are learned from",
        "data/viewpoints.py",
        "            validation=split(held & familiar) if self.validation else None,\n",
        "            validation=split(held) if self.validation else None,\n",
        ("tests/data/test_eth80.py",),
    ),
    Mutation(
        "azimuths on the other side of the front taken for far from it",
        "data/eth80.py",
        "np.minimum(azimuth, 360 - azimuth) <= FRONT",
        "azimuth <= FRONT",
        ("tests/data/test_eth80.py",),
    ),
    Mutation(
        "headers of arrays believed",
        "data/npz.py",
        "        if told != there:\n",
        "        if told < there:\n",
        ("tests/data/test_npz.py",),
    ),
    Mutation(
        "house numbers whose zeros are tens",
        "data/svhn.py",
        "labels % 10",
        "labels - 1",
        ("tests/data/test_archives.py",),
    ),
    Mutation(
        "planes of colour taken for pixels beside each other",
        "data/cifar10.py",
        ".reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)",
        ".reshape(-1, 32, 32, 3)",
        ("tests/data/test_archives.py",),
    ),
    Mutation(
        "archives of which links are followed",
        "data/archive.py",
        "    if not member.isfile():\n",
        "    if False:\n",
        ("tests/data/test_archives.py",),
    ),
    Mutation(
        "files that are known by their bytes, unchecked",
        "data/known.py",
        "        if found != self.sha256:\n",
        '        if found != self.sha256 and self.unit != "bytes":\n',
        ("tests/data/test_archives.py",),
    ),
)
