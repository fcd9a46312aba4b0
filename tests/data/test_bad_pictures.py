"""Folders that are not as they should be: what was tried, and what each says."""

import io
import os
import shlex
import struct
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from capsjax.checks import UserError
from capsjax.data import PictureFolder, picture, source_at
from tests.data.pictures import class_folders, shade


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def of(folder, **fields):
    return PictureFolder(path=str(folder), **fields)


@pytest.fixture
def good(tmp_path):
    return class_folders(tmp_path / "data", {"a": 5, "b": 5})


def left_out(dataset):
    return next(line for line in dataset.notes if line.startswith("left out: "))


def jpeg(image):
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return stream.getvalue()


def bomb(width, height):
    """A PNG that says it is large, of a few bytes."""

    def chunk(kind, content):
        made = kind + content
        return struct.pack(">I", len(content)) + made + struct.pack(">I", zlib.crc32(made))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (40, 60), np.uint8))
FILES = {
    "an empty file": (b"", "an empty file"),
    "text among pictures": (b"cats and dogs\n", "not a picture: text"),
    "HTML saved as a picture": (b"<!DOCTYPE html><html>", "not a picture: a web page"),
    "a PDF": (b"%PDF-1.7 ...", "not a picture: a PDF"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0", "not a picture: HEIC or AVIF; save it as PNG"),
    "bytes of something else": (
        b"\x7fELF\x02\x01\x01\0",
        "not a picture: it begins with 7f 45 4c 46",
    ),
    "a truncated picture": (jpeg(NOISE)[:-700], "a broken picture: image file is truncated"),
    "a truncated header": (jpeg(NOISE)[:30], "a broken picture"),
    "a decompression bomb": (bomb(30_000, 30_000), "more than 89,478,485 pixels"),
    "a small bomb": (bomb(10_000, 10_000), "more than 89,478,485 pixels"),
    "no pixels at all": (bomb(6, 4), "a broken picture"),
    "PostScript, which another program would run": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a picture"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_picture_is_left_out_by_name(name, good):
    content, why = FILES[name]
    (good / "a" / "odd.jpg").write_bytes(content)
    dataset = of(good).load()
    assert left_out(dataset).startswith("left out: a/odd.jpg (")
    assert why in left_out(dataset)
    assert sum(map(len, dataset.splits().values())) == 10
    again = of(good).load()  # from the cache
    assert (again.notes, again.fingerprint()) == (dataset.notes, dataset.fingerprint())


def test_many_are_counted(good):
    for number in range(8):
        (good / "a" / f"z{number}.txt").write_text("no")
    dataset = of(good).load()
    assert left_out(dataset).endswith(", and 3 more; left_out.txt in the run's directory names all")
    named = [f"a/z{number}.txt (not a picture: text)" for number in range(8)]
    assert dataset.left_out == tuple(named)
    assert left_out(dataset).startswith(f"left out: {', '.join(named[:5])}, and")
    for number in range(5, 8):
        (good / "a" / f"z{number}.txt").unlink()
    assert left_out(of(good).load()) == f"left out: {', '.join(named[:5])}"


def test_what_systems_leave_behind_is_not_spoken_of(good):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (good / "a" / name).write_bytes(b"x")
    (good / ".git").mkdir()
    (good / ".git" / "config").write_text("x")
    assert not any("left out" in line for line in of(good).load().notes)


def test_links_that_lead_out_are_not_followed_unless_it_is_said(good, tmp_path):
    class_folders(tmp_path / "other", {"c": 4})
    (good / "a" / "out.png").symlink_to(tmp_path / "other" / "c" / "000.png")
    (good / "c").symlink_to(tmp_path / "other" / "c")
    (good / "b" / "in.png").symlink_to(good / "a" / "000.png")
    (good / "b" / "round").symlink_to(good)
    (good / "b" / "broken.png").symlink_to(good / "nothing")
    dataset = of(good).load()
    assert dataset.class_names == ("a", "b")
    assert sum(map(len, dataset.splits().values())) == 11  # with the one that leads within
    told = left_out(dataset)
    assert "a/out.png (a link out of the folder, which is not followed)" in told
    assert "c (a link to a folder, which is not followed)" in told
    assert "b/round (a link to a folder, which is not followed)" in told
    assert "b/broken.png (no such file)" in told
    dataset = of(good, follow_links=True).load()
    assert dataset.class_names == ("a", "b", "c")
    assert "b/round (a link to a folder that it is in)" in left_out(dataset)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_pipes_are_not_waited_for(size, good):
    del size
    if not (good / "a" / "pipe.png").exists():
        os.mkfifo(good / "a" / "pipe.png")
    assert "a/pipe.png (a named pipe)" in left_out(of(good).load())


def test_names_of_any_writing_are_kept(tmp_path):
    names = {"Äpfel": 4, "猫": 4, "собака": 4}
    dataset = of(class_folders(tmp_path, names)).load()
    assert dataset.class_names == tuple(sorted(names))
    # The same letters, as macOS writes them, are the same class.
    other = tmp_path / "other"
    class_folders(other, {unicodedata.normalize("NFD", name): 4 for name in names})
    assert of(other).load().class_names == dataset.class_names


def test_a_name_that_is_not_utf_8_can_be_written(tmp_path):
    class_folders(tmp_path, {"a": 4})
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    shade(3).save(os.fsdecode(os.fsencode(tmp_path) + b"/\xff/x.png"))
    assert of(tmp_path).load().class_names == ("a", "\ufffd")


def test_a_class_of_one_picture_trains(good):
    class_folders(good, {"lone": 1})
    dataset = of(good).load()
    assert 2 in dataset.train.labels
    assert "classes of one picture, which trains and is not tested: lone" in dataset.notes


def test_a_class_without_a_picture_is_told(good):
    (good / "c").mkdir()
    (good / "c" / "x.png").write_bytes(b"")
    dataset = of(good).load()
    assert dataset.class_names == ("a", "b")
    assert "classes without a picture that can be read: c" in dataset.notes


def test_a_thousand_classes(tmp_path):
    content = io.BytesIO()
    shade(3, (2, 2)).save(content, "PNG")
    for number in range(1000):
        (tmp_path / f"c{number:04d}").mkdir()
        for place in range(2):
            (tmp_path / f"c{number:04d}" / f"{place}.png").write_bytes(content.getvalue())
    dataset = of(tmp_path).load()
    assert dataset.num_classes == len(dataset.class_names) == 1000
    assert len({*dataset.train.labels}) == 1000


def empty(folder):
    return folder


def loose(folder):
    for number in range(3):
        shade(number).save(folder / f"{number}.png")
    return folder


def listed(folder):
    (folder / "labels.csv").write_text("file,label\n0.png,a\n")
    return loose(folder)


def one_class(folder):
    return class_folders(folder, {"cat": 4})


def within(folder):
    class_folders(folder / "inner", {"cat": 4, "dog": 4})
    return folder


def nothing_read(folder):
    for name in "ab":
        (folder / name).mkdir()
        (folder / name / "x.png").write_text("no")
    return folder


def a_file(folder):
    (folder / "x").write_text("no")
    return folder / "x"


def two_tests(folder):
    for split in ("train", "test", "testing"):
        class_folders(folder / split, {"cat": 2, "dog": 2})
    return folder


def new_class(folder):
    class_folders(folder / "train", {"cat": 4, "dog": 4})
    class_folders(folder / "test", {"cat": 2, "cow": 2})
    return folder


def of_32_bits(folder):
    for name in "ab":
        (folder / name).mkdir()
        for number in range(3):
            array = np.full((4, 6), 1000.0 * number, np.float32)
            Image.fromarray(array).save(folder / name / f"{number}.tiff")
    return folder


REFUSED = {
    empty: "got an empty folder, expected a folder of pictures for each class",
    loose: "got 3 pictures and no folder of a class, such as 0.png, expected",
    listed: r"or, where labels\.csv says the class of each, the data are .*labels\.csv",
    one_class: "got one class, 'cat', expected at least two.*give each class a folder of its own",
    within: r"got one class, 'inner'.*if the classes are the folders in it, the folder is .*inner",
    nothing_read: r"got no picture that can be read.*a/x\.png \(not a picture: text\)",
    a_file: "got '.*x', a file, expected a folder",
    two_tests: "got folders test, testing, train, expected one of each split",
    of_32_bits: r"data\.range: got none for float32 pixels from 0 to 2000.*\[0, 2000\]",
}


@pytest.mark.parametrize("made", REFUSED)
def test_what_cannot_be_trained_on_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=REFUSED[made]):
        of(made(tmp_path)).load()


def test_the_range_that_is_advised_works(tmp_path):
    assert of(of_32_bits(tmp_path), range=(0, 2000)).load().train.images.max() == 1


def test_a_folder_that_does_not_exist(tmp_path):
    with pytest.raises(UserError, match="no such folder, expected a folder with") as caught:
        of(tmp_path / "no").load()
    assert caught.value.argument == "data.path"
    assert str(caught.value).endswith("for each class")  # of what is not there nothing is known
    with pytest.raises(UserError, match="does not say where they are"):
        PictureFolder().load()


def test_a_file_of_arrays_in_the_place_of_a_folder_is_read_as_is_said(tmp_path):
    path = tmp_path / "my arrays.npz"
    np.savez(path, images=np.arange(96, dtype=np.uint8).reshape(6, 4, 4), labels=np.arange(6) % 2)
    with pytest.raises(
        UserError, match=r"a file, expected a folder.*; arrays and tables are "
    ) as caught:
        of(path).load()
    named = eval(str(caught.value).rsplit("data=", 1)[1])
    words = shlex.split(caught.value.on_command_line.removesuffix(", without --data.path"))
    assert named == words[words.index("--data") + 1] == str(path)
    assert source_at(named).load().num_classes == 2
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"a file, expected a folder .* for each class$"):
        of(tmp_path / "x.zip").load()


def test_a_folder_that_cannot_be_read_is_named(good, monkeypatch):
    real = os.scandir

    def scandir(path):
        if str(path).endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"a: got a folder that cannot be read \(Permission"):
        of(good).load()


def test_a_file_that_changes_while_it_is_read_is_named(good, monkeypatch):
    from capsjax.data import reading

    def look(path, real=reading._look):
        found = real(path)
        if path.name == "003.png":
            shade(9).save(path)
        return found

    monkeypatch.setattr(reading, "_look", look)
    with pytest.raises(UserError, match=r"003\.png: got other bytes than a moment ago"):
        of(good).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": (3, 5000)}, "size"),
        ({"channels": 2}, "1, 3, 4 or nothing"),
        ({"range": (4, 4)}, "two finite numbers"),
        ({"path": ""}, "a path"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(UserError, match=message):
        PictureFolder(**fields)


def test_pillow_s_own_bound_is_the_one_that_is_kept():
    assert picture.MOST_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "JPEG", "WEBP", "BMP"])
def test_a_file_that_is_cut_anywhere_is_read_or_broken(form):
    """Also one of several pictures, whose number is asked for: no reader's own exception comes out."""
    stream = io.BytesIO()
    more = {"save_all": True, "append_images": [NOISE] * 2} if form in ("GIF", "TIFF") else {}
    NOISE.save(stream, form, **more)
    content, refused = stream.getvalue(), 0
    target = picture.Target(4, 4, 1, "uint8", "stretch")
    for end in range(0, len(content), max(1, len(content) // 150)):
        for read in (picture.read_header, lambda part: picture.read_picture(part, target)):
            try:
                read(content[:end])
            except UserError:
                refused += 1
    assert refused > 5
