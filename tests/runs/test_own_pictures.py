"""A folder of pictures from the command to the report: classes are called by their names all the way."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

import capsjax as cj
from capsjax.checks import UserError
from capsjax.cli import main
from capsjax.data import Arrays, Dataset, PictureFolder, Split
from capsjax.runs import description, directory, experiment
from capsjax.runs.sources import with_data
from capsjax.study import compare
from capsjax.study.design import design
from capsjax.study.pool import _hand_over, read_data
from capsjax.study.trial_runner import TrialRunner

SHORT = [
    "--training.epochs",
    "1",
    "--training.batch_size",
    "8",
    "--model.layers.stem.channels",
    "4",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Dark and light pictures of 8 x 8, 20 of each."""
    folder = tmp_path_factory.mktemp("own") / "photos"
    for name, level in {"night": 20, "day": 200}.items():
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.RandomState(number).randint(level, level + 40, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_every_file_that_is_left_out_is_written_down(folder, tmp_path, monkeypatch):
    odd = shutil.copytree(folder, tmp_path / "odd")
    for number in range(8):
        (odd / "day" / f"z{number}.txt").write_text("no")

    class BegunError(Exception):
        pass

    def stop(*given):
        raise BegunError

    monkeypatch.setattr(experiment, "finish", stop)
    monkeypatch.setattr(compare, "_carry_out", stop)
    config = cj.load_config("images", {"training.batch_size": 8, "model.layers.stem.channels": 4})
    expected = "".join(f"day/z{number}.txt (not a picture: text)\n" for number in range(8))
    for number, learn in enumerate((experiment.train, compare.compare)):
        with pytest.raises(BegunError):
            learn(config, odd, out=tmp_path / f"odd{number}")
        assert (tmp_path / f"odd{number}" / "left_out.txt").read_text("utf-8") == expected
    with pytest.raises(BegunError):
        experiment.train(config, folder, out=tmp_path / "whole")
    assert (tmp_path / "whole" / "config.yaml").exists()
    assert not (tmp_path / "whole" / "left_out.txt").exists()


def test_names_that_break_lines_are_one_line_each(tmp_path):
    directory.write_left_out(tmp_path, ["a\nb.png (no)", "c\x1b[2Jd.png (no)"])
    text = (tmp_path / "left_out.txt").read_text("utf-8")
    assert text == "a\\nb.png (no)\nc\\x1b[2Jd.png (no)\n"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """The run of one command, and what the command said."""
    out = tmp_path_factory.mktemp("runs") / "run"
    said, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
        code = main(["train", str(folder), "--report", "--out", str(out), *SHORT])
    assert code == 0, told.getvalue()
    return cj.load(out), said.getvalue(), told.getvalue()


def test_one_command_trains_and_reports(trained, folder):
    run, said, told = trained
    assert f"report: {run.folder / 'report.html'}" in said
    assert "folder: 2 classes (day 20, night 20); 40 images [8, 8, 1], of which 32 train" in told
    assert "pictures: all 8 x 8; 40 grey; read as 8 x 8 x 1 uint8" in told
    assert run.config.data == PictureFolder(path=str(folder))
    page = (run.folder / "report.html").read_text()
    assert '<th scope="row">night</th>' in page or ">night<" in page
    assert (run.folder / "tables" / "classes.csv").read_text().split() == [
        "name,number",
        "day,0",
        "night,1",
    ]


def test_predictions_are_called_as_the_folders_are(trained, folder):
    run, *_ = trained
    assert run.class_names == ("day", "night")
    assert run.classes.tolist() == ["day", "night"]
    assert description.read_data(run.folder)["class_names"] == ["day", "night"]
    image = np.asarray(Image.open(folder / "night" / "0.png"))[None, ..., None]
    number = int(run.outputs(image).lengths.argmax())
    assert run.predict(image).tolist() == [run.class_names[number]]


def test_other_folders_are_measured_by_the_names_of_their_classes(trained, folder, tmp_path):
    run, *_ = trained
    own = cj.evaluate(run)
    # Without "day", "night" would be class 0 by itself; and twice the size, which the run does not take.
    other = tmp_path / "other"
    for split in ("train", "test"):
        for name in ("night", "day"):
            (other / split / name).mkdir(parents=True)
    for name in ("night", "day"):
        for number in range(4):
            image = Image.open(folder / name / f"{number}.png").resize(
                (16, 16), Image.Resampling.BOX
            )
            image.save(other / "train" / name / f"{number}.png")
    shutil.copy(folder / "night" / "0.png", other / "test" / "night" / "0.png")
    found = cj.evaluate(run, other)
    wrong = run.predict(np.asarray(Image.open(folder / "night" / "0.png"))[None]) != "night"
    assert found["examples"] == 1
    assert found["error"] == wrong.mean()
    assert set(own) == set(found)
    (other / "train" / "dusk").mkdir()
    shutil.copy(folder / "night" / "0.png", other / "train" / "dusk" / "0.png")
    with pytest.raises(
        UserError, match="got classes dusk, which the run does not know, expected some of"
    ):
        cj.evaluate(run, str(other))


def test_classes_are_measured_by_their_names_whatever_their_numbers(trained, folder):
    run, *_ = trained
    night = [np.asarray(Image.open(folder / "night" / f"{number}.png")) for number in range(20)]
    split = Split(np.stack(night)[..., None], np.zeros(20, np.int32))
    dataset = Dataset("own", split, None, split, 2, 1 / 255, class_names=("night", "day"))
    wrong = np.mean(run.predict(split.images) != "night")
    assert wrong != 0.5  # else the other numbers would give the same error
    assert cj.evaluate(run, dataset)["error"] == pytest.approx(wrong)


def test_commands_take_other_pictures_in_the_size_of_the_run(trained, folder, tmp_path, capsys):
    """Twice as large and in colour, which a folder by itself would be read as."""
    run, *_ = trained
    other = tmp_path / "other"
    for name in ("night", "day"):
        (other / name).mkdir(parents=True)
        for number in range(20):
            image = Image.open(folder / name / f"{number}.png").resize((16, 16)).convert("RGB")
            image.save(other / name / f"{number}.png")
    (other / "day" / "odd.png").write_text("no picture")
    assert main(["evaluate", str(run.folder), "--data.path", str(other)]) == 0
    said = capsys.readouterr()
    assert "test error" in said.out
    assert "left out: day/odd.png (not a picture: text)" in said.err + said.out
    copy = tmp_path / "copy"
    shutil.copytree(run.folder, copy)
    (copy / "reconstructions.png").unlink(missing_ok=True)
    cj.report(copy, data=str(other))
    assert (copy / "reconstructions.png").exists()


def test_a_configuration_may_be_called_anything(tmp_path, capsys):
    (tmp_path / "mine.conf").write_text("data: digits\ntraining: {epochs: 0, batch_size: 8}\n")
    assert main(["train", str(tmp_path / "mine.conf"), "--out", str(tmp_path / "run")]) == 2
    assert "training.epochs: got 0" in capsys.readouterr().err


def test_a_path_says_what_data_it_holds(folder, tmp_path):
    config = cj.load_config("smoke")
    np.savez(tmp_path / "x.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 4)
    for path, kind in {folder: PictureFolder, tmp_path / "x.npz": Arrays}.items():
        found, left = with_data(config, path)
        assert found.data == kind(path=str(path))
        assert left is None
    own = cj.load_config("images", {"data.size": 5})
    assert with_data(own, folder)[0].data == PictureFolder(path=str(folder), size=5)
    assert with_data(config, PictureFolder(path=str(folder), size=3))[0].data.size == 3
    with pytest.raises(UserError, match="no such file or folder, expected a folder with"):
        with_data(config, tmp_path / "none")
    (tmp_path / "x.doc").write_text("no")
    with pytest.raises(UserError, match=r"got '.*x\.doc', expected a folder with"):
        with_data(config, tmp_path / "x.doc")


def test_a_run_or_a_configuration_is_not_taken_for_data(trained, capsys):
    run, *_ = trained
    assert main(["train", str(run.folder)]) == 2
    assert "got a directory, expected a file, such as a run's" in capsys.readouterr().err
    assert main(["train", "no_such_thing"]) == 2
    assert "; or a configuration: a YAML file or one of" in capsys.readouterr().err


def test_what_processes_hand_over_keeps_names(tmp_path, folder):
    dataset = PictureFolder(path=str(folder), range=(0, 255)).load()
    config = cj.load_config("smoke", {"data": {"kind": "arrays"}})
    path = _hand_over(tmp_path, TrialRunner(config, design(config), dataset))
    again = read_data(path)
    assert again.class_names == dataset.class_names
    assert again.fingerprint() == dataset.fingerprint()
    assert again.rescaling.as_json() == dataset.rescaling.as_json()


@pytest.mark.parametrize("names", [["day"], "day", ["day", "day"], {"a": 1}])
def test_names_that_do_not_fit_are_named(names, trained, tmp_path):
    run, *_ = trained
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run" / "environment.json"
    found = json.loads(path.read_text())
    found["data"]["class_names"] = names
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"data\.class_names: got .*expected a name for each"):
        cj.load(tmp_path / "run")
