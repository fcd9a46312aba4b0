"""Sets that are made from another, from Python's arrays and paths to the end of a run."""

import dataclasses
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import capsjax as cj
from capsjax.checks import UserError
from capsjax.cli import main
from capsjax.data import Arrays, Dataset, Mnist, Perturbed, PictureFolder, Shift, Split
from capsjax.progress import Silent
from capsjax.runs import advice
from capsjax.runs.sources import check_data, load_data, with_data

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.random((120, 8, 8), np.float32), np.arange(120) % 3
MOVED = Perturbed(canvas=10, changes=(Shift(pixels=1),))
CONFIG = cj.load_config(
    "smoke", {"training.epochs": None, "training.steps": 1, "training.batch_size": 32}
)
CONFIG = dataclasses.replace(CONFIG, data=MOVED)


class Kept(Silent):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def folder_of(tmp_path):
    for name in ("day", "night"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(10):
            level = RNG.integers(20, 200)
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(
                tmp_path / name / f"{number}.png"
            )
    return tmp_path


def test_arrays_are_changed_as_the_set_whose_place_they_take(tmp_path):
    run = cj.train(CONFIG, (IMAGES, LABELS), out=tmp_path / "run")
    assert run.config.data == dataclasses.replace(MOVED, source=Arrays())
    assert run.image_shape == (10, 10, 1)
    assert cj.evaluate(run, (IMAGES, LABELS))["error"] == run.test["error"]
    assert cj.report(run, (IMAGES, LABELS)).exists()
    assert (run.folder / "reconstructions.png").exists()
    call, command = advice.how_to_resume(run.folder, run.config)
    assert call in command  # of which only Python has the arrays
    metrics = run.folder / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))
    assert cj.resume(run.folder, (IMAGES, LABELS)).test == run.test


def test_a_path_takes_the_place_of_the_set_in_training_and_a_source_or_a_dataset_is_whole(tmp_path):
    folder = folder_of(tmp_path / "pictures")
    there = PictureFolder(path=str(folder))
    assert with_data(CONFIG, folder) == (
        dataclasses.replace(CONFIG, data=dataclasses.replace(MOVED, source=there)),
        None,
    )
    assert with_data(CONFIG, there)[0].data == there
    split = Split(IMAGES[..., None], LABELS)
    dataset = Dataset("whole", split, None, split, 3, 1.0)
    config, left = with_data(CONFIG, dataset)
    assert config.data == Arrays()
    assert load_data(config, left, Silent()) is dataset
    # Another process has made it already.
    made = dataclasses.replace(CONFIG, data=dataclasses.replace(MOVED, source=Arrays()))
    assert with_data(made, dataset) == (made, dataset)
    assert load_data(made, dataset, Silent()) is dataset


def test_what_a_run_is_measured_on_is_taken_as_it_is_unless_it_learned_from_such():
    given = IMAGES, LABELS
    files = dataclasses.replace(CONFIG, data=dataclasses.replace(MOVED, source=Mnist()))
    assert load_data(files, given, Silent()).image_shape == (8, 8, 1)
    own = dataclasses.replace(CONFIG, data=dataclasses.replace(MOVED, source=Arrays()))
    assert load_data(own, given, Silent()).image_shape == (10, 10, 1)
    plain = Arrays().build(given)
    made = load_data(own, given, Silent())
    assert made.test.images.sum() == pytest.approx(plain.test.images.sum())


def test_mistakes_in_arrays_are_named_as_in_a_file(as_installed):
    own = dataclasses.replace(MOVED, source=Arrays(range=(0.0, 0.5)))
    with pytest.raises(UserError, match=r"^data\.source\.range: got \[0\.0, 0\.5\]"):
        load_data(dataclasses.replace(CONFIG, data=own), (IMAGES, LABELS), Silent())


def test_what_a_run_is_told_of_its_data_names_the_fields_of_the_set_that_they_are_made_from():
    own = dataclasses.replace(CONFIG, data=Perturbed(source=Perturbed(source=Arrays())))
    images, labels = np.repeat(IMAGES[:, None], 3, axis=1), 2 * LABELS
    cases = (
        ((images, LABELS), r"say data\.source\.source\.axes nchw"),
        ((IMAGES, labels), r"--data\.source\.source\.num_classes 5$"),
    )
    for given, said in cases:
        dataset = load_data(own, given, Silent())
        with pytest.raises(UserError) as caught:
            check_data(own, dataset, given, Silent())
        assert re.search(said, caught.value.on_command_line)


def test_it_says_what_was_found_in_the_set_that_it_is_made_from(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "pictures")
    (folder / "day" / "broken.png").write_bytes(b"")
    made = dataclasses.replace(MOVED, source=PictureFolder(path=str(folder)))
    config, kept = dataclasses.replace(CONFIG, data=made), Kept()
    check_data(config, made.load(), None, kept)
    said = "\n".join(kept.lines)
    assert "20 images [10, 10, 1]" in said
    assert "broken.png" in said


def test_a_mistake_in_the_set_names_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "dark"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / name / f"{number}.png")
    data = f"{{kind: perturbed, canvas: 9, source: {{kind: folder, path: {folder}}}}}"
    assert main(["train", "smoke", "--data", data, "--out", str(tmp_path / "run")]) == 2
    assert str(folder) in capsys.readouterr().err


def test_smaller_images_are_put_on_a_canvas_as_the_error_says(tmp_path, answer):
    run = cj.train(cj.load_config("smoke", {"training.epochs": 1}), out=tmp_path / "run")
    test = run.config.data.load().test
    path = str(tmp_path / "small.npz")
    np.savez(path, images=np.float32(test.images[:, ::2, ::2] / 16), labels=test.labels)
    small = Arrays(path=path)
    for data, said in (
        (small, "capsjax.data.Perturbed(source=..., canvas=8)"),
        (Perturbed(source=small, canvas=6), "dataclasses.replace(data, canvas=8)"),
    ):
        with pytest.raises(UserError, match="or put them in the middle of black ones") as caught:
            cj.evaluate(run, data)
        assert str(caught.value).endswith(said)
    with pytest.raises(UserError, match=r"to that size$"):  # larger ones have no room
        cj.evaluate(run, Perturbed(source=small, canvas=10))
    found = cj.evaluate(run, Perturbed(source=small, canvas=8))
    fields = {"kind": "perturbed", "source": {"kind": "arrays", "path": path}, "canvas": 6}
    for words, more in ((["--data", path], []), (["--data", json.dumps(fields)],) * 2):
        code, _, err = answer("evaluate", run.folder, *words)
        assert code == 2
        advised = shlex.split(err[-1].split("black ones: ")[1])
        code, out, err = answer("evaluate", run.folder, *more, *advised)
        assert (code, out[-1].split(",")[0]) == (
            0,
            f"test error {100 * found['error']:.2f} % on {len(small.load().test)} images",
        )
