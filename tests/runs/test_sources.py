"""Where a run's data come from: a file of arrays is as good as the arrays."""

import numpy as np

import capsjax as cj
from capsjax.data import Arrays


def untested(folder):
    """Forget a run's test, as if it had stopped before."""
    metrics = folder / "metrics.jsonl"
    metrics.write_text("".join(metrics.read_text().splitlines(keepends=True)[:-1]))


def test_a_file_of_arrays_does_what_the_arrays_do(tmp_path, monkeypatch):
    images = np.random.default_rng(0).random((300, 8, 8), np.float32)
    labels = np.arange(300) % 10
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", images=images, labels=labels)
    file = {"data": {"kind": "arrays", "path": "x.npz"}, "training": {"epochs": 1}}
    run = cj.train(cj.load_config("smoke", file), out="file")
    given = cj.train(cj.load_config("smoke", {"training.epochs": 1}), (images, labels), out="given")
    assert run.test == given.test
    assert all((run.params[name] == given.params[name]).all() for name in run.params)
    monkeypatch.chdir("/")  # the run says where its file is, wherever it is read
    assert run.config.data == Arrays(path=str(tmp_path / "x.npz"))
    assert cj.evaluate(run.folder)["error"] == run.test["error"]
    assert cj.report(run.folder) == run.folder / "report.html"
    untested(run.folder)
    assert cj.resume(run.folder).test == run.test
    # Arrays that are given take the place of the file, which the run then does not name.
    assert cj.evaluate(run, (images, labels))["error"] == run.test["error"]
    short = {"training": {"epochs": None, "steps": 1}}
    other = cj.train(
        cj.load_config(run.folder / "config.yaml", short), (images, labels), out=tmp_path / "x"
    )
    assert other.config.data == Arrays()


def test_a_run_s_folder_stays_the_same_wherever_the_process_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    short = cj.load_config("smoke", {"training.epochs": None, "training.steps": 1})
    made = [cj.train(short, out="here/run"), cj.load("here/run")]
    untested(made[0].folder)
    made.append(cj.resume("here/run"))
    monkeypatch.chdir("/")
    for one in made:
        assert one.folder == tmp_path / "here" / "run"
        assert one.test["step"] == 1
