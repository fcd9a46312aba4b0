"""What predictions of a split come to, class by class: scikit-learn computes it."""

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 15  # of equal width, as `CalibrationError` has them


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Measure how labels and beliefs in classes go together; what is not defined is NaN.

    Args:
        labels: class numbers from 0, [n].
        lengths: the belief in each class, 0 to 1, such as the lengths of class capsules, [n, j].

    Example:
        >>> found = Classification(np.array([0, 0, 1]), np.float32([[0.9, 0.1], [0.2, 0.6], [0.1, 0.8]]))
        >>> found.confusion.tolist(), found.balanced_accuracy
        ([[1, 1], [0, 1]], 0.75)
    """

    labels: Int[np.ndarray, "n"]
    lengths: Float[np.ndarray, "n j"]

    @functools.cached_property
    def predicted(self) -> Int[np.ndarray, "n"]:
        """The class of the longest capsule; the first of equals."""
        return self.lengths.argmax(-1)

    @property
    def right(self) -> Bool[np.ndarray, "n"]:
        """Which examples are classified as their labels say."""
        return self.predicted == self.labels

    @property
    def error(self) -> float:
        """The share of examples that are classified wrongly."""
        return float((~self.right).mean())

    @functools.cached_property
    def confusion(self) -> Int[np.ndarray, "j j"]:
        """How many examples of each label, a row, were taken for each class, a column."""
        from sklearn.metrics import confusion_matrix

        return confusion_matrix(self.labels, self.predicted, labels=self._classes)

    @functools.cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from sklearn.metrics import precision_recall_fscore_support

        # NaN where nothing is divided by nothing: a class that no example has, or none is taken for.
        options: dict[str, Any] = {"labels": self._classes, "zero_division": np.nan}
        found: Any = precision_recall_fscore_support(self.labels, self.predicted, **options)
        return found[:3]

    @property
    def precision(self) -> Float[np.ndarray, "j"]:
        """Of what was taken for each class, the share that is of it."""
        return self._by_class[0]

    @property
    def recall(self) -> Float[np.ndarray, "j"]:
        """Of what is of each class, the share that was taken for it."""
        return self._by_class[1]

    @property
    def f1(self) -> Float[np.ndarray, "j"]:
        """The harmonic mean of precision and recall of each class."""
        return self._by_class[2]

    @property
    def support(self) -> Int[np.ndarray, "j"]:
        """How many examples of each class there are."""
        return np.bincount(self.labels, minlength=self.lengths.shape[1])

    @functools.cached_property
    def roc_auc(self) -> Float[np.ndarray, "j"]:
        """How often an example of a class has a longer capsule of it than one of another class."""
        from sklearn.metrics import roc_auc_score

        found = np.full(self.lengths.shape[1], np.nan)
        defined = (self.support > 0) & (self.support < len(self.labels))
        if np.isfinite(self.lengths).all():
            for number in np.flatnonzero(defined):
                found[number] = roc_auc_score(self.labels == number, self.lengths[:, number])
        return found

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have examples."""
        from sklearn.metrics import balanced_accuracy_score

        with warnings.catch_warnings():  # of classes that none is of and some are taken for
            warnings.simplefilter("ignore", UserWarning)
            return float(balanced_accuracy_score(self.labels, self.predicted))

    @functools.cached_property
    def reliability(self) -> Float[np.ndarray, "3 bins"]:
        """Mean confidence, share that is right and number of examples, of each bin of confidence with some.

        The confidence is the length of the longest capsule, as a probability.
        """
        from sklearn.calibration import calibration_curve

        if not np.isfinite(self.lengths).all():
            return np.zeros((3, 0))
        confidence = np.clip(self.lengths.max(-1).astype(np.float64), 0, 1)
        right, mean = calibration_curve(self.right, confidence, n_bins=BINS, pos_label=True)
        # As `calibration_curve` bins them: a bin has its upper end.
        place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
        counts = np.bincount(place, minlength=BINS)
        return np.stack([mean, right, counts[counts > 0]])

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: |confidence - share that is right|, averaged over examples."""
        confidence, right, counts = self.reliability
        return (
            float(np.average(np.abs(confidence - right), weights=counts)) if counts.size else np.nan
        )

    def averages(self) -> dict[str, float]:
        """Return the numbers of the whole: means over the classes of which each is defined."""
        each = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        means = {name: _mean(values) for name, values in (each | {"roc_auc": self.roc_auc}).items()}
        return {
            "error": self.error,
            "balanced_accuracy": self.balanced_accuracy,
            **means,
            "calibration_error": self.calibration_error,
        }

    @property
    def _classes(self) -> np.ndarray:
        return np.arange(self.lengths.shape[1])


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan
