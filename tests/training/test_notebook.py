"""In a notebook a line changes below the cell; anywhere else in Python nothing is told unless asked for."""

import sys
import types

import pytest

import capsjax as cj
from capsjax.progress import Lines, Silent
from capsjax.runs.experiment import train  # and all that asks for IPython while it is imported
from capsjax.training.notebook import Cell, for_python


class Screen:
    """Stand for IPython's display: every output below the cell, as it looks last."""

    def __init__(self):
        self.outputs, self.changes = [], 0

    def __call__(self, data, raw, display_id=False):
        assert raw
        place = len(self.outputs)
        self.outputs.append(data["text/plain"])

        def update(data, raw):
            self.outputs[place], self.changes = data["text/plain"], self.changes + 1

        return types.SimpleNamespace(update=update) if display_id else None


def test_a_line_changes_and_what_is_said_stays_above_it():
    screen = Screen()
    cell = Cell(screen, every=0.0)
    cell.start("run", 24)
    cell.update(8, "loss 1.0")
    cell.say("going on")
    cell.update(24, "loss 0.5")
    cell.start("evaluating", None)
    cell.update(3)
    cell.close()
    assert screen.outputs == ["run 8/24 loss 1.0", "going on", "run 24/24 loss 0.5", "evaluating 3"]


def test_it_changes_now_and_then_and_at_the_end():
    screen = Screen()
    cell = Cell(screen, every=1000.0)
    cell.start("run", 1000)
    for step in range(1, 1001):
        cell.update(step)
    assert screen.outputs == ["run 1000/1000"]
    assert screen.changes == 1


@pytest.fixture
def notebook(monkeypatch):
    """A process in which IPython runs a kernel."""
    screen = Screen()
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=screen))
    return screen


def test_training_tells_in_a_notebook_unless_told_otherwise(notebook, tmp_path):
    config = cj.load_config("smoke", {"training": {"epochs": None, "steps": 1}})
    train(config, out=tmp_path / "told")
    assert notebook.outputs[-1].startswith("told 1/1 loss")
    shown = len(notebook.outputs)
    train(config, out=tmp_path / "silent", reporter=Silent())
    assert len(notebook.outputs) == shown


def test_elsewhere_nothing_is_told(monkeypatch):
    assert isinstance(for_python(None), Silent)
    given = Lines(sys.stderr)
    assert for_python(given) is given
    terminal = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert isinstance(for_python(None), Silent)
