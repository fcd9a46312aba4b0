"""Metrics are lines that stand by themselves, whatever happens to the machine."""

import json

import numpy as np
import pytest

from capsjax.runs.metrics_file import MetricsWriter, read_metrics


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_every_line_is_on_disk_at_once(path):
    writer = MetricsWriter(path)
    for step in (1, 2):
        writer.write("train", step, {"loss": np.float32(0.5), "error": 1})
        lines = path.read_text().splitlines()
        assert len(lines) == step
        expected = {"split": "train", "step": step, "loss": 0.5, "error": 1.0}
        assert json.loads(lines[-1]) == expected
    writer.close()


def test_lines_are_appended_and_none_is_touched(path):
    for step in (1, 2):
        writer = MetricsWriter(path)
        writer.write("train", step, {"loss": step})
        writer.close()
    assert [line["step"] for line in read_metrics(path)] == [1, 2]


@pytest.mark.parametrize(
    "torn", ['{"split": "train", "st', "{", '{"split": "train", "step": 2, "loss": 1']
)
def test_a_line_that_was_cut_short_is_left_out_and_ended(path, torn):
    path.write_text('{"split": "train", "step": 1, "loss": 3.0}\n' + torn)
    assert [line["step"] for line in read_metrics(path)] == [1]
    writer = MetricsWriter(path)
    writer.write("train", 3, {"loss": 1.0})
    writer.close()
    assert path.read_text().splitlines()[1] == torn
    assert [line["step"] for line in read_metrics(path)] == [1, 3]


def test_the_later_line_counts_where_a_resumed_run_measured_again(path):
    writer = MetricsWriter(path)
    for split, step, loss in [
        ("train", 1, 1),
        ("train", 2, 2),
        ("validation", 2, 9),
        ("train", 2, 3),
    ]:
        writer.write(split, step, {"loss": loss})
    writer.close()
    found = {(line["split"], line["step"]): line["loss"] for line in read_metrics(path)}
    assert found == {("train", 1): 1, ("train", 2): 3, ("validation", 2): 9}
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 2]


def test_no_file_is_no_lines(path):
    assert read_metrics(path) == []


def refuse(token):
    raise ValueError(token)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, np.float32("nan")])
def test_a_number_that_is_not_finite_is_null_in_strict_json_and_nan_when_read(path, value):
    writer = MetricsWriter(path)
    writer.write("train", 1, {"loss": value, "error": 0.5})
    writer.close()
    line = json.loads(path.read_text(), parse_constant=refuse)
    assert line == {"split": "train", "step": 1, "loss": None, "error": 0.5}
    (read,) = read_metrics(path)
    assert np.isnan(read["loss"])
    assert read["error"] == 0.5


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity"])
def test_the_tokens_that_were_written_before_are_read(path, token):
    path.write_text(f'{{"split": "train", "step": 1, "loss": {token}}}\n')
    assert not np.isfinite(read_metrics(path)[0]["loss"])


def test_a_line_that_is_no_mapping_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('null\n3\n{"split": "train", "step": 1, "loss": 2.0}\n')
    assert [line["step"] for line in read_metrics(path)] == [1]


def test_lines_of_another_kind_are_read_where_they_are_asked_for(path):
    path.write_text('{"split": "alignment", "step": 0, "all.cosine": 0.5}\n')
    assert read_metrics(path) == []
    assert read_metrics(path, ("alignment",))[0]["all.cosine"] == 0.5
