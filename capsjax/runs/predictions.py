"""What a run said of every example that it was measured on, kept in its directory."""

import dataclasses
import functools
import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from capsjax import files
from capsjax.checks import UserError
from capsjax.data import Split
from capsjax.data.overlap import Pairs
from capsjax.metrics.classification import Classification
from capsjax.runs.directory import write_json

FOLDER = "evaluations"
LARGEST = 1 << 32
EXPECTED = (
    "the predictions of an evaluation, as a run writes them; delete it, and evaluate the run again"
)
TEXTS = ("data", "split", "fingerprint")


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """Hold the predictions of one evaluation.

    Args:
        data: what the data are called; empty for the run's own.
        split: train, validation, test or all.
        step: after how many steps of training.
        fingerprint: the SHA-256 of images and labels, in hexadecimal digits.
        labels: class numbers, in the order of the examples, [n]; of k classes in ascending order, [n, k].
        lengths: the belief in each class, [n, j].
    """

    data: str
    split: str
    step: int
    fingerprint: str
    labels: Int[np.ndarray, "n *k"]
    lengths: Float[np.ndarray, "n j"]

    @classmethod
    def of(
        cls,
        split: Split,
        lengths: Float[np.ndarray, "n j"],
        *,
        step: int,
        part: str,
        data: str = "",
        pairs: Pairs | None = None,
    ) -> "Predictions":
        """Return the predictions of a split.

        Args:
            split: its examples.
            lengths: the belief in each class, [n, j].
            step: after how many steps of training.
            part: which split it is.
            data: what the data are called; empty for the run's own.
            pairs: which of them lie over each other; None where each is an example.

        Returns:
            The predictions.
        """
        digest = hashlib.sha256()
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).data)
        labels = split.labels
        if pairs is not None:
            labels = labels[np.asarray(pairs.places)]  # [n, 2]
            for array in pairs:
                digest.update(np.asarray(array).data)
        return cls(data, part, step, digest.hexdigest(), labels, lengths)

    @functools.cached_property
    def classification(self) -> Classification:
        """What they come to, class by class."""
        return Classification(self.labels, self.lengths)

    @property
    def name(self) -> str:
        """What its files are called, without their number and suffix."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", self.data)[:80].strip(".")
        return f"{plain}-{self.split}" if plain else self.split

    def save(self, run: Path, class_names: Sequence[Any]) -> Path:
        """Write them and what they come to into a run's directory.

        Args:
            run: the directory.
            class_names: what the data call each class.

        Returns:
            The file of predictions, `evaluations/NAME-stepN.npz`, beside which NAME-stepN.json has the
            numbers. The same data after the same step have one file, which stays; others have another.
        """
        folder = run / FOLDER
        folder.mkdir(exist_ok=True)
        path, count = folder / f"{self.name}-step{self.step}.npz", 1
        while path.exists() and not self._is_again(path):
            count += 1
            path = folder / f"{self.name}-step{self.step}-{count}.npz"
        if path.exists():
            return path
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        held: dict[str, Any] = {name: getattr(self, name) for name in (*TEXTS, "step", "lengths")}
        held |= {"index": np.arange(len(self.labels), dtype=np.int32), "label": self.labels}
        # First the numbers: where the predictions are, all of it is.
        write_json(path.with_suffix(".json"), self.summary(class_names))
        with part.open("wb") as stream:
            np.savez_compressed(stream, **held)
        part.replace(path)
        return path

    def _is_again(self, path: Path) -> bool:
        """Return whether a file holds predictions of the same data."""
        try:
            return load(path).fingerprint == self.fingerprint
        except UserError:
            return False

    def summary(self, class_names: Sequence[Any]) -> dict[str, Any]:
        """Return what they come to as plain values.

        Args:
            class_names: what the data call each class.

        Returns:
            Averages; the numbers of each class under `classes`; the confusion matrix as (label, predicted,
            count) where there are any; calibration as (confidence, share that is right, count).
        """
        found = self.classification
        columns = ("precision", "recall", "f1", "roc_auc")
        by_class = [
            {"class": name, "examples": int(found.support[n])}
            | {column: float(getattr(found, column)[n]) for column in columns}
            for n, name in enumerate(class_names)
        ]
        rows, taken = np.nonzero(found.confusion)
        counts = zip(
            rows.tolist(), taken.tolist(), found.confusion[rows, taken].tolist(), strict=True
        )
        about = {"data": self.data or None, "split": self.split, "step": self.step}
        return {
            **about,
            "examples": len(self.labels),
            **found.averages(),
            "classes": by_class,
            "confusion": [list(line) for line in counts],
            "calibration": found.reliability.T.tolist(),
        }


def load(path: Path) -> Predictions:
    """Read predictions; nothing in the file is ever run.

    Args:
        path: a file that `Predictions.save` wrote.

    Returns:
        The predictions.

    Raises:
        UserError: If it is not one.
    """
    with files.open_plain(path, LARGEST, EXPECTED) as stream:
        try:
            held = np.load(stream, allow_pickle=False)
            texts = {name: str(held[name]) for name in TEXTS}
            labels, lengths, step = held["label"], held["lengths"], int(held["step"])
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(f"{path}: got a broken file ({error}), expected {EXPECTED}") from error
        except (zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{path}: got a broken file ({error}), expected {EXPECTED}") from error
    right = labels.ndim in (1, 2) and lengths.ndim == 2 and len(labels) == len(lengths) > 0
    right = right and labels.dtype.kind == "i" and lengths.dtype.kind == "f"
    right = right and (labels.ndim == 1 or 1 < labels.shape[1] < lengths.shape[1])
    if not (right and labels.min() >= 0 and labels.max() < lengths.shape[1]):
        got = f"labels {list(labels.shape)} and lengths {list(lengths.shape)}"
        raise UserError(f"{path}: got {got}, expected {EXPECTED}")
    return Predictions(labels=labels, lengths=lengths, step=step, **texts)
