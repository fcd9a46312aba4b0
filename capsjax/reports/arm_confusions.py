"""Confusion matrices of a comparison: an arm's test over all of its seeds."""

from pathlib import Path

import numpy as np

from capsjax.checks import UserError
from capsjax.reports.comparison import Comparison
from capsjax.reports.evaluations import MOST_DRAWN, confusion_panel
from capsjax.reports.figures import Panel, drawn_name
from capsjax.runs import predictions
from capsjax.runs.folder import Folder
from capsjax.runs.predictions import Predictions
from capsjax.study.design import run_folder

MOST = 4  # arms whose matrices are drawn


def confusion_panels(comparison: Comparison, folder: Path) -> list[Panel]:
    """Return the confusion matrices of the arms of the first cell, of those whose runs keep predictions.

    Args:
        comparison: its numbers.
        folder: its directory.
    """
    held = Folder(folder)
    data = held.environment.get("data")
    told = data.get("class_names") if isinstance(data, dict) else None
    panels = []
    for name in comparison.groups[0].names[:MOST]:
        found = _over_seeds(comparison, folder, name)
        if found is None or found.lengths.shape[1] > MOST_DRAWN:
            continue
        count = found.lengths.shape[1]
        classes = told if isinstance(told, list) and len(told) == count else range(count)
        names = [drawn_name(str(each), n) for n, each in enumerate(classes)]
        arm = comparison.arms[name].arm
        file = "".join(letter if letter.isalnum() else "-" for letter in arm)
        where = f"{arm}, test, {found.step} seeds"
        panels.append(confusion_panel(f"confusion_{file}", found, names, where))
    return panels


def _over_seeds(comparison: Comparison, folder: Path, name: str) -> Predictions | None:
    """Return the predictions of all seeds of an arm together, with their number as the step."""
    found = []
    for seed in comparison.seeds:
        run = folder / "runs" / run_folder(name, seed)
        line = Folder(run).tested
        paths = (
            sorted((run / predictions.FOLDER).glob(f"test-step{int(line['step'])}*.npz"))
            if line
            else []
        )
        for path in paths[:1]:
            try:
                found.append(predictions.load(path))
            except UserError:
                continue
    if not found or len({one.lengths.shape[1] for one in found}) > 1:
        return None
    labels = np.concatenate([one.labels for one in found])
    lengths = np.concatenate([one.lengths for one in found])
    return Predictions("", "test", len(found), "", labels, lengths)
