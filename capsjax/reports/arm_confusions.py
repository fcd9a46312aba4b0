"""Confusion matrices of a comparison: an arm's test over all of its seeds."""

from pathlib import Path

import numpy as np

from capsjax.reports.comparison import Comparison
from capsjax.reports.evaluations import MOST_DRAWN, confusion_panel
from capsjax.reports.figures import Panel, drawn_name
from capsjax.runs.folder import Folder
from capsjax.runs.metrics_file import last_line
from capsjax.runs.predictions import Predictions
from capsjax.study.arms import Runs
from capsjax.study.design import run_folder
from capsjax.study.outcomes import own_test

MOST = 4  # arms whose matrices are drawn


def confusion_panels(comparison: Comparison, folder: Path, runs: Runs) -> list[Panel]:
    """Return the confusion matrices of the arms of the first cell, of those whose runs keep predictions.

    Args:
        comparison: its numbers.
        folder: its directory.
        runs: the metrics of its runs, which say when each was tested.
    """
    held = Folder(folder)
    data = held.environment.get("data")
    told = data.get("class_names") if isinstance(data, dict) else None
    panels = []
    for name in comparison.groups[0].names[:MOST]:
        found = _over_seeds(comparison, folder, runs, name)
        if found is None or found[0].lengths.shape[1] > MOST_DRAWN:
            continue
        together, seeds = found
        count = together.lengths.shape[1]
        classes = told if isinstance(told, list) and len(told) == count else range(count)
        names = [drawn_name(str(each), n) for n, each in enumerate(classes)]
        arm = comparison.arms[name].arm
        file = "".join(letter if letter.isalnum() else "-" for letter in arm)
        where = f"{arm}, test, {seeds} seeds"
        panels.append(confusion_panel(f"confusion_{file}", together, names, where))
    return panels


def _over_seeds(
    comparison: Comparison, folder: Path, runs: Runs, name: str
) -> tuple[Predictions, int] | None:
    """Return the predictions of all seeds of an arm together, and how many seeds they are of."""
    found = []
    for seed in comparison.seeds:
        tested = last_line(runs[name, seed], "test")
        if tested:
            run = folder / "runs" / run_folder(name, seed)
            found.append(own_test(run, int(tested["step"])))
    found = [one for one in found if one is not None]
    if not found or len({one.lengths.shape[1] for one in found}) > 1:
        return None
    labels = np.concatenate([one.labels for one in found])
    lengths = np.concatenate([one.lengths for one in found])
    return Predictions("", "test", found[0].step, "", labels, lengths), len(found)
