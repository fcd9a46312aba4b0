"""Tables: rows of numbers, and lists of pictures with their labels."""

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.data import NumberTable, PictureFolder, PictureList, source_at
from capsjax.layers import Features, shapes
from tests.data.pictures import class_folders


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write(path, rows, separator=","):
    path.write_text("\n".join(separator.join(map(str, row)) for row in rows) + "\n", "utf-8")
    return path


def numbers(path, separator=","):
    """40 rows of two kinds, and a constant."""
    rows = [["id", "length", "width", "flat", "Species"]]
    for n in range(40):
        rows.append([n, 1000 + n, 0.5 * (n % 2), 7, "rose" if n % 2 else "lily"])
    return write(path, rows, separator)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_are_standardised_by_what_trains(separator, tmp_path):
    path = numbers(tmp_path / "x.csv", separator)
    dataset = NumberTable(path=str(path), leave_out=("id",)).load()
    assert dataset.class_names == ("lily", "rose")
    assert dataset.image_shape == (1, 3, 1)
    assert [len(split) for split in dataset.splits().values()] == [32, 4, 4]
    train = dataset.train.images[:, 0, :, 0]
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), [1, 1, 0], atol=1e-5)
    assert dataset.notes[1] == "table: columns that are the same in each row: flat"
    # What is measured is brought to the same unit, not to one of its own.
    raw = dataset.rescaling.inverse(dataset.test.images)[:, 0, :, 0]
    assert {*raw[:, 2]} == {7.0}
    assert np.allclose(raw[:, 0], np.rint(raw[:, 0]), atol=1e-2)
    assert (raw[:, 0] >= 1000).all()
    assert (raw[:, 1] == 0.5 * dataset.test.labels).all()


def test_a_range_takes_the_place_of_that(tmp_path):
    path = write(
        tmp_path / "x.csv", [["a", "b", "y"], *[[n / 20, 1, f"k{n % 2}"] for n in range(20)]]
    )
    dataset = NumberTable(path=str(path), range=(0, 2)).load()
    assert dataset.bounded
    assert dataset.train.images[..., 1, :].max() == 0.5


def test_rows_that_belong_together_stay_together(tmp_path):
    rows = [["x", "who", "label"], *[[n, f"p{n // 4}", f"k{n // 4 % 2}"] for n in range(48)]]
    path = write(tmp_path / "x.csv", rows)
    dataset = NumberTable(path=str(path), group_column="who").load()
    sides = [
        {round(float(v)) // 4 for v in dataset.rescaling.inverse(split.images).ravel()}
        for split in dataset.splits().values()
    ]
    assert len(set().union(*sides)) == sum(map(len, sides)) == 12


def test_a_table_trains_and_a_run_takes_rows_as_they_are(tmp_path):
    path = numbers(tmp_path / "flowers.csv")
    config = cj.load_config("vectors", {"training.epochs": 8, "data.leave_out": ["id"]})
    run = cj.train(config, path, out=tmp_path / "run")
    rows = np.array([[1004, 0.5, 7], [1004, 0.0, 7]])[:, None, :, None]
    assert run.predict(rows).tolist() == ["rose", "lily"]
    again = cj.load(run.folder)
    assert again.predict(rows).tolist() == ["rose", "lily"]
    assert cj.evaluate(run)["error"] == run.test["error"]
    assert cj.evaluate(again, path)["error"] == run.test["error"]
    # Of a table whose columns have other means, rows are as far from those of the run as they are.
    rows = [["id", "length", "width", "flat", "label"]]
    rows += [[0, 1004, 0.5, 7, "rose"]] * 20 + [[0, 1004, 0.0, 7, "lily"]] * 4
    assert cj.evaluate(again, write(tmp_path / "other.csv", rows))["error"] == 0


def test_a_stem_for_vectors_takes_all_of_a_row():
    model = cj.load_config("vectors").model
    for size in ((1, 5, 1), (1, 3000, 1), (28, 28, 3)):
        steps = shapes(model, size, 3)
        assert steps[0].shape == Features((1, 1), 128)
        assert steps[1].shape.capsules == 16


def listed(tmp_path, more=()):
    class_folders(tmp_path / "images", {"a": 6, "b": 6})
    rows = [["file", "label"]]
    rows += [[f"images/{name}/{n:03d}.png", name] for name in "ab" for n in range(6)]
    return write(tmp_path / "labels.csv", [*rows, *more])


def test_a_list_of_files_is_as_good_as_folders(tmp_path):
    dataset = PictureList(path=str(listed(tmp_path))).load()
    folders = PictureFolder(path=str(tmp_path / "images")).load()
    assert dataset.fingerprint() == folders.fingerprint()
    assert dataset.class_names == folders.class_names


def test_a_list_may_say_splits_and_groups(tmp_path):
    class_folders(tmp_path, {"a": 6, "b": 6})
    rows = [["path", "class", "split", "who"]]
    for name in "ab":
        for n in range(6):
            split = ["train", "train", "train", "train", "val", "test"][n]
            rows.append([f"{name}/{n:03d}.png", name, split, f"{name}{n // 2}"])
    path = write(tmp_path / "x.csv", rows)
    dataset = PictureList(path=str(path)).load()
    assert [len(split) for split in dataset.splits().values()] == [8, 2, 2]
    write(path, [[file, label, who] for file, label, _, who in rows])
    dataset = PictureList(path=str(path), group_column="who").load()
    assert [len(split) for split in dataset.splits().values()] == [8, 2, 2]


def test_what_a_path_holds_is_seen(tmp_path):
    assert type(source_at(listed(tmp_path))) is PictureList
    assert type(source_at(numbers(tmp_path / "x.csv"))) is NumberTable
    # One row tells: the rest is read once, by the source, which says what is wrong with it.
    broken = write(tmp_path / "y.csv", [["a", "label"], [1, "x"], [2, "y", "more"]])
    assert type(source_at(broken)) is NumberTable
    with pytest.raises(UserError, match="line 3: got 3 cells, expected 2"):
        source_at(broken).load()
    assert NumberTable.starts_with == "vectors"
    assert cj.load_config("vectors").data == NumberTable()


GOOD = [["a", "b", "label"], [1, 2, "x"], [3, 4, "y"]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*GOOD, [1, "", "x"]], "line 4: got '' in column 'b', expected a finite number"),
        ([*GOOD, [1, "NaN", "x"]], "line 4: got 'NaN' in column 'b'.*data.leave_out"),
        ([*GOOD, [1, "inf", "x"]], "line 4: got 'inf' in column 'b'"),
        ([*GOOD, [1, "red", "x"]], "line 4: got 'red' in column 'b'"),
        ([*GOOD, [1, "x"]], "line 4: got 2 cells, expected 3"),
        ([*GOOD, [1, 2, ""]], "line 4: got no label"),
        (GOOD[:2], "got one class, 'x', expected at least two"),
        ([["a", "b", "c"], *GOOD[1:]], r"data\.label_column: got none, and no column called label"),
        ([["a", "a", "label"], *GOOD[1:]], "got several columns called 'a', expected a table"),
        (
            [["a", "", "label"], *GOOD[1:]],
            "got column 2 without a name, with '2' in line 2, expected",
        ),
        ([["<!DOCTYPE html>"]], "got a web page, expected a table"),
        ([["a"]], "got 1 columns and 0 rows"),
        ([["label", "class"], ["x", "y"], ["z", 1]], "got 'y' in column 'class'"),
    ],
)
def test_tables_that_are_refused(rows, message, tmp_path):
    with pytest.raises(UserError, match=message):
        NumberTable(path=str(write(tmp_path / "x.csv", rows))).load()


def test_a_table_that_is_not_utf_8_or_not_there(tmp_path):
    (tmp_path / "x.csv").write_bytes("größe,label\n1,x\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8 text, from byte 2 on, expected a table"):
        NumberTable(path=str(tmp_path / "x.csv")).load()
    with pytest.raises(UserError, match="got no such file, expected a table"):
        NumberTable(path=str(tmp_path / "no.csv")).load()
    with pytest.raises(UserError, match="does not say where it is"):
        NumberTable().load()
    with pytest.raises(UserError, match=r"data\.label_column: got 'labl'.*did you mean 'label'"):
        NumberTable(path=str(write(tmp_path / "y.csv", GOOD)), label_column="labl").load()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            [["images/a/000.png", "b"]],
            "line 14: got 'images/a/000.png' again, with label 'b' after 'a'",
        ),
        (
            [["images/a/no.png", "b"]],
            r"got 1 of 13 files that are not there: images/a/no.png \(line 14",
        ),
        ([["images/a/000.png", ""]], "line 14: got no file or no label"),
    ],
)
def test_lists_that_are_refused(more, message, tmp_path):
    with pytest.raises(UserError, match=message):
        PictureList(path=str(listed(tmp_path, more))).load()


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_without_a_name_that_counts_the_rows_is_no_feature(first, tmp_path):
    """Such as pandas' `to_csv` writes, and `write.csv` of R from 1 on."""
    rows = [["", "width", "label"], *([first + n, n % 7, "ab"[n % 2]] for n in range(40))]
    dataset = NumberTable(path=str(write(tmp_path / "x.csv", rows))).load()
    plain = NumberTable(path=str(write(tmp_path / "y.csv", [row[1:] for row in rows]))).load()
    assert dataset.fingerprint() == plain.fingerprint()
    assert "table: column 1, which has no name and counts the rows, is left out" in dataset.notes
    assert not any("no name" in line for line in plain.notes)
    listed(tmp_path)
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    counted = [f"{n - 1 + first if n else ''},{line}" for n, line in enumerate(lines)]
    (tmp_path / "labels.csv").write_text("\n".join(counted))
    assert type(source_at(tmp_path / "labels.csv")) is PictureList
    assert any(
        "no name" in line for line in PictureList(path=str(tmp_path / "labels.csv")).load().notes
    )


@pytest.mark.parametrize(
    "change", [lambda n: n + 2, lambda n: n // 2, lambda n: "", lambda n: n / 2]
)
def test_another_column_without_a_name_is_given_one(change, tmp_path):
    rows = [["", "width", "label"], *([change(n), n, "ab"[n % 2]] for n in range(40))]
    path = write(tmp_path / "x.csv", rows)
    with pytest.raises(UserError, match=r"column 1 without a name.*take it out .*give it one in"):
        NumberTable(path=str(path)).load()
    write(path, [["id", *rows[0][1:]], *rows[1:]])
    assert NumberTable(path=str(path), leave_out=("id",)).load().image_shape == (1, 1, 1)
    write(path, [row[1:] for row in rows])
    assert NumberTable(path=str(path)).load().image_shape == (1, 1, 1)


def test_a_column_without_a_name_is_none_that_a_run_was_trained_on(tmp_path):
    """Some rows of a table of pandas, whose numbers are those that they had."""
    path = write(tmp_path / "x.csv", [["", "w"], [17, 2.5], [3, 1.5], [9, 1]])
    assert NumberTable().unlabelled(path).ravel().tolist() == [2.5, 1.5, 1]


def test_columns_of_one_name_are_renamed(tmp_path):
    path = write(
        tmp_path / "x.csv", [["a", "a", "label"], *([n, 2, "xy"[n % 2]] for n in range(9))]
    )
    with pytest.raises(UserError, match=r"several columns called 'a'.*rename all but one in the"):
        NumberTable(path=str(path)).load()
    path.write_text(path.read_text().replace("a,a", "a,b"))
    assert NumberTable(path=str(path)).load().image_shape == (1, 2, 1)


def european(path, separator, numbers):
    rows = [["a", "b", "label"], *([f'"{a}"', n, "xy"[n % 2]] for n, a in enumerate(numbers))]
    return str(write(path, rows, separator))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_read_where_they_are_plain(separator, tmp_path):
    numbers = ["-1,5", "2,125", "3", ",25", "1,5e-3", *map(str, range(20))]
    dataset = NumberTable(path=european(tmp_path / "x.csv", separator, numbers)).load()
    points = [number.replace(",", ".") for number in numbers]
    plain = NumberTable(path=european(tmp_path / "y.csv", ",", points)).load()
    assert dataset.fingerprint() == plain.fingerprint()
    assert "table: the commas in numbers are decimal commas" in dataset.notes
    assert not any("comma" in line for line in plain.notes)


@pytest.mark.parametrize(
    ("separator", "numbers", "wrong"),
    [
        (";", ["1,543", "12,500", "7"], "line 2: got '1,543' in column 'a'"),  # thousands, maybe
        (";", ["7", "1,5", "2.5"], "line 3: got '1,5' in column 'a'"),
        (";", ["7", "1,234,567", "1,5"], "line 3: got '1,234,567' in column 'a'"),
        (",", ["1,5", "2,5", "3"], "line 2: got '1,5' in column 'a'"),
        (";", ["1.234,5", "2", "3"], "line 2: got '1.234,5' in column 'a'"),
    ],
)
def test_commas_that_may_be_something_else_are_refused(separator, numbers, wrong, tmp_path):
    """Nothing is said of leaving out columns, which would be all."""
    numbers += map(str, range(20))
    path = european(tmp_path / "x.csv", separator, numbers)
    with pytest.raises(
        UserError, match=f"{wrong}, expected a number with a decimal point"
    ) as caught:
        NumberTable(path=path).load()
    assert "write all numbers with one" in str(caught.value)
    assert "leave" not in str(caught.value)
    numbers = [number.replace("1.234,5", "1234,5") for number in numbers]
    numbers = [number.replace(",", ".", 1).replace(",", "") for number in numbers]
    assert NumberTable(path=european(tmp_path / "x.csv", separator, numbers)).load()


def test_a_word_among_decimal_commas_is_what_is_wrong(tmp_path):
    path = european(tmp_path / "x.csv", ";", ["1,5", "red", *map(str, range(20))])
    with pytest.raises(
        UserError, match="line 3: got 'red' in column 'a', expected a finite number"
    ):
        NumberTable(path=path).load()


def test_what_the_errors_of_a_table_say_works(tmp_path):
    rows = [["id", "width", "sort"], *([f"no {n}", n, "ab"[n % 2]] for n in range(40))]
    path = str(write(tmp_path / "x.csv", rows))
    with pytest.raises(UserError, match=r"columns id, width, sort: set data\.label_column"):
        NumberTable(path=path).load()
    with pytest.raises(
        UserError, match=r"got 'no 0'.*or leave the column out: data\.leave_out \[id\]"
    ) as caught:
        NumberTable(path=path, label_column="sort").load()
    assert caught.value.on_command_line.endswith("leave the column out: --data.leave_out '[id]'")
    dataset = NumberTable(path=path, label_column="sort", leave_out=("id",)).load()
    assert (dataset.image_shape, dataset.class_names) == ((1, 1, 1), ("a", "b"))
    write(tmp_path / "x.csv", [["width", "label"], *([n, "abcdef"[n]] for n in range(6))])
    with pytest.raises(UserError, match=r"set data\.stratified to false"):
        NumberTable(path=path).load()
    assert NumberTable(path=path, stratified=False).load().num_classes == 6


def test_rows_without_a_group_are_not_one_group(tmp_path):
    class_folders(tmp_path, {"a": 6, "b": 6})
    rows = [["file", "label", "who"]]
    rows += [[f"{name}/{n:03d}.png", name, "" if n == 3 else n] for name in "ab" for n in range(6)]
    path = str(write(tmp_path / "x.csv", rows))
    with pytest.raises(UserError, match=r"group_column: got nothing in column 'who' of line 5"):
        PictureList(path=path, group_column="who").load()
    write(
        tmp_path / "x.csv",
        [["label", "x", "who"], *(["ab"[n % 2], n, "" if n else 1] for n in range(9))],
    )
    with pytest.raises(UserError, match=r"group_column: got nothing in column 'who' of line 3"):
        NumberTable(path=path, group_column="who").load()


def test_a_cell_too_long_for_a_file_s_name_is_no_file(tmp_path):
    rows = [["text", "label"], *([f"{n}" + "x" * 5000, n] for n in range(4))]
    path = write(tmp_path / "x.csv", rows)
    assert type(source_at(path)) is NumberTable
    with pytest.raises(UserError, match="files that are not there"):
        PictureList(path=str(path), file_column="text", group_column="label").load()


def test_what_the_errors_of_a_list_say_works(tmp_path):
    class_folders(tmp_path, {"a": 6, "b": 6})
    rows = [["scan", "label"], *([f"{name}/{n:03d}.png", name] for name in "ab" for n in range(6))]
    path = str(write(tmp_path / "x.csv", rows))
    with pytest.raises(UserError, match=r"columns scan, label: set data\.file_column"):
        PictureList(path=path).load()
    assert PictureList(path=path, file_column="scan").load().num_classes == 2
