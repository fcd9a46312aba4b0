"""One small comparison, run once, with a record of what each of its runs began with and saw."""

import collections
import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import capsjax as cj
from capsjax.progress import Reporter
from capsjax.reports.comparison_page import report_comparison
from capsjax.runs import finish
from capsjax.study.compare import compare
from tests.training.watched import Watched

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


@contextlib.contextmanager
def opened(folder):
    """Count how often each file below a directory is opened to be read."""
    counts, on = collections.Counter(), [True]

    def hook(event, arguments):
        # Flags say it however a file is opened: by `open`, by `os.open`, by a library.
        if event == "open" and on and isinstance(arguments[0], str | os.PathLike):
            path = Path(arguments[0])
            if path.is_relative_to(folder) and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                counts[path.relative_to(folder).as_posix()] += 1

    sys.addaudithook(hook)  # which nothing removes
    yield counts
    on.clear()


def make(tmp_path_factory):
    """The comparison: `folder`, `config`, `told`, `page`, `tables`; `read`, how often its report opened each
    file; of each run, by mode and seed, `began` (initial parameters) and `saw` (its batches).
    """
    config = cj.load_config("smoke")
    assert config.compare.modes == MODES
    began, saw = [], []
    fit = finish.fit

    def recorded_fit(compiled, state, feed, *args, **kwargs):
        began.append(jax.tree.map(np.array, state.params))
        saw.append([])

        def record_batches(state, examples, start, stop):
            batches = ((step, feed.slicer(examples, step)) for step in range(start, stop))
            saw[-1].extend((step, jax.tree.map(np.array, batch)) for step, batch in batches)

        recorded = dataclasses.replace(
            compiled, train_steps=Watched(compiled.train_steps, record_batches)
        )
        return fit(recorded, state, feed, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "fit", recorded_fit)
        record = Record()
        out = tmp_path_factory.mktemp("compare") / "comparison"
        folder = compare(config, out=out, reporter=record)
    names = [(mode, seed) for seed in (0, 1) for mode in MODES]
    with opened(folder) as read:
        page, tables = report_comparison(folder)
    return SimpleNamespace(
        folder=folder,
        config=config,
        told=record.told,
        page=page,
        tables=tables,
        read=read,
        began=dict(zip(names, began, strict=True)),
        saw=dict(zip(names, saw, strict=True)),
    )
