"""Every arm of a seed begins with the same parameters, wherever shapes allow."""

import dataclasses
from pathlib import Path

import numpy as np

import capsjax as cj
from capsjax.data import Digits
from capsjax.runs.plan import plan
from capsjax.study.beginning import Beginning, beginning, start_of
from capsjax.study.design import design
from capsjax.study.ledger import Trial

SELF = {"model.routing": "self"}
ARMS = {
    "full": {},
    "self": SELF,
    "small": {"model.decoder.hidden": [4]},
    "released": {"model.initialisation": "released"},
    "batches": {"training.batch_size": 64},
    "unshifted": {"max_shift": 0},
    "longer": {"training.epochs": 4, "optimiser.schedule.rate": 0.5},
}


def test_an_arm_that_draws_more_numbers_begins_like_the_others():
    """Self-routing draws arrays of its own, which moves the random numbers of the decoder behind it."""
    config = cj.load_config("smoke", {"compare": {"arms": ARMS}})
    designed, digits = design(config), Digits().load()
    donor, arm = (designed.arms[name] for name in ("full", "self"))
    given, own = (plan(a.config, digits).functions.initial(1) for a in (donor, arm))
    trial = Trial(arm, 1, Path("nowhere"))
    start = start_of(trial, donor.config, digits, digits)
    moved = [name for name in own if name.startswith("decoder")]
    assert any(not np.array_equal(own[name], given[name]) for name in moved)
    for name, value in start.params.items():
        kept = name in given and given[name].shape == value.shape
        np.testing.assert_array_equal(value, given[name] if kept else own[name])
    assert start.step == 0
    for name in ("full", "released", "batches", "longer"):
        trial = Trial(designed.arms[name], 1, Path("nowhere"))
        assert start_of(trial, donor.config, digits, digits) is None


def test_what_begins_otherwise_is_named():
    config = cj.load_config("smoke", {"compare": {"arms": ARMS}})
    designed, digits = design(config), Digits().load()
    donor = designed.donor.config
    assert donor == dataclasses.replace(config)
    found = {n: beginning(a.config, donor, digits, digits) for n, a in designed.arms.items()}
    everything = ("classes", "decoder", "primary", "stem")
    found = {n: Beginning(tuple(sorted(b.own)), b.batches) for n, b in found.items()}
    assert found == {
        "full": ((), True),
        "self": (("classes",), True),
        "small": (("decoder",), True),
        "released": (everything, True),
        "batches": ((), False),
        "unshifted": ((), False),
        "longer": ((), True),
    }
