"""The paper's ablation is a configuration with arms: the shipped one, and what each row changes."""

import dataclasses
from pathlib import Path

import pytest

import capsjax as cj
from capsjax.reports.comparison_page import report_comparison
from capsjax.runs.comparing import CompareConfig
from capsjax.study.compare import compare
from capsjax.study.design import design
from capsjax.study.ledger import trials_of

ABLATION = (
    Path(__file__).resolve().parents[2] / "experiments" / "mnist_sabour2017" / "ablation.yaml"
)
ROWS = {
    "full": {},
    "stop": {"model.routing.gradient": "stop"},
    "r=3, no decoder": {"model.decoder": None},
    "r=1": {"model.routing.num_iters": 1},
    "r=1, no decoder": {"model.routing.num_iters": 1, "model.decoder": None},
}


def test_it_is_the_shipped_configuration_with_the_paper_s_rows():
    config, shipped = cj.load_config(ABLATION), cj.load_config("mnist_sabour2017")
    assert dataclasses.replace(config, compare=CompareConfig()) == shipped
    designed = design(config)
    assert list(designed.arms) == list(ROWS)
    assert designed.reference == "full"
    for name, changes in ROWS.items():
        expected = cj.load_config("mnist_sabour2017", changes)
        arm = dataclasses.replace(designed.arms[name].config, compare=CompareConfig())
        assert arm == expected, name


def test_runs_go_seed_by_seed():
    config = cj.load_config(ABLATION)
    trials = trials_of(Path("out"), config, design(config))
    assert [(trial.seed, trial.arm.name) for trial in trials] == [
        (seed, name) for seed in range(3) for name in ROWS
    ]
    assert trials[2].path.name == "r=3-no-decoder-seed0"


@pytest.mark.usefixtures("unpainted")
def test_its_arms_from_the_start_to_the_table(tmp_path):
    told = cj.load_config(ABLATION).compare
    smallest = {
        "training": {"epochs": None, "steps": 4},
        "compare": {"arms": dict(told.arms), "reference": told.reference, "seeds": 1},
        "compare.timing_rounds": 3,
    }
    folder = compare(cj.load_config("smoke", smallest), out=tmp_path / "it")
    _, (results, *_) = report_comparison(folder)
    assert [row[0] for row in results.rows] == list(ROWS)
    assert results.headings[1] == "minus full, points"
