"""What predictions of a split come to, class by class; rates, areas and calibration by scikit-learn."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 15  # of equal width, as `CalibrationError` has them


@dataclasses.dataclass(frozen=True, eq=False)
class Classification:
    """Measure how labels and beliefs in classes go together; what is not defined is NaN.

    Examples that show k classes are taken for those of the k highest scores, all of which are to be right.

    Args:
        labels: class numbers from 0, [n]; of k different classes in ascending order, [n, k].
        lengths: the belief in each class, 0 to 1, such as the lengths of class capsules, [n, j].

    Example:
        >>> found = Classification(np.array([0, 0, 1]), np.float32([[0.9, 0.1], [0.2, 0.6], [0.1, 0.8]]))
        >>> found.confusion.tolist(), found.balanced_accuracy
        ([[1, 1], [0, 1]], 0.75)
    """

    labels: Int[np.ndarray, "n *k"]
    lengths: Float[np.ndarray, "n j"]

    @functools.cached_property
    def predicted(self) -> Int[np.ndarray, "n *k"]:
        """The class of the highest score, the first of equals, [n]; the k highest, ascending, [n, k]."""
        return longest_classes(self.lengths, self._shown)

    @property
    def right(self) -> Bool[np.ndarray, "n"]:
        """Which examples are classified as their labels say, in every class that they show."""
        same = self.predicted == self.labels
        return same if same.ndim == 1 else same.all(axis=-1)

    @property
    def error(self) -> float:
        """The share of examples that are classified wrongly."""
        return float((~self.right).mean())

    @property
    def label_error(self) -> float:
        """The share of labels that are not found; of one label each, the error."""
        present, taken = self._present
        return float((present & ~taken).sum() / self.labels.size)

    @functools.cached_property
    def confusion(self) -> Int[np.ndarray, "j j"]:
        """How many examples of each label, a row, were taken for each class, a column.

        Of several labels, those that are found were taken for themselves; those that are missed for what was
        found beside, in the order of class numbers.
        """
        present, taken = self._present
        counts = np.diag((present & taken).sum(axis=0))
        # As many classes are found beside as are missed, example by example.
        missed, beside = np.nonzero(present & ~taken)[1], np.nonzero(taken & ~present)[1]
        np.add.at(counts, (missed, beside), 1)
        return counts

    @property
    def _shown(self) -> int:
        return 1 if self.labels.ndim == 1 else self.labels.shape[1]

    @functools.cached_property
    def _present(self) -> tuple[Bool[np.ndarray, "n j"], Bool[np.ndarray, "n j"]]:
        """Which classes each example shows, and which it is taken for."""
        found = np.zeros((2, *self.lengths.shape), bool)
        rows = np.arange(len(self.labels))[:, None]
        for which, numbers in zip(found, (self.labels, self.predicted), strict=True):
            which[rows, numbers.reshape(len(rows), -1)] = True
        return found[0], found[1]

    @functools.cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from sklearn.metrics import precision_recall_fscore_support

        # NaN where nothing is divided by nothing: a class that no example has, or none is taken for.
        options: dict[str, Any] = {"labels": self._classes, "zero_division": np.nan}
        found: Any = precision_recall_fscore_support(*self._present, **options)
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
        return np.bincount(self.labels.ravel(), minlength=self.lengths.shape[1])

    @functools.cached_property
    def roc_auc(self) -> Float[np.ndarray, "j"]:
        """How often an example of a class has a higher score for it than one of another class."""
        from sklearn.metrics import roc_auc_score

        found = np.full(self.lengths.shape[1], np.nan)
        defined = (self.support > 0) & (self.support < len(self.labels))
        if np.isfinite(self.lengths).all():
            for number in np.flatnonzero(defined):
                found[number] = roc_auc_score(self._present[0][:, number], self.lengths[:, number])
        return found

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have examples."""
        return _mean(self.recall)

    @functools.cached_property
    def reliability(self) -> Float[np.ndarray, "3 bins"]:
        """Mean confidence, share that is right and number of examples, of each bin of confidence with some.

        The confidence is the highest score, as a probability; of examples of k classes, each of the k
        highest counts.
        """
        from sklearn.calibration import calibration_curve

        if not np.isfinite(self.lengths).all():
            return np.zeros((3, 0))
        rows = np.arange(len(self.labels))[:, None]
        taken = self.predicted.reshape(len(rows), -1)  # [n, k]
        confidence = np.clip(self.lengths[rows, taken].ravel().astype(np.float64), 0, 1)
        is_there = self._present[0][rows, taken].ravel()
        right, mean = calibration_curve(is_there, confidence, n_bins=BINS, pos_label=True)
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
        several = {} if self._shown == 1 else {"label_error": self.label_error}
        return {
            "error": self.error,
            **several,
            "balanced_accuracy": self.balanced_accuracy,
            **means,
            "calibration_error": self.calibration_error,
        }

    @property
    def _classes(self) -> np.ndarray:
        return np.arange(self.lengths.shape[1])


def longest_classes(lengths: Float[np.ndarray, "n j"], count: int = 1) -> Int[np.ndarray, "n *k"]:
    """Return the classes of the highest scores; among equal ones the first comes first.

    Args:
        lengths: the belief in each class, [n, j].
        count: k, how many are asked for.

    Returns:
        Class numbers, [n]; of more than one, in ascending order, [n, k].
    """
    if count == 1:
        return lengths.argmax(-1)
    # NaN is the longest, as argmax has it; a stable sort keeps the first of equals.
    order = np.argsort(-np.where(np.isnan(lengths), np.inf, lengths), axis=-1, kind="stable")
    return np.sort(order[:, :count], axis=-1)


def shares(lengths: Float[np.ndarray, "n j"]) -> Float[np.ndarray, "n j"]:
    """Scale the beliefs in all classes so that they add up to 1; where all are 0, each class has as much.

    p_j = l_j / sum_k l_k

    Args:
        lengths: the belief in each class, [n, j].

    Returns:
        The shares, float64 [n, j].
    """
    found = lengths.astype(np.float64)
    total = found.sum(axis=1, keepdims=True)  # [n, 1]
    even = np.full_like(found, 1 / found.shape[1])
    return np.divide(found, total, out=even, where=total > 0)


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is not NaN; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan
