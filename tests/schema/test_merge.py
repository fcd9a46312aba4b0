"""Flags set in trees: what they change, and what they leave alone."""

import json

import pytest

from capsjax.schema.tree import merge

FULL = {"kind": "full", "remat": True}
ROUTING = {"kind": "dynamic", "num_iters": 5, "gradient": {"kind": "truncated", "last": 1}}


@pytest.mark.parametrize(
    ("flags", "routing"),
    [
        ({"r.num_iters": 7}, {**ROUTING, "num_iters": 7}),
        ({"r.kind": "uniform"}, {"kind": "uniform"}),
        ({"r": "uniform"}, {"kind": "uniform"}),
        ({"r": {"kind": "uniform"}}, {"kind": "uniform"}),
        ({"r.kind": "dynamic"}, ROUTING),
        ({"r": "dynamic"}, ROUTING),
        ({"r": {"kind": "dynamic"}}, ROUTING),
        ({"r": {"num_iters": 7}}, {**ROUTING, "num_iters": 7}),
        (
            {"r": {"gradient": {"last": 2}}},
            {**ROUTING, "gradient": {"kind": "truncated", "last": 2}},
        ),
        ({"r": {"gradient.last": 2}}, {**ROUTING, "gradient": {"kind": "truncated", "last": 2}}),
        ({"r": {"gradient": {"remat": True, "kind": "full"}}}, {**ROUTING, "gradient": FULL}),
        ({"r": {"num_iters": 2, "kind": "other"}}, {"kind": "other", "num_iters": 2}),
        ({"r": {"num_iters": 7}, "r.num_iters": 8}, {**ROUTING, "num_iters": 8}),
        ({"r": {}}, ROUTING),
        ({"r.gradient": "full"}, {**ROUTING, "gradient": {"kind": "full"}}),
        (
            {"r.gradient.remat": True, "r.gradient": "full"},
            {**ROUTING, "gradient": {"kind": "full", "remat": True}},
        ),
        (
            {"r.gradient.remat": True, "r.gradient.kind": "full"},
            {**ROUTING, "gradient": {"kind": "full", "remat": True}},
        ),
        ({"r.num_iters": 2, "r.kind": "other"}, {"kind": "other", "num_iters": 2}),
        ({"r": 3}, 3),
        ({"r": None}, None),
    ],
)
def test_a_flag_changes_what_it_names_and_a_new_kind_drops_its_old_siblings(flags, routing):
    tree = {"r": ROUTING, "seed": 0}
    before = json.dumps(tree)
    merged = merge(tree, flags)
    assert merged == {"r": routing, "seed": 0}
    assert merge(merged, flags) == merged
    assert json.dumps(tree) == before


def test_a_path_goes_through_null_and_through_the_short_form_of_a_kind():
    tree = {"decoder": None, "gradient": "full"}
    flags = {"decoder.hidden": [4], "gradient.remat": True, "new.key": 1}
    assert merge(tree, flags) == {
        "decoder": {"hidden": [4]},
        "gradient": {"kind": "full", "remat": True},
        "new": {"key": 1},
    }


def test_a_merged_tree_shares_nothing_with_its_parts():
    tree, flags = {"a": {"b": [1]}}, {"c": [2]}
    merged = merge(tree, flags)
    merged["a"]["b"].append(0)
    merged["c"].append(0)
    assert (tree, flags) == ({"a": {"b": [1]}}, {"c": [2]})


def test_a_mapping_as_a_value_begins_where_null_or_the_short_form_of_a_kind_stands():
    tree = {"decoder": None, "gradient": "truncated", "seed": 0}
    flags = {
        "decoder": {"hidden": [4]},
        "gradient": {"last": 2},
        "new": {"key": 1},
        "seed": {"a": 1},
    }
    assert merge(tree, flags) == {
        "decoder": {"hidden": [4]},
        "gradient": {"kind": "truncated", "last": 2},
        "new": {"key": 1},
        "seed": {"a": 1},
    }
    assert merge({"decoder": None}, {"decoder": {}}) == {"decoder": {}}


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (True, "true"), ([1], "[1]")])
def test_a_path_through_a_scalar_is_refused(message, value, shown):
    text = message(merge, {"a": {"b": value}}, {"a.b.c": 1})
    assert text == f"a.b.c: a.b is {shown}\n  expected a.b to be a mapping"
