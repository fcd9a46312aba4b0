"""Several runs and comparisons on one page."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.reports.report import report_run
from capsjax.reports.side_by_side import report_several
from tests.reports.pages import check_alone


@pytest.fixture(scope="module")
def runs(compared):
    return compared.folder / "runs"


def test_runs_side_by_side(runs, tmp_path):
    names = ("stop-seed0", "stop-seed1", "full-seed0")
    page, (table,) = report_several([runs / name for name in names], tmp_path / "page")
    assert page == tmp_path / "page" / "report.html"
    found = check_alone(page, 4)
    rows = [list(row) for row in (table.headings, *table.rows)]
    assert [row for row in found.cells if row][: len(rows)] == rows
    assert [row[:7] for row in table.rows] == [
        ("stop-seed0", "dynamic", "stop", "3", "digits", "1", "24"),
        ("stop-seed1", "dynamic", "stop", "3", "digits", "1", "24"),
        ("full-seed0", "dynamic", "full", "3", "digits", "1", "24"),
    ]
    for row in table.rows:
        lines = [json.loads(x) for x in (runs / row[0] / "metrics.jsonl").read_text().splitlines()]
        trained = np.mean([line["error"] for line in lines if line["split"] == "train"][-5:])
        last = {line["split"]: 100 * line["error"] for line in lines}
        told = (100 * trained, last["validation"], last["test"])
        assert row[7:] == tuple(f"{error:.2f}" for error in told)
    with (tmp_path / "page" / "tables" / "differences.csv").open() as stream:
        assert {row[0]: row[1:] for row in csv.reader(stream)} == {
            "setting": list(names),
            "model.routing.gradient.kind": ["stop", "stop", "full"],
            "model.routing.gradient.remat": ["—", "—", "false"],
            "seed": ["0", "1", "0"],
        }
    text = (tmp_path / "page" / "report.md").read_text("utf-8")
    assert table.to_markdown() in text
    with (tmp_path / "page" / "metrics.csv").open() as stream:
        assert list(dict.fromkeys(row["run"] for row in csv.DictReader(stream))) == list(names)
    for name in ("error", "loss", "entropy", "test_error"):
        assert (tmp_path / "page" / "figures" / f"{name}.pdf").exists()


def test_a_comparison_beside_an_unfinished_run_of_other_data(compared, runs, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(runs / "full-seed1" / "config.yaml", other)
    kept = (runs / "full-seed1" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(kept[:3]))
    environment = json.loads((runs / "full-seed1" / "environment.json").read_text())
    environment["data"] |= {"fingerprint": "0" * 64, "name": "<b>\x1b[31m", "num_classes": 7}
    (other / "environment.json").write_text(json.dumps(environment))
    page, (table,) = report_several([compared.folder, other], tmp_path / "page")
    check_alone(page, 4)
    assert [row[0] for row in table.rows] == [
        *(f"comparison, {mode}" for mode in compared.config.compare.modes),
        "other",
    ]
    assert table.rows[-1][-1] == "—"
    raw = json.loads((compared.folder / "comparison.json").read_text())["test_error"]["stop"]
    sd = 100 * np.std(raw, ddof=1)
    assert table.rows[1][-1] == f"{100 * np.mean(raw):.2f} ± {sd:.2f}"
    text = page.read_text("utf-8")
    assert "The data differ" in text
    assert "Not finished, so without a test: other." in text
    assert "<b>" not in text
    assert "\x1b" not in text


def test_runs_of_other_routings_are_told_apart(compared, runs, tmp_path):
    stop = {"kind": "em", "num_iters": 2, "gradient": "stop"}
    for name, routing in (("em", stop), ("alone", "self")):
        config = cj.load_config("smoke", {"model.routing": routing, "training.epochs": 1})
        cj.train(config, out=tmp_path / name)
    folders = [runs / "stop-seed0", compared.folder, tmp_path / "em", tmp_path / "alone"]
    page, (table,) = report_several(folders, tmp_path / "page")
    assert [row[1:4] for row in table.rows] == [
        ("dynamic", "stop", "3"),
        ("uniform", "—", "—"),
        *(("dynamic", mode, "3") for mode in ("stop", "truncated", "full")),
        ("em", "stop", "2"),
        ("self", "—", "—"),
    ]
    words = page.read_text("utf-8")
    for picture in ("Curves of error, %", "Mean test error"):
        (alt,) = re.findall(rf'alt="({picture}[^"]*)"', words)
        assert "em (em) " in alt
        assert "alone (self) " in alt
        assert "stop-seed0 " in alt
    for term in ("r", "em", "self", "stop"):
        assert f"{term}</dt><dd>" in words
    text = report_run(tmp_path / "em")[0].read_text("utf-8")
    assert "<h1>em: a run with routing em, gradient mode stop</h1>" in text
    assert "<p>digits, routing em, r = 2, seed 0, 8 steps.</p>" in text
    assert "<dt>r</dt><dd>Number of M-steps" in text
    text = report_run(tmp_path / "alone")[0].read_text("utf-8")
    assert "<h1>alone: a run with routing self</h1>" in text
    assert "<p>digits, routing self, seed 0, 8 steps.</p>" in text
    assert "<dt>r</dt>" not in text
    assert "coupling is uniform" not in text
    assert "self</dt><dd>Each child decides by its own pose" in text


def test_directories_of_one_name_are_told_apart(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(runs / "stop-seed0", tmp_path / name / "run")
    folders = [tmp_path / name / "run" for name in ("a", "b")]
    _, (table,) = report_several(folders, tmp_path / "page")
    assert [row[0] for row in table.rows] == ["a/run", "b/run"]


def test_what_cannot_be_set_side_by_side_is_refused(runs, tmp_path):
    with pytest.raises(UserError, match="got 1 different directories, expected at least two"):
        report_several([runs / "stop-seed0", runs / "." / "stop-seed0"], tmp_path / "page")
    with pytest.raises(UserError, match="nowhere: got no directory"):
        report_several([runs / "stop-seed0", tmp_path / "nowhere"], tmp_path / "page")
    assert not (tmp_path / "page").exists()
    with pytest.raises(UserError, match="expected a new directory"):
        report_several([runs / "stop-seed0", runs / "full-seed0"], tmp_path)
