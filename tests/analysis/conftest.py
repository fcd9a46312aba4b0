"""One small comparison, run once, with a record of what each of its runs began with and saw."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax import experiment
from capsjax.analysis.compare import compare
from capsjax.analysis.report import report_comparison
from capsjax.training.feed import TrainFeed
from capsjax.training.progress import Reporter

MODES = ("uniform", "stop", "truncated", "full")


class Record(Reporter):
    """Keep what it is told."""

    def __init__(self):
        self.told = []

    def start(self, label, total, done=0):
        self.told.append((label, total, done))

    def update(self, done, note=""):
        self.told.append((done, note))

    def say(self, line):
        self.told.append(line)

    def close(self):
        pass


@pytest.fixture(scope="session")
def compared(tmp_path_factory):
    """The comparison: `folder`, `config`, `told`, `page`, `tables`; of each run, by mode and seed,
    `began` (initial parameters) and `saw` (its batches).
    """
    config = cj.load_config("smoke")
    assert config.compare.modes == MODES
    began, saw = [], []
    fit, batch = experiment.fit, TrainFeed.batch

    def recorded_fit(program, state, *args, **kwargs):
        began.append(jax.tree.map(np.array, state.params))
        saw.append([])
        return fit(program, state, *args, **kwargs)

    def recorded_batch(self, step):
        found = batch(self, step)
        saw[-1].append((step, jax.tree.map(np.array, found)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "fit", recorded_fit)
        patch.setattr(TrainFeed, "batch", recorded_batch)
        record = Record()
        out = tmp_path_factory.mktemp("compare") / "comparison"
        folder = compare(config, out=out, reporter=record)
    names = [(mode, seed) for seed in (0, 1) for mode in MODES]
    page, tables = report_comparison(folder)
    return SimpleNamespace(
        folder=folder,
        config=config,
        told=record.told,
        page=page,
        tables=tables,
        began=dict(zip(names, began, strict=True)),
        saw=dict(zip(names, saw, strict=True)),
    )
