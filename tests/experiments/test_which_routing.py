"""The table of routings: networks of about one size, and a table that is that of the raw results."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from capsjax.study.outcomes import pack

HERE = Path(__file__).resolve().parents[2] / "experiments" / "which_routing"


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(HERE))
    return importlib.import_module("tables")


def test_every_routing_has_a_network_of_about_the_same_size(tables):
    for name, entry in tables.run.read_sets(HERE).items():
        sizes = tables.parameters(name, entry)
        assert set(sizes) == set(entry["own_arms"])
        ratio = {arm: size / sizes["uniform"] for arm, size in sizes.items()}
        assert ratio.get("cnn", 1) == pytest.approx(1, abs=0.006)
        assert all(1 - 0.006 < each < 1.13 for each in ratio.values()), ratio


def test_a_rate_is_chosen_by_the_loss_that_an_arm_has(tables):
    def record(arm, key, value):
        line = {"error": 0.1, key: value, "loss": 9.0 if key == "margin" else value}
        return {"arm": arm, "seed": 800, "state": "done", "validation": line}

    records = [
        record("full, rate=0.003", "margin", 0.2),
        record("full, rate=0.009", "margin", 0.1),
        record("em, rate=0.003", "spread", 0.3),
        record("em, rate=0.009", "spread", 0.4),
    ]
    assert tables.run.select(records)["rates"] == {"full": 0.009, "em": 0.003}


def test_a_set_says_how_many_seeds_choose_its_rates(tables):
    sets = tables.run.read_sets(HERE)
    found = {name: tables.run.selection_config(entry).compare.seeds for name, entry in sets.items()}
    expected = {"fashion_10k": 1, "eth80_objects": 2}
    assert found == {f"{kind}{name}": expected[name] for kind in tables.OF_EM for name in expected}
    assert {name for name, entry in sets.items() if "cnn" in entry["own_arms"]} == set(expected)


def test_the_table_begins_with_the_smallest_error(tables):
    errors = {
        "uniform": np.array([4.0, 4.2]),
        "dynamic, full": np.array([3.0, 3.2]),
        "em": np.array([2.0, 2.4]),
    }
    cost = {
        "uniform": {"seconds": [1.0, 2.0, 4.0], "temp_bytes": 100},
        "dynamic, full": {"seconds": [2.0, 3.0, 6.0], "temp_bytes": 150},
        "em": {"seconds": [5.0, 4.0, 16.0], "temp_bytes": 300},
    }
    lines = tables.table(errors, cost, dict.fromkeys(errors, 1000), dict.fromkeys(errors, 0.009))
    em, full = ([cell.strip() for cell in line.split("|")][1:-1] for line in lines[2:4])
    assert em[:4] == ["em", "2.20 ± 0.28", "-0.90 (-2.17 to +0.37)", "-1.90 (-3.17 to -0.63)"]
    assert em[4:] == ["4.00", "3.00", "1,000", "0.009"]
    assert full[:4] == ["dynamic, full", "3.10 ± 0.14", "", "-1.00 (-1.00 to -1.00)"]
    assert full[4:] == ["1.50", "1.50", "1,000", "0.009"]
    assert lines[4].startswith("| uniform | 4.10 ± 0.14 | +1.00")


def test_the_pages_have_the_tables_of_the_raw_results(tables, tmp_path):
    made = tables.tables()
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.written(text, made) == text
    assert tables.tables(tmp_path) == tables.finding.NOTHING


def test_results_are_read_where_the_loss_is_another(tables, tmp_path):
    test = {"error": 0.5, "loss": 1.0, "examples": 2.0}
    packed = pack(np.array([True, False]))
    runs = [{"arm": "em", "seed": 1, "state": "done", "test": test, "wrong": packed}]
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits/runs.json").write_text(json.dumps(runs))
    found = tables.finding.read("digits", tmp_path)
    assert found.errors["em"].tolist() == [50.0]
    assert np.isnan(found.losses["em"]).all()
