"""What runs said of the test, read off their directories."""

import dataclasses

import numpy as np
import pytest

from capsjax.runs.predictions import Predictions
from capsjax.study.outcomes import own_test


@pytest.mark.parametrize("other", [{"data": "other"}, {"step": 80}])
def test_a_run_s_own_test_is_told_from_others(tmp_path, other):
    """Beside it may lie tests on other data, and after more steps, whose names sort before it."""
    own = Predictions("", "test", 8, "", np.arange(3), np.eye(3))
    path = own.save(tmp_path, range(3))
    dataclasses.replace(own, lengths=1 - np.eye(3), **other).save(tmp_path, range(3)).rename(
        path.with_name("test-step8-2.npz")
    )
    found = own_test(tmp_path, 8)
    np.testing.assert_array_equal(found.lengths, own.lengths)
    path.write_bytes(b"")  # cut short
    assert own_test(tmp_path, 8) is None
