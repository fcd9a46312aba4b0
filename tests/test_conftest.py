"""What `conftest.py` promises: every test relies on it."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import jaxtyping
import matplotlib as mpl
import pytest

from capsjax.votes import predict


def test_there_are_four_devices(four_devices):
    assert jax.device_count() == 4


def test_little_is_optimised_but_where_xla_flags_ask_for_more():
    """The last of several is the one that counts."""
    flags = os.environ["XLA_FLAGS"].split()
    levels = [flag for flag in flags if flag.startswith("--xla_backend_optimization_level=")]
    assert levels[0].endswith("=0")
    assert flags[-1] == "--xla_force_host_platform_device_count=4"


def test_adding_arrays_of_different_ranks_raises():
    with pytest.raises(ValueError, match="jax_numpy_rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)


def test_warnings_are_errors():
    with pytest.raises(FutureWarning):
        warnings.warn("not to be missed", FutureWarning, stacklevel=1)


def test_shapes_are_checked():
    votes = predict(jnp.ones((5, 3)), jnp.ones((5, 4, 3, 6)))
    with pytest.raises(jaxtyping.TypeCheckError, match="coupling"):
        votes.combine(jnp.ones(4))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'W'"):
        predict(jnp.ones((5, 3)), jnp.ones((4, 4, 3, 6)))


def test_types_are_not_checked_as_installed(as_installed):
    with pytest.raises(ValueError, match="expected u"):
        predict(jnp.ones((5, 3)), jnp.ones((4, 4, 3, 6)))


def test_float64_only_where_asked_for():
    assert jnp.ones(2).dtype == jnp.float32


def test_float64_where_asked_for(x64):
    assert jnp.ones(2).dtype == jnp.float64


def test_figures_need_no_display():
    assert mpl.get_backend().lower() == "agg"


def test_a_process_that_a_test_starts_has_the_same_devices(four_devices):
    code = "import jax; print(jax.device_count(), jax.config.jax_compilation_cache_dir)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4", jax.config.jax_compilation_cache_dir]
