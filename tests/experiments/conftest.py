"""Scripts of experiments are imported as their commands import them: by names that several share."""

import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.fixture(autouse=True, scope="module")
def forget_scripts():
    """Let go of an experiment's modules, and of their folders, after each file of tests."""
    folders = [*sys.path]
    yield
    sys.path[:] = folders
    for name, module in [*sys.modules.items()]:
        if EXPERIMENTS in Path(getattr(module, "__file__", None) or "").parents:
            del sys.modules[name]
