"""A folder of pictures: what is read of it, how it is split, and what its classes are called."""

import numpy as np
import pytest
from PIL import Image

from capsjax.checks import FieldError, UserError
from capsjax.data import PictureFolder, cache
from tests.data.pictures import class_folders, shade


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def of(folder, **fields):
    return PictureFolder(path=str(folder), **fields)


def whole(dataset):
    """All images and labels, whatever their split, sorted by their bytes."""
    splits = dataset.splits().values()
    found = [(i.tobytes(), int(n)) for s in splits for i, n in zip(s.images, s.labels, strict=True)]
    return sorted(found)


def test_each_folder_is_a_class_called_by_its_name(tmp_path):
    dataset = of(class_folders(tmp_path, {"dog": 10, "cat": 10})).load()
    assert dataset.class_names == ("cat", "dog")
    assert [len(split) for split in dataset.splits().values()] == [16, 2, 2]
    assert dataset.image_shape == (4, 6, 1)
    pixels = {
        (np.asarray(Image.open(path)).tobytes(), number)
        for number, name in enumerate(("cat", "dog"))
        for path in (tmp_path / name).iterdir()
    }
    assert set(whole(dataset)) == pixels


def test_names_that_are_numbers_come_by_size(tmp_path):
    dataset = of(class_folders(tmp_path, {"10": 4, "9": 4, "1": 4})).load()
    assert dataset.class_names == ("1", "9", "10")


def test_splits_that_are_folders_are_used(tmp_path):
    for split, count in {"train": 5, "val": 2, "Test": 3}.items():
        class_folders(tmp_path / split, {"a": count, "b": count})
    dataset = of(tmp_path).load()
    assert [len(split) for split in dataset.splits().values()] == [10, 4, 6]


@pytest.mark.parametrize(("other", "sizes"), [("test", [8, 2, 4]), ("validation", [8, 4, 2])])
def test_a_split_that_is_not_there_is_taken_of_train(other, sizes, tmp_path):
    class_folders(tmp_path / "train", {"a": 5, "b": 5})
    class_folders(tmp_path / other, {"a": 2, "b": 2})
    dataset = of(tmp_path, validation_fraction=0.2, test_fraction=0.2).load()
    assert [len(split) for split in dataset.splits().values()] == sizes


def test_train_alone_is_the_name_of_a_class(tmp_path):
    assert of(class_folders(tmp_path, {"train": 4, "plane": 4})).load().class_names == (
        "plane",
        "train",
    )


def test_nobody_is_on_both_sides(tmp_path):
    for patient in range(12):
        folder = tmp_path / ("ill" if patient % 2 else "well")
        folder.mkdir(exist_ok=True)
        for view in range(3):
            shade(10 * patient + view).save(folder / f"p{patient}_{view}.png")
    dataset = of(tmp_path, group=r"/(p\d+)_", validation_fraction=0.2, test_fraction=0.3).load()
    owners = [{int(v) // 10 for v in s.images[:, 0, 0, 0]} for s in dataset.splits().values()]
    assert [len(split) for split in dataset.splits().values()] == [18, 6, 12]
    assert len(set().union(*owners)) == sum(map(len, owners)) == 12
    assert all(len({*split.labels}) == 2 for split in dataset.splits().values())


def test_a_group_that_is_not_found_is_named(tmp_path):
    class_folders(tmp_path, {"a": 4, "b": 4})
    with pytest.raises(UserError, match=r"data\.group: got 'q', which finds nothing in 'a/000"):
        of(tmp_path, group="q").load()
    with pytest.raises(FieldError, match="a regular expression"):
        PictureFolder(group="(")


def test_pictures_become_the_median_size_at_most_64(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number, size in enumerate([(40, 30), (200, 100), (300, 150), (10, 10)]):
        for name in "ab":
            shade(99, size).save(tmp_path / name / f"{number}.png")
    # Medians 65 high and 120 wide; 64 / 120 of each.
    assert of(tmp_path, validation_fraction=0.0).load().image_shape == (35, 64, 1)
    assert of(tmp_path, size=5).load().image_shape == (5, 5, 1)
    assert of(tmp_path, size=(5, 7), channels=3).load().image_shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("fit", "rows"), [("pad", [0, 200, 200, 0]), ("crop", [200] * 4), ("stretch", [200] * 4)]
)
def test_pictures_of_other_proportions_fit_as_is_said(fit, rows, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            shade(200, (8, 4)).save(tmp_path / name / f"{number}.png")
    dataset = of(tmp_path, size=4, fit=fit).load()
    assert dataset.train.images[0, :, 0, 0].tolist() == rows
    assert f"({fit})" in dataset.notes[0]


def test_pictures_of_every_size_can_be_cropped(tmp_path):
    """47 / (48 / 47) and the like are larger than they should be by a rounding."""
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, size in enumerate([(47, 60), (60, 47), (205, 196)]):
            shade(200, size).save(tmp_path / name / f"{number}.png")
    for size in (32, 48, 64):
        splits = of(tmp_path, size=size, fit="crop").load().splits().values()
        assert sum(map(len, splits)) == 6


@pytest.mark.parametrize(
    ("mode", "value", "channels", "pixel"),
    [
        ("1", 1, 1, [255]),
        ("L", 90, 1, [90]),
        ("LA", (200, 0), 1, [0]),
        ("RGB", (1, 2, 3), 3, [1, 2, 3]),
        ("RGBA", (250, 100, 50, 255), 3, [250, 100, 50]),
        ("RGBA", (250, 100, 50, 0), 3, [0, 0, 0]),
    ],
)
def test_modes_of_pictures(mode, value, channels, pixel, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            shade(value, mode=mode).save(tmp_path / name / f"{number}.png")
    dataset = of(tmp_path).load()
    assert dataset.image_shape == (4, 6, channels)
    assert dataset.train.images[0, 0, 0].tolist() == pixel


def test_opacity_is_kept_where_four_channels_are_asked_for(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            shade((9, 8, 7, 60), mode="RGBA").save(tmp_path / name / f"{number}.png")
    dataset = of(tmp_path, channels=4).load()
    assert dataset.train.images[0, 0, 0].tolist() == [9, 8, 7, 60]


def test_palettes_are_read_by_their_colours(tmp_path):
    for name, colour in {"a": (250, 0, 0), "b": (0, 0, 250)}.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            image = shade(colour, mode="RGB").convert("P", palette=Image.Palette.ADAPTIVE)
            image.save(tmp_path / name / f"{number}.png")
    assert {tuple(image[0, 0]) for image in of(tmp_path).load().train.images} == {
        (250, 0, 0),
        (0, 0, 250),
    }


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff", "webp", "gif", "pgm"])
def test_forms_of_files(suffix, tmp_path):
    for name, value in {"a": 0, "b": 255}.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            shade(value).save(tmp_path / name / f"{number}.{suffix}")
    dataset = of(tmp_path, channels=1).load()
    for image, label in zip(dataset.train.images, dataset.train.labels, strict=True):
        assert np.abs(image - 255.0 * label).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_kept_whole(suffix, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for number in range(4):
        deep = np.full((4, 6), 40_001 + number, np.uint16)
        Image.fromarray(deep).save(tmp_path / "a" / f"{number}.{suffix}")
        shade(255).save(tmp_path / "b" / f"{number}.png")
    dataset = of(tmp_path).load()
    values = sorted(
        round(65_535 * float(pixels))
        for pixels in {
            float(image[0, 0, 0]) for split in dataset.splits().values() for image in split.images
        }
    )
    assert values == [40_001, 40_002, 40_003, 40_004, 65_535]
    assert dataset.train.images.dtype == np.float32
    assert "4 of 16 bits" in dataset.notes[0]
    # Of 12 bits in files of 16: what is white is said.
    with pytest.raises(UserError, match=r"data\.range: got \[0, 4095\] for uint16 pixels"):
        of(tmp_path, range=(0, 4095)).load()


def test_a_range_brings_black_and_white_to_0_and_1(tmp_path):
    for name, value in {"a": 100, "b": 300}.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(np.full((4, 6), value, np.uint16)).save(
                tmp_path / name / f"{number}.png"
            )
    dataset = of(tmp_path, range=(100, 300)).load()
    assert {float(image.max()) for image in dataset.train.images} == {0.0, 1.0}


def test_few_bits_in_16_want_their_range(tmp_path):
    for name, value in {"a": 100, "b": 4095}.items():
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(np.full((4, 6), value, np.uint16)).save(
                tmp_path / name / f"{number}.png"
            )
    with pytest.raises(
        UserError, match=r"data\.range: got none for uint16 pixels from 100 to 4095"
    ):
        of(tmp_path).load()
    assert of(tmp_path, range=(0, 4095)).load().train.images.max() == 1


def test_what_exif_turns_is_turned(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            image = Image.fromarray(
                np.repeat([[0], [250]], [2, 2], 0).repeat(6, 1).astype(np.uint8)
            )
            exif = Image.Exif()
            exif[0x0112] = 6  # to be turned clockwise by a quarter
            image.save(tmp_path / name / f"{number}.png", exif=exif)
    dataset = of(tmp_path).load()
    assert dataset.image_shape == (6, 4, 1)
    # The dark rows on top come to stand on the right.
    assert dataset.train.images[0, 0, :, 0].tolist() == [250, 250, 0, 0]
    assert "pictures: 6 turned as EXIF says" in dataset.notes


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            later = [shade(200), shade(100)]
            shade(50).save(tmp_path / name / f"{number}.gif", save_all=True, append_images=later)
    dataset = of(tmp_path, channels=1).load()
    assert (dataset.train.images == 50).all()
    assert "pictures: 6 of several frames, of which the first is read" in dataset.notes


def test_the_second_time_pixels_come_from_the_cache(tmp_path, monkeypatch):
    class_folders(tmp_path, {"a": 5, "b": 5})
    first, told = of(tmp_path).load(), []
    again = of(tmp_path).load(lambda *progress: told.append(progress))
    assert again.fingerprint() == first.fingerprint()
    assert again.notes == first.notes
    assert told == [("looking at pictures", 0, 10), ("looking at pictures", 10, 10)]
    # What changes is read anew, whatever its size and time say: another picture of as many bytes.
    path = tmp_path / "a" / "000.png"
    shade(7).save(path)
    changed = of(tmp_path).load()
    assert changed.fingerprint() != first.fingerprint()
    assert bytes([7] * 24) in [pixels for pixels, _ in whole(changed)]
    # As is another size; and nothing is kept where it is not to be.
    assert of(tmp_path, size=3).load().image_shape == (3, 3, 1)
    kept = sorted(cache.folder().iterdir())
    assert len(kept) == 3
    of(tmp_path, size=2, cache=False).load()
    assert sorted(cache.folder().iterdir()) == kept


def test_a_damaged_cache_is_read_anew_and_none_is_said(tmp_path, monkeypatch):
    class_folders(tmp_path, {"a": 5, "b": 5})
    first = of(tmp_path).load().fingerprint()
    (kept,) = cache.folder().iterdir()
    for content in (b"", kept.read_bytes()[:300], b"x" * kept.stat().st_size):
        kept.write_bytes(content)
        assert of(tmp_path).load().fingerprint() == first
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "a" / "000.png" / "no")
    dataset = of(tmp_path).load()
    assert dataset.fingerprint() == first
    assert dataset.notes[-1].startswith("not kept for the next time: ")


def test_the_cache_does_not_grow_for_ever(monkeypatch):
    array = np.zeros(1000, np.uint8)
    monkeypatch.setattr(cache, "LARGEST", 5000)
    for number in range(6):
        assert cache.save(f"{number:x}", array, None) is None
    assert len([*cache.folder().iterdir()]) == 3
    assert cache.load("5") is not None
    assert cache.load("0") is None
