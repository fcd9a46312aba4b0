"""How long a run trains, and how: what is refused, and how many steps follow."""

import pytest

from capsjax.checks import FieldError, UserError
from capsjax.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"epochs": 1, "batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"steps": -1}, "steps"),
        ({"epochs": True}, "epochs"),
        ({}, "epochs"),
        ({"epochs": 1, "steps": 1}, "epochs"),
        ({"epochs": 1, "eval_batch_size": 0}, "eval_batch_size"),
        ({"epochs": 1, "log_every": 0}, "log_every"),
        ({"epochs": 1, "checkpoint_every": 0}, "checkpoint_every"),
        ({"epochs": 1, "eval_every": 0}, "eval_every"),
        ({"epochs": 1, "keep_checkpoints": 0}, "keep_checkpoints"),
        ({"epochs": 1, "parallel": "pmpa"}, "parallel"),
        ({"epochs": 1, "feed": "disk"}, "feed"),
    ],
)
def test_bad_values_are_refused_by_name(fields, field):
    with pytest.raises((FieldError, TypeError), match=field) as caught:
        TrainingConfig(**fields)
    assert getattr(caught.value, "field", field) == field


def test_steps_follow_from_epochs_and_whole_batches():
    assert TrainingConfig(batch_size=10, epochs=3).total_steps(29) == 6
    assert TrainingConfig(batch_size=10, steps=7).total_steps(29) == 7
    with pytest.raises(
        UserError, match=r"batch_size: got 30 for 29 training examples, expected at most 29"
    ):
        TrainingConfig(batch_size=30, epochs=1).total_steps(29)
