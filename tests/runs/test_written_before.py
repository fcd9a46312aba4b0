"""A run that an earlier version wrote, before routings, votes and losses got their present contracts."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import capsjax as cj

# `capsjax train smoke --training.epochs 1` of commit 6b9c862: 8 steps, with the checkpoint of the last.
RUN = Path(__file__).parent / "data" / "smoke-0.1.zip"


def test_it_is_loaded_and_evaluated_as_it_was(tmp_path):
    with zipfile.ZipFile(RUN) as archive:
        archive.extractall(tmp_path / "run")
    run = cj.load(tmp_path / "run")
    assert run.test is not None
    assert (run.test["step"], run.test["error"]) == (8, 0.826)
    assert sum(np.size(value) for value in run.params.values()) == 1560
    assert float(np.sum(run.params["classes.weight"])) == pytest.approx(-8.414992, rel=1e-5)
    found = cj.evaluate(tmp_path / "run")
    assert found["error"] == 0.826
    assert found == pytest.approx({name: run.test[name] for name in found}, rel=1e-4)
