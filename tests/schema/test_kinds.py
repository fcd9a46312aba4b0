"""What another kind sets back is said, and what is said keeps it."""

import shlex

import pytest

import capsjax as cj
from capsjax.cli.flags import parse_overrides
from capsjax.runs.config import find_config
from capsjax.schema.kinds import set_back
from capsjax.schema.text import read_yaml, to_tree


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"model.routing": "em"}, {"model.routing.gradient"}),
        ({"model.routing.kind": "em", "model.routing.gradient": "full"}, set()),
        ({"model.routing": {"kind": "em", "gradient": {"kind": "full", "remat": True}}}, set()),
        ({"model.routing.num_iters": 5, "seed": 3}, set()),
        ({"model.routing": "dynamic"}, set()),
        ({"optimiser": "sgd"}, {"optimiser.schedule"}),
        (
            {"optimiser.schedule": "exponential"},
            {"optimiser.schedule.rate", "optimiser.schedule.warmup"},
        ),
        ({"model.routing.gradient": "stop"}, set()),
    ],
)
def test_what_another_kind_sets_back(overrides, expected):
    before = to_tree(cj.load_config("digits"))
    after = to_tree(cj.load_config("digits", overrides))
    flat = [
        f"{key}.{name}"
        for key, value in overrides.items()
        if isinstance(value, dict)
        for name in value
    ]
    said = read_yaml(find_config("digits").read_text(), "digits")
    assert set_back(said, before, after, [*overrides, *flat]).keys() == expected


@pytest.mark.parametrize("words", [["--model.routing", "em"], ["--optimiser", "sgd"]])
def test_the_terminal_says_it_and_the_words_keep_it(words, answer):
    code, _, err = answer("info", "digits", *words)
    assert code == 0
    (line,) = err
    key = line.split(":")[0]
    assert " the default of the new kind, where digits says " in line
    more = shlex.split(line.split("to keep that: ")[1])
    assert more[0] == f"--{key}"
    part, field = key.rsplit(".", 1)
    found = cj.load_config("digits", parse_overrides([*words, *more]))
    tree, kept = to_tree(found), to_tree(cj.load_config("digits"))
    for name in part.split("."):
        tree, kept = tree[name], kept[name]
    assert tree[field] == kept[field]
    assert answer("info", "digits", *words, *more)[2] == []


def test_what_the_new_kind_means_otherwise_is_not_offered(answer):
    """A margin that grows is none of the margin loss's."""
    code, _, (line,) = answer("info", "digits_em", "--loss.kind", "margin")
    assert code == 0
    assert line == "loss.margin: paper, the default of the new kind, where digits_em says linear"
