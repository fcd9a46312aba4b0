"""What the shipped configurations reach: the program that measures it, and the tables that it wrote."""

import importlib
import json
import sys
from pathlib import Path

import pytest

import capsjax as cj
from capsjax.runs.plan import functions_of

HERE = Path(__file__).resolve().parents[2] / "experiments" / "protocols"


@pytest.fixture(scope="module")
def program():
    sys.path.insert(0, str(HERE))
    return importlib.import_module("measure")


def test_the_tables_of_the_page_are_those_of_the_raw_results(program):
    page = program.PAGE.read_text(encoding="utf-8")
    found = json.loads(program.RESULTS.read_text(encoding="utf-8"))
    assert page == program.written(page, found)
    assert set(found) <= set(program.ENTRIES)
    changed = json.loads(json.dumps(found))
    changed["fashion"]["0"]["test"][-1] += 0.01
    assert page != program.written(page, changed)


def test_networks_are_compared_where_they_are_equally_good(program):
    def rows(*seeds):
        return {str(n): {"familiar": x, "test": y} for n, (x, y) in enumerate(seeds)}

    one = rows(([0.5, 0.2], [0.4, 0.3]), ([0.3, 0.1], [0.5, 0.2]))
    other = rows(([0.6, 0.2, 0.1], [0.9, 0.8, 0.7]))  # the second seed is not there yet
    equal = program.at_equal([one, other], "familiar", "test")
    # Both reach 0.2: the first at its end, the other one checkpoint before.
    assert equal == [{"0": {"equal": [0.3]}}, {"0": {"equal": [0.8]}}]


def test_a_run_is_measured_on_all_that_its_protocol_asks_for(program, tmp_path, monkeypatch):
    source = {"data": {"kind": "perturbed", "source": "digits", "changes": [], "splits": ["test"]}}
    short = {"training.steps": 2, "training.epochs": None, "optimiser.schedule.warmup": 1}
    turned = {"affine": {"changes": (program.AffnistLike(),)}}
    entry = program.Entry("smoke", source | short, turned)
    row = program.measure(entry, tmp_path / "run", 3)
    assert row["steps"] == [2]
    assert len(row["test"]) == len(row["affine"]) == 1
    assert row["test"] == [cj.evaluate(tmp_path / "run")["error"]]
    assert cj.load(tmp_path / "run").config.seed == 3
    assert row["seconds"] >= 0
    assert row["parameters"] > 1000

    def trained(*_, **__):
        raise AssertionError("a run that is there was trained again")

    monkeypatch.setattr(cj, "train", trained)
    assert program.measure(entry, tmp_path / "run", 3) == row | {"seconds": None}


def test_the_convolutional_network_is_as_large_as_the_capsules(program):
    sizes = {}
    for network, (name, changed) in program.ETH80.items():
        config = cj.load_config(name, changed)
        shapes = functions_of(config, (32, 32, 1), 8).shapes()
        sizes[network] = sum(x.size for x in shapes.values())
    assert sizes["CNN"] == pytest.approx(sizes["capsules, no decoder"], rel=0.002)
    found = json.loads(program.RESULTS.read_text(encoding="utf-8"))
    for protocol in program.PROTOCOLS:
        rows = found[f"eth80 {protocol}, CNN"].values()
        assert {row["parameters"] for row in rows} == {sizes["CNN"]}


def test_the_convolutional_network_of_eth80_is_what_was_measured(program):
    """All of it, but for its decoder: the results are those of the network, loss and schedule below."""
    network = {
        "kind": "network",
        "layers": {
            "stem": {"kind": "conv", "channels": 32, "kernel": 5, "stride": 2},
            "conv": {"kind": "conv", "channels": 64, "kernel": 5, "stride": 2},
            "dense": {"kind": "dense_features", "channels": 127},
        },
        "head": {"kind": "linear", "output": "softmax"},
    }
    for protocol in program.PROTOCOLS:
        same = {"data.protocol": protocol, "data.validation": 0, **program.ALL_STEPS}
        measured = cj.load_config("eth80", {**same, "model": network, "loss": "likelihood"})
        entry = program.ENTRIES[f"eth80 {protocol}, CNN"]
        assert cj.load_config(entry.config, entry.changed) == measured


def test_names_are_told(program, capsys):
    program.main(["--list"])
    assert capsys.readouterr().out.split("\n")[:-1] == list(program.ENTRIES)
    with pytest.raises(SystemExit):
        program.main(["fashoin"])
    assert "'fashoin' is none of: fashion; usps" in capsys.readouterr().err
