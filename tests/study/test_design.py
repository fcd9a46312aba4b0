"""Arms are what flags would say; a grid crosses with those that have its keys."""

import pytest

import capsjax as cj
from capsjax.checks import UserError
from capsjax.routing import Routing
from capsjax.runs.comparing import CompareConfig
from capsjax.runs.served import check_served
from capsjax.schema.fields import kinds_of
from capsjax.schema.text import dump, read_yaml
from capsjax.schema.tree import build
from capsjax.study.design import design, routing_of, run_folder

ARMS = {
    "uniform": {"model.routing": "uniform"},
    "stop": {"model": {"routing": {"gradient": "stop"}}},
    "full": None,
}


def designed(compare, name="smoke"):
    return design(cj.load_config(name, {"compare": compare}))


def test_modes_of_a_network_without_routing_are_refused():
    with pytest.raises(
        UserError, match=r"^compare\.modes: .* no layer routes, expected compare\.arms"
    ):
        designed({}, name="digits_cnn")
    arms = {"it": {}, "other": {"optimiser.schedule.rate": 0.1}}
    assert list(designed({"arms": arms}, name="digits_cnn").arms) == ["it", "other"]


@pytest.mark.parametrize(
    ("modes", "kinds"),
    [
        (
            ("full", "stop"),
            "dynamic, fixed_point, interest, soft_k_means, variational, em, self_attention, slot_attention",
        ),
        (("full", "closed_form"), "dynamic, interest, soft_k_means"),
        (("uniform", "full", "closed_form", "implicit"), "soft_k_means"),
    ],
)
def test_a_routing_without_iterations_is_told_which_kinds_have_them(modes, kinds):
    """Of all that are there, with those modes; with each the comparison is one."""
    plain = {"compare.modes": list(modes)}
    with pytest.raises(UserError, match="got a SelfRouting, expected an iterative") as raised:
        design(cj.load_config("digits_self", plain))
    said = str(raised.value).partition("set model.routing.kind to ")[2].replace(" or ", ", ")
    known = kinds_of(Routing)
    # Kinds that other tests define are there too.
    own = [kind for kind in said.split(", ") if known[kind].__module__.startswith("capsjax.")]
    assert own == kinds.split(", ")
    for kind in own:
        config = cj.load_config("digits_self", {**plain, "model.routing": kind})
        made = design(config)
        assert list(made.arms) == list(modes)
        for arm in made.arms.values():
            check_served(arm.config)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.routing.gradient": "stop"},
        {"model.routing": "uniform"},
        {"model.routing": {"kind": "em", "gradient": "full"}, "training.epochs": 2},
        {"model.decoder": None, "optimiser.schedule.rate": 0.5},
        {"optimiser": "sgd", "optimiser.schedule": {"kind": "cosine", "rate": 0.1}},
    ],
)
def test_an_arm_is_what_flags_would_say(changes):
    compare = {"arms": {"it": changes, "other": {}}}
    arm = designed(compare).arms["it"]
    expected = cj.load_config("smoke", {**changes, "compare": compare})
    assert arm.config == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.routing.gradien": "stop"},
            r"it\.model\.routing\.gradien: unknown key.*'gradient'",
        ),
        ({"model.routing.gradient": "stpo"}, r"it\.model\.routing\.gradient: .*got 'stpo'.*'stop'"),
        ({"training.epochs": "x"}, r"it\.training\.epochs: got 'x'\s+expected an integer"),
        ({"training.epochs.b": 1}, r"it\.training\.epochs\.b: training.epochs is 3"),
        ({"seed": 3}, r"it\.seed: got 3\s+expected a key that may differ between arms"),
        ({"compare.seeds": 3}, r"it\.compare\.seeds: got 3\s+expected a key that may differ"),
        (3, r"it: got 3\s+expected a mapping of dotted keys"),
    ],
)
def test_an_error_of_an_arm_names_its_key_and_says_what_flags_say(changes, message):
    with pytest.raises(UserError, match=rf"(?s)compare\.arms\.{message}"):
        designed({"arms": {"it": changes, "other": {}}})


def test_a_grid_crosses_with_the_arms_that_have_its_key():
    found = designed({"arms": ARMS, "grid": {"model.routing.num_iters": [2, 3]}})
    assert list(found.arms) == [
        "uniform",
        "stop, num_iters=2",
        "full, num_iters=2",
        "stop, num_iters=3",
        "full, num_iters=3",
    ]
    assert [(g.label, g.names, g.reference) for g in found.groups] == [
        (f"num_iters={r}", ("uniform", f"stop, num_iters={r}", f"full, num_iters={r}"), full)
        for r, full in ((2, "full, num_iters=2"), (3, "full, num_iters=3"))
    ]
    routing = found.arms["stop, num_iters=2"].config.model.routing
    assert routing == cj.DynamicRouting(num_iters=2, gradient=cj.StopGradient())
    assert found.arms["uniform"].config.model.routing == cj.UniformRouting()
    assert run_folder("stop, num_iters=2", 1) == "stop-num_iters=2-seed1"


def test_a_grid_over_data_sets_compares_within_each():
    grid = {"data": ["digits", {"kind": "mnist", "validation": 10}]}
    found = designed({"arms": ARMS, "grid": grid})
    assert [group.label for group in found.groups] == ["data=digits", "data=mnist"]
    for group in found.groups:
        assert len({found.arms[name].config.data for name in group.names}) == 1
    alone = designed({"arms": {"it": {}}, "grid": {**grid, "optimiser.schedule.rate": [0.1, 0.2]}})
    assert [group.names for group in alone.groups] == [
        tuple(f"data={data}, rate={rate}" for rate in (0.1, 0.2)) for data in ("digits", "mnist")
    ]


def test_the_grid_of_a_single_arm_is_its_arms():
    rates = {"optimiser.schedule.rate": [0.1, 0.01, 0.001]}
    found = designed({"arms": {"it": {}}, "grid": rates, "reference": "rate=0.01"})
    (group,) = found.groups
    assert group == ((), ("rate=0.1", "rate=0.01", "rate=0.001"), "rate=0.01")
    assert [a.config.optimiser.schedule.rate for a in found.arms.values()] == [0.1, 0.01, 0.001]


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ({"arms": {"a": {}}, "grid": {"model.rooting.r": [1]}}, r"compare\.grid\..*unknown key"),
        ({"arms": ARMS, "grid": {"training.epochs": ["x"]}}, r"grid\.training\.epochs: got 'x'"),
        ({"grid": {"training.epochs": 3}}, r"grid\.training\.epochs: got 3.*a list of different"),
        ({"grid": {"training.epochs": [3, 3]}}, r"a list of different values"),
        ({"grid": {"seed": [3, 4]}}, r"grid\.seed: got .* not seed or compare"),
        ({"arms": ARMS, "reference": "other"}, r"reference: got 'other', expected one of the arms"),
        ({"arms": {"a b": {}, "a-b": {}}}, r"got 'a-b', expected names that stay apart"),
        ({"arms": {"a/b": {}}}, r"got 'a/b'.*no slash"),
        ({"arms": {"": {}}}, r"expected names of up to 60"),
        ({"modes": ["stop", "uniform"]}, r"full among them"),
        ({"modes": ["stop", "full", "full"]}, r"different modes of uniform, "),
        ({"modes": ["stop", "full", "ful"]}, r"got 'ful'.*one of uniform, .*'full'\?"),
    ],
)
def test_what_is_no_comparison_is_refused(compare, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        designed(compare)


def test_the_short_form_knows_every_gradient_mode():
    found = designed({"modes": ["closed_form", "stop"], "reference": "stop"})
    assert found.reference == "stop"
    assert found.arms["closed_form"].config.model.routing.gradient == cj.ClosedForm()
    remat = cj.DynamicRouting(gradient=cj.FullGradient(remat=True))
    assert routing_of("full", remat) == cj.DynamicRouting(gradient=cj.FullGradient())


def test_flags_reach_into_arms_whose_keys_have_dots():
    text = "arms: {held 0.5: {model.routing.gradient: stop}, live: {}}"
    key = "arms.held 0.5.model.routing.gradient"
    found = build(CompareConfig, read_yaml(text, "x"), source="x", overrides={key: "full"})
    assert found.arms["held 0.5"] == {"model.routing.gradient": "full"}
    config = cj.load_config("smoke", {"compare.arms.x.model.routing.gradient": "stop"})
    assert config.compare.arms == {"x": {"model.routing.gradient": "stop"}}


def test_a_comparison_is_written_and_read_again():
    config = cj.load_config("smoke", {"compare": {"arms": ARMS, "grid": {"data": ["digits"]}}})
    again = build(cj.Config, read_yaml(dump(config), "x"), source="x")
    assert again == config
    assert hash(again) == hash(config)
