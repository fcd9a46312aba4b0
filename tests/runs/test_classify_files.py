"""`capsjax predict`: pictures, folders, arrays and tables, as CSV and JSON."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import capsjax as cj
from capsjax.checks import UserError
from capsjax.progress import Silent
from capsjax.runs.classify_files import predict_files

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 8, 8)).astype(np.uint8)


def trained(folder, scale):
    """A run on images of bytes, or of 16 bits."""
    images, labels = RNG.integers(0, 256, (60, 8, 8)), np.array(["cat", "dog"] * 30)
    config = cj.load_config("smoke", {"training.batch_size": 16, "training.epochs": 1})
    kind = np.uint8 if scale == 1 else np.uint16
    return cj.train(config, ((images * scale).astype(kind), labels), out=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run") / "one", 1)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "new"
    (folder / "deeper").mkdir(parents=True)
    for number, pixels in enumerate(BYTES):
        Image.fromarray(pixels).save(folder / ("deeper" if number > 3 else "") / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_pictures_of_a_folder_are_classified_one_by_one(run, pictures, answer):
    code, out, err = answer("predict", run.folder, "new/0.png", "new", "--quiet")
    assert code == 0
    assert err == ["left out: new/notes.txt (not a picture: text)"]
    head, *rows = csv.reader(io.StringIO("\n".join(out)))
    assert head == ["file", "index", "class", "score_cat", "score_dog"]
    order = [0, 0, 1, 2, 3, 4, 5]
    assert sorted(row[0] for row in rows[1:]) == sorted(
        str(path.relative_to(pictures.parent)) for path in pictures.rglob("*.png")
    )
    found = {row[0]: row for row in rows}
    lengths = run.lengths(BYTES)
    for number in order:
        place = f"new/{'deeper/' if number > 3 else ''}{number}.png"
        assert found[place][2] == run.predict(BYTES[number][None])[0]
        np.testing.assert_allclose([float(x) for x in found[place][3:]], lengths[number], rtol=1e-4)


def test_arrays_are_classified_as_json_into_a_new_file(run, pictures, answer):
    np.save("x.npy", BYTES)
    np.savez("x.npz", X=BYTES[:2], y=np.arange(2))
    words = ["x.npy", "x.npz", "new/deeper/5.png", "--out", "p.json", "--quiet"]
    code, out, err = answer("predict", run.folder, *words)
    assert err == []
    assert (code, out) == (0, ["predictions: p.json"])
    found = json.loads((pictures.parent / "p.json").read_text())
    assert [(line["file"], line["index"]) for line in found] == [
        *(("x.npy", n) for n in range(6)), ("x.npz", 0), ("x.npz", 1), ("new/deeper/5.png", 0),
    ]  # fmt: skip
    order = [*range(6), 0, 1]
    assert [line["class"] for line in found[:8]] == run.predict(BYTES[order]).tolist()
    assert found[0]["scores"].keys() == {"cat", "dog"}
    code, _, err = answer("predict", run.folder, "x.npy", "--out", "p.json")
    assert code == 2
    assert "--out: got 'p.json', which exists, expected a new file" in err[0]
    assert len(json.loads((pictures.parent / "p.json").read_text())) == 9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone.png"], "gone.png: got no such file or folder, expected a picture"),
        (["new/notes.txt"], "got nothing that can be read, left out: new/notes.txt"),
        (["empty"], "empty: got an empty folder"),
        (["two.npz"], "two.npz: got arrays a, b, expected images, or a single array"),
        (["objects.npy"], "got Python objects, which could run code"),
        (["small.npy"], "small.npy: images: got [2, 4, 4], expected [n, 8, 8, 1]"),
        (["rows.csv"], "rows.csv: got a table without a column called file"),
    ],
)
def test_what_is_no_example(run, pictures, answer, words, said):
    (pictures.parent / "empty").mkdir()
    np.savez("two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    np.save("small.npy", np.zeros((2, 4, 4), np.uint8))
    (pictures.parent / "rows.csv").write_text("a,b\n1,2\n")
    code, out, err = answer("predict", run.folder, *words, "--quiet")
    assert (code, out) == (2, [])
    assert said in " ".join(err)


def test_a_list_of_pictures(run, pictures):
    (pictures / "list.csv").write_text("file,who\n0.png,me\ndeeper/4.png,you\ngone.png,you\n")
    found = predict_files(run, [str(pictures / "list.csv")], Silent())
    assert found.files == [str(pictures / "0.png"), str(pictures / "deeper/4.png")]
    assert found.classes.tolist() == run.predict(BYTES[[0, 4]]).tolist()
    assert found.left_out == [f"{pictures / 'gone.png'} (no such file)"]


def test_bits_say_what_is_white(run, pictures, tmp_path):
    """A picture is as light as it is, in a run on 8 bits as in one on 16."""
    deep = trained(tmp_path / "deep", 257)
    Image.fromarray(BYTES[0].astype(np.uint16) * 257).save("deep.png")
    for of in (run, deep):
        ours, theirs = (
            predict_files(of, [place], Silent()).lengths for place in ("new/0.png", "deep.png")
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        raw = BYTES[:1] if of is run else BYTES[:1].astype(np.uint16) * 257
        np.testing.assert_allclose(ours, of.lengths(raw), rtol=1e-5)


def test_rows_of_a_table_with_and_without_labels(tmp_path):
    rows = RNG.normal(size=(40, 3))
    lines = [f"{n},{a},{b},{'xy'[n % 2]},{c}" for n, (a, b, c) in enumerate(rows)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["id,a,b,label,c", *lines]))
    config = cj.load_config(
        "vectors", {"data.leave_out": ("id",), "training.epochs": None, "training.steps": 1}
    )
    run = cj.train(config, str(table), out=tmp_path / "run")
    whole = predict_files(run, [str(table)], Silent())
    assert whole.places == list(range(40))
    (tmp_path / "new.csv").write_text(
        "\n".join(["a;b;c", *(f"{a};{b};{c}" for a, b, c in rows[:5])])
    )
    found = predict_files(run, [str(tmp_path / "new.csv")], Silent())
    np.testing.assert_allclose(found.lengths, whole.lengths[:5], rtol=1e-5)
    assert found.classes.tolist() == run.predict(rows[:5, None, :, None]).tolist()
    lines = (tmp_path / "new.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([*lines, "1;;2"]))
    with pytest.raises(
        UserError, match=r"line 7: got '' .*fill it in, or take the row out"
    ) as caught:
        predict_files(run, [str(tmp_path / "new.csv")], Silent())
    assert "data." not in str(caught.value)  # `predict` has no such flag
    (tmp_path / "new.csv").write_text("\n".join(lines))
    assert len(predict_files(run, [str(tmp_path / "new.csv")], Silent()).files) == 5
    Image.fromarray(BYTES[0]).save(tmp_path / "picture.png")
    with pytest.raises(UserError, match="got a picture, expected a table"):
        predict_files(run, [str(tmp_path / "picture.png")], Silent())
