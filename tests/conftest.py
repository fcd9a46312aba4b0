"""What every test runs under: four CPU devices, strict shapes and ranks, and compiled code kept."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
).strip()
os.environ["MPLBACKEND"] = "Agg"

import pathlib

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
